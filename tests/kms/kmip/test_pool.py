"""The pool and its signer: connections that are kept, hosts that fail, deadlines, signatures that are not believed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from kmip.core.enums import ResultReason

from certs.signer import SigningError
from kms.kmip import operations
from kms.kmip.connection import Connection, Endpoint, connect
from kms.kmip.errors import KmipError, Reason
from kms.kmip.hosts import HostState
from kms.kmip.operations import SignatureScheme
from kms.kmip.pool import CROWDED_SECONDS, PING_SECONDS, Pool, PoolLimits, Unwatched
from kms.kmip.signer import KmipSigner
from tests.harness.kmip_fake import Answer, Asked, CloseNow, FakeKmip
from tests.harness.pki import kept_key
from tests.kms.kmip.rig import SIGNING_KEY, at, reach, root, server_identity

SCHEME = SignatureScheme("RSA", "SHA_256")
SIGN = operations.sign("1", SCHEME, b"data")


class Seen(Unwatched):
    """What the watcher was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def failed(self, endpoint: Endpoint, error: KmipError) -> None:
        self.told.append(f"failed {endpoint.host} {error.reason}")

    def broke(self, endpoint: Endpoint, error: KmipError) -> None:
        self.told.append(f"broke {endpoint.host}")

    def mended(self, endpoint: Endpoint) -> None:
        self.told.append(f"mended {endpoint.host}")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Rig:
    """A primary, an alternate, and a pool over both that nobody tends but the test."""

    def __init__(self, primary: FakeKmip, alternate: FakeKmip, limits: PoolLimits, alone: bool) -> None:
        self.primary, self.alternate = primary, alternate
        self.seen = Seen()
        self.clock = Clock()
        endpoints = [at(primary.port), at(alternate.port, "other.example")]
        self.pool = Pool(endpoints[:1] if alone else endpoints, reach(), limits, self.clock, self.seen)

    def signs(self) -> tuple[int, int]:
        """How many were asked of each."""
        return tuple(
            sum(asked.operation.name == "SIGN" for asked in one.asked) for one in (self.primary, self.alternate)
        )  # type: ignore[return-value]


@asynccontextmanager
async def rig(
    connections: int = 2, seconds: float = 5.0, queue: int = 100, alone: bool = False, signatures: int = 1000
) -> Any:
    async with (
        FakeKmip(server_identity(), root(), SIGNING_KEY) as primary,
        FakeKmip(server_identity(), root(), SIGNING_KEY) as alternate,
    ):
        made = Rig(primary, alternate, PoolLimits(connections, queue, seconds, signatures), alone)
        yield made
        made.pool.stop()


def run[A](work: Coroutine[Any, Any, A]) -> A:
    async def within() -> A:
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(within())


def silent(asked: Asked) -> Answer:
    return None


def closing(asked: Asked) -> Answer:
    raise CloseNow


class TestConnections:
    def test_are_kept_and_shared(self) -> None:
        async def work() -> None:
            async with rig(connections=2) as r:
                await asyncio.gather(*(r.pool.ask(SIGN) for _ in range(20)))
                assert r.signs() == (20, 0)
                assert r.primary.connections == 2
                assert r.alternate.connections == 0
                assert r.seen.told == []

        run(work())

    def test_that_the_server_has_closed_are_made_anew_and_it_is_not_blamed(self) -> None:
        async def work() -> None:
            async with rig(connections=2) as r:
                await asyncio.gather(*(r.pool.ask(SIGN) for _ in range(4)))
                r.primary.cut()
                await asyncio.gather(*(r.pool.ask(SIGN) for _ in range(4)))
                assert r.signs() == (8, 0)
                assert r.seen.told == []

        run(work())

    def test_that_the_server_closes_at_the_next_request_are_made_anew(self) -> None:
        async def work() -> None:
            async with rig(connections=1) as r:
                await r.pool.ask(SIGN)
                once = [closing]
                r.primary.on["SIGN"] = lambda asked: once.pop()(asked) if once else asked.as_it_should()
                await r.pool.ask(SIGN)
                assert r.primary.connections == 2
                assert r.seen.told == []

        run(work())

    def test_are_made_ahead_and_used_now_and_then(self) -> None:
        async def work() -> None:
            async with rig(connections=3) as r:
                await r.pool.tend()
                assert r.primary.connections == 3
                before = len(r.primary.asked)
                await r.pool.tend()
                assert len(r.primary.asked) == before
                r.clock.now += PING_SECONDS
                await r.pool.tend()
                assert [asked.operation.name for asked in r.primary.asked[before:]] == ["QUERY"] * 3
                assert r.primary.connections == 3

        run(work())

    def test_started_the_pool_tends_itself_and_closed_it_has_none_left(self) -> None:
        async def work() -> None:
            async with rig(connections=1) as r:
                r.pool.start()
                await r.primary.came.wait()
                r.pool.stop()
                with pytest.raises(KmipError, match="closed"):
                    await r.pool.ask(SIGN)

        run(work())


