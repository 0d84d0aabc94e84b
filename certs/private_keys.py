"""Private keys that an administrator uploads: PEM, DER and PKCS #12, opened with a passphrase where they need one.

What is wrong is said in one line that has nothing of the key or the passphrase; no error carries another that could.
Work that a file asks for (rounds of hashing, sizes of numbers) is bounded before it is done.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key, pkcs12

from certs import der
from certs.authority import SMALLEST_CURVE, SMALLEST_RSA
from certs.formats import LARGEST_FILE, kind_of, to_pem
from certs.signer import LocalSigner, SigningError, SigningKey
from certs.signing import LEAF_CURVES, LEAF_KEYS

LARGEST_KEY = 5 * 1024
"""Bytes of one encoded key: enough for RSA-8192, whose check takes seconds already and grows with the fourth power."""
MOST_ROUNDS = 5_000_000
"""Of hashing, in a whole file: some seconds."""
MOST_MEMORY = 64 * 1024 * 1024  # bytes that scrypt may use (RFC 7914 2: 128 N r)
DEEPEST = 8  # nesting of bags and of an algorithm's parameters
MOST_PARTS = 16  # of a PKCS #12 file; there are two

_MARKER = re.compile(rb"-----(BEGIN|END) ([A-Za-z0-9 #.]{1,40})-----")
_PLAIN_LABELS = frozenset({"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"})
_BYTE_ORDER_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
_ENCRYPTED_HEADER = b"4,ENCRYPTED"  # RFC 1421 4.6.1.1
_EC_PUBLIC_KEY = bytes.fromhex("2a8648ce3d0201")  # 1.2.840.10045.2.1, RFC 5480 2.1.1
_SCRYPT = bytes.fromhex("2b06010401da47040b")  # 1.3.6.1.4.1.11591.4.11, RFC 7914 7
_DATA = bytes.fromhex("2a864886f70d010701")  # 1.2.840.113549.1.7.1, RFC 5652 4
_ENCRYPTED_DATA = bytes.fromhex("2a864886f70d010706")  # 1.2.840.113549.1.7.6, RFC 5652 8
_KEY_BAG = bytes.fromhex("2a864886f70d010c0a0101")  # 1.2.840.113549.1.12.10.1.1, RFC 7292 4.2.1
_SHROUDED_KEY_BAG = bytes.fromhex("2a864886f70d010c0a0102")  # … .2, RFC 7292 4.2.2
_SAFE_CONTENTS_BAG = bytes.fromhex("2a864886f70d010c0a0106")  # … .6, RFC 7292 4.2.6
_CONSTRUCTED = 0x20
_INDEFINITE_PFX = b"\x30\x80\x02\x01\x03"
_EXPLICIT = (
    "the EC key spells its curve out instead of naming it, which verifiers refuse (RFC 5480 2.1.1); "
    "use a key with a named curve"
)
_NOT_OPENED = {
    "passphrase_missing": "the PKCS #12 file is encrypted; give its passphrase",
    "passphrase_wrong": "the passphrase does not open the PKCS #12 file; check it, or the file is damaged",
    "unsupported_key": "the PKCS #12 file is encrypted in a way, or its key of a kind, that is not known here; "
    "write it anew with openssl pkcs12",
    "malformed": "the PKCS #12 file holds a certificate that cannot be read; take it out",
}


class KeyProblem(Exception):  # noqa: N818 - a problem of the upload, told to a person, and none of ours
    """The key is refused. ``code`` says why for programs; the message, one line, for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Pkcs12:
    """What a PKCS #12 file holds: the key, its certificate where that is there, then the other certificates."""

    key: SigningKey = field(repr=False)
    certificates: tuple[x509.Certificate, ...]

    def pem(self) -> bytes:
        """The certificates as one file."""
        return to_pem(self.certificates).encode("ascii")


