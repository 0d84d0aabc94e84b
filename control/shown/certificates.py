"""A certificate in words and as JSON. Whatever cannot be read of it is said so, since it may be a stranger's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from cachetools import LRUCache, cached
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from certs import der
from certs.expiry import begins_in, time_left
from certs.reading import UNREADABLE
from certs.reading import common_name as _common_name
from certs.reading import fingerprint as fingerprint
from certs.reading import issuer as issuer
from certs.reading import names as names
from certs.reading import read as _read
from certs.reading import subject as subject
from control.shown.text import clean, day, minute, stamp

MOST_KEPT = 4096
"""Certificates whose common name is remembered: a list of a thousand CAs asks for each, each time."""
LONGEST_KEPT = 16 << 20
"""Bytes of certificates that are kept, parsed and for JSON each."""
LONGEST_HEX = 64
"""Bytes of an extension that are shown where nothing can be said of them but their bytes."""


def _digest(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


@cached(LRUCache[bytes, str](MOST_KEPT), key=_digest, lock=threading.Lock())
def common_name(certificate: x509.Certificate) -> str:
    """The common name, or the whole subject where there is none."""
    return _common_name(certificate)


def key(certificate: x509.Certificate) -> str:
    """The kind of key and its size: ``RSA 2048``, ``EC secp256r1``."""

    def described() -> str:
        public = certificate.public_key()
        match public:
            case rsa.RSAPublicKey():
                return f"RSA {public.key_size}"
            case ec.EllipticCurvePublicKey():
                return f"EC {public.curve.name}"
            case dsa.DSAPublicKey():
                return f"DSA {public.key_size}"
            case ed25519.Ed25519PublicKey():
                return "Ed25519"
            case ed448.Ed448PublicKey():
                return "Ed448"
            case _:
                return type(public).__name__.removesuffix("PublicKey")

    return _read(described, UNREADABLE)


def signature(certificate: x509.Certificate) -> str:
    """The hash that was signed (``sha256``), or the algorithm's OID where there is no hash of its own."""

    def described() -> str:
        algorithm = certificate.signature_hash_algorithm
        return algorithm.name if algorithm is not None else certificate.signature_algorithm_oid.dotted_string

    return _read(described, UNREADABLE)


def signature_algorithm(certificate: x509.Certificate) -> str:
    """The name of the signature algorithm (``ecdsa-with-SHA256``), or its OID where it has none here."""
    return _read(lambda: _named(certificate.signature_algorithm_oid), UNREADABLE)


def version(certificate: x509.Certificate) -> int:
    """The version as people count it: 1 to 3."""
    return certificate.version.value + 1


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether basicConstraints says that it is a CA (RFC 5280, 4.2.1.9)."""
    return _read(lambda: certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca, False)


def sha1(certificate: x509.Certificate) -> str:
    """SHA-1 of the certificate, hexadecimal: what many other programs still show, to look a certificate up by."""
    return certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - a name for it; nothing is trusted for it


def key_identifier(certificate: x509.Certificate) -> str | None:
    """The subject key identifier (RFC 5280, 4.2.1.2), hexadecimal."""

    def found() -> str | None:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()

    return _read(found, None)


def authority_key_identifier(certificate: x509.Certificate) -> str | None:
    """The issuer's key identifier (RFC 5280, 4.2.1.1), hexadecimal."""

    def found() -> str | None:
        value = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        return value.key_identifier.hex() if value.key_identifier is not None else None

    return _read(found, None)


def extensions(certificate: x509.Certificate) -> list[dict[str, Any]]:
    """The extensions in their order, each with ``oid``, ``name`` (or the OID), ``critical`` and ``text`` (one line).

    Each is read by itself, so that a damaged one, or one that is there twice, hides no other.
    """
    encoded: list[der.Element] = _read(lambda: list(_encoded_extensions(certificate)), [])
    nothing = {"oid": UNREADABLE, "name": UNREADABLE, "critical": False, "text": UNREADABLE}
    return [_read(lambda one=one: _extension(one), nothing) for one in encoded]  # type: ignore[misc]


