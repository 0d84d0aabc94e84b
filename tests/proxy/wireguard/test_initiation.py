"""Who begins a handshake is known for certain, and no bytes of a stranger's make anything else of it."""

from __future__ import annotations

import asyncio
import base64
import os
import socket

from hypothesis import given
from hypothesis import strategies as st
from mitmproxy_rs.wireguard import start_wireguard_server

from proxy.wireguard.initiation import Responder
from tests.harness.wireguard import BASE, initiation, public_of

SERVER, PEER, OTHER = (bytes([n]) * 32 for n in (1, 2, 3))
RESPONDER = Responder(SERVER)
MESSAGE = initiation(PEER, public_of(SERVER), at=7, ephemeral=bytes([4]) * 32)


def read(message: bytes) -> bytes | None:
    found = RESPONDER.read(message) if RESPONDER.addressed(message) else None
    return None if found is None else found.public_key


def test_it_says_who_has_sent_it_and_when() -> None:
    assert RESPONDER.public_key == public_of(SERVER)
    assert RESPONDER.addressed(MESSAGE)
    found = RESPONDER.read(MESSAGE)
    assert found is not None
    assert found.public_key == public_of(PEER)
    assert found.timestamp == (BASE + 7).to_bytes(8) + bytes(4)


def test_what_is_for_somebody_else_is_not_for_us() -> None:
    assert not Responder(OTHER).addressed(MESSAGE)
    assert Responder(OTHER).read(MESSAGE) is None


def test_a_server_of_mitmproxys_takes_the_same_message() -> None:
    """So that the message of these tests is one, and what is read here is what is read there."""

    async def answered() -> bytes:
        async def nothing(_: object) -> None:
            """No stream comes of a handshake alone."""

        server_key = base64.b64encode(SERVER).decode()
        peer = base64.b64encode(public_of(PEER)).decode()
        server = await start_wireguard_server("127.0.0.1", 0, server_key, [peer], nothing, nothing)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(server.getsockname())
            client.send(initiation(PEER, public_of(SERVER)))
            async with asyncio.timeout(20):
                answer = await loop.sock_recv(client, 2000)
        server.close()
        return answer

    answer = asyncio.run(answered())
    assert (len(answer), answer[0], answer[8:12]) == (92, 2, b"\7\0\0\0")


def test_each_byte_counts_but_those_of_the_second_mac() -> None:
    for at in range(len(MESSAGE)):
        changed = bytearray(MESSAGE)
        changed[at] ^= 0x40
        expected = public_of(PEER) if at >= 132 else None
        assert read(bytes(changed)) == expected, at
    for size in range(len(MESSAGE)):
        assert read(MESSAGE[:size]) is None


def test_a_point_that_makes_nothing_secret_is_refused() -> None:
    low = bytearray(MESSAGE)
    low[8:40] = bytes(32)
    assert RESPONDER.read(bytes(low)) is None


@given(st.binary(max_size=200) | st.binary(min_size=144, max_size=144).map(lambda rest: b"\1\0\0\0" + rest))
def test_no_other_bytes_are_anybodys(data: bytes) -> None:
    assert read(data) is None
    if len(data) == len(MESSAGE):
        assert RESPONDER.read(data) is None


def test_two_messages_of_one_peer_differ() -> None:
    assert initiation(PEER, public_of(SERVER)) != initiation(PEER, public_of(SERVER))
    assert read(initiation(os.urandom(32), public_of(SERVER))) not in (None, public_of(PEER))