def read_private_key(data: bytes, passphrase: bytes | None) -> SigningKey:
    """The one private key in a file: PEM (PKCS #8, or the older RSA and EC forms) or DER; encrypted or not.

    A passphrase that is not needed is not looked at. Raises :class:`KeyProblem`, and nothing else, with one of the
    codes ``empty``, ``too_large``, ``no_key``, ``several_keys``, ``passphrase_missing``, ``passphrase_wrong``,
    ``malformed``, ``weak_key`` and ``unsupported_key``.
    """
    data = _looked_at(data)
    alone = _whole_der(data)
    if alone is not None:
        return _from_der(alone, passphrase)
    label, block = _the_block(data)
    if label == "DSA PRIVATE KEY":
        raise KeyProblem("unsupported_key", f"the key is of kind DSA; {LEAF_KEYS}")
    if label not in _PLAIN_LABELS:
        raise KeyProblem(
            "unsupported_key",
            f"the file holds a key in a form that is not read ({label}); write it as PKCS #8 "
            "(ssh-keygen -p -m PKCS8, or openssl pkcs8 -topk8)",
        )
    if _ENCRYPTED_HEADER in block:
        if len(block) > 2 * LARGEST_KEY:  # as base64
            raise _too_large(len(block))
        return _usable(_open(_as_written(label, block), passphrase))
    encoded = _decoded(block)
    if encoded is None:
        raise KeyProblem("malformed", "the private key is broken: there is no base64 between BEGIN and END")
    return _from_der(encoded, passphrase)


def is_pkcs12(data: bytes) -> bool:
    """Whether the file is PKCS #12, by its outer shape (RFC 7292 4)."""
    return data.startswith(_INDEFINITE_PFX) or kind_of(data) == "PKCS #12"


def read_pkcs12(data: bytes, passphrase: bytes | None) -> Pkcs12:
    """The one private key and the certificates of a PKCS #12 file (RFC 7292).

    Raises :class:`KeyProblem`, and nothing else, with the same codes as :func:`read_private_key`.
    """
    data = _looked_at(data)
    if data.startswith(_INDEFINITE_PFX):
        raise KeyProblem(
            "malformed", "the PKCS #12 file is written without lengths (BER); write it anew with openssl pkcs12"
        )
    if not is_pkcs12(data):
        raise KeyProblem("no_key", f"the file is no PKCS #12: what it holds is {_kind(data)}")
    inside = _inside(data)
    if inside is None:
        raise KeyProblem("malformed", "the PKCS #12 file cannot be read: it is cut off, or made by an unusual program")
    if inside.keys > 1:
        raise KeyProblem("several_keys", f"the PKCS #12 file holds {inside.keys} private keys; write one with one key")
    opened, passphrase = _open_pkcs12(data, passphrase)
    _no_hidden_keys(inside, passphrase)
    found = [opened.cert] if opened.cert is not None else []
    certificates = tuple(one.certificate for one in [*found, *opened.additional_certs])
    if opened.key is None:
        raise KeyProblem(
            "no_key",
            f"the PKCS #12 file holds no private key, only certificates ({len(certificates)}); export it with its key",
        )
    return Pkcs12(_usable(opened.key), certificates)


def _looked_at(data: bytes) -> bytes:
    """The same, where it has a size to be read; as UTF-8 where it is text that Windows programs wrote."""
    if len(data) > LARGEST_FILE:
        raise KeyProblem("too_large", f"the file has {len(data)} bytes; at most {LARGEST_FILE} are read")
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            data = data.decode(encoding, errors="replace").encode(errors="replace")
    if not data.strip():
        raise KeyProblem("empty", "the file is empty; upload the private key")
    return data


def _whole_der(data: bytes) -> bytes | None:
    """The one DER element that the data is, a line end behind it aside; None where it is something else."""
    try:
        element = der.read(data)
    except der.DerError:
        return None
    return element.whole if element.tag == der.SEQUENCE and not data[element.end :].strip() else None


def _kind(data: bytes) -> str:
    if data.lstrip().startswith(b"-----BEGIN "):
        return "PEM"
    return kind_of(data)


