"""Sealed archives: what opens them, and that nothing can be changed, dropped, moved or cut unnoticed."""

from __future__ import annotations

import io

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from hypothesis import given
from hypothesis import strategies as st

from addons.archive_format import ArchiveError, CutOffError, Sealer, read_archive
from addons.archive_keys import Identity, KeyFileError, load_identity, load_recipient, new_pair
from tests.addons.sealed import IDENTITY, PRIVATE, PUBLIC, RECIPIENT, opened

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


def parts(*chunks: bytes, sealer: Sealer | None = None) -> list[bytes]:
    """An archive in its parts: header, chunks, end."""
    sealer = sealer or Sealer(RECIPIENT)
    return [sealer.header, *map(sealer.seal, chunks), sealer.end(len(chunks))]


def read_until(data: bytes, error: type[ArchiveError], match: str) -> list[bytes]:
    """What could be read before it failed like this."""
    found: list[bytes] = []
    with pytest.raises(error, match=match):
        found.extend(read_archive(io.BytesIO(data), IDENTITY))  # fills up to where it raises
    return found


class TestArchive:
    def test_what_was_sealed_is_read_and_cannot_be_seen(self) -> None:
        archive = b"".join(parts(b"first plain", b"x" * 100_000))
        assert opened(archive) == b"first plain" + b"x" * 100_000
        assert b"plain" not in archive

    def test_an_archive_may_be_empty(self) -> None:
        assert opened(b"".join(parts())) == b""

    def test_one_without_its_end_is_read_as_far_as_it_goes(self) -> None:
        header, one, two, end = parts(b"one", b"two")
        for cut in (header + one + two, header + one + two + end[:-1], header + one + two + end[:3]):
            assert b"".join(read_until(cut, CutOffError, "no end: it is still being written")) == b"onetwo"

    @given(st.data())
    def test_a_change_anywhere_is_noticed(self, data: st.DataObject) -> None:
        archive = bytearray(b"".join(parts(b"one", b"two")))
        place = data.draw(st.integers(0, len(archive) - 1))
        archive[place] ^= data.draw(st.integers(1, 255))
        with pytest.raises(ArchiveError):
            opened(bytes(archive))

    @given(st.data())
    def test_a_cut_anywhere_is_noticed(self, data: st.DataObject) -> None:
        archive = b"".join(parts(b"one", b"two"))
        with pytest.raises(ArchiveError):
            opened(archive[: data.draw(st.integers(0, len(archive) - 1))])

    def test_chunks_cannot_be_moved_dropped_doubled_or_added(self) -> None:
        header, one, two, end = parts(b"one", b"two")
        for order in ((two, one, end), (two, end), (one, end), (one, one, two, end), (one, two, two, end), (end,)):
            with pytest.raises(ArchiveError, match="was changed, or is not in its place"):
                opened(header + b"".join(order))
        with pytest.raises(ArchiveError, match="added behind"):
            opened(header + one + two + end + end)

    def test_a_chunk_or_a_header_of_another_archive_does_not_fit(self) -> None:
        header, one, _, end = parts(b"one", b"two")
        other_header, other_one, _, _ = parts(b"one", b"two")
        with pytest.raises(ArchiveError, match="chunk 0 was changed"):
            opened(header + other_one + end)
        with pytest.raises(ArchiveError, match="chunk 0 was changed"):
            opened(other_header + one + end)

    def test_another_key_is_told_so(self) -> None:
        other = load_identity(new_pair()[0])
        with pytest.raises(ArchiveError, match=f"sealed for the key {RECIPIENT.id.hex()[:16]}, this key is"):
            list(read_archive(io.BytesIO(b"".join(parts(b"one"))), other))
        # one who claims the recipient's id still has not its key
        liar = Identity(RECIPIENT, other.key)
        with pytest.raises(ArchiveError, match="the key does not open it"):
            list(read_archive(io.BytesIO(b"".join(parts(b"one"))), liar))

    @pytest.mark.parametrize("data", [b"", b"flows", b"SALLYARX" + bytes(2000)])
    def test_another_file_is_told_so(self, data: bytes) -> None:
        with pytest.raises(ArchiveError, match="no sealed archive"):
            opened(data)

    def test_a_later_version_is_told_so(self) -> None:
        header, *_ = parts()
        with pytest.raises(ArchiveError, match="version 2 and suite 2"):
            opened(header[:8] + b"\x02" + header[9:])

    @pytest.mark.parametrize("length", [0, 15, (1 << 30) + 17, (1 << 32) - 1])
    def test_a_length_that_cannot_be_takes_no_memory(self, length: int) -> None:
        header, *_ = parts()
        with pytest.raises(ArchiveError, match="impossible length"):
            opened(header + length.to_bytes(4, "big") + bytes(100))

    def test_a_chunk_that_was_not_written_leaves_no_gap(self) -> None:
        sealer = Sealer(RECIPIENT)
        one, _ = sealer.seal(b"one"), sealer.seal(b"never written")
        assert opened(sealer.header + one + sealer.end(1)) == b"one"

    def test_no_chunk_is_empty_but_the_end(self) -> None:
        with pytest.raises(ArchiveError, match="do not make a chunk"):
            Sealer(RECIPIENT).seal(b"")


class TestKeys:
    def test_a_pair_has_both_kinds(self) -> None:
        assert PRIVATE.count(b"-----BEGIN PRIVATE KEY-----") == 2
        assert PUBLIC.count(b"-----BEGIN PUBLIC KEY-----") == 2
        assert IDENTITY.recipient.id == RECIPIENT.id
        assert RECIPIENT.suite == 2

    def test_an_x25519_key_of_openssl_alone_will_do(self) -> None:
        key = x25519.X25519PrivateKey.generate()
        recipient = load_recipient(key.public_key().public_bytes(PEM, SPKI))
        identity = load_identity(key.private_bytes(PEM, PKCS8, serialization.NoEncryption()))
        archive = b"".join(parts(b"one", sealer=Sealer(recipient)))
        assert list(read_archive(io.BytesIO(archive), identity)) == [b"one"]

    def test_an_encrypted_private_key_opens_with_its_passphrase(self) -> None:
        key = x25519.X25519PrivateKey.generate()
        pem = key.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"secret"))
        assert load_identity(pem, b"secret").recipient.suite == 1
        with pytest.raises(KeyFileError, match="--passphrase-file"):
            load_identity(pem)
        with pytest.raises(KeyFileError, match="the passphrase is wrong"):
            load_identity(pem, b"wrong")

    def test_a_private_key_has_no_place_in_the_proxy(self) -> None:
        with pytest.raises(KeyFileError, match="holds a private key"):
            load_recipient(PUBLIC + PRIVATE)

    @pytest.mark.parametrize("made", ["nothing", "text", "garbage", "ec", "mlkem alone", "two x25519"])
    def test_what_is_no_recipient(self, made: str) -> None:
        def public(key: x25519.X25519PrivateKey | ec.EllipticCurvePrivateKey | mlkem.MLKEM768PrivateKey) -> bytes:
            return key.public_key().public_bytes(PEM, SPKI)

        pem = {
            "nothing": b"",
            "text": b"no key",
            "garbage": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "ec": public(ec.generate_private_key(ec.SECP256R1())),
            "mlkem alone": public(mlkem.MLKEM768PrivateKey.generate()),
            "two x25519": public(x25519.X25519PrivateKey.generate()) * 2,
        }[made]
        with pytest.raises(KeyFileError):
            load_recipient(pem)
