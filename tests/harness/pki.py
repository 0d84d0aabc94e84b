"""A small PKI for tests: authorities and leaves, good ones by default, and broken in any one way by an override.

    root = Authority.root("Test Root")
    issuing = root.intermediate("Test Issuing")
    leaf = issuing.leaf("good.example", not_after=NOW - HOUR)
    leaf.chain_pem()                            # the leaf, then its issuers without the self-signed root

The certificate is put together from DER by hand, not by cryptography's builder: the builder refuses just what tests
need most (MD5 and SHA-1 signatures, duplicate extensions, wrong versions, negative serial numbers, two signature
algorithms that differ). Every key still comes from, and every signature is still made by, cryptography.

Overrides, accepted by ``root``, ``intermediate``, ``leaf`` and ``cross_sign`` alike: see :class:`Overrides`.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TypedDict, Unpack, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    ExtensionOID,
    NameOID,
    ObjectIdentifier,
)

from tests.harness.der_writing import integer, object_identifier, time_of, tlv

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | dsa.DSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)

NOW = dt.datetime.fromtimestamp(int(time.time()), dt.UTC)
"""The time at which the tests began, to the second: what ``now`` is in them, and what default dates count from."""
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)

EKU = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "email": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "code": ExtendedKeyUsageOID.CODE_SIGNING,
    "ocsp": ExtendedKeyUsageOID.OCSP_SIGNING,
}
KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
CURVES: dict[str, type[ec.EllipticCurve]] = {
    "ec192": ec.SECP192R1,
    "ec224": ec.SECP224R1,
    "ec256": ec.SECP256R1,
    "ec384": ec.SECP384R1,
    "ec521": ec.SECP521R1,
    "secp256k1": ec.SECP256K1,
    "brainpool256": ec.BrainpoolP256R1,
}


@dataclass(frozen=True)
class Raw:
    """An extension of which the bytes are given: malformed, unknown, or critical where it should not be."""

    oid: str
    value: bytes
    critical: bool = False


class Overrides(TypedDict, total=False):
    """What can differ from a good certificate. None takes an extension away."""

    key: str | PrivateKey
    """A kind (ec192 … ec521, rsa1024 … rsa4096, dsa, ed25519, ed448) or a key to share. Default ec256."""
    spki: bytes
    """The SubjectPublicKeyInfo as it is written, where it is to be another than the key's."""
    subject: x509.Name
    subject_der: bytes
    """The subject as it is encoded, where it is one that cannot be decoded; what it signs needs ``issuer_der``."""
    issuer_name: x509.Name
    """The name written as issuer, where it is to differ from that of who signs."""
    issuer_der: bytes
    """The same as it is encoded."""
    not_before: dt.datetime | bytes
    """A time, or the DER of what stands in its place."""
    not_after: dt.datetime | bytes
    serial: int
    version: int
    """As people count: 1 to 3. A version 1 certificate keeps its extensions, unless ``bare``."""
    bare: bool
    """No extension at all."""
    ca: bool | None
    """basicConstraints; None leaves them out."""
    path_length: int | None
    key_usage: Iterable[str] | None
    """Names of :data:`KEY_USAGES`."""
    eku: Sequence[str] | None
    """Names of :data:`EKU`, or dotted OIDs."""
    san: Sequence[x509.GeneralName] | None
    san_critical: bool
    name_constraints: x509.NameConstraints | None
    name_constraints_critical: bool
    ski: bool
    aki: bool
    extra: Sequence[Raw]
    """Added behind the others."""
    extension_der: Sequence[bytes]
    """Whole Extension elements behind those: for what is no DER."""
    without: Sequence[ObjectIdentifier]
    duplicate: Sequence[ObjectIdentifier]
    """Extensions that are written twice."""
    hash: str
    """md5, sha1, sha224, sha256, sha384 or sha512, or pss for RSASSA-PSS with SHA-256; the default fits the key."""
    inner_hash: str
    """The hash named inside the signed part, where it is to differ from the one named outside."""
    sign_with: PrivateKey
    """Signed by this key in place of the issuer's: a signature that does not verify."""
    tamper: bool
    """The last byte of the signature is changed."""


