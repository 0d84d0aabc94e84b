"""One client connection, as a table of states.

``TRANSITIONS`` is the life of a connection. A session holds the client's transport, the state with its time limit and
the end; what happens in a state is the work of its current :class:`Phase`: a listener's way in, then the tunnel, then a
lane. Whatever fails ends in ``ANSWER`` (the client is told, over its own TLS) or in ``CLOSED``.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol, cast

from certs.decision import Decision
from certs.names import Host
from certs.trust import ServerTls
from certs.verdict import Action, Verdict
from config.settings import Listener
from proxy.block import Refusal, answer_bytes
from proxy.lanes.tap import Exchange
from proxy.log import DEBUG, INFO, WARNING, members
from proxy.refusals import HEAD_LIMITS, outdated
from proxy.seats import Seat
from proxy.snapshot import Snapshot
from proxy.tcp import Reader, reset
from proxy.upstream import CLOSE_SECONDS, ServerLeg
from proxy.users import Login
from proxy.verdict_trace import LONGEST_TEXT, told

if TYPE_CHECKING:
    from proxy.worker import Worker


@dataclass(frozen=True, slots=True)
class Judged:
    """By what a server was judged, for the log."""

    host: Host
    port: int
    decision: Decision | None = None
    """None: no setting had a say."""
    server: ServerLeg | None = None
    source: str = ""
    """``judged`` now, or ``kept`` from before."""
    asks: bool = False
    """The server asks for a client certificate."""
    snapshot: Snapshot | None = None
    """The working set, where it is not the connection's own."""
    began: float | None = None
    """The loop's time; None: with the connection's state."""


class State(Enum):
    """Where a connection is."""

    HEAD = auto()
    """Reading the first request's head."""
    NAME = auto()
    """The name is being resolved; the CONNECT is not answered yet."""
    HELLO = auto()
    """The tunnel stands: reading the ClientHello, while TCP to the server opens."""
    SERVER = auto()
    """The server's handshake and the verdict."""
    LEAF = auto()
    """Waiting for the leaf."""
    CLIENT = auto()
    """The client's handshake."""
    OPEN = auto()
    """Both legs are up: a lane has the connection."""
    ANSWER = auto()
    """The client's TLS is ours alone: every request gets the refusal."""
    PLAIN = auto()
    """Plain HTTP requests are forwarded."""
    PASS = auto()
    """Not TLS, and the operator lets such pass; or TLS that is not decrypted: bytes both ways."""
    CLOSED = auto()


TRANSITIONS: dict[State, frozenset[State]] = {
    State.HEAD: frozenset({State.NAME, State.HELLO, State.PLAIN, State.CLOSED}),
    State.NAME: frozenset({State.HELLO, State.CLOSED}),
    State.HELLO: frozenset({State.SERVER, State.ANSWER, State.PLAIN, State.PASS, State.CLOSED}),
    State.SERVER: frozenset({State.LEAF, State.ANSWER, State.PASS, State.CLOSED}),
    State.LEAF: frozenset({State.CLIENT, State.ANSWER, State.CLOSED}),
    State.CLIENT: frozenset({State.OPEN, State.ANSWER, State.CLOSED}),
    State.OPEN: frozenset({State.ANSWER, State.CLOSED}),
    State.ANSWER: frozenset({State.CLOSED}),
    State.PLAIN: frozenset({State.ANSWER, State.CLOSED}),
    State.PASS: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}
MOVING = frozenset({State.OPEN, State.PLAIN, State.PASS})
"""States whose time limit counts from the last byte, not from their beginning."""
LANES = {State.OPEN: "fast", State.ANSWER: "answer", State.PLAIN: "plain", State.PASS: "pass"}
"""The lane that a state stands for, where it is not the inspection lane, and not the bypass."""
RESTING = frozenset({State.HEAD, State.OPEN, State.PLAIN})
"""States in which a connection waits for a request. What merely passes cannot be told to rest."""
REST_SECONDS = 2.0
ASKED_FOR = frozenset({"verdict", "connection"})
"""Events that are kept for whoever asks, though the log has them at level debug: of tenants whose requests it tells."""


