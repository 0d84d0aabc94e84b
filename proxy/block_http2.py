"""An answer of our own for every stream that a client opens over HTTP/2, then GOAWAY."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from hyperframe.frame import GoAwayFrame

from proxy.refusals import Refusal
from proxy.reply import Asked, Says, refusing

MAX_STREAMS = 100
MAX_FRAMES = 1000
"""How many frames a client may send, of whatever kind (RST_STREAM, PING, SETTINGS, empty DATA cost us work too)."""
MAX_DROPPED = 1024 * 1024
"""How many bytes of request bodies are read and dropped."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEAD = 9
_GOAWAY = 7
_HIGHEST_STREAM = 2**31 - 1
_PING = b"sallypor"


class Http2Answer:
    """h2 in the server's role.

    The end goes as RFC 9113 6.8 describes it: with the first answers a GOAWAY that names the highest stream possible.
    Streams that the client opened before it saw it are answered too. A PING right before that GOAWAY tells when it was
    seen: then a GOAWAY that names the last stream answered ends the connection. (The GOAWAY comes at once, in one piece
    with the answers, and the PING before it: curl fails a request that it is about to send when a GOAWAY comes in
    between, and h2 fails all that it has received together with a frame after a GOAWAY.)
    """

    def __init__(self, says: Refusal | Says) -> None:
        self._says = refusing(says) if isinstance(says, Refusal) else says
        self.done = False
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self._frames = _Frames()
        self._unsent: dict[int, bytes] = {}
        """What is left of each stream's body; the client's windows say how fast it may go."""
        self._reset: set[int] = set()
        """Streams that the client has reset in the bytes that are being read."""
        self._asking: set[int] = set()
        """Streams whose request has not ended."""
        self._streams = 0
        self._dropped = 0
        self._going_away = False
        self._seen = False
        """The client has seen the first GOAWAY."""

    def start(self) -> bytes:
        """Our SETTINGS."""
        self._h2.initiate_connection()
        return self._h2.data_to_send()

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the client (empty: it will send no more), return what is to be sent."""
        if self.done or not data:
            self.done = True
            return b""
        data = self._frames.take(data)
        if self._frames.begun > MAX_FRAMES:
            return self._stop(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
        try:
            events = self._h2.receive_data(data)
            # h2 has read all of them already: to these nothing can be sent any more.
            self._reset = {event.stream_id for event in events if isinstance(event, h2.events.StreamReset)}
            for event in events:
                self._handle(event)
            self._send_bodies()
        except h2.exceptions.H2Error:
            # What could be sent, and the GOAWAY that h2 has made of the error, still go out.
            self.done = True
            return self._h2.data_to_send()
        if self._dropped > MAX_DROPPED:
            return self._cut_uploads()
        out = self._go_away()
        ends = self._seen or self._frames.goaway or self._streams >= MAX_STREAMS
        if ends and not self._unsent and not self._asking:
            out += self._stop(h2.errors.ErrorCodes.NO_ERROR)
        return out

    def _go_away(self) -> bytes:
        """What is to be sent now; after the first answers with PING and GOAWAY."""
        first = self._streams > 0 and not self._going_away
        if first:
            self._going_away = True
            self._h2.ping(_PING)
        out = self._h2.data_to_send()
        # By hand: h2 itself would send nothing after it.
        return out + GoAwayFrame(0, last_stream_id=_HIGHEST_STREAM).serialize() if first else out

    def _cut_uploads(self) -> bytes:
        """RFC 9113 8.1: the answers are complete, and the client is asked to send no more of its requests."""
        for stream in self._asking - self._unsent.keys():
            self._h2.reset_stream(stream, h2.errors.ErrorCodes.NO_ERROR)
        return self._stop(h2.errors.ErrorCodes.NO_ERROR)

    def _stop(self, code: h2.errors.ErrorCodes) -> bytes:
        self.done = True
        self._h2.close_connection(code)
        return self._h2.data_to_send()

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=int(stream), headers=list(fields)):
                if stream not in self._reset:
                    self._asking.add(stream)
                self._answer(stream, [(bytes(name), bytes(value)) for name, value in fields])
            case h2.events.StreamEnded(stream_id=int(stream)):
                self._asking.discard(stream)
            case h2.events.StreamReset(stream_id=int(stream)):
                self._asking.discard(stream)
                self._unsent.pop(stream, None)
            case h2.events.DataReceived(stream_id=int(stream), flow_controlled_length=int(size)):
                self._dropped += size
                self._h2.acknowledge_received_data(size, stream)
            case h2.events.PingAckReceived(ping_data=data) if data == _PING:
                self._seen = self._going_away
            case _:
                pass

    def _answer(self, stream: int, fields: list[tuple[bytes, bytes]]) -> None:
        self._streams += 1
        if stream in self._reset:
            return None
        if self._streams > MAX_STREAMS:
            self._asking.discard(stream)
            return self._h2.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
        pseudo = dict(fields)
        asked = Asked.of(pseudo.get(b":method", b""), pseudo.get(b":path", b""), fields, "HTTP/2")
        reply = self._says(asked)
        answer = [(":status", str(reply.status))]
        answer += [(name.lower(), value) for name, value in reply.fields]
        head_only = asked.method == "HEAD"
        try:
            self._h2.send_headers(stream, answer, end_stream=head_only)
        except h2.exceptions.StreamClosedError:
            return self._asking.discard(stream)
        self._unsent[stream] = b"" if head_only else reply.body
        return None

    def _send_bodies(self) -> None:
        for stream, body in list(self._unsent.items()):
            try:
                while body and (room := self._room(stream)) > 0:
                    piece, body = body[:room], body[room:]
                    self._h2.send_data(stream, piece, end_stream=not body)
            except h2.exceptions.StreamClosedError:
                body = b""
            self._unsent[stream] = body
            if not body:
                del self._unsent[stream]

    def _room(self, stream: int) -> int:
        return min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)


class _Frames:
    """Counts the frames in a stream of bytes by their heads (RFC 9113 4.1), before anybody works on them.

    The client's GOAWAY is taken out: h2 sends nothing after it, and RFC 9113 6.8 lets open streams come to their end.
    """

    def __init__(self) -> None:
        self.begun = 0
        """How many frames have begun so far; counting stops above :data:`MAX_FRAMES`."""
        self.goaway = False
        """The client has sent one."""
        self._rest = len(_PREFACE)
        self._drop = False
        self._head = b""

    def take(self, data: bytes) -> bytes:
        """What h2 is to have of ``data``: a frame's head once it is whole, no GOAWAY."""
        out = bytearray()
        place = 0
        while place < len(data) and self.begun <= MAX_FRAMES:
            if self._rest:
                piece = data[place : place + self._rest]
                self._rest -= len(piece)
                if not self._drop:
                    out += piece
            else:
                piece = data[place : place + _FRAME_HEAD - len(self._head)]
                self._head += piece
                if len(self._head) == _FRAME_HEAD:
                    self._begin()
                    if not self._drop:
                        out += self._head
                    self._head = b""
            place += len(piece)
        return bytes(out)

    def _begin(self) -> None:
        self.begun += 1
        self._rest = int.from_bytes(self._head[:3])
        self._drop = self._head[3] == _GOAWAY
        self.goaway = self.goaway or self._drop