def new_key(kind: str = "ec256") -> PrivateKey:
    """A new private key of that kind."""
    if kind in CURVES:
        return ec.generate_private_key(CURVES[kind]())
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    if kind == "dsa":
        return dsa.generate_private_key(2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "ed448":
        return ed448.Ed448PrivateKey.generate()
    raise ValueError(f"no such kind of key: {kind}")


@cache
def kept_key(kind: str, number: int = 0) -> PrivateKey:
    """A key that is made once per test process: for kinds that are slow to make (RSA)."""
    return new_key(kind)


def excessive_spki(key: PrivateKey) -> bytes:
    """An RSA key's SubjectPublicKeyInfo with another exponent that verifies the same signatures, and takes long to."""
    assert isinstance(key, rsa.RSAPrivateKey)
    private = key.private_numbers()
    public = private.public_numbers
    # The exponent counts modulo the order of the group.
    longer = rsa.RSAPublicNumbers(public.e + (private.p - 1) * (private.q - 1), public.n).public_key()
    return longer.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def general_name(host: str) -> x509.GeneralName:
    """An iPAddress for an address, else a dNSName as written (wildcards too)."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def usage(names: Iterable[str]) -> x509.KeyUsage:
    """A keyUsage with just these bits of :data:`KEY_USAGES`."""
    wanted = set(names)
    return x509.KeyUsage(**{name: name in wanted for name in KEY_USAGES})


def issuer_at(*urls: str) -> Raw:
    """An extension that says where the issuer's certificate is (caIssuers, RFC 5280 4.2.2.1)."""
    kind, found = AuthorityInformationAccessOID.CA_ISSUERS, [x509.UniformResourceIdentifier(url) for url in urls]
    value = x509.AuthorityInformationAccess([x509.AccessDescription(kind, each) for each in found])
    return Raw(ExtensionOID.AUTHORITY_INFORMATION_ACCESS.dotted_string, value.public_bytes())


@dataclass
class Issued:
    """A certificate, its private key, and whoever signed it (None: itself)."""

    raw: bytes = field(repr=False)
    """The certificate's DER; ``certificate`` is the same, parsed when it is first asked for (not all can be)."""
    key: PrivateKey = field(repr=False)
    subject: x509.Name
    parent: Issued | None = None

    @cached_property
    def certificate(self) -> x509.Certificate:
        """The certificate parsed. Raises ValueError for one that cryptography cannot read (version 2 or 4)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # serial numbers below one are made here on purpose
            return x509.load_der_x509_certificate(self.raw)

    def pem(self) -> bytes:
        return _pem(self.raw)

    def key_pem(self) -> bytes:
        """The private key, unencrypted PKCS#8."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def chain(self, *, with_root: bool = False) -> tuple[x509.Certificate, ...]:
        """This certificate and those above it; a topmost one that nobody else signed is left out, unless it is this."""
        return tuple(one.certificate for one in self.line(with_root=with_root))

    def line(self, *, with_root: bool = False) -> list[Issued]:
        """The same as :meth:`chain`, with keys, and for certificates that cannot be parsed too."""
        line: list[Issued] = []
        at: Issued | None = self
        while at is not None:
            if at.parent is not None or with_root or at is self:
                line.append(at)
            at = at.parent
        return line

    def chain_pem(self, *, with_root: bool = False) -> bytes:
        return b"".join(_pem(one.raw) for one in self.line(with_root=with_root))

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write ``name.pem`` (the chain without the root) and ``name.key`` (0600); returns both paths."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.chain_pem())
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(self.key_pem())
        return certificate, key


class Authority(Issued):
    """Whoever can sign. ``root`` starts a PKI; the others hang below."""

    @classmethod
    def root(cls, name: str = "Test Root", **overrides: Unpack[Overrides]) -> Authority:
        """A self-signed CA of ten years, RFC 5280 to the letter."""
        return cls(*_make(common_name(name), None, _ca_defaults(3650) | overrides))

    def intermediate(self, name: str = "Test Issuing", **overrides: Unpack[Overrides]) -> Authority:
        """A CA of five years that this one signs."""
        return Authority(*_make(common_name(name), self, _ca_defaults(1825) | overrides), parent=self)

    def leaf(self, hosts: str | Sequence[str] = "good.example", **overrides: Unpack[Overrides]) -> Issued:
        """A server's certificate of 90 days for these hosts (names, wildcards, addresses)."""
        names = [hosts] if isinstance(hosts, str) else list(hosts)
        defaults: Overrides = {
            "not_before": NOW - DAY,
            "not_after": NOW + 90 * DAY,
            "ca": False,
            "key_usage": ["digital_signature"],
            "eku": ["server"],
            "san": [general_name(name) for name in names],
        }
        return Issued(*_make(common_name(names[0][:64]), self, defaults | overrides), parent=self)

    def cross_sign(self, other: Issued, **overrides: Unpack[Overrides]) -> Authority:
        """The other's name and key in a CA certificate that this one signs."""
        own: Overrides = {"subject": other.subject, "key": other.key}
        return Authority(*_make(other.subject, self, _ca_defaults(1825) | own | overrides), parent=self)


def self_signed(hosts: str | Sequence[str] = "good.example", **overrides: Unpack[Overrides]) -> Issued:
    """A server's certificate that nobody else signed: CA:FALSE unless overridden (openssl makes CA:TRUE)."""
    names = [hosts] if isinstance(hosts, str) else list(hosts)
    defaults: Overrides = {
        "not_before": NOW - DAY,
        "not_after": NOW + 90 * DAY,
        "ca": False,
        "key_usage": ["digital_signature"],
        "eku": ["server"],
        "san": [general_name(name) for name in names],
    }
    return Issued(*_make(common_name(names[0][:64]), None, defaults | overrides))


def pem(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def _pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()


def _ca_defaults(days: int) -> Overrides:
    return {
        "not_before": NOW - 2 * DAY,
        "not_after": NOW + days * DAY,
        "ca": True,
        "key_usage": ["key_cert_sign", "crl_sign"],
    }


def _make(subject: x509.Name, parent: Issued | None, o: Overrides) -> tuple[bytes, PrivateKey, x509.Name]:
    wanted = o.get("key", "ec256")
    key = new_key(wanted) if isinstance(wanted, str) else wanted
    public = o.get("spki") or key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    subject = o.get("subject", subject)
    issuer_name = o.get("issuer_name", parent.subject if parent else subject)
    signing_key = parent.key if parent else key
    named = o.get("hash") or default_hash(signing_key)
    algorithm = algorithm_of(signing_key, named)
    inner = algorithm_of(signing_key, o.get("inner_hash", named))
    version = o.get("version", 3)
    validity = o["not_before"], o["not_after"]
    fields = [
        tlv(0xA0, integer(version - 1)) if version != 1 else b"",
        integer(o.get("serial", int.from_bytes(os.urandom(15)) | 1 << 119)),
        inner,
        o.get("issuer_der") or issuer_name.public_bytes(),
        tlv(0x30, b"".join(time if isinstance(time, bytes) else time_of(time) for time in validity)),
        o.get("subject_der") or subject.public_bytes(),
        public,
    ]
    if not o.get("bare"):
        extensions = [*_extensions(o, key, parent), *o.get("extension_der", ())]
        fields.append(tlv(0xA3, tlv(0x30, b"".join(extensions))))
    signed = tlv(0x30, b"".join(fields))
    signature = bytearray(sign(o.get("sign_with", signing_key), signed, named))
    if o.get("tamper"):
        signature[-1] ^= 1
    der = tlv(0x30, signed + algorithm + tlv(0x03, b"\0" + bytes(signature)))
    return der, key, subject


def _extensions(o: Overrides, key: PrivateKey, parent: Issued | None) -> list[bytes]:
    made: list[tuple[x509.ExtensionType, bool]] = []
    if (ca := o.get("ca")) is not None:
        made.append((x509.BasicConstraints(ca, o.get("path_length") if ca else None), True))
    if (usages := o.get("key_usage")) is not None:
        made.append((usage(usages), True))
    if (eku := o.get("eku")) is not None:
        made.append((x509.ExtendedKeyUsage([EKU.get(e) or ObjectIdentifier(e) for e in eku]), False))
    if (san := o.get("san")) is not None:
        made.append((x509.SubjectAlternativeName(san), o.get("san_critical", False)))
    if (constraints := o.get("name_constraints")) is not None:
        made.append((constraints, o.get("name_constraints_critical", True)))
    if o.get("ski", True):
        made.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
    if o.get("aki", True):
        issuer = (parent.key if parent else key).public_key()
        # DSA cannot be an issuer's key to cryptography's types; the identifier is computed all the same.
        made.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(cast("rsa.RSAPublicKey", issuer)), False))
    raws = [Raw(e.oid.dotted_string, e.public_bytes(), critical) for e, critical in made]
    without = {oid.dotted_string for oid in o.get("without", ())}
    raws = [raw for raw in raws if raw.oid not in without] + list(o.get("extra", ()))
    twice = {oid.dotted_string for oid in o.get("duplicate", ())}
    return [extension(raw) for raw in raws] + [extension(raw) for raw in raws if raw.oid in twice]