def _encoded_extensions(certificate: x509.Certificate) -> Iterator[der.Element]:
    """What is inside of the field ``extensions`` (RFC 5280, 4.1)."""
    for field in der.read(certificate.tbs_certificate_bytes).children():
        if field.tag == _EXTENSIONS:
            for listed in field.children():
                yield from listed.children()


def _extension(encoded: der.Element) -> dict[str, Any]:
    oid, *flag, value = encoded.children()
    dotted = _dotted(oid.content)

    def described() -> str:
        (alone,) = _alone(encoded.whole).extensions
        return _text(alone.value)

    return {
        "oid": dotted,
        "name": _named(x509.ObjectIdentifier(dotted)),
        "critical": any(one.content != b"\0" for one in flag),
        "text": clean(_read(described, f"{UNREADABLE} {_hex(value.content)}")),
    }


_EXTENSIONS = 0xA3
_BEFORE = b"".join(
    [
        der.written(der.CONTEXT_0, der.written(der.INTEGER, b"\2")),
        der.written(der.INTEGER, b"\1"),
        _ED25519 := der.written(der.SEQUENCE, der.written(der.OBJECT_IDENTIFIER, b"\x2b\x65\x70")),
        der.written(der.SEQUENCE, b""),
        der.written(der.SEQUENCE, der.written(0x17, b"260101000000Z") * 2),
        der.written(der.SEQUENCE, b""),
        der.written(der.SEQUENCE, _ED25519 + der.written(der.BIT_STRING, b"\0")),
    ]
)


def _alone(extension: bytes) -> x509.Certificate:
    """A certificate with that extension and nothing else in it: cryptography reads all of one's extensions or none."""
    tbs = der.written(der.SEQUENCE, _BEFORE + der.written(_EXTENSIONS, der.written(der.SEQUENCE, extension)))
    return x509.load_der_x509_certificate(
        der.written(der.SEQUENCE, tbs + _ED25519 + der.written(der.BIT_STRING, b"\0"))
    )


def _dotted(content: bytes) -> str:
    """The OID in an element's content (X.690 8.19)."""
    numbers = [0]
    for byte in content:
        numbers[-1] = numbers[-1] << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(0)
    first = min(numbers[0] // 40, 2)
    return ".".join(str(number) for number in (first, numbers[0] - 40 * first, *numbers[1:-1]))


def _named(oid: x509.ObjectIdentifier) -> str:
    name = oid._name  # cryptography's table has no other way in
    return oid.dotted_string if name == "Unknown OID" else name


def _hex(value: bytes) -> str:
    return value.hex() if len(value) <= LONGEST_HEX else f"{value[:LONGEST_HEX].hex()}... ({len(value)} bytes)"


def _text(value: x509.ExtensionType) -> str:
    """What an extension says, in the words of RFC 5280 where it has them."""
    match value:
        case x509.BasicConstraints():
            length = "" if value.path_length is None else f", pathLen:{value.path_length}"
            return f"CA:{'TRUE' if value.ca else 'FALSE'}{length}"
        case x509.KeyUsage():
            return ", ".join(_key_usages(value)) or "none"
        case x509.ExtendedKeyUsage():
            return ", ".join(_named(usage) for usage in value)
        case x509.SubjectKeyIdentifier():
            return value.digest.hex()
        case x509.AuthorityKeyIdentifier():
            return ", ".join(_authority_key(value)) or "empty"
        case x509.SubjectAlternativeName() | x509.IssuerAlternativeName():
            return _general_names(value)
        case x509.NameConstraints():
            parts = (("permitted", value.permitted_subtrees), ("excluded", value.excluded_subtrees))
            return "; ".join(f"{kind} {_general_names(subtrees)}" for kind, subtrees in parts if subtrees)
        case x509.CRLDistributionPoints() | x509.FreshestCRL():
            return "; ".join(_distribution_point(point) for point in value)
        case x509.AuthorityInformationAccess() | x509.SubjectInformationAccess():
            return ", ".join(f"{_named(one.access_method)} {_general_name(one.access_location)}" for one in value)
        case x509.CertificatePolicies():
            return "; ".join(_policy(policy) for policy in value)
        case x509.PolicyConstraints():
            counts = (
                ("requireExplicitPolicy", value.require_explicit_policy),
                ("inhibitPolicyMapping", value.inhibit_policy_mapping),
            )
            return ", ".join(f"{kind}:{count}" for kind, count in counts if count is not None)
        case x509.InhibitAnyPolicy():
            return f"skipCerts:{value.skip_certs}"
        case x509.PrecertificateSignedCertificateTimestamps():
            return "; ".join(f"{stamp(one.timestamp)} log {one.log_id.hex()}" for one in value) or "none"
        case x509.TLSFeature():
            return ", ".join(feature.name for feature in value)
        case x509.OCSPNoCheck() | x509.PrecertPoison():
            return "present"
        case _:
            return _hex(value.value if isinstance(value, x509.UnrecognizedExtension) else value.public_bytes())


_KEY_USAGES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
    "encipher_only": "encipherOnly",
    "decipher_only": "decipherOnly",
}


