"""The tap for HTTP/1.0 and HTTP/1.1 (RFC 9112), and for what a connection is upgraded to.

Whatever two readers could understand differently is refused: that is what request smuggling lives on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from config.settings import Limits
from proxy.disclosure import DEFAULT, Disclosure, fields_of
from proxy.lanes.exchange import (
    MAX_HOST,
    Detour,
    Exchange,
    Misdirected,
    Tap,
    TooLarge,
    TurnedAway,
    Unparsed,
    readable,
)
from proxy.lanes.http1_framing import ENDLESS, Direction, Place, closes
from proxy.lanes.misdirected import Addressee

MAX_PIPELINED: Final = 100
MAX_HELD: Final = 64 * 1024

_REQUEST_LINE = re.compile(rb"([A-Z-]+) ([!-~]+) HTTP/1\.([01])\r\n").match
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?\r\n").match
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]*)([^?#]*)", re.IGNORECASE).match

_HOST: Final = b"\r\nhost:"
_UPGRADE: Final = b"\r\nupgrade:"
_ACCEPT = re.compile(rb"\r\naccept:[ \t]*([^\r\n]*)", re.IGNORECASE).findall


class Http1Tap(Tap):
    """Follows requests and responses, pipelined ones too; after a 101 it counts bytes.

    A response may come before its request has ended; the exchange then ends with the request. Client bytes behind a
    request that asks for an upgrade are held back until the response says what they are, from the parser and from the
    server.
    """

    __slots__ = ("_answered", "_broken", "_client", "_disclosure", "_first_byte", "_limits", "_open", "_raw",
                 "_refused", "_server", "_started", "_upgrade", "_upload")  # fmt: skip

    def __init__(
        self,
        host: str,
        done: Callable[[Exchange], None],
        clock: Callable[[], float],
        limits: Limits,
        addressee: Addressee | None = None,
        disclosure: Disclosure = DEFAULT,
    ) -> None:
        super().__init__(host, done, clock, "HTTP/1.1", addressee)
        self._disclosure = disclosure
        self._limits = limits
        self._client = Direction("client", limits)
        self._server = Direction("server", limits)
        self._open: list[Exchange] = []  # the first is the one that is, or will next be, answered
        self._upload: Exchange | None = None  # the last of them, while its request has not ended
        self._answered = False  # the first one's response has ended; just its request has not
        self._upgrade = False  # the last one asks for an upgrade, and has no answer yet
        self._raw: Exchange | None = None  # the upgraded one
        self._refused: TurnedAway | None = None  # found among bytes that had to wait for an answer
        self._started = 0.0
        self._first_byte = 0.0
        self._broken = ""  # why it cannot be followed any more

    @property
    def busy(self) -> bool:
        return bool(self._open) or self._raw is not None or self._client.held is not None

    @property
    def head(self) -> object | None:
        return self._client.held if self._client.place is Place.HEAD else None

    @property
    def waiting(self) -> bool:
        """The server still owes an answer."""
        return bool(self._open)

    @property
    def last_answer(self) -> bool:
        """The server has said that no answer comes after its last."""
        return self._server.place is Place.CLOSED

    def from_client(self, data: bytes) -> Detour | None:
        client = self._client
        size = len(data)
        if size < client.left:
            client.left -= size
            client.counted += size
            return None
        try:
            self._guarded(self._read_client, data)
        except TurnedAway as request:
            self.kept += data
            return self._turned_away(request)
        if client.held is None and not self.kept:
            return None
        self.kept += data
        return Detour(to_server=self._keep(len(client.held or b"")))

    def from_server(self, data: bytes) -> Detour | None:
        server = self._server
        size = len(data)
        if size < server.left:
            server.left -= size
            server.counted += size
            return None
        try:
            self._guarded(self._read_server, data)
        except TooLarge as response:
            response.head_only = bool(self._open) and self._open[0].method == "HEAD"
            return self._taken_back(data, response)
        if server.held is None and not self.kept and not self.kept_back:
            return None
        unfinished = len(server.held) if server.held is not None and server.place is Place.HEAD else 0
        detour = self._keep_back(data, unfinished)
        if self.kept:
            # The answer may have told what these bytes of the client are.
            request, self._refused = self._refused, None
            if request is None:
                detour.to_server = self._keep(len(self._client.held or b""))
            else:
                away = self._turned_away(request)
                detour.to_server, detour.refused = away.to_server, request
        return detour

    def client_ended(self) -> None:
        client = self._client
        if client.place in (Place.RAW, Place.HELD):
            return  # the answer decides, or closed() tells
        if self._upload is not None:
            self._upload.outcome = "cut"
            self._upload_ended()
        client.held = None
        client.expect(Place.CLOSED)

    def server_ended(self) -> None:
        server = self._server
        if self._raw is not None:
            return
        if server.place is Place.BODY and server.left > ENDLESS // 2:
            self._response_ended()
        self._cut()
        server.held = None
        server.expect(Place.CLOSED)

    def closed(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.request_bytes = self._client.counted
            raw.response_bytes = self._server.counted
            raw.ended = self._clock()
            self._done(raw)
        self._cut()
        self._client = Direction("client", self._limits)
        self._server = Direction("server", self._limits)

    def _guarded(self, read: Callable[[bytes], None], data: bytes) -> None:
        if self._broken:
            raise Unparsed(self._broken)
        try:
            read(data)
        except Unparsed as error:
            self._broken = str(error)
            self._client.left = self._server.left = 0
            raise

    # --- requests ---

    def _read_client(self, data: bytes) -> None:
        client = self._client
        place = client.place
        if client.held is not None and place is not Place.HEAD and place is not Place.HELD:
            data = bytes(client.held) + data
            client.held = None
        at, end = 0, len(data)
        while at < end:
            place = client.place
            if place is Place.HEAD:
                if client.held is None:
                    if data[at] < 14 and (at := client.blank(data, at)) == end:
                        return
                    self._started = self._clock()
                head = b""
                try:
                    at, head = client.head(data, at)
                    if head:
                        self._request(head)
                except TurnedAway as request:
                    client.expect(Place.CLOSED)
                    if head:
                        request.size = len(head)
                        request.rest = data[at:]
                    raise
            elif place is Place.HELD:
                client.held = (client.held or bytearray()) + data[at:]
                if len(client.held) > MAX_HELD:
                    raise client.wrong(f"more than {MAX_HELD} bytes behind a request for an upgrade")
                return
            elif place is Place.CLOSED:
                if client.blank(data, at) != end:
                    raise client.wrong("bytes after Connection: close")
                return
            else:
                at, ended = client.body(data, at)
                if ended:
                    self._request_ended()

    def _request(self, head: bytes) -> None:
        client = self._client
        line = _REQUEST_LINE(head)
        if line is None:
            raise client.wrong("a malformed request line")
        if len(self._open) >= MAX_PIPELINED:
            raise client.wrong(f"more than {MAX_PIPELINED} requests that wait for an answer")
        method, target, minor = line.groups()
        if method == b"CONNECT":
            raise client.wrong("CONNECT inside the tunnel")
        low = head.lower()
        addressee = self.addressee
        try:
            host = client.field(low, _HOST)
        except Unparsed:
            if addressee is None:
                raise
            raise _misdirected(head, method, b"", "it has more than one Host field") from None
        if addressee is not None and (minor == b"1" if host is None else not addressee.accepts(host)):
            raise _misdirected(head, method, host or b"", "" if host is not None else "it has no Host field")
        if target[:1] != b"/" and target != b"*":
            absolute = _ABSOLUTE_FORM(target)
            if absolute is None:
                raise client.wrong("a request target that is neither a path nor an http URL")
            # RFC 9112 section 3.2.2: it wins over Host. User information would be a password in the log.
            authority = absolute[1].lower()
            host = authority.rpartition(b"@")[2]
            target = absolute[2] or b"/"
            # Not every server lets it win, so a Host beside it has to fit as well.
            if addressee is not None and not addressee.accepts(authority):
                raise _misdirected(head, method, host, "")
        self._upload = exchange = Exchange(
            "HTTP/1.1",
            method.decode("ascii"),  # one of those that llhttp knows
            readable(host, MAX_HOST) if host else self.host,
            self._disclosure.path(target),
            started=self._started,
        )
        if self._disclosure.more_of_request:
            self._disclosure.tell_request(exchange, line[2], fields_of(head))
        self._open.append(exchange)
        # Without the Connection option it means nothing (RFC 9110 section 7.8), but a server might not mind.
        self._upgrade = low.find(_UPGRADE) >= 0
        client.closing = closes(low, minor)
        client.expect_body(low, minor, default=0)
        if client.place is Place.HEAD:
            self._request_ended()

    def _request_ended(self) -> None:
        client = self._client
        self._upload_ended()
        client.expect(Place.HELD if self._upgrade else Place.CLOSED if client.closing else Place.HEAD)

    def _upload_ended(self) -> None:
        """There is no more of the request; it is not there where the server's end has cut it before."""
        exchange, self._upload = self._upload, None
        if exchange is not None:
            exchange.request_bytes = self._client.counted
            if self._answered:
                self._answered = False
                self._finish()

    # --- responses ---

    def _read_server(self, data: bytes) -> None:
        server = self._server
        if server.held is not None and server.place is not Place.HEAD:
            data = bytes(server.held) + data
            server.held = None
        at, end = 0, len(data)
        while at < end:
            place = server.place
            if place is Place.HEAD:
                if server.held is None:
                    if data[at] < 14 and (at := server.blank(data, at)) == end:
                        return
                    if not self._open or self._answered:
                        raise server.wrong("a response that no request asked for")
                    self._first_byte = self._clock()
                at, head = server.head(data, at)
                if head:
                    self._response(head)
            elif place is Place.CLOSED:
                if server.blank(data, at) != end:
                    raise server.wrong("bytes after Connection: close")
                return
            else:
                at, ended = server.body(data, at)
                if ended:
                    self._response_ended()

    def _response(self, head: bytes) -> None:
        server = self._server
        line = _STATUS_LINE(head)
        if line is None:
            raise server.wrong("a malformed status line")
        minor = line[1]
        status = int(line[2])
        low = head.lower()
        if status == 101:
            return self._upgraded(low)
        if status < 200:
            return None  # an interim response: the final one is still to come (RFC 9110 section 15.2)
        exchange = self._open[0]
        exchange.status = status
        exchange.first_byte = self._first_byte
        if self._disclosure.more_of_response:
            self._disclosure.tell_response(exchange, fields_of(head))
        server.closing = closes(low, minor)
        if status in (204, 304) or exchange.method == "HEAD":
            server.expect(Place.HEAD)  # no body, whatever the head says (RFC 9112 section 6.3)
        else:
            server.expect_body(low, minor, default=ENDLESS)
        refused = self._upgrade and len(self._open) == 1
        if server.place is Place.HEAD:
            self._response_ended()
        if refused:
            self._stays_http()
        return None

    def _response_ended(self) -> None:
        server = self._server
        exchange = self._open[0]
        exchange.response_bytes = server.counted
        server.expect(Place.CLOSED if server.closing else Place.HEAD)
        if exchange is self._upload:
            self._answered = True
        else:
            self._finish()

    # --- upgrades ---

    def _upgraded(self, low: bytes) -> None:
        client, server = self._client, self._server
        if client.place is not Place.HELD or len(self._open) != 1:
            raise server.wrong("a 101 that no request asked for")
        name = server.field(low, _UPGRADE)
        if not name:
            raise server.wrong("a 101 without Upgrade (RFC 9110 section 15.2.2)")
        self._raw = exchange = self._open.pop()
        exchange.protocol = self.protocol = "WebSocket" if name == b"websocket" else "bytes"
        exchange.status = 101
        exchange.first_byte = self._first_byte
        exchange.outcome = "upgraded"
        held, client.held = client.held, None
        client.expect(Place.RAW, ENDLESS)
        server.expect(Place.RAW, ENDLESS)
        client.counted = len(held or b"")

    def _stays_http(self) -> None:
        """The server answered a request for an upgrade otherwise: what the client sent meanwhile is HTTP."""
        client = self._client
        self._upgrade = False
        if client.place is Place.HELD:
            held, client.held = client.held, None
            client.expect(Place.CLOSED if client.closing else Place.HEAD)
            if held:
                try:
                    self._read_client(bytes(held))
                except TurnedAway as request:
                    self._refused = request

    # --- ends ---

    def _finish(self) -> None:
        exchange = self._open.pop(0)
        exchange.ended = self._clock()
        self._done(exchange)

    def _cut(self) -> None:
        """Whatever is open ends here."""
        if self._open and not self._answered:
            self._open[0].response_bytes = self._server.counted
        if self._upload is not None:
            self._upload.request_bytes = self._client.counted
            self._upload = None
        self._answered = False
        while self._open:
            self._open[0].outcome = "cut"
            self._finish()


def _misdirected(head: bytes, method: bytes, host: bytes, malformed: str) -> Misdirected:
    return Misdirected(host, malformed, _ACCEPT(head), head_only=method == b"HEAD")