class TestHosts:
    def test_that_are_down_leave_it_to_the_alternate_at_once(self) -> None:
        async def work() -> None:
            async with rig() as r:
                r.primary.kill()
                await asyncio.gather(*(r.pool.ask(SIGN) for _ in range(10)))
                assert r.signs() == (0, 10)
                assert r.seen.told[:2] == ["failed kms.example connect", "broke kms.example"]

        run(work())

    def test_that_are_well_again_are_asked_again(self) -> None:
        async def work() -> None:
            async with rig() as r:
                r.primary.kill()
                await r.pool.ask(SIGN)
                await r.pool.tend()
                assert r.seen.told.count("mended kms.example") == 0
                await r.primary.start()
                await r.pool.tend()
                assert r.seen.told[-1] == "mended kms.example"
                await asyncio.gather(*(r.pool.ask(SIGN) for _ in range(6)))
                assert r.signs() == (6, 1)

        run(work())

    def test_that_say_nothing_cost_a_share_of_the_deadline_and_then_nothing(self) -> None:
        async def work() -> None:
            async with rig(connections=2, seconds=3.0) as r:
                r.primary.on["SIGN"] = silent
                await asyncio.gather(*(r.pool.ask(SIGN) for _ in range(2)))
                assert r.signs() == (2, 2)
                assert "broke kms.example" in r.seen.told
                await asyncio.gather(*(r.pool.ask(SIGN) for _ in range(20)))
                assert r.signs() == (2, 22)

        run(work())

    def test_that_are_both_down_are_said_to_be_and_then_nobody_waits(self) -> None:
        async def work() -> None:
            async with rig() as r:
                r.primary.kill()
                r.alternate.kill()
                with pytest.raises(KmipError) as first:
                    await r.pool.ask(SIGN)
                assert first.value.reason is Reason.CONNECT
                with pytest.raises(KmipError) as second:
                    await r.pool.ask(SIGN)
                assert second.value.reason is Reason.UNAVAILABLE
                for host in ("kms.example", "other.example"):
                    assert f"no connection to {host}" in str(second.value)

        run(work())

    def test_that_refuse_are_well_and_nobody_else_is_asked(self) -> None:
        async def work() -> None:
            async with rig() as r:
                r.primary.on["SIGN"] = lambda asked: asked.refuse(ResultReason.PERMISSION_DENIED, "no")
                with pytest.raises(KmipError, match="PERMISSION_DENIED"):
                    await r.pool.ask(SIGN)
                assert r.signs() == (1, 0)
                assert r.seen.told == []

        run(work())

    def test_that_do_not_sign_are_left_alone_for_longer_each_time_though_they_can_be_reached(self) -> None:
        state, now = HostState(at(1)), 0.0
        late, gone = KmipError(Reason.TIMEOUT, "late"), KmipError(Reason.CONNECT, "gone")
        assert not state.failed(late, now), "one may be an accident"
        for wait in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
            assert state.failed(late, now)
            assert not state.reached(now + wait - 0.1)
            now += wait
            assert state.reached(now)
            assert not state.broken
        assert state.failed(late, now)
        assert state.served()
        assert state.failed(gone, now)
        assert state.reached(now), "what could not be connected to and can be is well"
        assert not state.failed(late, now)

    def test_that_are_not_well_by_their_own_words_leave_it_to_the_alternate(self) -> None:
        async def work() -> None:
            async with rig() as r:
                r.primary.on["SIGN"] = lambda asked: asked.refuse(ResultReason.GENERAL_FAILURE, "the HSM is away")
                await r.pool.ask(SIGN)
                assert r.signs() == (1, 1)
                assert "failed kms.example refused" in r.seen.told

        run(work())

    def test_that_accept_and_reset_are_a_failure_like_others(self) -> None:
        async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        async def work() -> None:
            server = await asyncio.start_server(resetting, "127.0.0.1", 0)
            async with server:
                port = server.sockets[0].getsockname()[1]
                for _ in range(100):
                    with pytest.raises(KmipError):
                        await connect(at(port), reach())

        run(work())


