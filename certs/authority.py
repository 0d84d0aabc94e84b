"""Certificate authorities: a tenant's built-in root and intermediate, and what makes a certificate fit to be one."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from certs.der import fields_and_algorithm, read, tbs_fields
from certs.kept import kept
from certs.signer import LocalSigner, SigningKey

ROOT_LIFETIME = timedelta(days=3653)  # ten years
INTERMEDIATE_LIFETIME = timedelta(days=1826)  # five
BACKDATED = timedelta(days=1)  # for devices whose clock is behind
_KEPT_ISSUERS = 64
_KEPT_KEYS = 256
LONGEST_COMMON_NAME = 64  # RFC 5280 A.1, ub-common-name; ub-organizational-unit-name is the same

CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
"""The keyUsage of a CA (RFC 5280 4.2.1.3): it signs certificates and CRLs, and nothing else."""
GOOD_HASHES = frozenset({"sha224", "sha256", "sha384", "sha512", "sha3-224", "sha3-256", "sha3-384", "sha3-512"})
SMALLEST_RSA = 2048
LARGEST_RSA = 8192
LONGEST_EXPONENT = 32
"""Bits of an RSA key with which a signature is verified: beyond them one takes up to 20 ms of a processor, and whoever
sends a chain chooses its keys. Go's crypto/x509 and crypto/tls draw the same two lines; OpenSSL's are further out."""
SMALLEST_CURVE = 256
# Kinds without a size to choose, or whose smallest is strong enough.
_STRONG_KINDS = (
    ed25519.Ed25519PublicKey,
    ed448.Ed448PublicKey,
    mldsa.MLDSA44PublicKey,
    mldsa.MLDSA65PublicKey,
    mldsa.MLDSA87PublicKey,
)
# By the classes' last names: the classes that keys really have are private to cryptography.
_ALGORITHM_OF = {
    "Ed25519PublicKey": SignatureAlgorithmOID.ED25519,
    "Ed448PublicKey": SignatureAlgorithmOID.ED448,
    "MLDSA44PublicKey": SignatureAlgorithmOID.ML_DSA_44,
    "MLDSA65PublicKey": SignatureAlgorithmOID.ML_DSA_65,
    "MLDSA87PublicKey": SignatureAlgorithmOID.ML_DSA_87,
}


def _algorithms(*beginnings: str) -> frozenset[x509.ObjectIdentifier]:
    return frozenset(oid for name, oid in vars(SignatureAlgorithmOID).items() if name.startswith(beginnings))


_RSA = _algorithms("RSA_WITH_", "_RSA_WITH_", "RSASSA_PSS")
_ECDSA = _algorithms("ECDSA_WITH_")
_DSA = _algorithms("DSA_WITH_")


@dataclass(frozen=True)
class BuiltInAuthority:
    """A root and the intermediate that issues leaves, each with its key. The keys are to be sealed at once."""

    root: x509.Certificate
    root_key: SigningKey = field(repr=False)
    intermediate: x509.Certificate
    intermediate_key: SigningKey = field(repr=False)


def make_built_in(
    tenant: str, installation: str, now: datetime, algorithm: Literal["ecdsa", "rsa"] = "ecdsa"
) -> BuiltInAuthority:
    """A new root (P-384 or RSA-4096, ten years) and intermediate (P-256 or RSA-3072, five years), on new keys.

    Both are backdated by a day from ``now``. A random id in the common names keeps the names of two authorities of one
    tenant apart, so that no client can mix them up by subject. ``installation`` becomes the organisational unit where
    it is not empty. RSA takes seconds; ECDSA under a millisecond.
    """
    root_key: SigningKey
    intermediate_key: SigningKey
    if algorithm == "ecdsa":
        root_key, intermediate_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256R1())
    else:
        root_key, intermediate_key = rsa.generate_private_key(65537, 4096), rsa.generate_private_key(65537, 3072)
    label = secrets.token_hex(4)
    root_name = _name("Root", tenant, label, installation)
    intermediate_name = _name("Intermediate", tenant, label, installation)
    start = now.replace(microsecond=0) - BACKDATED
    root_builder = (
        x509.CertificateBuilder(issuer_name=root_name, subject_name=root_name)
        .public_key(root_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + BACKDATED + ROOT_LIFETIME)
    )
    root = LocalSigner(root_key).sign_certificate(_ca_extensions(root_builder, root_key, root_key, path_length=1))
    intermediate_builder = (
        x509.CertificateBuilder(issuer_name=root_name, subject_name=intermediate_name)
        .public_key(intermediate_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + BACKDATED + INTERMEDIATE_LIFETIME)
        # A key that signs leaves can be kept from vouching for anything but servers (RFC 5280 4.2.1.12 does not say
        # so, but every verifier that matters treats the EKU of an intermediate as a limit).
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    intermediate = LocalSigner(root_key).sign_certificate(
        _ca_extensions(intermediate_builder, intermediate_key, root_key, path_length=0)
    )
    return BuiltInAuthority(root, root_key, intermediate, intermediate_key)


def make_untrusted(
    tenant: str, installation: str, now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A CA that nobody is to trust, and its key: what it signs makes a client warn (P-256, ten years).

    It is its own issuer and signs leaves itself. Its name says what it is to whoever looks at the warning.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("UNTRUSTED", tenant, secrets.token_hex(4), installation)
    start = now.replace(microsecond=0) - BACKDATED
    builder = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + BACKDATED + ROOT_LIFETIME)
    )
    return LocalSigner(key).sign_certificate(_ca_extensions(builder, key, key, path_length=0)), key


def spki_sha256(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo: names the key, whatever certificate carries it.

    Raises ValueError or UnsupportedAlgorithm where the key cannot be read.
    """
    return key_sha256(certificate.public_key())


