"""What `make kmip` makes of what it saw, and that its relay cuts what it says that it cuts."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from bench import table
from bench.client import Times, Trouble
from bench.kmip import failover, hang
from bench.kmip.cut import Asking, Tally, reason_of
from bench.kmip.figures import Signing, tables
from bench.kmip.relay import Fate, Relay
from certs.signer import SigningError
from kms.kmip.errors import KmipError, Reason
from kms.kmip.pool import Pool, PoolLimits
from tests.kms.kmip.rig import SIGNING_KEY, at, reach

CHANCE = random.Random(7)  # noqa: S311 - cuts that can be had again
REFUSED = Trouble(10.0, 10.1, "connect", "h", "HTTP/1.1 502 Bad Gateway||")
ALERT = Trouble(4.0, 7.0, "handshake", "h", "error:0A000438:SSL routines::tlsv1 alert internal error")


def test_who_was_told_and_who_was_let_into_the_tunnel_for_nothing() -> None:
    late = Trouble(20.0, 20.5, "handshake", "h", ALERT.what)
    closed = Trouble(1.0, 2.0, "handshake", "h", "closed")
    found = hang.sorted_out([REFUSED, ALERT, late, closed], known_at=9.0)
    assert (found.told, found.alerted, found.other, found.late, found.longest) == (1, 2, (closed,), 1, 3.0)


def test_a_primary_that_goes_explains_those_alone_who_waited_at_that_moment() -> None:
    before, after = Trouble(1.0, 3.9, "handshake", "h", "alert"), Trouble(5.1, 5.2, "handshake", "h", "alert")
    found = failover.sorted_out([before, ALERT, after], gone_at=5.0)
    assert found == failover.Failed((before,), (ALERT,), (after,))


def test_a_signature_of_something_else_is_wrong_and_one_of_what_was_asked_before_is_stale() -> None:
    asking = Asking(Pool([at(1)], reach(), PoolLimits(), lambda: 0.0), 1, CHANCE)
    asking.before.append(b"earlier")
    for data, tally in (
        (b"mine", Tally(signed=1)),
        (b"earlier", Tally(signed=1, stale=1)),
        (b"never", Tally(signed=1, stale=1, wrong=1)),
    ):
        asking.look_at(SIGNING_KEY.sign(data, padding.PKCS1v15(), hashes.SHA256()), b"mine")
        assert asking.tally == tally


def test_what_ended_in_nothing_is_lost() -> None:
    tally = Tally(asked=10, signed=5, given_up=1)
    tally.errors["closed"] = 3
    assert tally.lost == 1


def test_an_error_has_the_reason_of_what_it_is_from() -> None:
    closed = KmipError(Reason.CLOSED, "it closed")
    from_it = SigningError("it closed")
    from_it.__cause__ = closed
    assert [reason_of(closed), reason_of(from_it), reason_of(SigningError("late"))] == ["closed", "closed", "timeout"]


def test_the_relay_passes_what_it_may_and_cuts_in_the_middle() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            writer.write(piece)
        writer.close()

    async def through(port: int, octets: bytes) -> bytes:
        """What comes back of it, up to an end of any kind."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(octets)
        back = b""
        try:
            while len(back) < len(octets) and (piece := await reader.read(1000)):
                back += piece
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
        return back

    async def work() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        target, octets = server.sockets[0].getsockname()[1], bytes(range(256)) * 40
        async with server, Relay(target, CHANCE, None, 0.0) as whole, Relay(target, CHANCE, 3000, 0.0) as cutting:
            assert await through(whole.port, octets) == octets
            assert not whole.fates
            for _ in range(20):
                back = await through(cutting.port, octets)
                assert octets.startswith(back)
            assert {Fate.RESET, Fate.CLOSED} <= {*cutting.fates}

    asyncio.run(asyncio.wait_for(work(), 20))


def test_the_figures_are_written_between_markers_of_their_own() -> None:
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    assert text.index(table.BEGIN.format("kmip")) < text.index(table.END.format("kmip"))
    made = tables({"PyKMIP": [Signing(4, 101.4, 39.04, 55.06, 1.9)]}, {"here": Times(300, 12.34, 56.78, 90.0)})
    assert "| PyKMIP | 4 | 101 | 39.0 | 55.1 | 1.90 |" in made
    assert "| here | 12.3 | 56.8 | 300 |" in made