def _key_usages(usage: x509.KeyUsage) -> Iterator[str]:
    for attribute, name in _KEY_USAGES.items():
        # The last two mean something only beside keyAgreement, and raise ValueError without it.
        if _read(lambda attribute=attribute: getattr(usage, attribute), False):  # type: ignore[misc]
            yield name


def _authority_key(value: x509.AuthorityKeyIdentifier) -> Iterator[str]:
    if value.key_identifier is not None:
        yield value.key_identifier.hex()
    if value.authority_cert_issuer:
        yield f"issuer {_general_names(value.authority_cert_issuer)}"
    if value.authority_cert_serial_number is not None:
        yield f"serial {_colons(value.authority_cert_serial_number)}"


def _distribution_point(point: x509.DistributionPoint) -> str:
    parts: list[str] = []
    if point.full_name:
        parts.append(_general_names(point.full_name))
    if point.relative_name:
        parts.append(f"relative {_quoted(point.relative_name.rfc4514_string())}")
    if point.reasons:
        parts.append(f"reasons {', '.join(sorted(reason.value for reason in point.reasons))}")
    if point.crl_issuer:
        parts.append(f"issuer {_general_names(point.crl_issuer)}")
    return " ".join(parts)


def _policy(policy: x509.PolicyInformation) -> str:
    parts = [_named(policy.policy_identifier)]
    for qualifier in policy.policy_qualifiers or ():
        if isinstance(qualifier, str):
            parts.append(f"CPS {_quoted(qualifier)}")
            continue
        if qualifier.notice_reference is not None:
            reference = qualifier.notice_reference
            numbers = ", ".join(str(number) for number in reference.notice_numbers)
            parts.append(f"notice {_quoted(reference.organization or '')} {numbers}".rstrip())
        if qualifier.explicit_text is not None:
            parts.append(f"text {_quoted(qualifier.explicit_text)}")
    return " ".join(parts)


def _general_names(listed: Iterable[x509.GeneralName]) -> str:
    return ", ".join(_general_name(name) for name in listed)


def _general_name(name: x509.GeneralName) -> str:
    """A name of RFC 5280, 4.2.1.6, with its kind."""
    match name:
        case x509.DNSName():
            return f"DNS:{_quoted(name.value)}"
        case x509.IPAddress():
            return f"IP:{name.value}"
        case x509.RFC822Name():
            return f"email:{_quoted(name.value)}"
        case x509.UniformResourceIdentifier():
            return f"URI:{_quoted(name.value)}"
        case x509.DirectoryName():
            return f"DirName:{_quoted(name.value.rfc4514_string())}"
        case x509.RegisteredID():
            return f"RID:{name.value.dotted_string}"
        case x509.OtherName():
            return f"other:{name.type_id.dotted_string}:{_hex(name.value)}"
        case _:
            return UNREADABLE


def _quoted(text: str) -> str:
    """In quotes where it holds what stands between parts here, so that no name can pass for two."""
    return json.dumps(text, ensure_ascii=False) if not text or any(c in ' ,;"\\' for c in text) else text


