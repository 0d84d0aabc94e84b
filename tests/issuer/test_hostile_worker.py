"""A worker that was taken over may write what it likes: each request is answered, or ends its connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.installation import Installation
from issuer.protocol import Answer, Code, Failure, FrameReader, LeafRequest, decode_answer, encode_request
from issuer.sockets import connect_unix
from tests.issuer.rig import Clock, issuer_here, socket_path

TEXT = (
    st.sampled_from(["default", "www.example", "*.example", "127.0.0.1", "::1", "xn--", "a" * 300, "\ud800", "\0", ""])
    | st.text(max_size=40)
    | st.text(st.characters(categories=["Cs", "Cc", "L"]), max_size=5)
)
NUMBER = st.integers(-2, 1 << 54) | st.floats() | st.none() | st.booleans()
LEAF = st.fixed_dictionaries(
    {
        "id": st.integers(0, 99), "op": st.just("leaf"), "tenant": st.just("default") | TEXT, "host": TEXT,
        "key": st.sampled_from(["ecdsa", "rsa", "dsa"]), "server_not_after": NUMBER,
    }
)  # fmt: skip
LEAF_KEY = st.fixed_dictionaries(
    {"id": st.integers(0, 99), "op": st.just("leaf_key"), "tenant": st.just("default") | TEXT, "leaf_key": NUMBER}
)
BODY = (LEAF | LEAF_KEY).map(lambda message: json.dumps(message).encode())


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


STREAM = st.lists(BODY.map(framed) | st.binary(max_size=40).map(framed), max_size=6)
LAST = 1000


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(STREAM)
def test_whatever_it_writes_is_answered_or_ends_its_connection(
    inst: Installation, clock: Clock, stream: list[bytes]
) -> None:
    async def run() -> None:
        async with issuer_here(inst, clock) as (_, other):
            reader, writer = await asyncio.open_connection(sock=connect_unix(socket_path(inst.settings)))
            frames, answers = FrameReader(), list[Answer]()
            with contextlib.suppress(ConnectionError):  # it was refused in the middle of it
                writer.writelines(stream)
                writer.write(encode_request(LeafRequest(LAST, "default", "last.example", "ecdsa", None)))
                async with asyncio.timeout(30):
                    while not any(answer.id == LAST for answer in answers) and (data := await reader.read(1 << 16)):
                        frames.feed(data)
                        while (frame := frames.next()) is not None:
                            answers.append(decode_answer(frame))
            writer.transport.abort()
            for answer in answers:
                assert 0 <= answer.id <= 99 or answer.id == LAST
                # A code of its own for what was not foreseen; here nothing may be.
                assert not (isinstance(answer, Failure) and answer.error is Code.INTERNAL), answer
            await other.leaf("default", "www.example", "ecdsa", None)

    asyncio.run(run())
