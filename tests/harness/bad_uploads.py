"""Files that an administrator may upload for a signing CA, and that are bad in one way each: by name, as bytes.

Everything is made anew: :func:`certificate_files`, :func:`key_files` and :func:`pkcs12_files`. A few of them are merely
strange, and are to be accepted.
"""

from __future__ import annotations

import datetime as dt
import random
import subprocess
from dataclasses import dataclass
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from tests.harness import pki
from tests.harness.der_writing import integer, object_identifier, tlv
from tests.harness.pki import Authority
from tests.harness.programs import need

PASSPHRASE = b"correct horse"
FAR = dt.datetime(2199, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
SLASHES = "Example/O=Other/CN=Issuing"
EMOJI = "Example \N{LOCK} Issuing"
RIGHT_TO_LEFT = "Example \N{RIGHT-TO-LEFT OVERRIDE}gnissuI\N{RIGHT-TO-LEFT MARK}\N{RIGHT-TO-LEFT ISOLATE}"

_DATA = object_identifier("1.2.840.113549.1.7.1")
_ENCRYPTED_DATA = object_identifier("1.2.840.113549.1.7.6")
_KEY_BAG = object_identifier("1.2.840.113549.1.12.10.1.1")
_SHROUDED_KEY_BAG = object_identifier("1.2.840.113549.1.12.10.1.2")
_SAFE_CONTENTS_BAG = object_identifier("1.2.840.113549.1.12.10.1.6")


@dataclass(frozen=True)
class EncodedName:
    """A name whose encoding is given: cryptography's own refuses what is too long."""

    der: bytes

    def public_bytes(self) -> bytes:
        return self.der


def encoded_name(text: bytes, tag: int = 0x0C, oid: str = "2.5.4.3") -> x509.Name:
    """A name of one attribute, the common name unless told, as it is encoded."""
    name = EncodedName(tlv(0x30, tlv(0x31, tlv(0x30, object_identifier(oid) + tlv(tag, text)))))
    return name  # type: ignore[return-value]  # tests.harness.pki only encodes it


ROOT = Authority.root("Example Root")
ISSUING = ROOT.intermediate("Example Issuing", path_length=0)
OTHER = Authority.root("Other Root")


@cache
def certificate_files() -> dict[str, bytes]:
    """Files in the place of a signing CA's certificates: each with its root where it has one."""
    root = ROOT.pem()
    negative = ROOT.intermediate("Negative", serial=-5)
    return {
        "empty": b"",
        "binary": random.Random(7).randbytes(4096),  # noqa: S311 - bytes that are the same each time
        "ten megabytes": ISSUING.pem() + b"\n" * (10 * 1024 * 1024),
        "ten thousand certificates": ISSUING.pem() * 10_000,
        "a thousand certificates": ISSUING.pem() * 1000,
        "broken signature": ROOT.intermediate("Tampered", tamper=True).pem() + root,
        "leaf": ISSUING.leaf("good.example").pem() + ISSUING.pem() + root,
        "private key among certificates": ISSUING.pem() + ISSUING.key_pem() + root,
        "explicit curve": ROOT.intermediate("Explicit", spki=explicit_public_key()).pem() + root,
        "negative serial": negative.pem() + root,
        "long common name": ROOT.intermediate(subject=encoded_name(b"n" * 1024)).pem() + root,
        "slashes": ROOT.intermediate(SLASHES).pem() + root,
        "emoji": ROOT.intermediate(EMOJI).pem() + root,
        "right-to-left marks": ROOT.intermediate(RIGHT_TO_LEFT, ca=False).pem() + root,
        "valid to 2199": ROOT.intermediate("Far", not_after=FAR).pem() + root,
    }


@cache
def key_files() -> dict[str, bytes]:
    """Files in the place of a private key. Those that are encrypted are so with :data:`PASSPHRASE`."""
    pkcs8 = _pem(ISSUING.key)
    return {
        "empty": b"",
        "binary": certificate_files()["binary"],
        "ten megabytes": pkcs8 + b"\n" * (10 * 1024 * 1024),
        "certificate": ISSUING.pem(),
        "encrypted": _pem(ISSUING.key, PASSPHRASE),
        "two keys": pkcs8 + _pem(OTHER.key),
        "another key": _pem(OTHER.key),
        "explicit curve": explicit_private_key("prime256v1"),
        "explicit curve without a name": explicit_private_key("secp256k1"),
        "cut": pkcs8[:-40],
        "rsa1024": _pem(pki.kept_key("rsa1024")),
        "ed25519": _pem(pki.kept_key("ed25519")),
        "dsa": _pem(pki.kept_key("dsa")),
        "brainpool": _pem(pki.kept_key("brainpool256")),
        "p224": _pem(pki.kept_key("ec224")),
        "openssh": ISSUING.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
    }


@cache
def pkcs12_files() -> dict[str, bytes]:
    """PKCS #12 files. Those that are encrypted are so with :data:`PASSPHRASE`."""
    two = _bag(ISSUING.key) + _bag(OTHER.key)
    nested = _bag(ISSUING.key) + _in_bag(_SAFE_CONTENTS_BAG, tlv(0x30, _bag(OTHER.key)))
    shrouded = _bag(ISSUING.key, PASSPHRASE) + _bag(OTHER.key, PASSPHRASE)
    return {
        "two keys": pfx(_data(two)),
        "two keys in two parts": pfx(_data(_bag(ISSUING.key)), _data(_bag(OTHER.key))),
        "two keys, one nested": pfx(_data(nested)),
        "two encrypted keys": pfx(_data(shrouded)),
        "two keys in an encrypted part": pfx(encrypted_part(two)),
        "a key here and one in an encrypted part": pfx(_data(_bag(ISSUING.key)), encrypted_part(_bag(OTHER.key))),
        "no key": pkcs12.serialize_key_and_certificates(None, None, ISSUING.certificate, None, _protected(PASSPHRASE)),
    }


def good_pkcs12(passphrase: bytes | None = PASSPHRASE) -> bytes:
    """A key, its certificate and the root, as they should be."""
    key, certificate = ISSUING.key, ISSUING.certificate
    return pkcs12.serialize_key_and_certificates(b"ca", key, certificate, [ROOT.certificate], _protected(passphrase))


def answered_request() -> tuple[x509.CertificateSigningRequest, bytes]:
    """A request, and what comes back: the chain of another key."""
    request = x509.CertificateSigningRequestBuilder().subject_name(pki.common_name("Example Issuing"))
    return request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()), ISSUING.pem() + ROOT.pem()