class TestHealth:
    def test_tells_of_each_host_whether_it_is_well_what_it_has_to_do_and_how_long_that_takes(self) -> None:
        async def work() -> None:
            async with rig(connections=2) as r:

                def slowly(asked: Asked) -> Answer:
                    r.clock.now += 0.25
                    return asked.as_it_should()

                async def signed(connection: Connection) -> None:
                    began = r.pool.now()
                    await connection.ask(SIGN)
                    r.pool.signed(connection.at.endpoint, began)

                r.primary.on["SIGN"] = slowly
                for _ in range(3):
                    await r.pool.use(signed)
                r.clock.now += 7
                primary, alternate = r.pool.health().hosts
                assert (primary.address, primary.down_for) == (f"kms.example:{r.primary.port}", None)
                assert (primary.connections, primary.asked, primary.signed_ago, primary.seconds) == (1, 0, 7.0, 0.25)
                assert (alternate.connections, alternate.signed_ago, alternate.seconds) == (0, None, None)
                r.primary.on["SIGN"] = silent
                r.primary.came.clear()
                waiting = [asyncio.ensure_future(r.pool.ask(SIGN)) for _ in range(5)]
                while sum(asked.operation.name == "SIGN" for asked in r.primary.asked) < 5:  # noqa: ASYNC110 - in a moment
                    await asyncio.sleep(0.01)
                health = r.pool.health()
                assert (health.hosts[0].asked, health.waiting) == (2, 3)
                for one in waiting:
                    one.cancel()
                await asyncio.wait(waiting)

        run(work())

    def test_tells_since_when_a_host_is_down_why_and_when_it_is_tried_again(self) -> None:
        async def work() -> None:
            async with rig(connections=1) as r:
                r.primary.kill()
                await r.pool.ask(SIGN)
                r.clock.now += 3
                down, well = r.pool.health().hosts
                assert down.down_for == 3.0
                assert down.why.startswith("no connection to kms.example:")
                assert down.next_try_in == 0.0, "whoever tends looks at it now"
                assert down.connections == 0
                assert well.down_for is None
                late = KmipError(Reason.TIMEOUT, "late " * 200)
                state = r.pool.hosts.states[1]
                assert [state.failed(late, r.clock.now) for _ in range(2)] == [False, True]
                left_alone = r.pool.health().hosts[1]
                assert left_alone.next_try_in == 5.0
                assert len(left_alone.why) == 400, "so that it can be sent on"

        run(work())