def _the_block(data: bytes) -> tuple[str, bytes]:
    """The label and the content of the only private key among the PEM blocks of a file."""
    markers = [(found, found[1] == b"BEGIN", found[2].decode("ascii").upper()) for found in _MARKER.finditer(data)]
    keys = [place for place, (_, begins, label) in enumerate(markers) if begins and label.endswith("PRIVATE KEY")]
    if not keys:
        others = list(dict.fromkeys(label for _, begins, label in markers if begins))[:5]
        if others:
            raise KeyProblem("no_key", f"the file holds no private key, only: {', '.join(others)}")
        if data.lstrip().startswith(b"MI"):
            raise KeyProblem("no_key", "the file holds no private key; it looks like PEM that lost its BEGIN line")
        raise KeyProblem("no_key", "the file holds no private key: it is neither PEM nor DER")
    if len(keys) > 1:
        raise KeyProblem("several_keys", f"the file holds {len(keys)} private keys; leave only the one that signs")
    begin, _, label = markers[keys[0]]
    following = markers[keys[0] + 1 : keys[0] + 2]
    if not following or following[0][1:] != (False, label):
        raise KeyProblem("malformed", f"the private key has no END line of its own ({label}): the file is cut")
    return label, data[begin.end() : following[0][0].start()]


def _as_written(label: str, block: bytes) -> bytes:
    """The block as PEM again, whatever its lines were indented by or ended with."""
    lines = b"\n".join(line.strip() for line in block.strip().splitlines())
    name = label.encode("ascii")
    return b"-----BEGIN " + name + b"-----\n" + lines + b"\n-----END " + name + b"-----\n"


def _decoded(block: bytes) -> bytes | None:
    try:
        return binascii.a2b_base64(b"".join(block.split()), strict_mode=True) or None
    except binascii.Error:
        return None


def _from_der(encoded: bytes, passphrase: bytes | None) -> SigningKey:
    kind = kind_of(encoded)
    if kind == "PKCS #12":
        raise KeyProblem("no_key", "the file is PKCS #12, not a private key alone; upload it as PKCS #12")
    if kind == "no DER":
        raise KeyProblem("malformed", "the private key is broken: what it holds is no DER")
    if kind not in ("a private key", "an encrypted private key"):
        raise KeyProblem("no_key", f"the file holds no private key; what it holds is {kind}")
    if len(encoded) > LARGEST_KEY:
        raise _too_large(len(encoded))
    if kind == "an encrypted private key":
        _bounded([next(der.read(encoded).children())])
        return _usable(_open(encoded, passphrase))
    if _is_explicit(encoded):
        raise KeyProblem("unsupported_key", _EXPLICIT)
    return _usable(_loaded(encoded))


def _too_large(size: int) -> KeyProblem:
    return KeyProblem("too_large", f"the private key has {size} bytes; that is more than RSA of 8192 bits needs")


def _is_explicit(encoded: bytes) -> bool:
    """Whether an EC key's parameters are no name (RFC 5480 2.1.1; RFC 5915 3 for the form that is not PKCS #8)."""
    try:
        _, second, *more = der.read(encoded).children()
        if second.tag == der.SEQUENCE:
            kind, *parameters = second.children()
            return kind.content == _EC_PUBLIC_KEY and any(one.tag == der.SEQUENCE for one in parameters)
        return any(
            inner.tag == der.SEQUENCE for field in more if field.tag == der.CONTEXT_0 for inner in field.children()
        )
    except ValueError:
        return False


def _loaded(encoded: bytes) -> object:
    """The key of bytes that are not encrypted."""
    try:
        return load_der_private_key(encoded, None)
    except UnsupportedAlgorithm:
        problem = KeyProblem("unsupported_key", f"the private key is of a kind that is not known here; {LEAF_KEYS}")
    except (ValueError, TypeError, OverflowError):
        problem = KeyProblem("malformed", "the private key cannot be read: it is damaged, or of a kind not known here")
    raise problem


