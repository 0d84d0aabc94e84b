"""The archive's format as docs/shipped-inspectors.md writes it down, by a reader that is made from that alone.

It takes HPKE's key schedule from RFC 9180 and the hybrid of suite 2 from X-Wing's specification, so that an archive can
be opened without the code that wrote it.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from addons.archive_format import Sealer
from addons.archive_keys import load_recipient
from tests.addons.sealed import PRIVATE, RECIPIENT

RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
X_WING_LABEL = b"\\.//^\\"


class Labeled:
    """LabeledExtract and LabeledExpand with HKDF-SHA256 (RFC 9180 4)."""

    def __init__(self, suite: bytes) -> None:
        self.suite = b"HPKE-v1" + suite

    def extract(self, salt: bytes, label: bytes, key: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), self.suite + label + key, "sha256")

    def expand(self, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
        labeled = length.to_bytes(2, "big") + self.suite + label + info
        return HKDFExpand(hashes.SHA256(), length, labeled).derive(key)


def classical(sealed: bytes, key: x25519.X25519PrivateKey) -> tuple[int, int, bytes]:
    """DHKEM(X25519, HKDF-SHA256), RFC 9180 4.1: its number, the length of the encapsulated key, the shared secret."""
    kem = Labeled(b"KEM" + b"\x00\x20")
    agreed = key.exchange(x25519.X25519PublicKey.from_public_bytes(sealed[:32]))
    context = sealed[:32] + key.public_key().public_bytes(*RAW)
    return 0x0020, 32, kem.expand(kem.extract(b"", b"eae_prk", agreed), b"shared_secret", context, 32)


def hybrid(sealed: bytes, key: x25519.X25519PrivateKey, quantum: mlkem.MLKEM768PrivateKey) -> tuple[int, int, bytes]:
    """X-Wing: the same."""
    enc_m, enc_x = sealed[:1088], sealed[1088:1120]
    agreed = key.exchange(x25519.X25519PublicKey.from_public_bytes(enc_x))
    parts = (quantum.decapsulate(enc_m), agreed, enc_x, key.public_key().public_bytes(*RAW), X_WING_LABEL)
    return 0x647A, 1120, hashlib.sha3_256(b"".join(parts)).digest()


def read(archive: bytes, key: x25519.X25519PrivateKey, quantum: mlkem.MLKEM768PrivateKey | None) -> list[bytes]:
    """The plaintexts of all chunks, the empty last one too."""
    assert archive[:9] == b"SALLYARC\x01"
    assert archive[9] == (1 if quantum is None else 2)
    publics = [each.public_key().public_bytes(*SPKI) for each in (key, quantum) if each is not None]
    assert archive[10:42] == hashlib.sha256(b"".join(publics)).digest()
    body = 44 + int.from_bytes(archive[42:44], "big")
    sealed = archive[44:body]
    kem, length, shared = classical(sealed, key) if quantum is None else hybrid(sealed, key, quantum)
    schedule = Labeled(b"HPKE" + kem.to_bytes(2, "big") + b"\x00\x01" + b"\x00\x02")
    context = b"\0" + schedule.extract(b"", b"psk_id_hash", b"") + schedule.extract(b"", b"info_hash", archive[:42])
    secret = schedule.extract(shared, b"secret", b"")
    unseal = AESGCM(schedule.expand(secret, b"key", context, 32))
    file_key = AESGCM(unseal.decrypt(schedule.expand(secret, b"base_nonce", context, 12), sealed[length:], b""))
    header, rest, found = hashlib.sha256(archive[:body]).digest(), archive[body:], list[bytes]()
    while rest:
        size = 4 + int.from_bytes(rest[:4], "big")
        nonce = len(found).to_bytes(11, "big") + (b"\0" if rest[size:] else b"\1")
        found.append(file_key.decrypt(nonce, rest[4:size], header))
        rest = rest[size:]
    return found


def archive(sealer: Sealer) -> bytes:
    return b"".join((sealer.header, sealer.seal(b"one"), sealer.seal(b"two"), sealer.end(2)))


def test_suite_1_is_what_is_written_down() -> None:
    key = x25519.X25519PrivateKey.generate()
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, SPKI[1])
    assert read(archive(Sealer(load_recipient(pem))), key, None) == [b"one", b"two", b""]


def test_suite_2_is_what_is_written_down() -> None:
    blocks = PRIVATE.split(b"-----BEGIN")[1:]
    key, quantum = (serialization.load_pem_private_key(b"-----BEGIN" + block, None) for block in blocks)
    assert isinstance(key, x25519.X25519PrivateKey)
    assert isinstance(quantum, mlkem.MLKEM768PrivateKey)
    assert read(archive(Sealer(RECIPIENT)), key, quantum) == [b"one", b"two", b""]


def test_the_page_names_what_is_used() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "shipped-inspectors.md").read_text()
    for name in ("SALLYARC", "0x0020", "0x647A", "RFC 9180", "X-Wing", "AES-256-GCM", "HKDF-SHA256"):
        assert name in page
