"""The way in: what is accepted becomes a session, or is told why not.

A worker at its limit of memory or processor refuses first, and asks the ledger nothing; the ledger then says whether
the connection is one too many. Each refusal is counted, and the log has one line a second at most for each reason.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from functools import partial
from typing import TYPE_CHECKING

from config.settings import Listener
from proxy import refusals
from proxy.acceptor import Acceptor
from proxy.block import answer_bytes
from proxy.listeners.explicit import Explicit
from proxy.log import WARNING
from proxy.seats import Seat, Seats
from proxy.seldom import Seldom
from proxy.session import Session
from proxy.turned_away import TurnedAway

if TYPE_CHECKING:
    from proxy.worker import Worker

_NO_ID = "0" * 16
"""Stands in a prepared answer where the id of a connection goes."""


class Entrance:
    """Accepts for one worker, from every listening socket."""

    def __init__(self, worker: Worker, seats: Seats) -> None:
        self.worker = worker
        self.seats = seats
        self.seldom = Seldom(self._say)
        self.turned_away = TurnedAway(worker.loop)
        self._acceptors: list[Acceptor] = []
        self._arriving: set[asyncio.Task[object]] = set()
        self._answers: dict[str, bytes] = {}

    def open(self, sockets: list[tuple[Listener, socket.socket]]) -> None:
        """Accept from now on."""
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
        """The worker ends: let go of those who linger, and say what was not said yet."""
        self.close()
        self.turned_away.close()
        self.seldom.flush(float("inf"))

    def _full(self) -> bool:
        return self.seats.full

    def _arrived(self, listener: Listener, connection: socket.socket, address: str) -> None:
        worker = self.worker
        if (why := worker.overload.shedding) is not None:
            return self._refuse(listener, connection, address, why)
        seat = self.seats.take(listener, address)
        if isinstance(seat, str):
            return self._refuse(listener, connection, address, seat)
        try:
            session = Session(worker, listener.name, listener.tenant, Explicit, seat)
        except BaseException:
            self.left(seat)
            connection.close()
            raise
        # Eager: the transport is made in this turn of the loop.
        accepted = worker.loop.connect_accepted_socket(lambda: session, connection)
        task: asyncio.Task[object] = asyncio.Task(accepted, loop=worker.loop, eager_start=True)
        self._arriving.add(task)
        task.add_done_callback(partial(self._made, session, connection))
        return None

    def _made(self, session: Session, connection: socket.socket, task: asyncio.Task[object]) -> None:
        self._arriving.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        # The client is gone again, or a fault of ours: then the transport was never made, and nobody else tells.
        self.left(session.seat)
        connection.close()
        if not isinstance(error, OSError):
            self.worker.fault(session.id, error)

    def left(self, seat: Seat) -> None:
        """A connection is closed: there is room for another."""
        self.seats.leave(seat)
        for acceptor in self._acceptors:
            acceptor.resume()

    # --- refusals ---

    def _refuse(self, listener: Listener, connection: socket.socket, address: str, which: str) -> None:
        """Say it as the listener's protocol knows it: an explicit proxy's clients speak HTTP."""
        worker = self.worker
        id = secrets.token_hex(8)
        answer = self._answers.get(which)
        if answer is None:
            answer = self._answers[which] = answer_bytes(refusals.too_many(which, _NO_ID), None)
        self.turned_away.tell(connection, answer.replace(_NO_ID.encode(), id.encode()))
        worker.refuse_counted(which)
        self.seldom.happened(
            which, worker.loop.time(), id=id, tenant=listener.tenant, listener=listener.name, client=address
        )

    def _say(self, which: str, count: int, fields: dict[str, object]) -> None:
        self.worker.log.event(
            WARNING, "refused", **fields, status=503, error="connection_limit_reached", details=which, count=count
        )