def _open(encoded: bytes, passphrase: bytes | None) -> object:
    """The key of bytes that are encrypted, PEM or DER."""
    if not passphrase:
        raise KeyProblem("passphrase_missing", "the private key is encrypted; give its passphrase")
    load = load_pem_private_key if encoded.startswith(b"-----") else load_der_private_key
    try:
        return load(encoded, passphrase)
    except UnsupportedAlgorithm:
        problem = KeyProblem(
            "unsupported_key",
            "the private key is encrypted in a way, or of a kind, that is not known here; write it anew with "
            "openssl pkcs8 -topk8 -v2 aes-256-cbc",
        )
    except (ValueError, TypeError, OverflowError):
        # Bytes decrypted with another passphrase are noise, which can look like anything.
        problem = KeyProblem(
            "passphrase_wrong", "the passphrase does not open the private key; check it, or the file is damaged"
        )
    raise problem


def _usable(key: object) -> SigningKey:
    """The same, where leaves can be signed with it."""
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < SMALLEST_RSA:
            raise KeyProblem("weak_key", f"the key is RSA of {key.key_size} bits; {LEAF_KEYS}")
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.name not in LEAF_CURVES:
            code = "weak_key" if key.curve.key_size < SMALLEST_CURVE else "unsupported_key"
            raise KeyProblem(code, f"the key is on curve {key.curve.name}; {LEAF_KEYS}")
    else:
        kind = type(key).__name__.removesuffix("PrivateKey")
        raise KeyProblem("unsupported_key", f"the key is of kind {kind}; {LEAF_KEYS}")
    try:
        LocalSigner(key)
    except SigningError:
        fits = False
    else:
        fits = True
    if not fits:
        raise KeyProblem("malformed", "the private key is damaged: its two halves do not belong together")
    return key


# PKCS #12


@dataclass(frozen=True)
class _Inside:
    """What can be seen without a passphrase: private keys, and parts that are encrypted as a whole (ContentInfo)."""

    keys: int
    encrypted: tuple[bytes, ...]


def _inside(data: bytes) -> _Inside | None:
    """What a PFX holds; None where it cannot be followed. Raises :class:`KeyProblem` where it costs too much."""
    keys = 0
    encrypted: list[bytes] = []
    costly: list[der.Element] = []
    try:
        _, outer, *mac = der.read(data).children()
        costly += mac
        parts = list(der.read(_octets(_content_of(outer, _DATA))).children())
        if len(parts) > MOST_PARTS:
            return None
        for part in parts:
            kind = next(part.children()).content
            if kind == _ENCRYPTED_DATA:
                _, info = _content_of(part, _ENCRYPTED_DATA).children()
                costly.append(list(info.children())[1])
                encrypted.append(part.whole)
                continue
            for bag, value in _bags(der.read(_octets(_content_of(part, _DATA))), 0):
                keys += 1
                if bag == _SHROUDED_KEY_BAG:
                    costly.append(next(value.children()))
                elif _is_explicit(value.whole):
                    raise KeyProblem("unsupported_key", _EXPLICIT)
                if len(value.whole) > LARGEST_KEY:
                    raise _too_large(len(value.whole))
    except (ValueError, StopIteration, IndexError):
        return None
    _bounded(costly)
    return _Inside(keys, tuple(encrypted))


def _content_of(info: der.Element, kind: bytes) -> der.Element:
    """The content of a ContentInfo of that kind (RFC 5652 3). Raises ValueError."""
    found, wrapped = info.children()
    if found.content != kind:
        raise der.DerError("another kind of content")
    (content,) = wrapped.children()
    return content


def _octets(element: der.Element) -> bytes:
    """An octet string, which BER may write in pieces."""
    if element.tag & _CONSTRUCTED:
        return b"".join(piece.content for piece in element.children())
    return element.content


def _bags(contents: der.Element, depth: int) -> Iterator[tuple[bytes, der.Element]]:
    """The kind and the value of each bag with a private key in SafeContents (RFC 7292 4.2). Raises ValueError."""
    if depth > DEEPEST:
        raise der.DerError("bags in bags in bags")
    for bag in contents.children():
        kind, wrapped, *_ = bag.children()
        (value,) = wrapped.children()
        if kind.content == _SAFE_CONTENTS_BAG:
            yield from _bags(value, depth + 1)
        elif kind.content in (_KEY_BAG, _SHROUDED_KEY_BAG):
            yield kind.content, value