def extension(raw: Raw) -> bytes:
    critical = b"\x01\x01\xff" if raw.critical else b""
    return tlv(0x30, object_identifier(raw.oid) + critical + tlv(0x04, raw.value))


def sign(key: PrivateKey, data: bytes, named: str) -> bytes:
    algorithm = _hash(named)
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        return key.sign(data, pss if named == "pss" else padding.PKCS1v15(), algorithm)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(algorithm))
    if isinstance(key, dsa.DSAPrivateKey):
        return key.sign(data, algorithm)
    return key.sign(data)


def _hash(named: str) -> hashes.HashAlgorithm:
    kinds: dict[str, type[hashes.HashAlgorithm]] = {
        "md5": hashes.MD5,
        "sha1": hashes.SHA1,
        "sha224": hashes.SHA224,
        "sha256": hashes.SHA256,
        "sha384": hashes.SHA384,
        "sha512": hashes.SHA512,
        "pss": hashes.SHA256,
    }
    return kinds[named]()


def default_hash(key: PrivateKey) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return {384: "sha384", 521: "sha512"}.get(key.curve.key_size, "sha256")
    return "sha256"


def algorithm_of(key: PrivateKey, named: str) -> bytes:
    """AlgorithmIdentifier (RFC 3279, 5758, 8410): with NULL for RSA, without parameters for the others."""
    if isinstance(key, rsa.RSAPrivateKey):
        if named == "pss":
            return _PSS
        last = {"md5": 4, "sha1": 5, "sha256": 11, "sha384": 12, "sha512": 13, "sha224": 14}[named]
        return tlv(0x30, object_identifier(f"1.2.840.113549.1.1.{last}") + b"\x05\x00")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        oid = {"sha1": "1", "sha224": "3.1", "sha256": "3.2", "sha384": "3.3", "sha512": "3.4"}[named]
        return tlv(0x30, object_identifier(f"1.2.840.10045.4.{oid}"))
    if isinstance(key, dsa.DSAPrivateKey):
        return tlv(0x30, object_identifier({"sha1": "1.2.840.10040.4.3", "sha256": "2.16.840.1.101.3.4.3.2"}[named]))
    return tlv(0x30, object_identifier("1.3.101.112" if isinstance(key, ed25519.Ed25519PrivateKey) else "1.3.101.113"))


_SHA256 = tlv(0x30, object_identifier("2.16.840.1.101.3.4.2.1") + b"\x05\x00")
_PSS = tlv(
    0x30,
    object_identifier("1.2.840.113549.1.1.10")
    + tlv(
        0x30,
        tlv(0xA0, _SHA256)
        + tlv(0xA1, tlv(0x30, object_identifier("1.2.840.113549.1.1.8") + _SHA256))
        + tlv(0xA2, integer(32)),
    ),
)
"""RSASSA-PSS with SHA-256, MGF1 with SHA-256 and a salt of 32 octets (RFC 4055 3.1)."""

SAN = ExtensionOID.SUBJECT_ALTERNATIVE_NAME
