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
from issuer.sockets import is_ours, peer_uid
from proxy import refusals
from proxy.acceptor import Acceptor
from proxy.block import answer_bytes
from proxy.listeners.balanced import Balanced, sends_header
from proxy.listeners.explicit import Explicit
from proxy.listeners.outer_identity import OuterIdentity
from proxy.listeners.outer_tls import OuterTls
from proxy.listeners.socks5 import socks5
from proxy.listeners.transparent import Transparent
from proxy.seats import Seat, Seats
from proxy.session import Beginning, Session
from proxy.tcp import reset as reset_transport
from proxy.turned_away import TurnedAway, reset

if TYPE_CHECKING:
    from proxy.worker import Worker

WAYS: dict[str, Callable[[Session], Beginning]] = {
    "explicit": Explicit, "explicit-tls": Explicit, "transparent": Transparent, "tproxy": Transparent,
    "socks5": socks5, "wireguard": Transparent,
}  # fmt: skip
"""How a connection of each mode begins."""
AHEAD_SECONDS = 0.001
"""For so long a worker that has more connections than the others leaves to them what comes: who is free needs less."""
REFUSING_SECONDS = 0.01
"""And so long one that could only refuse it: who is busy may have it as well."""
_SPEAK_HTTP = frozenset({"explicit"})
"""Modes whose clients understand an answer to a request that they have not made yet."""
_NO_ID = "0" * 16
"""Stands in a prepared answer where the id of a connection goes."""


def _ours(connection: socket.socket) -> bool:
    """Whether the other end of a Unix socket is a process of our own user."""
    try:
        return is_ours(peer_uid(connection))
    except OSError:
        return False


class Entrance:
    """Accepts for one worker, from every listening socket."""

    def __init__(self, worker: Worker, seats: Seats) -> None:
        self.worker = worker
        self.seats = seats
        self.turned_away = TurnedAway(worker.loop)
        self.outer: set[OuterTls] = set()
        """Connections of TLS to the proxy."""
        self.balanced: set[Balanced] = set()
        """Connections from load balancers of which it is not known yet whose they are."""
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
            left = partial(self.worker.metrics.connection, listener.tenant or "", listener.mode, "none")
            acceptor = Acceptor(
                self.worker.loop, listening, arrived, self._full, self._patience, self.worker.exhausted, left
            )
            acceptor.start()
            self._acceptors.append(acceptor)

    def close(self) -> None:
        """Accept no more."""
        for acceptor in self._acceptors:
            acceptor.close()

    def end(self) -> None:
        """The worker ends: let go of those who linger."""
        self.close()
        for balanced in tuple(self.balanced):
            balanced.close()
        for outer in tuple(self.outer):
            outer.close()
        self.turned_away.close()

    def _full(self) -> bool:
        return self.seats.full

    def _patience(self) -> float:
        """For how many seconds what comes is left to the other workers."""
        seats = self.seats
        if self.worker.overload.shedding is not None:
            return REFUSING_SECONDS if seats.others else 0.0
        return AHEAD_SECONDS if seats.ahead else 0.0

    def _arrived(self, listener: Listener, connection: socket.socket, peer: tuple[Any, ...]) -> None:
        # Over a Unix socket nobody has an address; but it is known who it is.
        worker, address = self.worker, str(peer[0]) if peer else ""
        if not address and not _ours(connection):
            connection.close()
            return
        if (why := worker.overload.shedding) is not None:
            self._refuse(listener, connection, address, why)
            return
        headed = sends_header(listener, address)
        # A load balancer is no client: whose the connection is will be known in a moment.
        tenant = "" if headed else worker.whose.at_accept(listener, address)
        seat = self.seats.take(listener, tenant, "" if headed else address)
        if isinstance(seat, str):
            self._refuse(listener, connection, address, seat)
            return
        told: dict[str, Any] = {"peername": peer or None}
        try:
            protocol: asyncio.BaseProtocol
            if headed:
                protocol = Balanced(self, listener, address, seat, partial(self._protocol, listener), told)
            else:
                protocol = self._protocol(listener, address, seat)
            connection.setblocking(False)
            # What asyncio's own server calls. connect_accepted_socket would cost a task and three coroutines for each
            # connection, a quarter more in all, to wait for what needs no waiting.
            make = worker.loop._make_socket_transport  # type: ignore[attr-defined] # of every selector loop
            make(connection, protocol, extra=told)
        except BaseException as error:
            self.left(seat)
            connection.close()
            if not isinstance(error, OSError):  # the client is gone again
                raise

    def _protocol(self, listener: Listener, address: str, seat: Seat) -> asyncio.BaseProtocol:
        """What a connection begins with, whose client has that address."""
        tenant = self.worker.whose.at_accept(listener, address)
        if (identity := self._identities.get(listener.name)) is not None:
            return OuterTls(self.worker, listener, identity, tenant, seat)
        return self.session(listener, tenant, seat)

    def session(self, listener: Listener, tenant: str, seat: Seat, certified: str = "") -> Session:
        """A session for a connection, or for what is one within another.

        ``certified``: the tenant that the client's certificate stands for.
        """
        session = Session(self.worker, listener, tenant, WAYS[listener.mode], seat)
        session.certified = certified
        return session

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
        tenant = worker.whose.at_accept(listener, address)
        client = worker.disclosure(tenant).client(address)
        worker.refuse_counted(
            which, id=id, tenant=tenant, client=client, listener=listener.name, status=503,
            error="connection_limit_reached",
        )  # fmt: skip
        return answer.replace(_NO_ID.encode(), id.encode())

    def no_header(self, listener: Listener, address: str, why: str) -> bytes:
        """The same of a connection of which is not said whose it is, by whom it has to be."""
        worker = self.worker
        id = secrets.token_hex(8)
        worker.refuse_counted(
            "proxy_protocol", id=id, tenant=listener.tenant,
            client=worker.disclosure(listener.tenant or "").client(address),
            listener=listener.name, status=400, error="http_request_error", reason=why,
        )  # fmt: skip
        return answer_bytes(refusals.bad_request(400, why, id), None)

    def say(self, listener: Listener, transport: asyncio.Transport, answer: bytes) -> None:
        """Refuse a connection that is open, and no session yet, as the listener's protocol knows it."""
        if listener.mode in _SPEAK_HTTP:
            transport.write(answer)
            transport.close()
        else:
            reset_transport(transport)