def _open_pkcs12(data: bytes, passphrase: bytes | None) -> tuple[pkcs12.PKCS12KeyAndCertificates, bytes | None]:
    """The file opened, and the passphrase that did: none where none is needed."""
    code = "passphrase_wrong" if passphrase else "passphrase_missing"
    # A passphrase ends at a zero (RFC 7292 B.1), and the library breaks down on one within.
    given = None if passphrase and b"\0" in passphrase else passphrase or None
    for tried in dict.fromkeys((given, None)):
        try:
            return pkcs12.load_pkcs12(data, tried), tried
        except UnsupportedAlgorithm:
            code = "unsupported_key"
            break
        except (ValueError, TypeError, OverflowError):
            continue
        except UserWarning:  # where warnings are errors: of a certificate that cannot be used either
            code = "malformed"
            break
    raise KeyProblem(code, _NOT_OPENED[code])


def _no_hidden_keys(inside: _Inside, passphrase: bytes | None) -> None:
    """Raise where a part that is encrypted as a whole holds a private key.

    Of several keys the library gives the first and says nothing of the others, so each such part is opened alone. How
    many keys it has then cannot be seen; but programs put keys, encrypted one by one, into parts that are not.
    """
    for part in inside.encrypted:
        if _holds_a_key(part, passphrase):
            message = (
                "the PKCS #12 file has a private key among its encrypted certificates, where it may not be the only "
                "one; write it anew with openssl pkcs12, with one key"
            )
            raise KeyProblem("several_keys", message)


def _holds_a_key(part: bytes, passphrase: bytes | None) -> bool:
    """Whether the ContentInfo, in a file without a MAC, yields a key. True too where it cannot be opened."""
    safes = der.written(der.OCTET_STRING, der.written(der.SEQUENCE, part))
    outer = der.written(der.OBJECT_IDENTIFIER, _DATA) + der.written(der.CONTEXT_0, safes)
    alone = der.written(der.SEQUENCE, b"\x02\x01\x03" + der.written(der.SEQUENCE, outer))
    for tried in (passphrase,) if passphrase else (None, b""):
        try:
            return pkcs12.load_pkcs12(alone, tried).key is not None
        except (ValueError, TypeError, OverflowError, UnsupportedAlgorithm, UserWarning):
            continue
    return True


# Bounds


def _bounded(algorithms: list[der.Element]) -> None:
    """Raise where opening with these algorithms, or checking these MACs, takes longer or more memory than is fair."""
    costs: list[int] | None = None
    with suppress(ValueError, IndexError):
        costs = [cost for algorithm in algorithms for cost in _costs(algorithm, 0)]
    if costs is None:
        raise KeyProblem("malformed", "the file says in a way that cannot be read how it is encrypted")
    if sum(costs) > MOST_ROUNDS:
        raise KeyProblem(
            "too_large",
            f"opening the file takes more than {MOST_ROUNDS} rounds of hashing, or too much memory; "
            "write it anew with fewer",
        )


def _costs(element: der.Element, depth: int) -> Iterator[int]:
    """Every number in an algorithm's parameters: its rounds are the largest. scrypt's cost is its memory."""
    if depth > DEEPEST:
        raise der.DerError("parameters in parameters in parameters")
    children = list(element.children())
    numbers = [int.from_bytes(child.content, "big") for child in children if child.tag == der.INTEGER]
    if children and children[0].tag == der.OBJECT_IDENTIFIER and children[0].content == _SCRYPT:
        cost, block, parallel, *_ = [
            int.from_bytes(one.content, "big") for one in children[1].children() if one.tag == der.INTEGER
        ]
        yield MOST_ROUNDS + 1 if 128 * cost * block > MOST_MEMORY or parallel > DEEPEST else 1
        return
    yield from numbers
    for child in children:
        if child.tag & _CONSTRUCTED:
            yield from _costs(child, depth + 1)