@cache
def explicit_private_key(curve: str) -> bytes:
    """A private key in PEM, of the named curve of OpenSSL but with its numbers in place of its name."""
    return _openssl("ecparam", "-name", curve, "-genkey", "-param_enc", "explicit", "-noout")


@cache
def explicit_public_key(curve: str = "prime256v1") -> bytes:
    """The SubjectPublicKeyInfo of such a key."""
    return _openssl("ec", "-pubout", "-param_enc", "explicit", "-outform", "DER", given=explicit_private_key(curve))


def pfx(*parts: bytes) -> bytes:
    """A PKCS #12 file of these ContentInfos, without a MAC (RFC 7292 4)."""
    return tlv(0x30, integer(3) + _data(b"".join(parts)))


def encrypted_part(bags: bytes) -> bytes:
    """A ContentInfo of bags encrypted with PBES2: PBKDF2 and AES-256-CBC (RFC 7292 4.1, RFC 8018 6.2)."""
    algorithm = tlv(0x30, object_identifier("1.2.840.113549.1.5.13") + tlv(0x30, _kdf() + _cipher()))
    plain = tlv(0x30, bags)
    pad = 16 - len(plain) % 16
    encryptor = _aes().encryptor()
    content = encryptor.update(plain + bytes([pad]) * pad) + encryptor.finalize()
    info = tlv(0x30, _DATA + algorithm + tlv(0x80, content))
    return tlv(0x30, _ENCRYPTED_DATA + tlv(0xA0, tlv(0x30, integer(0) + info)))


_SALT, _IV, _ROUNDS = bytes(range(8)), bytes(range(16)), 2048


def _kdf() -> bytes:
    prf = tlv(0x30, object_identifier("1.2.840.113549.2.9") + tlv(0x05, b""))
    return tlv(0x30, object_identifier("1.2.840.113549.1.5.12") + tlv(0x30, tlv(0x04, _SALT) + integer(_ROUNDS) + prf))


def _cipher() -> bytes:
    return tlv(0x30, object_identifier("2.16.840.1.101.3.4.1.42") + tlv(0x04, _IV))


def _aes() -> Cipher[modes.CBC]:
    key = PBKDF2HMAC(hashes.SHA256(), 32, _SALT, _ROUNDS).derive(PASSPHRASE)
    return Cipher(algorithms.AES(key), modes.CBC(_IV))


def _data(bags: bytes) -> bytes:
    return tlv(0x30, _DATA + tlv(0xA0, tlv(0x04, tlv(0x30, bags))))


def _bag(key: pki.PrivateKey, passphrase: bytes | None = None) -> bytes:
    value = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, _protected(passphrase))
    return _in_bag(_SHROUDED_KEY_BAG if passphrase else _KEY_BAG, value)


def _in_bag(kind: bytes, value: bytes) -> bytes:
    return tlv(0x30, kind + tlv(0xA0, value))


def _pem(key: pki.PrivateKey, passphrase: bytes | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, _protected(passphrase))


def _protected(passphrase: bytes | None) -> serialization.KeySerializationEncryption:
    return BestAvailableEncryption(passphrase) if passphrase else NoEncryption()


def _openssl(*arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run([need("openssl"), *arguments], input=given, capture_output=True, check=True).stdout
