"""The inspection lane: mitmproxy's HTTP layer between the two legs, inspectors at its hooks.

Bytes become events, commands become bytes; hooks run in between, at once where they can. TLS, trust and time limits
are the session's as in any lane. What an inspector does wrong ends in the client's being told, not in an open gate.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import wsproto.utilities
from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.flow import Error, Flow
from mitmproxy.proxy import commands, events, server_hooks
from mitmproxy.proxy.layers.tls import TlsData, TlsEstablishedServerHook, TlsFailedServerHook
from mitmproxy.proxy.layers.websocket import WebsocketEndHook, WebsocketLayer

from proxy.lanes.abuse import Bounds, over_limit
from proxy.lanes.inspection.connections import BEGINNING, beginning, client_of, established, server_named
from proxy.lanes.inspection.hooks import InspectorFailed
from proxy.lanes.inspection.http1 import MOST_WAITING, Http1Server
from proxy.lanes.inspection.http2 import BACKLOG, MOST_HELD, Http2Client, Http2Server
from proxy.lanes.inspection.inspectors import Inspectors, Plan
from proxy.lanes.inspection.layer import KEPT_IDLE, LaneContext, Layer
from proxy.lanes.inspection.messages import Cut, Ended, Reason, inspector_failed
from proxy.lanes.inspection.rules import Rules
from proxy.lanes.inspection.servers import ServerConnection
from proxy.lanes.inspection.stream import Stream
from proxy.lanes.linger import Linger
from proxy.log import DEBUG
from proxy.refusals import Refusal, RefusedError
from proxy.session import Session, Unhurried
from proxy.tcp import WRITE_LOW
from proxy.tls_leg import LegError, TlsLeg
from proxy.upstream import ServerLeg

KEPT_MESSAGES: Final = 32
"""Messages of a WebSocket that an inspector finds in ``flow.websocket.messages``: the last ones."""
MOST_UNTAKEN: Final = 1 << 20
"""Bytes that a peer of HTTP/2 may leave untaken before it is read no more."""
LOOK_SECONDS: Final = 0.2
"""How often it is looked whether a flow that an inspector holds was killed: that wakes nobody up."""
OVER: Final = frozenset({"error", "websocket_end"})
"""Hooks that tell of what is over: nothing depends on what comes of them."""
NEW_SECONDS: Final = 2.0
"""For so long after the lane has begun, a first request is taken to be on its way."""


class InspectionLane(Unhurried):
    """Phase of a session whose requests inspectors see."""

    __slots__ = (
        "begun", "client_done", "client_full", "conn", "context", "cut", "early", "finished", "half",
        "host", "inspectors", "late", "layer", "leaving", "leg", "opened", "out", "pending_hooks", "port", "pumping",
        "queue", "reading_client", "rules", "served", "servers", "session", "tasks", "upgraded",
    )  # fmt: skip

    def __init__(self, session: Session, inspectors: Inspectors, host: str, port: int, client: TlsLeg | None) -> None:
        self.session = session
        self.inspectors = inspectors
        self.host = host
        self.port = port
        self.leg = client
        self.rules = Rules(session, inspectors, host, port, secure=client is not None)
        self.servers: dict[Server, ServerConnection] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.queue: deque[events.Event] = deque()
        self.out: dict[Connection, list[bytes]] = {}
        self.pumping = False
        self.opened = session.loop.time()
        self.served = False
        """A server has come and gone."""
        self.upgraded = False
        """Another protocol than HTTP follows, or has followed."""
        self.leaving = False
        """The client's connection is about to be closed."""
        self.begun = False
        self.early: list[bytes] = []
        self.pending_hooks = 0
        self.client_full = False
        self.client_done = False
        self.cut = False
        """The client has ended with FIN, not (only) with close_notify."""
        self.finished = False
        """The servers know that the client has ended."""
        self.reading_client = True
        self.late: asyncio.TimerHandle | None = None
        """Runs while a head has begun and is not whole."""
        self.half = False
        self.conn = client_of(session, client)
        self.context = LaneContext(self.conn, inspectors.options)
        self.layer: Layer | None = None

    # --- the beginning ---

    def begin(
        self,
        side: ServerLeg | None = None,
        early: bytes = b"",
        ends: Sequence[bool] = (),
        hello: bytes | bytearray = b"",
    ) -> None:
        """Go on with legs that are up.

        ``side`` is the judged server's; ``early``, ``ends``: what it did since; ``hello`` is the client's ClientHello.
        """
        server = None
        if side is not None:
            conn = server_named(self.context.server, self.host, self.port)
            server = self.servers[conn] = ServerConnection.judged(self.session, self, conn, side)
            conn.state = ConnectionState.OPEN
            conn.timestamp_start = conn.timestamp_tcp_setup = conn.timestamp_tls_setup
        if BEGINNING.isdisjoint(self.around.hooks):
            self._go(server, early, ends)
        else:
            self.session.pause()
            if side is not None:
                side.read(False)
            self._task(self._introduce(server, early, ends, hello))

    async def _introduce(
        self, server: ServerConnection | None, early: bytes, ends: Sequence[bool], hello: bytes | bytearray
    ) -> None:
        """Tell inspectors of the connections. One that fails, or sets an error, ends them."""
        conn = self.conn
        try:
            for hook in beginning(self.session, self.inspectors, self.around, self.context, hello):
                await self._notify(hook)
            if server is not None:
                for hook in established(self.context, server.side.leg, self.leg):
                    await self._notify(hook)
        except InspectorFailed as error:
            return self.session.abort(str(error))
        if conn.error or (server is not None and server.conn.error):
            return self.session.abort("an inspector has ended the connection")
        if self.session.phase is self:
            self._go(server, early, ends)
        return None

    async def _notify(self, hook: commands.StartHook, plan: Plan | None = None) -> None:
        if (rest := self.inspectors.call(self.around if plan is None else plan, hook)) is not None:
            await rest

    def _go(self, server: ServerConnection | None, early: bytes, ends: Sequence[bool]) -> None:
        bounds = Bounds(self.session.worker.limits, partial(over_limit, self.session, self.host))
        self.layer = Layer(self.context, self.rules, self.rules.refuse, bounds)
        self.begun = True
        self.session.resume()
        if server is not None:
            server.side.read(True)
        self._run(self.layer.begin())
        if server is not None:
            if early:
                self.from_server(server, early)
            for orderly in ends:
                server.server_ended(orderly)
            if server.side.lost:
                server.server_lost(None)
        waiting, self.early = self.early, []
        self.data(b"".join(waiting))

    # --- what comes ---

    def data(self, data: bytes) -> None:
        """Wire bytes of the client."""
        if not self.begun:
            self.early.append(data)
            return
        leg = self.leg
        if leg is not None:
            try:
                data = leg.receive(data)
            except LegError as error:
                return self.session.abort(f"TLS: {error}")
        if data:
            self.session.to_server(len(data))
            self.pump(events.DataReceived(self.conn, data))
        if leg is not None and leg.ended:
            self._client_ended(cut=False)
        return None

    def _time_head(self) -> None:
        """A head has its time from its first byte on, however slowly the rest of it comes."""
        session, layer = self.session, self.layer
        side = layer.side_of(self.conn) if layer is not None else None
        if (isinstance(side, Http1Server) and side.reading_head) == (self.late is not None):
            return
        if self.late is not None:
            self.late.cancel()
            self.late = None
        else:
            self.late = session.loop.call_later(
                session.worker.limits.connect_head_timeout, session.close, "time limit: head"
            )

    def ended(self) -> bool:
        """FIN from the client. It may still want its answer."""
        self._client_ended(cut=self.leg is not None)
        return self.session.phase is self

    def _client_ended(self, cut: bool) -> None:
        if self.conn.alpn == b"h2" and self.begun:
            # Without the client's frames no stream goes on; the server sees the connection end, as without us.
            self.session.close("client closed")
        elif not self.client_done and self.begun:
            self.client_done = self.half = True
            self.cut = cut
            self.conn.state &= ~ConnectionState.CAN_READ
            self.pump(Ended(self.conn, cut))

    def _finish(self, layer: Layer) -> None:
        """The client has ended: so do we towards its servers, once they have all that it said.

        Its answers are still wanted, and a server may be waiting for this.
        """
        side = layer.side_of(self.conn)
        waits = isinstance(side, Http1Server) and side.waiting
        if layer.streams and not waits and all(getattr(each, "sent", False) for each in layer.streams.values()):
            self.finished = True
            for server in self.servers.values():
                server.finish(fin=self.cut)

    def from_server(self, server: ServerConnection, data: bytes) -> None:
        """Plain text of a server."""
        self.session.active = self.session.loop.time()
        if server.conn in self.servers:  # else it was let go
            self.pump(events.DataReceived(server.conn, data))

    def server_over(self, server: ServerConnection, cut: bool) -> None:
        """A server will send no more."""
        conn = server.conn
        if conn in self.servers and conn.state & ConnectionState.CAN_READ:
            conn.state &= ~ConnectionState.CAN_READ
            self.pump(Ended(conn, cut))

    @property
    def around(self) -> Plan:
        """What is called for the connection itself."""
        return self.rules.plan(self.host)

    # --- the pump ---

    def pump(self, event: events.Event) -> None:
        """Give the layer an event, and do what it wants done."""
        layer = self.layer
        self.queue.append(event)
        if self.pumping or layer is None:
            return
        self.pumping = True
        try:
            while self.queue:
                self._commands(layer.handle_event(self.queue.popleft()))
        except (wsproto.utilities.RemoteProtocolError, wsproto.utilities.LocalProtocolError) as error:
            return self.session.abort(f"WebSocket: {error}")
        except LegError as error:
            return self.session.abort(f"TLS: {error}")
        except Exception as error:  # noqa: BLE001 - a fault of ours, whoever's bytes it was: nobody waits in vain
            return self.session.broken(error)
        finally:
            self.pumping = False
        self._after()

    def _run(self, wanted: Any) -> None:
        """As :meth:`pump`, for what is not an event's doing."""
        self.pumping = True
        try:
            self._commands(wanted)
        finally:
            self.pumping = False
        self._after()

    def _commands(self, wanted: Any) -> None:
        for command in wanted:
            if isinstance(command, commands.SendData):
                self.out.setdefault(command.connection, []).append(command.data)
            elif isinstance(command, commands.StartHook):
                self._hook(command)
            elif isinstance(command, commands.CloseConnection):
                self._close(command)
            elif isinstance(command, commands.OpenConnection):
                self._task(self._open(command))
            elif isinstance(command, commands.RequestWakeup):
                self.session.loop.call_later(command.delay, self.pump, events.Wakeup(command))
            elif isinstance(command, commands.Log) and self.session.worker.log.level <= DEBUG:
                self.session.log(DEBUG, "inspection", message=command.message[:300])

    def _after(self) -> None:
        """Send what has gathered, give windows back, and see who is to be read."""
        if self.session.phase is not self or self.layer is None:
            return
        try:
            self._flush()
            self._settle()
        except LegError as error:
            return self.session.abort(f"TLS: {error}")
        self._balance()
        if len(self.servers) > KEPT_IDLE + 1 and not self.pumping:
            self.pumping = True
            try:
                self._commands(self.layer.let_idle_go(KEPT_IDLE))
            finally:
                self.pumping = False
        self._time_head()
        self._settle_memory()
        if self.client_done and not self.finished:
            self._finish(self.layer)
        if self.client_done and self.servers and all(server.over for server in self.servers.values()):
            self._leave()
        elif self.served and not self.servers and not (self.busy or self.tasks or self.leaving):
            self._goodbye()
        elif self.session.draining and not self.busy:
            self.session.close("drained")
        return None

    def _goodbye(self) -> None:
        """The server has gone, and nothing is under way: the client goes as it would without us."""
        side = self.layer.side_of(self.conn) if self.layer is not None else None
        if isinstance(side, Http2Server):
            side.h2_conn.close_connection()
            self._send(self.conn, side.h2_conn.data_to_send())
        self._leave()

    def _flush(self) -> None:
        if not self.out:
            return
        out, self.out = self.out, {}
        for conn, pieces in out.items():
            self._send(conn, pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _send(self, conn: Connection, data: bytes) -> None:
        if conn is self.conn:
            self.session.to_client(len(data))
            if self.leg is not None:
                self.leg.send(data)
            else:
                self.session.client.write(data)
        elif isinstance(conn, Server) and (server := self.servers.get(conn)) is not None:
            server.send(data)

    def _settle(self) -> None:
        layer = self.layer
        if layer is None or self.conn.alpn != b"h2":
            return
        for side in list(layer.http2()):
            if side.owed and (data := side.settle(self._taker(layer, side))):
                self._send(side.conn, data)

    def _settle_memory(self) -> None:
        """Give back what was reserved for bodies that have been taken, not those that wait in a buffer of ours."""
        rules, layer = self.rules, self.layer
        if not rules.left or layer is None or self.client_full or any(each.full for each in self.servers.values()):
            return
        side = layer.side_of(self.conn)
        backlog = side.h2_conn.backlog if isinstance(side, Http2Server) else None
        rules.settle(lambda stream_id: backlog is None or not backlog(stream_id))

    def _taker(self, layer: Layer, side: Http2Server | Http2Client) -> Callable[[int], bool]:
        """Tells of a stream whether what came of it has been taken on the other side."""
        ids = side.their_stream_id if isinstance(side, Http2Client) else None
        client = layer.side_of(self.conn)

        def taken(stream_id: int) -> bool:
            if ids is not None and isinstance(client, Http2Server):
                # Also of streams that are over: what they have brought may still be waiting.
                number = ids.get(stream_id, 0)
                if client.h2_conn.held >= MOST_HELD or client.h2_conn.backlog(number) >= BACKLOG:
                    return False
            else:
                number = stream_id if ids is None else ids.get(stream_id, 0)
            stream = layer.streams.get(number)
            if stream is None:
                return True
            if stream._paused is not None:
                return False
            if ids is not None:
                return True
            other = layer.side_of(stream.context.server)
            if not isinstance(other, Http2Client):
                return True
            if number in other.stream_queue or other.h2_conn.held >= MOST_HELD:
                return False
            return bool(other.h2_conn.backlog(other.our_stream_id.get(number, 0)) < BACKLOG)

        return taken

    def _forget_memory(self) -> None:
        """The connection has ended; what it still has to send takes memory until it is sent, or given up."""
        session, rules = self.session, self.rules
        transport = session.transport
        if rules.left and transport is not None and transport.get_write_buffer_size() > WRITE_LOW:
            session.loop.call_later(LOOK_SECONDS, self._forget_memory)
        else:
            rules.settle(lambda _: True)

    # --- back-pressure ---

    def writable(self, writable: bool) -> None:
        """Whether the client takes more."""
        self.client_full = not writable
        self._balance()
        self._settle_memory()

    def server_full(self, server: ServerConnection, full: bool) -> None:
        """Whether a server takes more."""
        self._balance()
        self._settle_memory()

    def _balance(self) -> None:
        """Read each side only as long as what it sends has somewhere to go."""
        session, layer = self.session, self.layer
        if layer is None or session.phase is not self:
            return
        # HTTP/2 holds each stream back by its window; HTTP/1 has one stream.
        waits = self.pending_hooks > 0 and self.conn.alpn != b"h2"
        side = layer.side_of(self.conn)
        behind = isinstance(side, Http1Server) and len(side.waiting) > MOST_WAITING
        full = any(server.full for server in self.servers.values())
        reading = not (waits or behind or full or _flooded(self.conn, session.transport))
        if reading != self.reading_client:
            self.reading_client = reading
            if reading:
                session.resume()
            else:
                session.pause()
        for server in self.servers.values():
            if server.open and not server.over:
                server.side.read(not (self.client_full or waits or _flooded(server.conn, server.side.transport)))

    # --- hooks ---

    def _hook(self, command: commands.StartHook) -> None:
        stream = self._stream_of(command)
        plan = stream.called if stream is not None else self.around
        try:
            rest = self.inspectors.call(plan, command)
        except InspectorFailed as error:
            self._failed(command, stream, error)
            return self._hook_ended(command, stream)
        if rest is None and not _held(command):
            self._hook_ended(command, stream)
        else:
            self.pending_hooks += 1
            self._task(self._await(rest, command, stream))
        return None

    def _hook_ended(self, command: commands.StartHook, stream: Stream | None) -> None:
        if stream is not None and stream.child_layer is not None and stream.failed is not None:
            return  # a WebSocket that waits for this goes no further: its connection ends
        if command.name == "websocket_message":
            flow = command.args()[0]
            if flow.error is not None and flow.error.msg == Error.KILLED_MESSAGE and stream is not None:
                return self._end_socket(stream, "an inspector has killed it", inspector_failed("", self.host, ""))
            messages = flow.websocket.messages
            del messages[:-KEPT_MESSAGES]
            while len(messages) > 1 and sum(len(message.content) for message in messages) > self.rules.limit():
                del messages[0]
        if command.blocking:
            self.queue.append(events.HookCompleted(command))
        return None

    async def _await(self, rest: Awaitable[None] | None, command: commands.StartHook, stream: Stream | None) -> None:
        try:
            if rest is not None:
                await rest
            while _held(command):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await command.args()[0].wait_for_resume()
        except InspectorFailed as error:
            self._failed(command, stream, error)
        finally:
            self.pending_hooks -= 1
        if self.session.phase is self:
            self._hook_ended(command, stream)
            if self.queue:
                self.pump(self.queue.popleft())
            elif not self.pumping:
                self._after()

    def _stream_of(self, command: commands.StartHook) -> Stream | None:
        waiting: object = command.blocking  # the layer that waits, once it does
        if isinstance(waiting, Stream):
            return waiting
        if isinstance(waiting, WebsocketLayer) and self.layer is not None:
            for stream in self.layer.streams.values():
                if isinstance(stream, Stream) and stream.child_layer is waiting:
                    return stream
        return None

    def _failed(self, command: commands.StartHook, stream: Stream | None, error: InspectorFailed) -> None:
        if command.name in OVER:
            return
        refusal = inspector_failed(error.inspector, self.host, self.session.id)
        if stream is None:
            self.session.loop.call_soon(self.session.abort, str(error))
        elif stream.child_layer is not None:
            self._end_socket(stream, str(error), refusal)
        else:
            stream.failed = refusal

    def _end_socket(self, stream: Stream, why: str, refusal: Refusal) -> None:
        """A WebSocket, which has its connection alone, goes no further: not even with what waits to be sent."""
        stream.failed = refusal
        self.out.clear()
        self.session.loop.call_soon(self.session.abort, why)

    # --- connections ---

    def _close(self, command: commands.CloseConnection) -> None:
        conn = command.connection
        half = isinstance(command, commands.CloseTcpConnection) and command.half_close
        self._flush()
        if conn is self.conn:
            self.leaving |= not half
            if isinstance(command, Cut):
                self.session.loop.call_soon(self.session.abort, "cut")
            elif half:
                conn.state &= ~ConnectionState.CAN_WRITE
                if self.leg is not None:
                    self.leg.end()
                    self.leg.half_close()
            else:
                self.session.loop.call_soon(self._leave)
            return
        server = self.servers.get(conn) if isinstance(conn, Server) else None
        if server is None:
            return
        if half:
            conn.state &= ~ConnectionState.CAN_WRITE
            server.half_close()
            return
        self._server_closed(server, orderly=not isinstance(command, Cut))

    def _leave(self) -> None:
        """All is said to the client, which may still be sending."""
        session, leg, layer = self.session, self.leg, self.layer
        if session.phase is not self:
            return
        side = layer.side_of(self.conn) if layer is not None else None
        unread = isinstance(side, Http1Server) and side.unread
        if (leg is None and self.client_done) or (leg is not None and leg.ended):
            return session.close("done")
        if not (unread or isinstance(side, Http2Server)):
            return session.close("done")
        self.closing(orderly=True)
        return Linger(session, leg, "done").begin()

    def _server_closed(self, server: ServerConnection, orderly: bool) -> None:
        self.servers.pop(server.conn, None)
        self.served = self.leg is not None
        server.over = True
        server.conn.state = ConnectionState.CLOSED
        server.conn.timestamp_end = time.time()
        if orderly and self.upgraded:
            server.side.linger()
        else:
            server.side.close(orderly)
        data = server_hooks.ServerConnectionHookData(server.conn, self.conn)
        self._say(server_hooks.ServerDisconnectedHook(data), self._plan_of(server.conn))

    def _plan_of(self, conn: Server) -> Plan:
        """Who hears of a server's connection: whoever sees the client's, and whoever is for the server's own host."""
        return self.rules.plan(self.host, conn.address[0] if conn.address else "")

    def _say(self, hook: commands.StartHook, plan: Plan | None = None) -> None:
        """Tell inspectors of something that is over."""
        try:
            rest = self.inspectors.call(self.around if plan is None else plan, hook)
        except InspectorFailed:
            return
        if rest is not None:
            self.inspectors.run(_quietly(rest))

    async def _open(self, command: commands.OpenConnection) -> None:
        """A connection that the layer wants, to where an inspector may have sent a request."""
        conn = command.connection
        server = ServerConnection(self.session, self, conn)
        plan, gone = self._plan_of(conn), "the client's connection has ended"
        data = server_hooks.ServerConnectionHookData(client=self.conn, server=conn)
        try:
            error = await self._connect(server, data, plan)
        except BaseException:  # cancelled, most often
            self._not_connected(server, data, plan, gone)
            raise
        if self.session.phase is not self:
            return self._not_connected(server, data, plan, gone)
        if error is not None:
            self._not_connected(server, data, plan, error)
        else:
            self.servers[conn] = server
        self.pump(events.OpenConnectionCompleted(command, error))
        if error is None:
            early, server.early = server.early, b""
            if early:
                self.from_server(server, early)
            for orderly in server.ends:
                server.server_ended(orderly)
            if server.side.lost:
                server.server_lost(None)
        return None

    async def _connect(
        self, server: ServerConnection, data: server_hooks.ServerConnectionHookData, plan: Plan
    ) -> str | None:
        """Connect, with inspectors asked before and told behind it; why there is no connection, else None."""
        conn, leave = server.conn, "an inspector has forbidden the connection: {}"
        try:
            await self._notify(server_hooks.ServerConnectHook(data), plan)
            if conn.error:
                return leave.format(conn.error)
            if self.conn.tls and not conn.tls:
                return Reason.of(
                    self.rules.malformed("an inspector has sent what came through TLS to a server without it")
                )
            await server.connect([b"h2", b"http/1.1"] if self.conn.alpn == b"h2" else [b"http/1.1"])
            await self._notify(server_hooks.ServerConnectedHook(data), plan)
            if (leg := server.side.leg) is not None:
                await self._notify(TlsEstablishedServerHook(TlsData(conn, self.context, leg.tls)), plan)
        except RefusedError as refused:
            self.session.refused(refused.refusal)
            return Reason.of(refused.refusal)
        except InspectorFailed as failed:
            return Reason.of(inspector_failed(failed.inspector, self.host, self.session.id))
        return leave.format(data.server.error) if data.server.error else None

    def _not_connected(
        self, server: ServerConnection, data: server_hooks.ServerConnectionHookData, plan: Plan, error: str
    ) -> None:
        """Let it go, and tell inspectors how far it came."""
        conn, side = server.conn, server.side
        established = server.open
        side.close(orderly=False)
        conn.state = ConnectionState.CLOSED
        conn.error = conn.error or str(error)
        if side.leg is None and not established:
            return self._say(server_hooks.ServerConnectErrorHook(data), plan)
        if not established:
            self._say(server_hooks.ServerConnectedHook(data), plan)
            self._say(TlsFailedServerHook(TlsData(conn, self.context)), plan)
        return self._say(server_hooks.ServerDisconnectedHook(data), plan)

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.Task(work, loop=self.session.loop, eager_start=True)
        if not task.done():
            self.tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if task.cancelled():
            if self.session.phase is self:
                self.session.abort("an inspector has cancelled what waits for it")  # nobody else would go on with it
        elif (error := task.exception()) is not None:
            self.session.broken(error)

    # --- the end ---

    @property
    def busy(self) -> bool:
        """A request is under way, or the connection is so new that its first one must be."""
        new = not self.rules.asked and self.session.loop.time() - self.opened < NEW_SECONDS
        return self.layer is None or new or bool(self.layer.streams) or self._unsent

    @property
    def _unsent(self) -> bool:
        """Answers wait for the client's windows."""
        side = self.layer.side_of(self.conn) if self.layer is not None else None
        return isinstance(side, Http2Server) and side.h2_conn.unsent

    def timed_out(self) -> None:
        """Nobody has said anything for the idle time."""
        self.session.close("idle")

    def closing(self, orderly: bool) -> None:
        """The connection ends: inspectors learn of it, servers are let go."""
        layer, self.layer = self.layer, None
        self.conn.state = ConnectionState.CLOSED
        self.conn.timestamp_end = time.time()
        if layer is not None:
            for command in layer.handle_event(Ended(self.conn, cut=not orderly)):
                if isinstance(command, commands.StartHook) and command.name in OVER:
                    self._say(command)
            for stream in list(layer.streams.values()):
                if isinstance(stream, Stream):
                    self.upgraded |= stream.is_upgraded()
                    if stream.child_layer is not None and stream.end_socket():
                        self._say(WebsocketEndHook(stream.flow), stream.called)
                    stream.closed()
            self._forget_memory()
        for server in list(self.servers.values()):
            self._server_closed(server, orderly)
        if self.late is not None:
            self.late.cancel()
        if self.leg is not None and orderly:
            self.leg.end()
        if self.begun:
            self._say(server_hooks.ClientDisconnectedHook(self.conn))
        current = asyncio.current_task(self.session.loop)
        for task in self.tasks:
            if task is not current:
                task.cancel()


def _flooded(conn: Connection, transport: asyncio.WriteTransport | None) -> bool:
    """Whether a peer of HTTP/2 makes us say more than it takes: acknowledgements, or answers of ours.

    Bodies have windows and stop long before. One that is read no more cannot open them either, so the mark is high.
    """
    return conn.alpn == b"h2" and transport is not None and transport.get_write_buffer_size() > MOST_UNTAKEN


def _held(command: commands.StartHook) -> bool:
    """Whether an inspector holds the flow back (``flow.intercept()``) until it, or somebody, resumes it."""
    flow = command.args()[0]
    return isinstance(flow, Flow) and flow.intercepted and command.name not in OVER


async def _quietly(rest: Awaitable[None]) -> None:
    with contextlib.suppress(InspectorFailed):  # it is in the log, and nothing depends on it
        await rest
