"""The ClientHello: read as OpenSSL reads it, in any pieces, with bounded work."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from proxy.client_hello import BadClientHello, ClientHello, HelloReader, NotTls, parse
from tests.fuzz.strategies import CUTS, EDITS, HELLO_MESSAGES, cut, edit, records
from tests.harness.memory_tls import server_context
from tests.harness.pki import Authority

LIMIT = 64 * 1024

Outcome = ClientHello | tuple[type[Exception], int] | None


def outcome(pieces: Sequence[bytes], limit: int = LIMIT) -> Outcome:
    """What a reader comes to that gets the bytes piece by piece; any other exception fails the test."""
    reader, buffer = HelloReader(limit), bytearray()
    found: ClientHello | None = None
    for piece in pieces:
        buffer += piece
        try:
            found = reader.read(buffer)
        except NotTls:
            return NotTls, 0
        except BadClientHello as error:
            assert str(error).isprintable()
            return BadClientHello, error.alert
        if found is not None:
            break
    assert len(reader.message) <= limit
    return found


class Seen:
    """An OpenSSL server that notes what it was asked for."""

    def __init__(self) -> None:
        self.name: bytes | None = None
        self.asked = False
        self.alpn: list[bytes] | None = None


SERVER = server_context(Authority.root().leaf("good.example"))


def _note_name(connection: SSL.Connection) -> None:
    seen: Seen = connection.get_app_data()
    seen.asked, seen.name = True, connection.get_servername()


def _note_alpn(connection: SSL.Connection, offered: list[bytes]) -> object:
    connection.get_app_data().alpn = offered
    return SSL.NO_OVERLAPPING_PROTOCOLS


SERVER.set_tlsext_servername_callback(_note_name)
SERVER.set_alpn_select_callback(_note_alpn)


def openssl_sees(data: bytes) -> Seen:
    seen = Seen()
    connection = SSL.Connection(SERVER, None)
    connection.set_app_data(seen)
    connection.set_accept_state()
    if data:  # of nothing pyOpenSSL makes an error
        connection.bio_write(data)
    try:
        connection.do_handshake()
    except SSL.Error:
        return seen
    return seen


def real_hello() -> bytes:
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    connection.set_tlsext_host_name(b"www.good.example")
    connection.set_connect_state()
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return connection.bio_read(2**16)[5:]
    raise AssertionError("a client that waits for nothing")


MESSAGES = st.one_of(HELLO_MESSAGES, st.just(real_hello()))


@given(MESSAGES, EDITS, CUTS, EDITS)
def test_openssl_never_sees_another_name_than_we_do(
    message: bytes, edits: list[tuple[str, int, int]], places: list[int], framed: list[tuple[str, int, int]]
) -> None:
    data = edit(records(edit(message, edits), places), framed[:1])
    try:
        ours = parse(data, LIMIT)
    except (NotTls, BadClientHello):
        return
    seen = openssl_sees(data)
    if ours is None:
        assert not seen.asked, "OpenSSL acts on a hello that we still wait for"
        return
    if seen.asked:
        assert seen.name == (None if ours.server_name is None else ours.server_name.encode())
    if seen.alpn is not None:
        assert tuple(seen.alpn) == ours.alpn


@given(HELLO_MESSAGES, EDITS, CUTS, CUTS, st.sampled_from([LIMIT, 300, 120]))
def test_any_records_in_any_pieces_come_to_the_same(
    message: bytes, edits: list[tuple[str, int, int]], places: list[int], pieces: list[int], limit: int
) -> None:
    data = edit(records(message, places), edits)
    whole = outcome([data], limit)
    in_pieces = outcome(cut(data, pieces), limit)
    in_bytes = outcome([bytes([byte]) for byte in data], limit)
    # Which of several faults is told may depend on what has come; whether it is one, and the hello, must not.
    assert in_pieces == whole or _both_refused(in_pieces, whole)
    assert in_bytes == whole or _both_refused(in_bytes, whole)


def _both_refused(one: Outcome, other: Outcome) -> bool:
    return isinstance(one, tuple) and isinstance(other, tuple)


@given(st.binary(max_size=300), CUTS)
def test_any_bytes_give_a_hello_or_a_documented_error(data: bytes, places: list[int]) -> None:
    outcome([data])
    outcome(cut(b"\x16\x03\x01" + data, places))
    if data:
        outcome([records(b"\x01" + len(data).to_bytes(3, "big") + data, places)])


class Counted(bytearray):
    """A buffer that counts the bytes that are taken out of it."""

    taken = 0

    def __getitem__(self, key: object) -> object:  # type: ignore[override] # it counts, and is a bytearray in all else
        got = super().__getitem__(key)  # type: ignore[call-overload] # the same
        self.taken += len(got) if isinstance(got, (bytes, bytearray)) else 1
        return got


@given(HELLO_MESSAGES, CUTS, st.integers(1, 7))
def test_a_hello_in_pieces_is_not_read_again_for_each(message: bytes, places: list[int], size: int) -> None:
    data = records(message, places)
    reader, buffer = HelloReader(LIMIT), Counted()
    pieces = 0
    for at in range(0, len(data), size):
        buffer += data[at : at + size]
        pieces += 1
        try:
            if reader.read(buffer) is not None:
                break
        except BadClientHello:
            break
    assert buffer.taken <= len(data) + 8 * pieces


def test_the_leaf_of_the_server_is_one() -> None:
    assert isinstance(Authority.root().leaf("good.example").certificate, x509.Certificate)
    seen = openssl_sees(records(real_hello(), []))
    assert (seen.asked, seen.name) == (True, b"www.good.example")