def key_sha256(key: CertificatePublicKeyTypes) -> bytes:
    """The same of a key: of its one encoding, however a certificate encodes it."""
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


@kept(_KEPT_KEYS)
def encoded_key(key: CertificatePublicKeyTypes) -> bytes:
    """The SubjectPublicKeyInfo of a key with which many leaves are made."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Whether subject and issuer are the same name, as they are encoded (RFC 5280 6.1)."""
    fields = tbs_fields(certificate.tbs_certificate_bytes)
    return fields.subject.whole == fields.issuer.whole


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether it is self-issued and its own key verifies its signature (RFC 5280 3.2)."""
    return issued_by(certificate, certificate)


def issued_by(child: x509.Certificate, parent: x509.Certificate) -> bool:
    """Whether the parent's subject is the child's issuer and the parent's key verifies the child's signature.

    The names are compared as they are encoded. SHA-1 and MD5 signatures are verified too (cryptography's own
    ``verify_directly_issued_by`` refuses them, and with them the self-signatures of old roots); whether they are good
    enough is :func:`signature_problem`'s question. False too where the key or the algorithm cannot be read. Nothing
    else of the parent is looked at: whether it may issue at all is another question.
    """
    try:
        issuer = tbs_fields(child.tbs_certificate_bytes).issuer.whole
        if issuer != tbs_fields(parent.tbs_certificate_bytes).subject.whole:
            return False
        return signature_verifies(child, parent.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return False


def signature_verifies(child: x509.Certificate, issuer_key: CertificatePublicKeyTypes) -> bool:
    """Whether the key verifies the child's signature, whatever the names say.

    The algorithm inside the signed part must be the one outside (RFC 5280 4.1.1.2). False too for algorithms that are
    not known here and for those that do not fit the key.
    """
    try:
        whole = child.public_bytes(serialization.Encoding.DER)
        fields, outside = fields_and_algorithm(whole)
        if outside.whole != fields.signature.whole:
            return False
        return verifies(issuer_key, child, read(whole, read(whole).body).whole, child.signature_algorithm_parameters)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


class Signed(Protocol):
    """What an issuer signs: a certificate, a CRL or an OCSP answer."""

    @property
    def signature(self) -> bytes: ...
    @property
    def signature_algorithm_oid(self) -> x509.ObjectIdentifier: ...
    @property
    def signature_hash_algorithm(self) -> hashes.HashAlgorithm | None: ...


def verifies(key: object, what: Signed, octets: bytes, parameters: object = None) -> bool:
    """Whether the key verifies the signature over the ``octets``, the signed part as it is encoded.

    ``parameters``: the algorithm's, for RSASSA-PSS. False for algorithms that are not known here, for those that do
    not fit the key, and for a key in :func:`excess`. Raises ValueError or UnsupportedAlgorithm where the algorithm
    cannot be read.
    """
    if excess(key) is not None:
        return False
    algorithm, used = what.signature_algorithm_oid, what.signature_hash_algorithm
    try:
        if isinstance(key, rsa.RSAPublicKey) and used is not None and algorithm in _RSA:
            scheme = parameters if isinstance(parameters, padding.PSS) else padding.PKCS1v15()
            key.verify(what.signature, octets, scheme, used)
        elif isinstance(key, ec.EllipticCurvePublicKey) and used is not None and algorithm in _ECDSA:
            key.verify(what.signature, octets, ec.ECDSA(used))
        elif isinstance(key, dsa.DSAPublicKey) and used is not None and algorithm in _DSA:
            key.verify(what.signature, octets, used)
        elif isinstance(key, _STRONG_KINDS) and algorithm == _ALGORITHM_OF[type(key).__name__]:
            key.verify(what.signature, octets)
        else:
            return False
    except InvalidSignature:
        return False
    return True


@kept(_KEPT_ISSUERS)
def issuer_key(issuer: x509.Certificate) -> CertificatePublicKeyTypes:
    """The issuer's public key, which is decoded anew each time that a certificate is asked for it.

    Raises ValueError or UnsupportedAlgorithm where it cannot be read.
    """
    return issuer.public_key()


@kept(_KEPT_ISSUERS)
def issuer_key_identifier(issuer: x509.Certificate) -> bytes:
    """What an AKI of the issuer's children holds: its subject key identifier, else the one derived from its key.

    RFC 5280 4.2.1.1 and 4.2.1.2, method 1. Raises ValueError where the extensions cannot be parsed.
    """
    try:
        return issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest


def key_problem(public_key: object) -> str | None:
    """Why a certificate's key is too weak or not usable; None where it is neither.

    RSA needs 2048 bits and may have no :func:`excess`, a curve needs 256. Ed25519, Ed448 and ML-DSA are fine; DSA and
    kinds not known here are not.
    """
    if isinstance(public_key, rsa.RSAPublicKey):
        if public_key.key_size < SMALLEST_RSA:
            return f"RSA of {public_key.key_size} bits; at least {SMALLEST_RSA} is needed"
        return excess(public_key)
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        curve = public_key.curve
        if curve.key_size < SMALLEST_CURVE:
            return f"curve {curve.name} of {curve.key_size} bits; at least {SMALLEST_CURVE} is needed"
        return None
    if isinstance(public_key, _STRONG_KINDS):
        return None
    kind = type(public_key).__name__.removesuffix("PublicKey")
    return f"a key of kind {kind}; RSA, ECDSA, Ed25519, Ed448 or ML-DSA is needed"


def excess(public_key: object) -> str | None:
    """Why no signature is verified with a key: it is RSA so large that this would be costly; None for all others."""
    if not isinstance(public_key, rsa.RSAPublicKey):
        return None
    if public_key.key_size > LARGEST_RSA:
        return f"RSA of {public_key.key_size} bits; at most {LARGEST_RSA} are verified with"
    if (bits := public_key.public_numbers().e.bit_length()) > LONGEST_EXPONENT:
        return f"RSA with an exponent of {bits} bits; at most {LONGEST_EXPONENT} are verified with"
    return None


def signature_problem(what: Signed) -> str | None:
    """Why the signature is weak: MD5, SHA-1 or a hash not known here; None where it is not."""
    try:
        used = what.signature_hash_algorithm
    except (UnsupportedAlgorithm, ValueError):
        return f"signed with an unknown algorithm ({what.signature_algorithm_oid.dotted_string})"
    if used is None:  # Ed25519, Ed448 and ML-DSA bring their own
        return None
    if used.name in GOOD_HASHES:
        return None
    return f"signed with {used.name.upper()}; SHA-256 or better is needed"


def _name(kind: str, tenant: str, label: str, installation: str) -> x509.Name:
    room = LONGEST_COMMON_NAME - len(f"Sallyport {kind} CA (, {label})".encode())
    shown = tenant
    while len(shown.encode()) > room:
        shown = shown[:-1]
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Sallyport")]
    unit = installation.encode()[:LONGEST_COMMON_NAME].decode(errors="ignore")
    if unit:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, f"Sallyport {kind} CA ({shown}, {label})"))
    return x509.Name(attributes)


def _ca_extensions(
    builder: x509.CertificateBuilder, key: SigningKey, issuer_key: SigningKey, path_length: int
) -> x509.CertificateBuilder:
    """What RFC 5280 4.2.1.1, 4.2.1.2, 4.2.1.3 and 4.2.1.9 want of a CA certificate."""
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
