"""One side's TLS over memory: what goes out when, and what is said when it fails."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from proxy.tcp import half_close
from proxy.tls_leg import PIECE, LegError, TlsLeg
from tests.harness.pki import Authority


class Wire:
    """A transport that keeps what is written, write by write."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False
        self.eof = 0
        self.gone = False

    def write(self, data: bytes) -> None:
        assert not self.eof, "write after FIN"
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def write_eof(self) -> None:
        if self.gone:
            raise OSError(107, "Transport endpoint is not connected")
        self.eof += 1

    def take(self) -> bytes:
        data = b"".join(self.written)
        self.written.clear()
        return data


def pair(version: int | None = None) -> tuple[TlsLeg, Wire, TlsLeg, Wire]:
    """A leg towards a client, and the client's own; no handshake yet."""
    leaf = Authority.root().leaf()
    serving = SSL.Context(SSL.TLS_SERVER_METHOD)
    serving.use_certificate(leaf.certificate)
    serving.use_privatekey(cast("Any", leaf.key))
    asking = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if version is not None:
        asking.set_max_proto_version(version)
    legs: list[TlsLeg | Wire] = []
    for context, accepting in ((serving, True), (asking, False)):
        tls = SSL.Connection(context, None)
        tls.set_accept_state() if accepting else tls.set_connect_state()
        wire = Wire()
        legs += [TlsLeg(tls, cast("asyncio.Transport", wire), accepting), wire]
    return cast("tuple[TlsLeg, Wire, TlsLeg, Wire]", tuple(legs))


def up(version: int | None = None) -> tuple[TlsLeg, Wire, TlsLeg, Wire]:
    server, server_wire, client, client_wire = pair(version)
    client.handshake(b"")
    for _ in range(4):
        server.handshake(client_wire.take()) if not server.established else None
        client.handshake(server_wire.take()) if not client.established else None
    assert server.established
    assert client.established
    return server, server_wire, client, client_wire


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_plain_text_goes_both_ways(version: int) -> None:
    server, server_wire, client, client_wire = up(version)
    client.send(b"question" * 10_000)
    assert server.receive(client_wire.take()) == b"question" * 10_000
    server.send(b"answer" * 100_000)
    assert client.receive(server_wire.take()) == b"answer" * 100_000


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=6), st.data())
@settings(max_examples=30)
def test_however_the_wire_cuts_it_the_plain_text_is_whole(sizes: list[int], draw: st.DataObject) -> None:
    server, _, client, client_wire = up()
    sent = received = b""
    for number, size in enumerate(sizes):
        piece = bytes([number]) * size
        client.send(piece)
        sent += piece
    wire = client_wire.take()
    while wire:
        cut = draw.draw(st.integers(1, len(wire)) | st.sampled_from([min(3, len(wire)), min(8, len(wire))]))
        received += server.receive(wire[:cut])
        wire = wire[cut:]
    assert received == sent
    client.send(b"one more")
    client.end()
    assert server.receive(client_wire.take()) == b"one more"
    assert server.ended


def test_session_tickets_go_with_the_first_answer_in_one_write() -> None:
    server, server_wire, client, _ = up(SSL.TLS1_3_VERSION)
    assert server_wire.written == []
    server.send(b"answer")
    assert len(server_wire.written) == 1
    assert client.receive(server_wire.take()) == b"answer"
    assert client.tls.get_session() is not None


def test_the_last_flight_of_tls_1_2_is_not_held_back() -> None:
    server, server_wire, client, client_wire = pair(SSL.TLS1_2_VERSION)
    client.handshake(b"")
    server.handshake(client_wire.take())
    client.handshake(server_wire.take())
    assert server.handshake(client_wire.take())
    assert server_wire.written != []


def test_more_waits_for_what_follows() -> None:
    server, server_wire, client, _ = up()
    server.send(b"x" * 50_000, more=True)
    assert server_wire.written == []
    server.end()
    assert len(server_wire.written) == 1
    assert client.receive(server_wire.take()) == b"x" * 50_000
    assert client.ended


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 1 << 20])
def test_much_goes_out_whole_and_in_order_in_one_write(size: int) -> None:
    server, wire, client, _ = up()
    server.send(b"first", more=True)
    data = bytes(number * 7 & 255 for number in range(size))
    server.send(data)
    assert len(wire.written) == 1
    assert client.receive(wire.take()) == b"first" + data


def test_nothing_goes_out_behind_fin_however_much() -> None:
    server, wire, _, _ = up()
    wire.take()
    server.half_close()
    server.send(b"x" * (PIECE + 1))
    assert not wire.written


def test_close_notify_is_said_once_and_nothing_after_fin() -> None:
    server, server_wire, client, _ = up()
    server.end()
    server.end()
    assert client.receive(server_wire.take()) == b""
    assert client.ended
    server.half_close()
    server.half_close()
    assert server_wire.eof == 1
    server.flush()
    with pytest.raises(LegError, match="protocol is shutdown"):
        server.send(b"too late")
    assert server_wire.written == []


def test_a_broken_record_is_answered_with_an_alert() -> None:
    server, server_wire, client, client_wire = up()
    client.send(b"question")
    record = bytearray(client_wire.take())
    record[-1] ^= 1
    with pytest.raises(LegError) as caught:
        server.receive(bytes(record))
    assert caught.value.reasons
    assert server_wire.written != []


def test_a_failed_handshake_is_answered_with_an_alert() -> None:
    server, server_wire, _, _ = pair()
    with pytest.raises(LegError, match=r"wrong version number|http request"):
        server.handshake(b"GET / HTTP/1.1\r\n\r\n")
    assert server_wire.take()[:1] in (b"\x15", b"")


def test_half_closing_towards_a_peer_that_is_gone_is_no_fault() -> None:
    wire = Wire()
    wire.gone = True
    half_close(cast("asyncio.Transport", wire))
    wire.closing = True
    wire.gone = False
    half_close(cast("asyncio.Transport", wire))
    assert wire.eof == 0
