"""The end of a connection of TLS to the proxy: of one who takes nothing, of one under a CA that is no longer active."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import h2.events
import pytest
from OpenSSL import SSL, crypto

from config.settings import Limits, Listener
from issuer.client import IssuerUnavailable
from issuer.protocol import Code
from proxy.leaves import Shown
from proxy.listeners import outer_tls
from proxy.listeners.outer_identity import OuterIdentity
from proxy.listeners.outer_tls import OuterTls
from proxy.purge import Purges
from proxy.stalls import Stalls
from tests.proxy.listeners.outer import Outer, run

LISTENER = Listener.model_validate(
    {"name": "leaf", "mode": "explicit-tls", "bind": "127.0.0.1:0", "tls": {"names": ["proxy.example"]}}
)


class Wire(asyncio.Transport):
    """TCP to a client that takes nothing."""

    def __init__(self, waiting: int = 0) -> None:
        super().__init__()
        self.waiting = waiting
        self.told: list[str] = []

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return 0 if name == "taken" else default

    def is_closing(self) -> bool:
        return bool(self.told)

    def close(self) -> None:
        self.told.append("close")

    def abort(self) -> None:
        self.told.append("abort")


class Worker:
    """All of a worker that is touched."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = Limits()
        self.sessions: set[Any] = set()
        self.stalls = Stalls(30, 0)
        self.log = SimpleNamespace(level=99)
        self.events = SimpleNamespace(keep=lambda *event, **more: None)
        self.disclosure = lambda _: SimpleNamespace(client=lambda address: address)
        self.entrance = SimpleNamespace(outer=set())
        self.leaves = SimpleNamespace(forget=lambda _: None)
        self.snapshots = SimpleNamespace(current={"default": ca(1)})

    def outer(self, wire: Wire) -> OuterTls:
        identity = OuterIdentity(cast("Any", self), LISTENER)
        made = OuterTls(cast("Any", self), LISTENER, identity, "default", ())
        made.transport, made.peer = wire, "192.0.2.1"
        self.entrance.outer.add(made)
        return made


def ca(number: int) -> Any:
    return SimpleNamespace(tenant="default", signing_ca=number, activation=number, ca=lambda _: number)


def test_a_client_that_takes_nothing_does_not_keep_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outer_tls, "CLOSE_SECONDS", 0.01)

    async def test() -> None:
        worker = Worker()
        for end in (OuterTls.close, OuterTls.eof_received):
            wire = Wire(waiting=1)
            end(worker.outer(wire))
            assert wire.told == ["close"]
            await asyncio.sleep(0.1)
            assert wire.told == ["close", "abort"]

    run(test)


def test_a_client_that_takes_too_little_of_all_streams_is_cut() -> None:
    async def test() -> None:
        worker, wire = Worker(), Wire(waiting=1)
        outer = worker.outer(wire)
        outer.http2 = cast("Any", SimpleNamespace(writable=lambda _: None))
        outer.pause_writing()
        now = worker.loop.time()
        worker.stalls.check(now + 2)
        worker.stalls.check(now + 31)
        assert wire.told == ["abort"]

    run(test)


def test_http2_without_a_stream_makes_room_where_memory_is_tight() -> None:
    async def test() -> None:
        inside, worker = Outer(), Worker()
        outer, now = worker.outer(Wire()), worker.loop.time() + 3
        assert not outer.rests(now)  # in its handshake, which has a time of its own
        outer.http2 = inside.http2
        assert outer.rests(now)
        assert not outer.rests(now - 2)
        assert now - 4 < outer.active < now
        number, session = inside.tunnel()
        assert not outer.rests(now)
        inside.client.reset_stream(number)
        inside.sent()
        assert session.told
        assert outer.rests(worker.loop.time() + 3)
        outer.make_room()
        assert inside.closed
        assert not outer.rests(worker.loop.time() + 3)  # it is on its way out
        assert any(isinstance(event, h2.events.ConnectionTerminated) for event in inside.got)

    run(test)


def test_no_leaf_is_shown_of_before_another_ca_became_the_active_one() -> None:
    async def test() -> None:
        worker = Worker()
        identity = worker.outer(Wire()).identity
        shown = Shown(cast("SSL.Context", None), cast("crypto.X509", None), b"", 1, 1.0, 1.0, 1)
        assert not identity.outdated(shown)
        assert identity.outdated(IssuerUnavailable(Code.UNKNOWN_LEAF_KEY, ""))
        assert not identity.outdated(IssuerUnavailable(Code.SIGNING_FAILED, ""))
        worker.snapshots.current["default"] = ca(2)
        assert identity.outdated(shown)
        del worker.snapshots.current["default"]
        assert identity.outdated(shown)

    run(test)


@pytest.mark.parametrize("gone", [False, True])
def test_what_runs_under_a_leaf_of_the_ca_before_ends(gone: bool) -> None:
    async def test() -> None:
        worker, wire, told = Worker(), Wire(), list[str]()
        worker.limits = worker.limits.model_copy(update={"drain_timeout": 0.01})
        outer, early = worker.outer(wire), worker.outer(Wire())
        outer.leg = cast("Any", SimpleNamespace())
        outer.http2 = cast("Any", SimpleNamespace(drain=lambda: told.append("goaway")))
        purges = Purges(cast("Any", worker))
        purges.changed(ca(1), "default")
        purges.changed(ca(2), "other")
        assert (told, wire.told) == ([], [])
        purges.changed(None if gone else ca(2), "default")
        assert told == ([] if gone else ["goaway"])
        await asyncio.sleep(0.1)
        assert wire.told == ["abort"]
        assert cast("Wire", early.transport).told == []  # it has seen no leaf yet

    run(test)
