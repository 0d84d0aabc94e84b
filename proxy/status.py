"""What a worker tells of itself, on its status socket (:mod:`proxy.status_socket`).

The questions: ``{"ask": "health"}``, or ``{"ask": "connections", "most": 50}``, or ``{"ask": "events", "since": 17,
"token": "4711-1795…", "most": 100, "tenant": "default"}``, of all tenants where that is null.
"""

from __future__ import annotations

import heapq
import os
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from proxy.control import status_socket
from proxy.overload import resident
from proxy.status_socket import StatusSocket

if TYPE_CHECKING:
    from certs.expiry import Validity
    from proxy.session import Session
    from proxy.worker import Worker

MOST_CONNECTIONS = 1000
MOST_HOSTS = 50
MOST_EVENTS = 500


class Status:
    """Answers for a worker from :meth:`start` to :meth:`stop`. ``number`` is its place among the workers, from 1."""

    def __init__(self, worker: Worker, number: int) -> None:
        self._worker = worker
        self._number = number
        self._started = worker.wall()
        self._socket = StatusSocket(status_socket(worker.settings.state_dir, os.getpid()), self.answer)

    async def start(self) -> None:
        """Listen. Raises OSError."""
        await self._socket.start()

    def stop(self) -> None:
        """Answer no more."""
        self._socket.stop()

    def answer(self, asked: object) -> dict[str, Any]:
        """The answer to a question; to what is none, what was expected."""
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