class TestDeadlines:
    def test_a_key_manager_that_says_nothing_costs_no_more_than_the_deadline(self) -> None:
        async def work() -> None:
            async with rig(connections=1, seconds=0.3, alone=True) as r:
                r.primary.on["SIGN"] = silent
                began = time.monotonic()
                outcomes = await asyncio.gather(*(r.pool.ask(SIGN) for _ in range(8)), return_exceptions=True)
                assert time.monotonic() - began < 5  # and not eight times the deadline
                assert {type(one) for one in outcomes} == {KmipError}

        run(work())

    def test_who_comes_by_no_connection_gives_up_while_those_who_have_one_still_may_be_answered(self) -> None:
        async def work() -> None:
            async with rig(connections=1, seconds=3.0, alone=True) as r:
                r.primary.on["SIGN"] = silent
                first = asyncio.ensure_future(r.pool.ask(SIGN))
                await r.primary.came.wait()
                with pytest.raises(KmipError, match="no connection to the key manager came free in time") as caught:
                    await r.pool.ask(SIGN)
                assert caught.value.reason is Reason.TIMEOUT
                assert not first.done()
                first.cancel()
                await asyncio.wait([first])
                del r.primary.on["SIGN"]
                await asyncio.gather(*(r.pool.ask(SIGN) for _ in range(3)))

        run(work())

    def test_what_was_waited_before_counts(self) -> None:
        async def work() -> None:
            async with rig(connections=1, seconds=3.0, alone=True) as r:
                await r.pool.use(lambda connection: connection.ask(SIGN), waited=2.9)
                r.primary.on["SIGN"] = silent
                first = asyncio.ensure_future(r.pool.ask(SIGN))
                r.primary.came.clear()
                await r.primary.came.wait()
                behind = asyncio.ensure_future(r.pool.ask(SIGN))
                with pytest.raises(KmipError, match="came free in time"):
                    await r.pool.use(lambda connection: connection.ask(SIGN), waited=2.9)
                assert not behind.done()
                for each in (first, behind):
                    each.cancel()
                await asyncio.wait([first, behind])

        run(work())

    def test_more_than_may_wait_are_told_so_at_once(self) -> None:
        async def work() -> None:
            async with rig(connections=1, seconds=1.0, queue=3, alone=True) as r:
                r.primary.on["SIGN"] = silent
                waiting = [asyncio.ensure_future(r.pool.ask(SIGN)) for _ in range(3)]
                await asyncio.sleep(0)
                with pytest.raises(KmipError) as caught:
                    await r.pool.ask(SIGN)
                assert caught.value.reason is Reason.BUSY
                await asyncio.gather(*waiting, return_exceptions=True)

        run(work())

    def test_signatures_above_the_limit_wait_for_their_turn_and_not_for_longer_than_half_of_the_deadline(self) -> None:
        async def work() -> None:
            async with rig(seconds=0.4, signatures=20) as r:
                outcomes = await asyncio.gather(*(r.pool.turn() for _ in range(9)), return_exceptions=True)
                assert outcomes[:6] == pytest.approx([0, 0, 0.05, 0.1, 0.15, 0.2]), "two at once, and four within 0.2 s"
                assert {error.reason for error in outcomes[6:]} == {Reason.LIMITED}
                assert r.seen.told == ["failed kms.example limited"] * 3
                assert "more than kmip.signatures_per_second (20) are wanted" in str(outcomes[8])
                assert r.pool.crowded is not None
                r.clock.now += CROWDED_SECONDS + 1
                assert r.pool.crowded is None
                await r.pool.turn()

        run(work())

    def test_who_gives_up_before_their_turn_takes_it_from_nobody(self) -> None:
        async def work() -> None:
            async with rig(seconds=100.0, signatures=1) as r:
                await r.pool.turn()
                impatient = asyncio.ensure_future(r.pool.turn())
                await asyncio.sleep(0)
                assert not r.pool.has_room()
                impatient.cancel()
                await asyncio.wait([impatient])
                r.clock.now += 1.0
                assert r.pool.has_room()
                await asyncio.wait_for(r.pool.turn(), 5)

        run(work())

    def test_there_is_room_for_what_nobody_waits_for_only_where_nobody_will_wait_for_it(self) -> None:
        async def work() -> None:
            async with rig(connections=2, signatures=100, seconds=30.0, alone=True) as r:
                assert r.pool.has_room()
                r.primary.on["SIGN"] = silent
                waiting = asyncio.ensure_future(r.pool.ask(SIGN))
                await r.primary.came.wait()
                assert not r.pool.has_room(), "one more would take the last connection"
                waiting.cancel()
                await asyncio.wait([waiting])
                assert r.pool.has_room()
                for _ in range(6):
                    await r.pool.turn()
                assert not r.pool.has_room(), "less than half of what may come at once is left"

        run(work())

    def test_who_gives_up_leaves_no_answer_to_the_next(self) -> None:
        async def work() -> None:
            async with rig(connections=1, alone=True) as r:
                await r.pool.tend()
                r.primary.came.clear()
                r.primary.on["SIGN"] = silent
                impatient = asyncio.ensure_future(r.pool.ask(operations.sign("1", SCHEME, b"mine")))
                await r.primary.came.wait()
                impatient.cancel()
                await asyncio.wait([impatient])
                del r.primary.on["SIGN"]
                signature = await r.pool.ask(operations.sign("1", SCHEME, b"theirs"))
                SIGNING_KEY.public_key().verify(signature, b"theirs", *_pkcs1())
                assert r.primary.connections == 2

        run(work())


