"""The way in: what is accepted becomes a session, or is told why not.

A worker at its limit of memory or processor refuses first, and asks the ledger nothing; the ledger then says whether
the connection is one too many. Each refusal is counted, and the log has one line a second at most for each reason.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from config.settings import Listener
from proxy import refusals
from proxy.acceptor import Acceptor
from proxy.block import answer_bytes
from proxy.listeners.explicit import Explicit
from proxy.listeners.outer_identity import OuterIdentity
from proxy.listeners.outer_tls import OuterTls
from proxy.listeners.transparent import Transparent
from proxy.seats import Seat, Seats
from proxy.session import Beginning, Session
from proxy.turned_away import TurnedAway, reset

if TYPE_CHECKING:
    from proxy.worker import Worker

WAYS: dict[str, Callable[[Session], Beginning]] = {
    "explicit": Explicit, "explicit-tls": Explicit, "transparent": Transparent,
}  # fmt: skip
"""How a connection of each mode begins."""
_SPEAK_HTTP = frozenset({"explicit"})
"""Modes whose clients understand an answer to a request that they have not made yet."""
_NO_ID = "0" * 16
"""Stands in a prepared answer where the id of a connection goes."""


class Entrance:
    """Accepts for one worker, from every listening socket."""

    def __init__(self, worker: Worker, seats: Seats) -> None:
        self.worker = worker
        self.seats = seats
        self.turned_away = TurnedAway(worker.loop)
        self.outer: set[OuterTls] = set()
        """Connections of TLS to the proxy."""
        self._identities: dict[str, OuterIdentity] = {}
        self._acceptors: list[Acceptor] = []
        self._answers: dict[str, bytes] = {}

    def open(self, sockets: list[tuple[Listener, socket.socket]]) -> None:
        """Accept from now on. Raises ValueError where what a listener has to show cannot be read."""
        for listener, _ in sockets:
            if listener.mode == "explicit-tls":
                import proxy.listeners.outer_http2  # noqa: F401 - now, and not while a first client waits

                self._identities[listener.name] = OuterIdentity(self.worker, listener)
        for listener, listening in sockets:
            arrived = partial(self._arrived, listener)
            acceptor = Acceptor(self.worker.loop, listening, arrived, self._full, self.worker.exhausted)
            acceptor.start()
            self._acceptors.append(acceptor)

    def close(self) -> None:
        """Accept no more."""
        for acceptor in self._acceptors:
            acceptor.close()

    def end(self) -> None:
        """The worker ends: let go of those who linger."""
        self.close()
        for outer in tuple(self.outer):
            outer.close()
        self.turned_away.close()

    def _full(self) -> bool:
        return self.seats.full

    def _arrived(self, listener: Listener, connection: socket.socket, peer: tuple[Any, ...]) -> None:
        worker, address = self.worker, str(peer[0])
        if (why := worker.overload.shedding) is not None:
            self._refuse(listener, connection, address, why)
            return
        seat = self.seats.take(listener, listener.tenant, address)
        if isinstance(seat, str):
            self._refuse(listener, connection, address, seat)
            return
        try:
            protocol: asyncio.BaseProtocol
            if (identity := self._identities.get(listener.name)) is not None:
                protocol = OuterTls(worker, listener, identity, seat)
            else:
                protocol = self.session(listener, listener.tenant, seat)
            connection.setblocking(False)
            # What asyncio's own server calls. connect_accepted_socket would cost a task and three coroutines for each
            # connection, a quarter more in all, to wait for what needs no waiting.
            make = worker.loop._make_socket_transport  # type: ignore[attr-defined] # of every selector loop
            make(connection, protocol, extra={"peername": peer})
        except BaseException as error:
            self.left(seat)
            connection.close()
            if not isinstance(error, OSError):  # the client is gone again
                raise

    def session(self, listener: Listener, tenant: str, seat: Seat) -> Session:
        """A session for a connection, or for what is one within another."""
        return Session(self.worker, listener, tenant, WAYS[listener.mode], seat)

    @property
    def shedding(self) -> str | None:
        """The limit of this worker's own that allows nothing new, if one."""
        return self.worker.overload.shedding

    def seat_for(self, listener: Listener, tenant: str, address: str, instead: Seat) -> Seat | str:
        """Another seat for a connection of which more is known now, or the limit that forbids it: then it has none."""
        self.seats.leave(instead)
        return self.seats.take(listener, tenant, address)

    def left(self, seat: Seat) -> None:
        """A connection is closed: there is room for another."""
        self.seats.leave(seat)
        for acceptor in self._acceptors:
            acceptor.resume()

    # --- refusals ---

    def _refuse(self, listener: Listener, connection: socket.socket, address: str, which: str) -> None:
        """Say it as the listener's protocol knows it: an explicit proxy's clients speak HTTP, others see a reset."""
        answer = self.refusal(listener, address, which)
        if listener.mode in _SPEAK_HTTP:
            self.turned_away.tell(connection, answer)
        else:
            reset(connection)

    def refusal(self, listener: Listener, address: str, which: str) -> bytes:
        """Count and log that a connection is one too many; what to tell a client that speaks HTTP."""
        worker = self.worker
        id = secrets.token_hex(8)
        answer = self._answers.get(which)
        if answer is None:
            answer = self._answers[which] = answer_bytes(refusals.too_many(which, _NO_ID), None)
        client = worker.disclosure(listener.tenant).client(address)
        worker.refuse_counted(
            which, id=id, tenant=listener.tenant, client=client, listener=listener.name, status=503,
            error="connection_limit_reached",
        )  # fmt: skip
        return answer.replace(_NO_ID.encode(), id.encode())
