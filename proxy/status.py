"""What a worker tells of itself: a Unix socket that answers one question and closes.

A question is one line of JSON: ``{"ask": "health"}``, or ``{"ask": "connections", "most": 50}``, or ``{"ask": "events",
"since": 17, "token": "4711-1795…", "most": 100, "tenant": "default"}``, of all tenants where that is null. The answer
is one JSON object. Who asks must be our own user, or root. Whoever asks is bounded: in bytes, in time, in number.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from issuer.sockets import bind_unix, is_ours, peer_uid
from proxy.overload import resident

if TYPE_CHECKING:
    from certs.expiry import Validity
    from proxy.session import Session
    from proxy.worker import Worker

LARGEST_QUESTION = 1024
QUESTION_SECONDS = 2.0
MOST_ASKERS = 16
MOST_CONNECTIONS = 1000
MOST_HOSTS = 50
MOST_EVENTS = 500


class Status:
    """Answers for a worker from :meth:`start` to :meth:`stop`. ``number`` is its place among the workers, from 1."""

    def __init__(self, worker: Worker, number: int) -> None:
        self._worker = worker
        self._number = number
        self._started = worker.wall()
        self._path = path_for(worker.settings.state_dir, os.getpid())
        self._server: asyncio.Server | None = None
        self.askers: set[asyncio.Transport] = set()

    async def start(self) -> None:
        """Listen. Raises OSError."""
        # Not create_unix_server: the path may be longer than an address holds.
        listening = bind_unix(self._path, backlog=MOST_ASKERS)
        self._server = await self._worker.loop.create_server(lambda: Asker(self), sock=listening)

    def stop(self) -> None:
        """Answer no more. What a killed worker leaves behind the supervisor removes."""
        if self._server is not None:
            self._server.close()
        for transport in tuple(self.askers):
            transport.abort()
        self._path.unlink(missing_ok=True)

    def answer(self, question: bytes) -> dict[str, Any]:
        """The answer to a line; to one that is no question, what was expected."""
        try:
            asked = json.loads(question)
        except (ValueError, RecursionError):
            asked = None
        match asked:
            case {"ask": "health", **rest} if not rest:
                return self.health()
            case {"ask": "connections", "most": int(most), **rest} if not rest and 0 <= most <= MOST_CONNECTIONS:
                return self.connections(most)
            case {"ask": "events", "since": since, "token": token, "most": int(most), "tenant": tenant, **rest} if (
                not rest and 0 <= most <= MOST_EVENTS
                and (since is None or type(since) is int)
                and (token is None or type(token) is str)
                and (tenant is None or (type(tenant) is str and tenant))
            ):  # fmt: skip
                return self.events(since, token, most, tenant)
            case _:
                expected = '{"ask": "health"} or {"ask": "connections", "most": N}'
                events = f'{{"ask": "events", "since": N, "token": T, "most": N to {MOST_EVENTS}, "tenant": T}}'
                return {"error": f"expected {expected}, N from 0 to {MOST_CONNECTIONS}, or {events}"}

    def health(self) -> dict[str, Any]:
        """How the worker is, and what it has counted."""
        worker = self._worker
        snapshots, watch = worker.snapshots, worker.issuer_watch
        return {
            "pid": os.getpid(),
            "number": self._number,
            "started": self._started,
            "draining": worker.draining.is_set(),
            "tenants": {
                name: {
                    "generation": snapshot.generation,
                    "signing_ca": _ca(snapshot.signing_ca_name, snapshot.signing_ca_validity),
                    "trusted_cas": [_ca(ca, validity) for ca, validity in snapshot.trusted_validity],
                    "purged": asdict(purged) if (purged := worker.purges.last.get(name)) is not None else None,
                }
                for name, snapshot in snapshots.current.items()
            },
            "missing_tenants": [name for name in snapshots.names if name not in snapshots.current],
            "store": {
                "problem": snapshots.problem,
                "age": round(snapshots.age, 3),
                "outdated": snapshots.outdated,
                "patience": snapshots.patience,
            },
            "issuer": {
                "unreachable": watch.unreachable,
                "tenants": watch.tenants,
                "unusable": watch.unusable,
                "failed": watch.failed,
            },
            "sessions": len(worker.sessions),
            "memory": resident(),
            "crls": worker.judge.revocation.crls if worker.judge.revocation is not None else None,
            "loop_lag": round(worker.lag.longest, 4),
            "counts": [[*key, count] for key, count in worker.counted().items()],
        }

    def connections(self, most: int) -> dict[str, Any]:
        """Live connections, those that have moved most first, and the hosts that have most of them."""
        worker = self._worker
        now = worker.loop.time()
        busiest = heapq.nlargest(most, worker.sessions, key=lambda session: session.up + session.down)
        hosts = Counter(host for session in worker.sessions if (host := session.facts.get("host")))
        return {
            "pid": os.getpid(),
            "number": self._number,
            "sessions": len(worker.sessions),
            "hosts": dict(hosts.most_common(MOST_HOSTS)),
            "connections": [_shown(session, now) for session in busiest],
        }

    def events(self, since: int | None, token: str | None, most: int, tenant: str | None) -> dict[str, Any]:
        """What came lately (:mod:`proxy.events`), behind the event ``since`` of the worker that had the token.

        Where that was another worker, or nobody has asked before (None), the last ``most`` of what there is.
        """
        events = self._worker.events
        known = since if token == events.token else None
        found = events.answer(known, most, tenant, self._worker.log.never)
        return {"pid": os.getpid(), "number": self._number, **found}


def _ca(name: str, validity: Validity) -> dict[str, Any]:
    """A CA, its moments in seconds since 1970."""
    return {
        "name": name,
        "begins": validity.begins.timestamp(),
        "warns": validity.warns.timestamp(),
        "ends": validity.ends.timestamp(),
    }


def _shown(session: Session, now: float) -> dict[str, Any]:
    facts = session.facts
    return {
        "id": session.id,
        "tenant": session.tenant_name,
        "listener": session.listener.name,
        "client": session.peer,
        "host": facts.get("host"),
        "port": facts.get("port"),
        "state": session.state.name.lower(),
        "lane": session.lane or None,
        "age": round(now - session.started, 3),
        "idle": round(now - session.active, 3),
        "to_server": session.up,
        "to_client": session.down,
        "defects": facts.get("defects", []),
        "action": facts.get("action"),
        "alpn": facts.get("alpn"),
        "server_tls": facts.get("server_tls"),
        "client_tls": facts.get("client_tls"),
    }


class Answering(Protocol):
    """Who answers questions."""

    askers: set[asyncio.Transport]

    def answer(self, question: bytes) -> dict[str, Any]:
        """The answer to a line."""


class Asker(asyncio.Protocol):
    """One connection of whoever asks."""

    def __init__(self, status: Answering) -> None:
        self._status = status
        self._question = b""
        self._transport: asyncio.Transport | None = None
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_server makes no other kind
        self._transport = transport
        try:
            ours = is_ours(peer_uid(transport.get_extra_info("socket")))
        except OSError:
            ours = False
        if not ours or len(self._status.askers) >= MOST_ASKERS:
            transport.abort()
            return
        self._status.askers.add(transport)
        self._late = asyncio.get_running_loop().call_later(QUESTION_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._question += data
        line, end, _ = self._question.partition(b"\n")
        if end:
            transport.write(json.dumps(self._status.answer(line), default=str).encode() + b"\n")
            transport.close()
        elif len(line) > LARGEST_QUESTION:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        if self._transport is not None:
            self._status.askers.discard(self._transport)


def path_for(state_dir: Path, pid: int) -> Path:
    """Where the worker of that process number answers."""
    return state_dir / "run" / f"worker-{pid}.sock"