def _colons(number: int) -> str:
    """Hexadecimal bytes with colons: ``0a:1b``."""
    digits = abs(number).to_bytes((abs(number).bit_length() + 7) // 8 or 1, "big").hex(":")
    return f"-{digits}" if number < 0 else digits


def as_object(certificate: x509.Certificate) -> dict[str, Any]:
    """The certificate for JSON."""
    return dict(_as_object(certificate))


def _bytes_of(told: dict[str, Any]) -> int:
    return len(told["pem"])


@cached(LRUCache[bytes, dict[str, Any]](LONGEST_KEPT, _bytes_of), key=_digest, lock=threading.Lock())
def _as_object(certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "subject": subject(certificate),
        "issuer": issuer(certificate),
        "common_name": common_name(certificate),
        "names": names(certificate),
        "serial": _read(lambda: f"{certificate.serial_number:x}", UNREADABLE),
        "not_before": _read(lambda: stamp(certificate.not_valid_before_utc), UNREADABLE),
        "not_after": _read(lambda: stamp(certificate.not_valid_after_utc), UNREADABLE),
        "key": key(certificate),
        "signature": signature(certificate),
        "signature_algorithm": signature_algorithm(certificate),
        "version": version(certificate),
        "ca": is_ca(certificate),
        "key_identifier": key_identifier(certificate),
        "authority_key_identifier": authority_key_identifier(certificate),
        "extensions": extensions(certificate),
        "sha1": sha1(certificate),
        "sha256": fingerprint(certificate),
        "pem": certificate.public_bytes(Encoding.PEM).decode("ascii"),
    }


def as_objects(chain: Iterable[x509.Certificate]) -> list[dict[str, Any]]:
    """Certificates for JSON, in their order."""
    return [as_object(certificate) for certificate in chain]


def as_fields(certificate: x509.Certificate) -> list[tuple[str, str]]:
    """The certificate for people: names and values."""
    shown = [("subject", subject(certificate)), ("issuer", issuer(certificate))]
    if alternatives := names(certificate):
        more = f" and {len(alternatives) - 6} more" if len(alternatives) > 6 else ""
        shown.append(("names", ", ".join(alternatives[:6]) + more))

    def valid() -> str:
        return f"{day(certificate.not_valid_before_utc)} to {day(certificate.not_valid_after_utc)}"

    return [
        *shown,
        ("valid", _read(valid, UNREADABLE)),
        ("key", f"{key(certificate)}, signed with {signature(certificate)}"),
        ("sha256", fingerprint(certificate)),
    ]


def full_fields(certificate: x509.Certificate, now: datetime) -> list[tuple[str, str]]:
    """All of the certificate for people: names and values, each extension on its line.

    The values are as the certificate has them: they are printed with ``cli.output.fields``, which escapes what
    would steer a terminal.
    """
    alternatives = names(certificate)
    return [
        ("subject", subject(certificate)),
        ("issuer", issuer(certificate)),
        ("version", str(version(certificate))),
        ("serial", _read(lambda: _colons(certificate.serial_number), UNREADABLE)),
        ("valid from", _read(lambda: _from(certificate.not_valid_before_utc, now), UNREADABLE)),
        ("valid to", _read(lambda: _to(certificate.not_valid_after_utc, now), UNREADABLE)),
        ("key", key(certificate)),
        ("signature algorithm", signature_algorithm(certificate)),
        *([("names", ", ".join(alternatives))] if alternatives else []),
        *(
            (one["name"], f"critical, {one['text']}" if one["critical"] else one["text"])
            for one in extensions(certificate)
        ),
        ("sha1", sha1(certificate)),
        ("sha256", fingerprint(certificate)),
    ]


def _from(moment: datetime, now: datetime) -> str:
    later = f" ({begins_in(moment, now)})" if moment > now else ""
    return f"{minute(moment)} UTC{later}"


def _to(moment: datetime, now: datetime) -> str:
    return f"{minute(moment)} UTC ({time_left(moment, now)})"


def load(chain: Iterable[bytes]) -> list[x509.Certificate]:
    """The certificates of a record (DER each)."""
    return [_parsed(der) for der in chain]


def _size(certificate: x509.Certificate) -> int:
    return len(certificate.public_bytes(Encoding.DER))


@cached(LRUCache[bytes, x509.Certificate](LONGEST_KEPT, _size), key=lambda der: der, lock=threading.Lock())
def _parsed(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)
