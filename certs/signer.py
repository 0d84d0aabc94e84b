"""What signs leaves: a key that is here, or one in a key manager."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.x509.oid import SignatureAlgorithmOID

from certs.der import BIT_STRING, SEQUENCE, written

type SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
type VerifyingKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_HASH_OF_CURVE: dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
"""The AlgorithmIdentifier of RFC 5758 3.2, encoded."""
_TRIAL = b"no certificate"


class SigningError(Exception):
    """No signature could be made. One line, without anything of the key.

    ``crowded``: others were wanted at the same time, and so many cannot be made; there is nothing else wrong.
    """

    def __init__(self, message: str, *, crowded: bool = False) -> None:
        super().__init__(message)
        self.crowded = crowded


@dataclass(frozen=True, slots=True)
class HostHealth:
    """How one host of whoever signs elsewhere is. Times are seconds from now, back or ahead."""

    address: str
    down_for: float | None = None
    """None: it is well."""
    why: str = ""
    next_try_in: float | None = None
    connections: int = 0
    asked: int = 0
    """Requests that wait for its answer."""
    signed_ago: float | None = None
    """None: it has signed nothing yet."""
    seconds: float | None = None
    """What a signature takes, the median of the last ones."""


@dataclass(frozen=True, slots=True)
class Health:
    """How whoever signs elsewhere is. ``waiting``: signatures that wait for a connection, or for their turn."""

    hosts: tuple[HostHealth, ...] = ()
    waiting: int = 0


class Signer(Protocol):
    """Signs certificates with the key of one issuing certificate."""

    def public_key(self) -> CertificateIssuerPublicKeyTypes:
        """The public half of the key, which must be that of the issuing certificate."""

    def sign_certificate(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """The certificate. Raises :class:`SigningError`; the caller checks the signature before it uses it."""


class RemoteSigner(ABC):
    """Signs with a key that is elsewhere: octets go there, and a signature comes back, or not."""

    pss: bool
    """Whether an RSA key signs by RSASSA-PSS (RFC 4055 3.1) and not by PKCS #1 v1.5."""

    @property
    @abstractmethod
    def down(self) -> str | None:
        """Why it is known that nothing can be signed now; None: it may be."""

    @property
    @abstractmethod
    def crowded(self) -> str | None:
        """Why not all that was wanted a moment ago could be signed, where that was because it was too much."""

    @abstractmethod
    def health(self) -> Health:
        """How it is now."""

    @abstractmethod
    def has_room(self) -> bool:
        """Whether what nobody waits for can be signed now, and nobody will wait for that."""

    @abstractmethod
    def public_key(self) -> VerifyingKey:
        """The public half of the key, which must be that of the issuing certificate."""

    @abstractmethod
    async def signature(self, data: bytes) -> bytes:
        """The signature of the data, hashed by :func:`hash_for`, as certificates have it.

        Raises :class:`SigningError`. It is verified before it is given.
        """

    @abstractmethod
    def start(self) -> None:
        """Have connections made, on the running event loop."""

    @abstractmethod
    def stop(self) -> None:
        """End them; who waits for a signature is told so."""


class LocalSigner:
    """A key in this process's memory.

    ECDSA with the hash of the curve's strength (P-256 SHA-256, P-384 SHA-384, P-521 SHA-512; RFC 5758 3.2), RSA of at
    least 2048 bits with PKCS #1 v1.5 and SHA-256 (RFC 4055 5). Raises :class:`SigningError` for any other key, and for
    one whose two halves do not belong together: this is tried once, so that not each signature needs to be verified (as
    FIPS 140-3 asks of a key that is loaded: a pairwise consistency test).
    """

    __slots__ = ("_hash", "_key", "_public_key")

    def __init__(self, private_key: SigningKey) -> None:
        self._hash = hash_for(private_key)
        self._key = private_key
        self._public_key = private_key.public_key()
        self._try()

    def _try(self) -> None:
        try:
            if isinstance(self._key, rsa.RSAPrivateKey):
                signed = self._key.sign(_TRIAL, padding.PKCS1v15(), self._hash)
                self._key.public_key().verify(signed, _TRIAL, padding.PKCS1v15(), self._hash)
            else:
                signed = self._key.sign(_TRIAL, ec.ECDSA(self._hash))
                self._key.public_key().verify(signed, _TRIAL, ec.ECDSA(self._hash))
        except (InvalidSignature, ValueError) as error:
            raise SigningError("the signing key's private half does not belong to its public half") from error

    def __repr__(self) -> str:
        kind = "RSA" if isinstance(self._key, rsa.RSAPrivateKey) else self._key.curve.name
        return f"LocalSigner({kind} of {self._key.key_size} bits)"

    def public_key(self) -> CertificateIssuerPublicKeyTypes:
        return self._public_key

    def sign_certificate(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        try:
            return builder.sign(self._key, self._hash)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SigningError(f"the certificate could not be signed: {error}") from error

    def sign_as(self, twin: x509.Certificate) -> x509.Certificate | None:
        """The certificate whose signed part is the twin's, octet by octet, so that nothing is encoded anew.

        Raises :class:`SigningError`. None where this key signs with another algorithm than the one that the twin names
        in that part, and always for keys of other kinds than ECDSA P-256.
        """
        key = self._key
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(self._hash, hashes.SHA256):
            return None
        if twin.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
            return None
        signed = twin.tbs_certificate_bytes
        try:
            signature = written(BIT_STRING, b"\0" + key.sign(signed, ec.ECDSA(self._hash)))  # no unused bits
            return x509.load_der_x509_certificate(written(SEQUENCE, signed + _ECDSA_WITH_SHA256 + signature))
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SigningError(f"the certificate could not be signed: {error}") from error


def hash_for(key: SigningKey | VerifyingKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
    """The hash that goes with a signing key, by either half of it.

    Raises :class:`SigningError` for one that should sign nothing.
    """
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        if key.key_size < 2048:
            raise SigningError(f"a signing key of RSA {key.key_size} bits is too weak; use 2048 or more")
        return hashes.SHA256()
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        if (found := _HASH_OF_CURVE.get(key.curve.name)) is not None:
            return found
        raise SigningError(f"a signing key on curve {key.curve.name} is not usable; use P-256, P-384 or P-521")
    raise SigningError(f"a signing key of kind {type(key).__name__} is not usable; use RSA or ECDSA")


def padding_for(key: VerifyingKey, pss: bool) -> padding.PSS | padding.PKCS1v15 | None:
    """How an RSA key signs certificates: by PKCS #1 v1.5, or by PSS with a salt as long as the hash (RFC 4055 3.1).

    None for ECDSA, which has none.
    """
    if not isinstance(key, rsa.RSAPublicKey):
        return None
    chosen = hash_for(key)
    return padding.PSS(padding.MGF1(chosen), chosen.digest_size) if pss else padding.PKCS1v15()


def stand_in(key: VerifyingKey) -> SigningKey:
    """A key of this process that nobody trusts, of the same kind: what it signs names the same algorithm.

    RSA takes a second, once. Raises :class:`SigningError` for a key that should sign nothing.
    """
    hash_for(key)
    return _stand_in("rsa" if isinstance(key, rsa.RSAPublicKey) else key.curve.name)


@cache
def _stand_in(kind: str) -> SigningKey:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    curves = {curve.name: curve for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())}
    return ec.generate_private_key(curves[kind])