class Phase(Protocol):
    """What has the connection at the moment. It never raises for what a peer does; it closes the session instead."""

    @property
    def busy(self) -> bool:
        """Something is under way that a drain should wait for."""

    @property
    def half(self) -> bool:
        """One side has ended: the shorter idle time holds."""

    def overdue(self, now: float) -> bool:
        """Whether something that has a time of its own took too long; asked in the state OPEN, once a second."""

    def data(self, data: bytes) -> None:
        """The client sent bytes."""

    def ended(self) -> bool:
        """The client sent FIN; False closes the connection, True keeps it for the other direction."""

    def writable(self, writable: bool) -> None:
        """Whether the client takes more, or has more than enough waiting."""

    def timed_out(self) -> None:
        """The state's time limit is over."""

    def closing(self, orderly: bool) -> None:
        """The session ends; let go of everything, the server's connection too. ``orderly`` tells both sides first."""


class Beginning(Phase, Protocol):
    """The first phase."""

    def made(self) -> None:
        """The connection stands."""


class Unhurried:
    """A phase of which nothing has a time of its own, or whose own timer has it."""

    __slots__ = ()

    def overdue(self, now: float) -> bool:
        """Never."""
        return False


class Session(Reader):
    """One client connection."""

    __slots__ = (
        "about", "active", "asked", "certified", "deadline", "disclosure", "down", "draining", "entered", "facts", "id",
        "lane", "listener", "login", "loop", "peer", "phase", "presented", "seat", "shown", "snapshot", "started",
        "state", "task", "tenant_name", "towards", "trace", "transport", "up", "warned_of", "worker",
    )  # fmt: skip

    def __init__(
        self, worker: Worker, listener: Listener, tenant: str, begin: Callable[[Session], Beginning], seat: Seat = ()
    ) -> None:
        """``tenant``: whose connection it is; empty where that is not known yet (:meth:`belongs`, :meth:`is_of`)."""
        self.worker = worker
        self.seat = seat
        """Where it counts among all connections, until it is closed."""
        self.loop = worker.loop
        self.listener = listener
        self.tenant_name = tenant
        self.snapshot: Snapshot | None = worker.snapshots.current.get(tenant)
        self.id = secrets.token_hex(8)
        self.disclosure = worker.disclosure(tenant)
        """What may be told of the client and its requests."""
        self.warned_of = ""
        """The server's certificate (SHA-256) of which the client was shown a leaf that it warns of."""
        self.state = State.HEAD
        self.started = self.active = self.entered = self.loop.time()
        self.deadline = self.started + worker.limits.connect_head_timeout
        self.transport: asyncio.Transport | None = None
        self.task: asyncio.Task[None] | None = None
        self.draining = False
        self.towards: tuple[Host, int] | None = None
        """Where the connection goes, as the way in has said of one whose client may not know of a proxy at all; None:
        each plain request says it."""
        self.asked = ""
        """The host that the client asks for there: what an inspector sends to another goes there. Empty: any host."""
        self.login: Login | None = None
        """The user who the client has said it is, once that was verified."""
        self.presented = b""
        """A hash of the credentials with which a connection for plain requests began: others are another's."""
        self.certified = ""
        """The tenant that the client's certificate stands for, where TLS to the proxy was shown one."""
        self.peer = ""
        self.shown = ""
        """The client's address as the log may have it."""
        self.about = ""
        """What each line of the log about a request of this connection begins with."""
        self.facts: dict[str, Any] = {}
        """What the log says of the connection at its end: host, address, defects, versions."""
        self.lane = ""
        """The first lane that it came to, once it has."""
        self.up = self.down = 0
        """Bytes of payload passed on to the server, and to the client."""
        self.trace = worker.tracer.begin(self.id) if worker.tracer is not None else None
        self.phase: Phase = begin(self)

    # --- states, their time limits, their work ---

    def to(self, state: State, seconds: float, phase: Phase | None = None) -> None:
        """Enter a state for ``seconds`` at the most, with another phase where one is given."""
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"a connection cannot go from {self.state.name} to {state.name}")
        self.state = state
        self.entered = self.loop.time()
        self.deadline = self.entered + seconds
        if phase is not None:
            self.phase = phase
        if not self.lane and state in LANES:
            self.enters(LANES[state])

    def enters(self, lane: str) -> None:
        """It has come to its lane, and is counted there. To be called before :meth:`to` where that cannot tell it."""
        self.lane = lane
        self.worker.metrics.connection(self.tenant_name, self.listener.mode, lane)

    def look(self, now: float) -> None:
        """Hold the connection to its times; once a second."""
        transport = self.transport
        if transport is None:
            return
        if self.expired(now):
            return self.time_out()
        if transport.get_write_buffer_size():
            self.worker.stalls.watch(transport, now, self._stalled)
        total = self.worker.limits.total_timeout
        if total is not None and now - self.started > total:
            self._outlived(now - self.started - total)
        return None

    def expired(self, now: float) -> bool:
        """Whether the state's time limit is over."""
        if self.state in MOVING:
            limits = self.worker.limits
            if now - self.active > (limits.half_close_timeout if self.phase.half else limits.idle_timeout):
                return True
            return self.state is State.OPEN and self.phase.overdue(now)
        return now > self.deadline

    def _outlived(self, seconds: float) -> None:
        """The longest life is over, for so long: end when nothing is under way; what does not end by itself is cut."""
        self.facts["limit"] = "total_timeout"
        if seconds > self.worker.limits.drain_timeout:
            self.abort("time limit: total")
        elif self.state is not State.CLOSED:
            self.drain()

    def rests(self, now: float) -> bool:
        """Whether nothing is under way, as far as anybody can tell, so that it can make room for others."""
        return self.state in RESTING and not self.phase.busy and now - self.active > REST_SECONDS

    def make_room(self) -> None:
        """End, since it rests and memory is tight."""
        self.close("memory")

    def time_out(self) -> None:
        """The state's time limit is over."""
        if self.state is State.CLOSED:
            if self.transport is not None:
                self.transport.abort()
            return
        try:
            self.phase.timed_out()
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection and no other
            self.broken(error)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that has to wait; it ends with the session."""
        # Eager: what needs no waiting is done in this turn of the loop.
        task = asyncio.Task(work, loop=self.loop, eager_start=True)
        if task.done():
            self._ran(task)
        else:
            self.task = task
            task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        if self.task is task:
            self.task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.broken(error)

    def broken(self, error: BaseException) -> None:
        """A fault of ours: this connection ends and no other, the log says where."""
        self.worker.fault(self.id, error)
        self.abort(f"fault: {type(error).__name__}")

    @property
    def client(self) -> asyncio.Transport:
        """The client's transport, once there is one."""
        assert self.transport is not None  # noqa: S101 - set before the first byte
        return self.transport

    @property
    def tenant(self) -> Snapshot:
        """The working set that this connection began with."""
        assert self.snapshot is not None  # noqa: S101 - without one the connection is closed before its first byte
        return self.snapshot

    def goes_to(self, host: Host) -> Host:
        """Where a connection for this host is made to: what the way in has said wins over what a request names."""
        if self.towards is None or (self.asked and host.text != self.asked):
            return host
        return self.towards[0]

    # --- the client's transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's own promise for TCP
        self.transport = transport
        self.bound(transport)
        name = transport.get_extra_info("peername")
        self.peer = str(name[0]) if name else ""
        self.shown = self.disclosure.client(self.peer)
        self.worker.sessions.add(self)
        if self.followed:
            self.log(DEBUG, "accepted", listener=self.listener.name)
        if self.snapshot is None and self.tenant_name:
            return self.close("no such tenant")
        try:
            return cast("Beginning", self.phase).made()
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection and no other
            return self.broken(error)

    def belongs(self) -> str | None:
        """Find out whose it is by all that is known now (:mod:`proxy.whose`). The limit that forbids it, if one.

        To be called on a listener with ``authentication`` before it goes anywhere, whether the client has said who it
        is (``login``) or not. Where it is nobody's, ``snapshot`` is None afterwards.
        """
        login = "" if self.login is None else self.login.tenant
        tenant = self.worker.whose.tenant(self.listener, self.peer, login=login, certificate=self.certified)
        return None if tenant == self.tenant_name else self.is_of(tenant, self.peer)

    @property
    def user(self) -> str:
        """The name of the client's user as it may be told; "" where there is none.

        Where a password was wrong it is that of the user whose it was not, in ``facts`` until the next try.
        """
        return self.facts.get("user", "") if self.login is None else self.disclosure.user(self.login.name)

    def carries(self, credentials: bytes | None) -> bool:
        """Whether a plain request is the same client's as the first of the connection, by its Proxy-Authorization.

        One of another's must not go on: it may be another tenant's, with other rules. Its connection ends, and the
        client asks again on one of its own (RFC 9112, section 9.3.1).
        """
        if self.listener.authentication is None or self.towards is not None:
            return True
        return self.presented == digest(credentials)

    def is_of(self, tenant: str, peer: str) -> str | None:
        """It is known now whose connection it is, and whose address the client's is. The limit that forbids it, if one.

        To be called before it has gone anywhere, when one of the two turns out to be another than was thought. Where
        there is no such tenant, ``snapshot`` is None afterwards.
        """
        seat = self.worker.entrance.seat_for(self.listener, tenant, peer, self.seat)
        if isinstance(seat, str):
            self.seat = ()
            return seat
        self.seat, self.tenant_name, self.peer = seat, tenant, peer
        self.snapshot = self.worker.snapshots.current.get(tenant)
        self.disclosure = self.worker.disclosure(tenant)
        self.shown = self.disclosure.client(peer)
        self.about = ""
        return None

    def data_received(self, data: bytes) -> None:
        self.active = self.loop.time()
        if self.state is State.CLOSED:
            return
        try:
            self.phase.data(data)
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection and no other
            self.broken(error)

    def eof_received(self) -> bool:
        if self.state is State.CLOSED:
            return False
        try:
            return self.phase.ended()
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection and no other
            self.broken(error)
            return False

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            if exc is None:
                self.close("client closed")
            else:
                self.abort(f"client: {exc}")  # it was cut, and the server is not to take it for the whole
        finally:
            self.worker.sessions.discard(self)
            self.transport = None
            self.worker.entrance.left(self.seat)

    def pause_writing(self) -> None:
        self.phase.writable(False)

    def resume_writing(self) -> None:
        self.phase.writable(True)

    def pause(self) -> None:
        """Read no more from the client for now."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read from the client again."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    # --- what is counted ---

    def to_server(self, size: int) -> None:
        """So many bytes of payload were passed on to the server."""
        self.up += size
        self.worker.metrics.up += size

    def to_client(self, size: int) -> None:
        """So many bytes of payload were passed on to the client."""
        self.down += size
        self.worker.metrics.down += size

    def judged(self, verdict: Verdict, action: Action, by: Judged) -> None:
        """A server of this connection was judged, and this is what is done about it: it is counted, and logged.

        Where it has defects there is a line whatever is done; where it has none, for those who follow the connection.
        """
        worker = self.worker
        first = verdict.findings[0].defect.value if verdict.findings else "none"
        worker.metrics.verdict(self.tenant_name, first, action.value)
        worker.figures.judged(self.tenant_name, self.peer, by.host, first, action)
        if verdict.ok and not self.followed:
            never = worker.log.never
            if self.disclosure.requests and (never is None or not never.covers(by.host.text)):
                self._keep("verdict", {"host": by.host.text, "port": by.port, "action": action.value,
                                       "source": by.source})  # fmt: skip
            return
        level = DEBUG if verdict.ok else INFO
        more = None
        if not verdict.ok or level >= worker.log.level:
            more = told(verdict, by.host, by.snapshot or self.tenant, by.server)
        self.stage(
            "verdict", by.began, level=level, more=more, host=by.host.text, port=by.port,
            defects=[defect.value for defect in verdict.defects], action=action.value,
            by=by.decision.by if by.decision is not None else None, source=by.source,
            completed=verdict.completed[:LONGEST_TEXT], asks=by.asks or None,
        )  # fmt: skip

    def was_asked(self, tls: ServerTls, host: str, port: int) -> str:
        """A server asked for a client certificate; log it. What it got: ``none`` or ``shown``."""
        answer = "none" if tls.identity is None else "shown"
        self.log(INFO, "server asks for a certificate", host=host, port=port, answer=answer)
        return answer

    def waits_for(self, server: asyncio.Transport | None) -> None:
        """Its server has more than enough to take: it is cut where it takes too little of it."""
        if server is not None and not server.is_closing():
            self.worker.stalls.watch(server, self.loop.time(), self._server_stalled)

    def _stalled(self, reason: str) -> None:
        self.abort(f"the client {reason}")

    def _server_stalled(self, reason: str) -> None:
        self.abort(f"the server {reason}")

    # --- the end ---

    def drain(self) -> None:
        """End as soon as nothing is under way."""
        self.draining = True
        if not self.phase.busy:
            self.close("drained")

    def close(self, reason: str) -> None:
        """End in good order: what is buffered is sent, both sides are told."""
        if self.state is not State.CLOSED:
            self._end(reason, orderly=True)
            if self.transport is not None:
                self.transport.close()

    def abort(self, reason: str) -> None:
        """End at once: neither side may take what it has for the whole."""
        if self.state is not State.CLOSED:
            self._end(reason, orderly=False)
            if self.transport is not None:
                reset(self.transport)

    def _end(self, reason: str, orderly: bool) -> None:
        state, self.state = self.state, State.CLOSED
        task, self.task = self.task, None
        if task is not None and task is not asyncio.current_task(self.loop):
            task.cancel()
        phase, self.phase = self.phase, ENDED
        if not self.lane:
            self.enters("none")
        self.deadline = self.loop.time() + CLOSE_SECONDS
        try:
            phase.closing(orderly)
        except Exception as error:  # noqa: BLE001 - a fault of ours; the connection ends all the same
            self.worker.fault(self.id, error)
        # A client that gave up in the handshake most often does not trust our root: worth a line without asking, as is
        # whatever was cut.
        level = INFO if state in (State.HELLO, State.CLIENT) or not orderly else DEBUG
        self.log(level, "connection", state=state.name.lower(), reason=reason,
                 ms=round((self.loop.time() - self.started) * 1e3, 1), **self.facts)  # fmt: skip
        if self.trace is not None and self.worker.tracer is not None:
            self.worker.tracer.finish(self.trace, self, state.name.lower(), reason, orderly)
            self.trace = None

    # --- the log ---

    def log(self, level: int, event: str, **fields: Any) -> None:
        """Log an event of this connection, and keep it for whoever asks what goes on (:mod:`proxy.events`)."""
        log = self.worker.log
        heard, kept = level >= log.level, level >= INFO or (event in ASKED_FOR and self.disclosure.requests)
        if not (heard or kept):
            return
        # An event that names no host is of the connection's, and none of a host that is never logged is.
        if log.never is not None and log.never.covers(str(fields.get("host") or self.facts.get("host", ""))):
            log.withheld += heard
            return
        if kept:
            self._keep(event, fields, level >= INFO)
        if heard:
            tenant = self.snapshot.tenant if self.snapshot is not None else None
            log.event(level, event, id=self.id, tenant=tenant, client=self.shown, **{"user": self.user, **fields})

    def _keep(self, event: str, fields: dict[str, Any] | Exchange, notable: bool = False) -> None:
        tenant = self.snapshot.tenant if self.snapshot is not None else ""
        self.worker.events.keep(event, self.id, tenant, self.shown, self.user, self.lane, fields, notable)

    @property
    def followed(self) -> bool:
        """Somebody wants to know of each stage: the log at level debug, or a trace."""
        return self.trace is not None or self.worker.log.level <= DEBUG

    def stage(
        self,
        name: str,
        began: float | None = None,
        *,
        level: int = DEBUG,
        more: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """A part of the connection's way is behind it; the next begins. To be called where somebody wants to know.

        ``began`` is the loop's time; without it, the stage has begun with the state, or with the end of the last one.
        ``more`` is for the log and in no trace.
        """
        began, self.entered = self.entered if began is None else began, self.loop.time()
        if self.trace is not None:
            self.trace.stage(name, began, self.entered, fields)
        self.log(level, name, ms=round((self.entered - began) * 1e3, 2), **fields, **(more or {}))

    def has_taken(self, lane: str) -> None:
        """The connection is a lane's from here on."""
        if self.trace is not None:
            self.trace.lane = lane
        if self.worker.log.level <= DEBUG:
            self.log(DEBUG, "lane", lane=lane, **self.facts)

    def outdated(self, host: str) -> Refusal | None:
        """Why nothing new may begin on this connection: the working set is too old. None where all is well."""
        if not self.worker.snapshots.outdated:
            return None
        self.worker.metrics.refused("store_outage")
        return outdated(host, self.id)

    def refused(self, refusal: Refusal) -> None:
        """Log a refusal, and count it. A 503 of a limit is counted where that was found to be reached."""
        if refusal.status != 503 or refusal.error == "destination_unavailable":
            self.worker.metrics.refused(refusal.error)
        if refusal.details in HEAD_LIMITS:
            self.worker.abused(refusal.details)
        if self.trace is not None:
            self.trace.refusal = refusal
        self.log(
            WARNING, "refused", host=refusal.host, port=self.facts.get("port"), address=self.facts.get("address"),
            status=refusal.status, error=refusal.error, details=refusal.details,
            defects=[defect.value for defect in refusal.defects] or None, by=list(refusal.by) or None,
            reason=refusal.findings[0].explanation if refusal.findings else refusal.explanation,
        )  # fmt: skip

    def say(self, refusal: Refusal) -> None:
        """Answer in plain HTTP with a refusal, and close."""
        self.refused(refusal)
        self.client.write(answer_bytes(refusal, None))
        self.close("refused")

    def exchange(self, exchange: Exchange) -> None:
        """A tap has seen a request and its response to their end."""
        if exchange.protocol != "bytes":
            self.worker.metrics.request(self.tenant_name, self.lane, exchange.status)
        if self.disclosure.requests:
            if not self.about:
                tenant = self.snapshot.tenant if self.snapshot is not None else None
                self.about = members({"id": self.id, "tenant": tenant, "client": self.shown, "user": self.user})
            if self.worker.log.request(self.about, exchange):
                self._keep("request", exchange)
            if self.trace is not None:
                self.trace.request(exchange)
        if self.draining and self.state is not State.CLOSED:
            self.loop.call_soon(self.drain)  # the bytes of this exchange are not sent yet


def digest(credentials: bytes | None) -> bytes:
    """What stands for a request's credentials, so that no connection keeps a password; b"" for none."""
    return b"" if credentials is None else hashlib.sha256(credentials).digest()


class _Ended(Unhurried):
    """The phase of a connection that has ended: nothing matters any more."""

    busy = False
    half = False

    def data(self, data: bytes) -> None: ...
    def ended(self) -> bool:
        return False

    def writable(self, writable: bool) -> None: ...
    def timed_out(self) -> None: ...
    def closing(self, orderly: bool) -> None: ...


ENDED = _Ended()