class TestASigner:
    def test_finds_its_key_once_and_signs(self) -> None:
        async def work() -> None:
            async with rig() as r:
                signer = KmipSigner(r.pool, "signing", SIGNING_KEY.public_key())
                for _ in range(3):
                    SIGNING_KEY.public_key().verify(await signer.signature(b"data"), b"data", *_pkcs1())
                assert [asked.operation.name for asked in r.primary.asked].count("LOCATE") == 1

        run(work())

    def test_above_the_limit_says_that_it_is_too_much_and_asks_nobody(self) -> None:
        async def work() -> None:
            async with rig(seconds=0.2, signatures=1) as r:
                signer = KmipSigner(r.pool, "signing", SIGNING_KEY.public_key())
                await r.pool.turn()
                with pytest.raises(SigningError, match="signatures_per_second") as caught:
                    await signer.signature(b"data")
                assert caught.value.crowded
                assert signer.crowded
                assert signer.down is None
                assert r.primary.asked == []

        run(work())

    @pytest.mark.parametrize("p1363", [False, True])
    @pytest.mark.parametrize("kind", ["ec256", "ec384"])
    def test_gives_ecdsa_as_certificates_have_it(self, kind: str, p1363: bool) -> None:
        async def work() -> None:
            key = kept_key(kind, 3)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            async with rig() as r:
                r.primary.key, r.primary.p1363 = key, p1363
                signature = await KmipSigner(r.pool, "signing", key.public_key()).signature(b"data")
                algorithm = hashes.SHA256() if kind == "ec256" else hashes.SHA384()
                key.public_key().verify(signature, b"data", ec.ECDSA(algorithm))

        run(work())

    def test_can_use_pss(self) -> None:
        async def work() -> None:
            async with rig() as r:
                signature = await KmipSigner(r.pool, "signing", SIGNING_KEY.public_key(), pss=True).signature(b"data")
                how = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
                SIGNING_KEY.public_key().verify(signature, b"data", how, hashes.SHA256())

        run(work())

    def test_never_gives_what_does_not_verify(self) -> None:
        async def work() -> None:
            async with rig() as r:
                signer = KmipSigner(r.pool, "signing", SIGNING_KEY.public_key())
                await signer.signature(b"data")
                r.primary.key = r.alternate.key = kept_key("rsa2048", 8)  # type: ignore[assignment]
                with pytest.raises(SigningError, match="does not verify") as caught:
                    await signer.signature(b"data")
                assert isinstance(caught.value.__cause__, KmipError)
                assert caught.value.__cause__.reason is Reason.SIGNATURE
                # Once more on a new connection, since an answer may have been another's; then the other host.
                assert r.signs() == (1 + 2, 1)

        run(work())

    @pytest.mark.parametrize(("found", "said"), [((), "no private key"), (("1", "2"), "2 private keys")])
    def test_needs_just_one_key_of_the_name(self, found: tuple[str, ...], said: str) -> None:
        async def work() -> None:
            async with rig() as r:
                r.primary.identifiers = list(found)
                with pytest.raises(SigningError, match=said):
                    await KmipSigner(r.pool, "signing", SIGNING_KEY.public_key()).signature(b"data")

        run(work())

    def test_looks_for_its_key_again_where_that_is_gone(self) -> None:
        async def work() -> None:
            async with rig() as r:
                signer = KmipSigner(r.pool, "signing", SIGNING_KEY.public_key())
                await signer.signature(b"data")
                r.primary.identifiers = ["2"]

                def gone(asked: Asked) -> Answer:
                    if asked.payload.unique_identifier == "1":
                        return asked.refuse(ResultReason.ITEM_NOT_FOUND, "gone")
                    return asked.as_it_should()

                r.primary.on["SIGN"] = gone
                assert await signer.signature(b"data")

        run(work())

    def test_asks_each_host_by_what_that_calls_the_key(self) -> None:
        def only(identifier: str) -> Callable[[Asked], Answer]:
            def answer(asked: Asked) -> Answer:
                if asked.payload.unique_identifier == identifier:
                    return asked.as_it_should()
                return asked.refuse(ResultReason.ITEM_NOT_FOUND, "another host's")

            return answer

        async def work() -> None:
            async with rig(connections=1) as r:
                r.primary.identifiers, r.alternate.identifiers = ["here"], ["there"]
                r.primary.on["SIGN"], r.alternate.on["SIGN"] = only("here"), only("there")
                signer = KmipSigner(r.pool, "signing", SIGNING_KEY.public_key())
                await signer.signature(b"data")
                r.primary.kill()
                for _ in range(2):
                    await signer.signature(b"data")
                await r.primary.start()
                await r.pool.tend()
                await signer.signature(b"data")
                assert r.signs() == (2, 2), "nobody was asked by the other's"
                for host in (r.primary, r.alternate):
                    assert [asked.operation.name for asked in host.asked].count("LOCATE") == 1

        run(work())

    def test_tells_nothing_of_its_connections_in_its_repr(self) -> None:
        async def work() -> str:
            async with rig() as r:
                return repr(KmipSigner(r.pool, "signing", SIGNING_KEY.public_key()))

        assert run(work()) == "KmipSigner(RSA key 'signing')"


def _pkcs1() -> Any:
    return padding.PKCS1v15(), hashes.SHA256()
