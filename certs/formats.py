"""Files of certificates: PEM (any number, text between them), DER and PKCS #7, to certificates in the file's order.

A file comes from an administrator's disk, so what else it may hold (a private key, above all) is told by name.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from itertools import islice

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from certs import der

LARGEST_FILE = 1024 * 1024  # bytes
MOST_CERTIFICATES = 100
DEEPEST = 16  # nesting of indefinite lengths; the certificates of a PKCS #7 lie four deep

_MARKER = re.compile(rb"-----(BEGIN|END) ([A-Za-z0-9 #.]{1,40})-----")
_CERTIFICATE_LABELS = frozenset(
    {"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"}
)  # RFC 7468 5.3, openssl x509
_PKCS7_LABELS = frozenset({"PKCS7", "CMS", "PKCS #7 SIGNED DATA"})  # RFC 7468 8, 9
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")  # 1.2.840.113549.1.7.2, RFC 5652 5.1
_BIT_STRING = 0x03
# Some programs write PKCS #7 with indefinite lengths (BER), which der does not follow.
_INDEFINITE_PKCS7 = b"\x30\x80\x06\x09" + _SIGNED_DATA


class BundleError(Exception):
    """The file is refused as a whole. ``certificate`` is its place in the file, from 1, where it is about one."""

    def __init__(self, code: str, message: str, certificate: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.certificate = certificate


def read_certificates(data: bytes) -> list[x509.Certificate]:
    """The certificates of a file in its order: PEM, DER or PKCS #7 (RFC 7468, RFC 5652 5.1).

    Raises :class:`BundleError`, and nothing else, with one of the codes ``no_certificate``, ``private_key``,
    ``too_large`` (over 1 MiB or 100 certificates) and ``malformed``.
    """
    if len(data) > LARGEST_FILE:
        raise BundleError("too_large", f"the file has {len(data)} bytes; at most {LARGEST_FILE} are read")
    data = _as_bytes(data)
    if not data.strip():
        raise BundleError("no_certificate", "the file is empty")
    alone = _whole_der(data)
    encoded = _from_pem(data) if alone is None else _from_der(alone, None)
    if len(encoded) > MOST_CERTIFICATES:
        raise BundleError(
            "too_large", f"the file holds {len(encoded)} certificates; at most {MOST_CERTIFICATES} are read"
        )
    return [_load(one, position) for position, one in enumerate(encoded, 1)]


def to_pem(certificates: Iterable[x509.Certificate]) -> str:
    """The certificates as PEM, in the order given."""
    return "".join(certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in certificates)


def _as_bytes(data: bytes) -> bytes:
    """UTF-16, which Windows programs write, becomes UTF-8; a byte order mark goes."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif data.startswith(b"-\0-\0-\0"):
        encoding = "utf-16-le"
    elif data.startswith(b"\0-\0-\0-"):
        encoding = "utf-16-be"
    else:
        return data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode(encoding).encode()
    except UnicodeError as error:
        raise BundleError("malformed", "the file looks like UTF-16 but is not; save it as plain PEM or DER") from error


def _whole_der(data: bytes) -> bytes | None:
    """The one DER element that the data is, a line end behind it aside; None where it is something else."""
    if data.startswith(_INDEFINITE_PKCS7):
        return data
    try:
        element = der.read(data)
    except der.DerError:
        return None
    return element.whole if element.tag == der.SEQUENCE and not data[element.end :].strip() else None


def _from_pem(data: bytes) -> list[bytes]:
    """The DER of each certificate in the PEM blocks of a file, without reading what is around them."""
    markers = [(found, found[1] == b"BEGIN", found[2].decode("ascii").upper()) for found in _MARKER.finditer(data)]
    for found, _, label in markers:
        if label.endswith("PRIVATE KEY"):
            line = data.count(b"\n", 0, found.start()) + 1
            raise _private_key(f"a private key ({label}, line {line})")
    encoded: list[bytes] = []
    others: list[str] = []
    for (found, begins, label), following in zip(markers, [*markers[1:], None], strict=False):
        if not begins:
            continue
        if label not in _CERTIFICATE_LABELS | _PKCS7_LABELS:
            others.append(label)
            continue
        position = len(encoded) + 1
        if following is None or following[1:] != (False, label):
            raise BundleError(
                "malformed", f"certificate {position} in the file has no END line of its own: the file is cut", position
            )
        try:
            block = binascii.a2b_base64(b"".join(data[found.end() : following[0].start()].split()), strict_mode=True)
        except binascii.Error as error:
            raise BundleError(
                "malformed", f"certificate {position} in the file is broken: {error} between BEGIN and END", position
            ) from error
        encoded += _from_der(_first_element(block) if label.startswith("TRUSTED") else block, position)
        if len(encoded) > MOST_CERTIFICATES:
            return encoded
    if not encoded:
        raise BundleError("no_certificate", f"the file holds no certificate{_instead(data, others)}")
    return encoded


def _instead(data: bytes, others: list[str]) -> str:
    """What a file without a certificate holds, as far as that helps."""
    if others:
        return f", only: {', '.join(dict.fromkeys(others[:5]))}"
    if data.lstrip().startswith(b"MII"):
        return "; it looks like PEM that lost its BEGIN and END lines"
    if data[0] == der.SEQUENCE and not data.isascii():
        return "; it looks like DER that is cut off or has something behind it"
    return ": neither PEM nor DER nor PKCS #7"


