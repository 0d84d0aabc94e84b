"""TLS to the proxy: the outer connection of an HTTPS proxy, before there is a session, and around it afterwards.

What comes through it is what comes to the explicit proxy in the clear: with HTTP/1.1 one session on a transport that
encrypts, with HTTP/2 a session for each stream (:mod:`proxy.listeners.outer_http2`). The tunnel's TLS runs inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL

from certs.names import InvalidHost, parse_host
from config.settings import Listener
from proxy.client_hello import BadClientHello, ClientHello, HelloReader, NotTls, alert_record
from proxy.leaves import Shown
from proxy.listeners.outer_identity import OuterIdentity, UnknownNameError
from proxy.log import DEBUG, INFO, WARNING
from proxy.seats import Seat
from proxy.session import REST_SECONDS
from proxy.tcp import Reader, reset
from proxy.tls_leg import LegError, TlsLeg
from proxy.tunnel import ALERT_INTERNAL_ERROR, ALERT_UNRECOGNIZED_NAME
from proxy.upstream import CLOSE_SECONDS

if TYPE_CHECKING:
    from proxy.listeners.outer_http2 import OuterHttp2
    from proxy.session import Session
    from proxy.worker import Worker

AGAIN_SECONDS = 0.05
"""After which a leaf is asked for again, for as long as the handshake has time."""
PROTOCOLS = (b"h2", b"http/1.1")


class OuterTls(Reader):
    """One connection to a listener of mode ``explicit-tls``."""

    __slots__ = (
        "_late", "buffer", "certified", "closed", "hello", "http2", "id", "identity", "leg", "listener",
        "loop", "peer", "reader", "seat", "session", "tenant", "transport", "worker",
    )  # fmt: skip

    def __init__(self, worker: Worker, listener: Listener, identity: OuterIdentity, tenant: str, seat: Seat) -> None:
        self.worker = worker
        self.listener = listener
        self.identity = identity
        self.seat = seat
        """Where it counts. A session over HTTP/1.1 takes that over; those over HTTP/2 have seats of their own."""
        self.loop = worker.loop
        self.id = secrets.token_hex(8)
        self.transport: asyncio.Transport | None = None
        self.peer = ""
        self.tenant = tenant
        """Whose the connection is, as far as that can be said before a request; "" where one may still say it."""
        self.certified = ""
        """The tenant that the client's certificate stands for."""
        self.buffer = bytearray()
        self.reader = HelloReader(worker.limits.client_hello_bytes)
        self.hello: ClientHello | None = None
        self.leg: TlsLeg | None = None
        self.session: Session | None = None
        self.http2: OuterHttp2 | None = None
        self.closed = False
        self._late: asyncio.TimerHandle | None = None

    # --- the client's transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's own promise for TCP
        self.transport = transport
        self.bound(transport)
        self.worker.entrance.outer.add(self)
        name = transport.get_extra_info("peername")
        self.peer = str(name[0]) if name else ""
        self._late = self.loop.call_later(self.worker.limits.tls_timeout, self._too_late)

    def data_received(self, data: bytes) -> None:
        try:
            if self.leg is None:
                self._read_hello(data)
            elif self.leg.established:
                self._plain(self.leg.receive(data))
            else:
                self._handshake(data)
        except LegError as error:
            self._tls_failed(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection and no other
            self.broken(error)

    def eof_received(self) -> bool:
        """FIN without close_notify (RFC 8446, section 6.1): what has come may not be all."""
        if self.session is not None and self.leg is not None and not self.leg.ended:
            return self.session.eof_received()
        if self.session is not None:
            return True  # it knows since the close_notify, and its answer may still be on its way
        self.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._in_time()
        self.worker.entrance.outer.discard(self)
        self.transport = None
        session, self.session = self.session, None
        http2, self.http2 = self.http2, None
        try:
            if session is not None:
                session.connection_lost(exc)  # which gives the seat back
            elif http2 is not None:
                http2.lost(exc)
        finally:
            if session is None:
                self.worker.entrance.left(self.seat)

    def pause_writing(self) -> None:
        if self.session is not None:
            self.session.pause_writing()
        elif self.http2 is not None:
            self.http2.writable(False)
            if self.transport is not None:
                self.worker.stalls.watch(self.transport, self.loop.time(), self._stalled)

    def resume_writing(self) -> None:
        if self.session is not None:
            self.session.resume_writing()
        elif self.http2 is not None:
            self.http2.writable(True)

    # --- the handshake ---

    def _read_hello(self, data: bytes) -> None:
        self.buffer += data
        if self.hello is not None:
            if len(self.buffer) > self.worker.limits.client_hello_bytes and self.transport is not None:
                self.transport.pause_reading()  # until there is a leaf
            return
        try:
            self.hello = hello = self.reader.read(self.buffer)
        except NotTls:
            return self._refuse("not TLS", b"")
        except BadClientHello as error:
            return self._refuse(f"client hello: {error}", alert_record(error.alert))
        if hello is None:
            return
        self._ask()

    def _ask(self) -> None:
        """Which certificate to show."""
        hello = self.hello
        if hello is None or self.closed:
            return
        try:
            name = parse_host(hello.server_name) if hello.server_name else None
            self.identity.ask(name, self._reached(), hello, self._identified, self.id)
        except (InvalidHost, UnknownNameError) as error:
            return self._refuse(f"server name: {error}", alert_record(ALERT_UNRECOGNIZED_NAME))

    def _reached(self) -> str:
        """Our own address, as the client has connected to it."""
        name = self.transport.get_extra_info("sockname") if self.transport is not None else None
        return str(name[0]).partition("%")[0] if name else ""

    def _identified(self, outcome: SSL.Connection | Shown | Exception) -> None:
        """There is a certificate to show, or there is none."""
        transport = self.transport
        if self.closed or transport is None:
            return
        try:
            if self.identity.outdated(outcome):
                # Another CA became the active one: the issuer and we hear of it within a moment of each other.
                self.worker.snapshots.hurry()
                self.loop.call_later(AGAIN_SECONDS, self._ask)
                return None
            if isinstance(outcome, Exception):
                return self._refuse(f"no certificate to show: {outcome}", alert_record(ALERT_INTERNAL_ERROR))
            tls = outcome.connection() if isinstance(outcome, Shown) else outcome
            tls.set_app_data(PROTOCOLS)
            self.leg = TlsLeg(tls, transport, accepting=True)
            first = bytes(self.buffer)
            self.buffer.clear()
            transport.resume_reading()
            self._handshake(first)
        except LegError as error:
            self._tls_failed(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection; others wait for this leaf
            self.broken(error)

    def _handshake(self, data: bytes) -> None:
        leg, worker = self.leg, self.worker
        assert leg is not None  # noqa: S101 - there is one in this state
        if not leg.handshake(data):
            return
        self._in_time()
        worker.metrics.handshake("proxy", self.loop.time() - leg.started)
        self.certified = self.identity.tenant_of(leg.tls)
        accepted, self.tenant = self.tenant, worker.whose.at_accept(self.listener, self.peer, self.certified)
        if worker.log.level <= DEBUG:
            self.log(DEBUG, "TLS to the proxy", tls=leg.tls.get_protocol_version_name(),
                     alpn=leg.tls.get_alpn_proto_negotiated().decode("ascii", "replace"))  # fmt: skip
        if leg.tls.get_alpn_proto_negotiated() == b"h2":
            from proxy.listeners.outer_http2 import OuterHttp2

            self.http2 = OuterHttp2(self)
            self.http2.begin()
        else:
            self._one_session(accepted)
        self._plain(leg.receive(b""))

    def _one_session(self, accepted: str) -> None:
        """``accepted``: the tenant for which the connection's seat counts."""
        entrance = self.worker.entrance
        if self.tenant != accepted:
            seat = entrance.seat_for(self.listener, self.tenant, self.peer, self.seat)
            if isinstance(seat, str):
                self.seat = ()
                self.send(entrance.refusal(self.listener, self.peer, seat))
                return self.close()
            self.seat = seat
        session = entrance.session(self.listener, self.tenant, self.seat, self.certified)
        self.session = session
        return session.connection_made(TlsTransport(self))

    def _plain(self, plain: bytes) -> None:
        leg = self.leg
        if plain:
            if self.session is not None:
                self.session.data_received(plain)
            elif self.http2 is not None:
                self.http2.receive(plain)
        if leg is not None and leg.ended and self.transport is not None and not self.transport.is_closing():
            if self.session is None:
                self.close()
            elif not self.session.eof_received():
                self.session.close("client closed")

    # --- the end ---

    @property
    def active(self) -> float:
        """When something was last under way, by the loop's clock; of a connection that rests."""
        return self.http2.rested if self.http2 is not None else self.loop.time()

    def rests(self, now: float) -> bool:
        """Whether it can make room for others: HTTP/2 without a stream. What is within a session rests with that."""
        http2 = self.http2
        if http2 is None or http2.streams or http2.draining:
            return False
        return now - http2.rested > REST_SECONDS and self.transport is not None and not self.transport.is_closing()

    def make_room(self) -> None:
        """End, since it rests and memory is tight."""
        self.drain()

    def send(self, data: bytes) -> None:
        """Encrypt and send."""
        if self.leg is not None and not self.leg.closed and self.transport is not None:
            try:
                self.leg.send(data)
            except LegError as error:
                self._tls_failed(error)

    def end(self) -> None:
        """Send close_notify: nothing is sent after it."""
        if self.leg is not None and self.leg.established and self.transport is not None:
            self.leg.end()

    def close(self) -> None:
        """End in good order, once all is sent."""
        if self.transport is not None and not self.transport.is_closing():
            self.end()
            self.transport.close()
            if self.transport.get_write_buffer_size():
                self.loop.call_later(CLOSE_SECONDS, self.abort)

    def _stalled(self, reason: str) -> None:
        """The client takes too little of what all streams have for it."""
        self.log(INFO, "TLS to the proxy cut", reason=f"the client {reason}")
        self.abort()

    def abort(self) -> None:
        """End at once."""
        if self.transport is not None:
            reset(self.transport)

    def drain(self) -> None:
        """End as soon as nothing is under way. A session that there is has been told by itself."""
        if self.http2 is not None:
            self.http2.drain()

    def broken(self, error: Exception) -> None:
        """A fault of ours: the log says where, and the connection ends."""
        self.worker.fault(self.id, error)
        self.abort()

    def _too_late(self) -> None:
        self._late = None
        self._refuse("time limit: TLS to the proxy", b"")

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _tls_failed(self, error: LegError) -> None:
        if self.leg is not None and self.leg.established:
            return self.abort()  # what is inside is told by connection_lost
        return self._refuse(f"handshake: {error}", b"")

    def _refuse(self, reason: str, last: bytes) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self.worker.metrics.connection(self.tenant, self.listener.mode, "none")
        self.log(INFO, "TLS to the proxy failed", reason=reason)
        if last:
            transport.write(last)
        transport.close()

    def log(self, level: int, event: str, **fields: Any) -> None:
        """Log an event of this connection."""
        log = self.worker.log
        if level < min(log.level, INFO):
            return
        shown = self.worker.disclosure(self.tenant).client(self.peer)
        if level >= INFO:
            kept = {"listener": self.listener.name, **fields}
            self.worker.events.keep(event, self.id, self.tenant, shown, "", "", kept, notable=True)
        if level >= log.level:
            log.event(level, event, id=self.id, tenant=self.tenant or None, client=shown,
                      listener=self.listener.name, **fields)  # fmt: skip

    def warn(self, event: str, **fields: Any) -> None:
        """Log something that somebody may have to look at."""
        self.log(WARNING, event, **fields)


class TlsTransport(asyncio.Transport):
    """What a session writes to: its bytes are encrypted on their way to the client."""

    def __init__(self, outer: OuterTls) -> None:
        super().__init__()
        self._outer = outer
        assert outer.transport is not None  # noqa: S101 - made while it is open
        self._wire = outer.transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._wire.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._outer.send(bytes(data))

    def write_eof(self) -> None:
        self._outer.end()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self._wire.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._wire.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._wire.set_write_buffer_limits(high, low)

    def is_reading(self) -> bool:
        return self._wire.is_reading()

    def pause_reading(self) -> None:
        self._wire.pause_reading()

    def resume_reading(self) -> None:
        self._wire.resume_reading()

    def is_closing(self) -> bool:
        return self._wire.is_closing()

    def close(self) -> None:
        self._outer.close()

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            self._wire.abort()
