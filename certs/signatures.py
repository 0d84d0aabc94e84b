"""Whether one certificate's key verifies another's signature; how often that is asked is counted."""

from __future__ import annotations

import threading
from typing import Any

from cachetools import LRUCache
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from certs.authority import excess
from certs.facts import Facts

MOST_SIGNATURES = 64
_KEPT_ANSWERS = 4096

_PKCS1 = {
    SignatureAlgorithmOID.RSA_WITH_MD5,
    SignatureAlgorithmOID.RSA_WITH_SHA1,
    x509.ObjectIdentifier("1.3.14.3.2.29"),  # sha1WithRSASignature, as OIW once numbered it
    SignatureAlgorithmOID.RSA_WITH_SHA224,
    SignatureAlgorithmOID.RSA_WITH_SHA256,
    SignatureAlgorithmOID.RSA_WITH_SHA384,
    SignatureAlgorithmOID.RSA_WITH_SHA512,
    SignatureAlgorithmOID.RSA_WITH_SHA3_224,
    SignatureAlgorithmOID.RSA_WITH_SHA3_256,
    SignatureAlgorithmOID.RSA_WITH_SHA3_384,
    SignatureAlgorithmOID.RSA_WITH_SHA3_512,
}
_ECDSA = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA1,
    SignatureAlgorithmOID.ECDSA_WITH_SHA224,
    SignatureAlgorithmOID.ECDSA_WITH_SHA256,
    SignatureAlgorithmOID.ECDSA_WITH_SHA384,
    SignatureAlgorithmOID.ECDSA_WITH_SHA512,
    SignatureAlgorithmOID.ECDSA_WITH_SHA3_224,
    SignatureAlgorithmOID.ECDSA_WITH_SHA3_256,
    SignatureAlgorithmOID.ECDSA_WITH_SHA3_384,
    SignatureAlgorithmOID.ECDSA_WITH_SHA3_512,
}
_DSA = {
    SignatureAlgorithmOID.DSA_WITH_SHA1,
    SignatureAlgorithmOID.DSA_WITH_SHA224,
    SignatureAlgorithmOID.DSA_WITH_SHA256,
    SignatureAlgorithmOID.DSA_WITH_SHA384,
    SignatureAlgorithmOID.DSA_WITH_SHA512,
}


class Signatures:
    """Checks signatures, and counts. Past the limit every further one counts as not verified."""

    def __init__(self, limit: int = MOST_SIGNATURES) -> None:
        self.limit = limit
        self.checked = 0
        self.exhausted = False
        self._known: dict[tuple[Facts, bytes | None], bool] = {}

    def verified(self, child: Facts, parent: Facts) -> bool:
        """Whether the parent's key verifies the child's signature. Names are not looked at."""
        question = child, parent.spki
        answer = self._known.get(question)
        if answer is None:
            if self.checked >= self.limit:
                self.exhausted = True
                return False
            self.checked += 1
            answer = self._known[question] = verified(child, parent)
        return answer


def verified(child: Facts, parent: Facts) -> bool:
    """Whether the parent's key verifies the child's signature. The answer never changes, so it is remembered."""
    if parent.key is None or parent.spki is None:
        return False
    question = child.certificate.fingerprint(hashes.SHA256()), parent.spki
    with _lock:
        answer = _answers.get(question)
    if answer is None:
        answer = _verify(child.certificate, parent.certificate)
        with _lock:
            _answers[question] = answer
    return answer


_answers: LRUCache[tuple[bytes, bytes], bool] = LRUCache(maxsize=_KEPT_ANSWERS)
_lock = threading.Lock()  # verdicts may be made off the event loop's thread


def _verify(child: x509.Certificate, parent: x509.Certificate) -> bool:
    """The same, with weak hashes too: MD5 and SHA-1 that verify are weak, and not forged.

    cryptography's ``verify_directly_issued_by`` refuses them, and ``signature_algorithm_parameters`` is None for some.
    False where the key or the algorithm is not known, and where the key is larger than is verified with.
    """
    try:
        key, signature, signed = parent.public_key(), child.signature, child.tbs_certificate_bytes
        if excess(key) is not None:
            return False
        algorithm, used = child.signature_algorithm_oid, child.signature_hash_algorithm
        if isinstance(key, rsa.RSAPublicKey) and algorithm in _PKCS1 and used is not None:
            key.verify(signature, signed, padding.PKCS1v15(), used)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm in _ECDSA and used is not None:
            key.verify(signature, signed, ec.ECDSA(used))
        elif isinstance(key, dsa.DSAPublicKey) and algorithm in _DSA and used is not None:
            key.verify(signature, signed, used)
        else:
            _verify_modern(child, key)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _verify_modern(child: x509.Certificate, key: object) -> None:
    """RSA-PSS, Ed25519, Ed448 and ML-DSA. Raises InvalidSignature, for every other algorithm too."""
    kind = _OWN_ALGORITHM.get(child.signature_algorithm_oid)
    if isinstance(key, rsa.RSAPublicKey) and child.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
        scheme, used = child.signature_algorithm_parameters, child.signature_hash_algorithm
        if isinstance(scheme, padding.PSS) and used is not None:
            key.verify(child.signature, child.tbs_certificate_bytes, scheme, used)
            return
    elif kind is not None and isinstance(key, kind):
        key.verify(child.signature, child.tbs_certificate_bytes)
        return
    raise InvalidSignature


_OWN_ALGORITHM: dict[x509.ObjectIdentifier, type[Any]] = {
    SignatureAlgorithmOID.ED25519: ed25519.Ed25519PublicKey,
    SignatureAlgorithmOID.ED448: ed448.Ed448PublicKey,
    SignatureAlgorithmOID.ML_DSA_44: mldsa.MLDSA44PublicKey,
    SignatureAlgorithmOID.ML_DSA_65: mldsa.MLDSA65PublicKey,
    SignatureAlgorithmOID.ML_DSA_87: mldsa.MLDSA87PublicKey,
}