def _from_der(data: bytes, position: int | None) -> list[bytes]:
    """The certificates in one DER value: itself, or those of a PKCS #7. Raises for what is something else."""
    kind = kind_of(data)
    if kind == "certificate":
        return [data]
    if kind == "PKCS #7":
        return _from_pkcs7(data)
    if kind in _SECRETS:
        raise _private_key(_SECRETS[kind])
    if position is not None:
        raise BundleError(
            "malformed", f"certificate {position} in the file is broken: what it holds is {kind}", position
        )
    raise BundleError("no_certificate", f"the file holds no certificate; what it holds is {kind}")


def _from_pkcs7(data: bytes) -> list[bytes]:
    """The certificates of a SignedData without looking at its signatures (RFC 5652 5.1)."""
    try:
        _, content = islice(der.read(_definite(data)).children(), 2)
        (signed_data,) = content.children()
        sets = [field for field in signed_data.children() if field.tag == der.CONTEXT_0]
        found = [one.whole for field in sets for one in field.children() if one.tag == der.SEQUENCE]
    except ValueError as error:
        raise BundleError("malformed", f"the file is PKCS #7 that cannot be read: {error}") from error
    if not found:
        raise BundleError("no_certificate", "the file is PKCS #7 without a certificate in it")
    return found


def _definite(data: bytes) -> bytes:
    """The same with definite lengths on the outside (BER to DER, as far as the certificates of a PKCS #7 need it)."""
    return data if data[1] != 0x80 else _definite_element(data, 0, 0)[0]


def _definite_element(data: bytes, start: int, depth: int) -> tuple[bytes, int]:
    """The element at ``start``, its length made definite, and where it ends. Raises :class:`certs.der.DerError`."""
    if data[start + 1 : start + 2] != b"\x80" or not data[start] & 0x20:
        element = der.read(data, start)
        return element.whole, element.end
    if depth > DEEPEST:
        raise der.DerError("it is nested too deeply")
    parts: list[bytes] = []
    at = start + 2
    while data[at : at + 2] != b"\0\0":
        part, at = _definite_element(data, at, depth + 1)
        parts.append(part)
    body = b"".join(parts)
    return data[start : start + 1] + b"\x84" + len(body).to_bytes(4, "big") + body, at + 2


_SECRETS = {
    "a private key": "a private key (DER)",
    "an encrypted private key": "an encrypted private key (DER)",
    "PKCS #12": "PKCS #12, which is made to hold a private key; export the certificates alone, as PEM",
}


def kind_of(data: bytes) -> str:
    """What a DER value is, by its outer shape: a noun for a message."""
    if data.startswith(_INDEFINITE_PKCS7):
        return "PKCS #7"
    try:
        outer = der.read(data)
        first, second = islice(outer.children(), 2)
        inner = [child.tag for child in islice(first.children(), 6)] if first.tag == der.SEQUENCE else []
    except ValueError:
        return "no DER"
    version = first.content if first.tag == der.INTEGER else b""
    match first.tag, second.tag:
        case (der.INTEGER, der.SEQUENCE) if version == b"\x03":  # PFX, RFC 7292 4
            return "PKCS #12"
        case (der.INTEGER, der.SEQUENCE) if version in (b"\0", b"\1"):  # OneAsymmetricKey, RFC 5958 2
            return "a private key"
        case (der.INTEGER, der.INTEGER) if version in (b"\0", b"\1"):  # RSAPrivateKey, RFC 8017 A.1.2; DSA
            return "a private key"
        case (der.INTEGER, der.OCTET_STRING) if version == b"\1":  # ECPrivateKey, RFC 5915 3
            return "a private key"
        case (der.SEQUENCE, der.OCTET_STRING):  # EncryptedPrivateKeyInfo, RFC 5958 3
            return "an encrypted private key"
        case (der.OBJECT_IDENTIFIER, der.CONTEXT_0) if first.content == _SIGNED_DATA:
            return "PKCS #7"
        case (der.SEQUENCE, _) if inner == [der.INTEGER, der.SEQUENCE, der.SEQUENCE, der.CONTEXT_0]:  # RFC 2986 4.1
            return "a certificate request"
        case (der.SEQUENCE, _b) if _b == _BIT_STRING:
            return "a public key"
        case (der.SEQUENCE, der.SEQUENCE) if len(inner) >= 6:  # TBSCertificate; a wrong one fails when it is loaded
            return "certificate"
        case _:
            return "nothing known"


def _first_element(block: bytes) -> bytes:
    """The certificate of an OpenSSL TRUSTED CERTIFICATE, without the trust settings behind it."""
    try:
        return der.read(block).whole
    except der.DerError:
        return block


def title(certificate: bytes) -> str:
    """The subject of an encoded certificate for a message."""
    try:
        return der.name_text(der.certificate_fields(certificate).subject)
    except der.DerError:
        return "unreadable"


def _load(data: bytes, position: int) -> x509.Certificate:
    where = f"certificate {position} in the file ({title(data)})"
    try:
        serial = der.certificate_fields(data).serial.content
    except der.DerError as error:
        raise BundleError("malformed", f"{where} cannot be parsed: {error}", position) from error
    if not serial.strip(b"\0") or serial[0] & 0x80:
        # cryptography still loads these, with a warning; it says that it will stop to.
        raise BundleError(
            "malformed", f"{where} has a serial number below 1 (RFC 5280 4.1.2.2 forbids it); reissue it", position
        )
    try:
        return x509.load_der_x509_certificate(data)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        reason = str(error).split("\n", 1)[0]
        raise BundleError("malformed", f"{where} cannot be parsed: {reason}", position) from error


def _private_key(what: str) -> BundleError:
    return BundleError("private_key", f"the file holds {what}; only certificates belong here, so take it out")
