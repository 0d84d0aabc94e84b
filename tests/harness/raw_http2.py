"""A raw end of HTTP/2 for hostile tests: frames by number as they are, at once, with nothing put right.

:class:`tests.harness.shapes_http2_end.Http2End` plays whole shapes by the rules; this breaks them.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import hpack
from hyperframe import frame as frames

from tests.harness.pki import Issued
from tests.harness.raw_http import Ended, Pipe, open_tunnel

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Fields = Sequence[tuple[str, str]]


class Came(NamedTuple):
    """A frame that has come."""

    kind: str
    stream: int
    told: Any
    """HEADERS: the fields. DATA: how many bytes. RST_STREAM and GOAWAY: the code. SETTINGS: the values."""
    ends: bool


class RawHttp2:
    """``opens``: windows are given back as DATA comes."""

    def __init__(self, pipe: Pipe, *, serves: bool, settings: dict[int, int] | None = None, opens: bool = True) -> None:
        self.pipe, self.opens = pipe, opens
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder(max_header_list_size=1 << 20)
        self.seen: list[Came] = []
        self.body: dict[int, bytearray] = {}
        self._buffer, self._skip = bytearray(), len(PREFACE) if serves else 0
        mine = frames.SettingsFrame(0, settings=settings or {}).serialize()
        self.raw(mine if serves else PREFACE + mine)

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.pipe.send(data)

    def head(self, stream: int, fields: Fields, *, end: bool = False) -> bytes:
        """HEADERS; the frame, not sent."""
        frame = frames.HeadersFrame(stream, self.encoder.encode(list(fields)), flags=["END_HEADERS"])
        if end:
            frame.flags.add("END_STREAM")
        return bytes(frame.serialize())

    def ask(self, stream: int, path: str = "/", *, host: str, method: str = "GET", end: bool = True) -> None:
        """A request's head."""
        fields = [(":method", method), (":scheme", "https"), (":authority", host), (":path", path)]
        self.raw(self.head(stream, fields, end=end))

    def answer(self, stream: int, status: str = "200", *, end: bool = True) -> None:
        """A response's head."""
        self.raw(self.head(stream, [(":status", status)], end=end))

    def data(self, stream: int, data: bytes = b"", *, end: bool = False) -> None:
        """DATA."""
        self.raw(frames.DataFrame(stream, data, flags=["END_STREAM"] if end else []).serialize())

    def reset(self, stream: int, code: int = 8) -> None:
        """RST_STREAM."""
        self.raw(frames.RstStreamFrame(stream, error_code=code).serialize())

    def goaway(self, last: int) -> None:
        """GOAWAY."""
        self.raw(frames.GoAwayFrame(0, last_stream_id=last).serialize())

    def until(self, test: Callable[[Came], bool], seconds: float = 20) -> bool:
        """Take what comes until such a frame is there. False where the other side has ended, or the time is over."""
        end = time.monotonic() + seconds
        try:
            while not any(map(test, self.seen)):
                self.pipe.socket.settimeout(max(0.01, end - time.monotonic()))
                self._take()
        except (TimeoutError, Ended, OSError):
            return any(map(test, self.seen))
        return True

    def over(self, stream: int) -> bool:
        """Wait for the end of a stream, whichever way."""
        return self.until(lambda came: came.stream == stream and (came.ends or came.kind == "RstStream"))

    def told(self, stream: int, kind: str) -> list[Any]:
        """What frames of a kind have said of a stream."""
        return [came.told for came in self.seen if came.stream == stream and came.kind == kind]

    def _take(self) -> None:
        self._buffer += self.pipe.receive()
        skipped = min(self._skip, len(self._buffer))
        del self._buffer[:skipped]
        self._skip -= skipped
        while len(self._buffer) >= 9:
            frame, length = frames.Frame.parse_frame_header(memoryview(bytes(self._buffer[:9])))
            if len(self._buffer) < 9 + length:
                return
            frame.parse_body(memoryview(bytes(self._buffer[9 : 9 + length])))
            del self._buffer[: 9 + length]
            told = self._answered(frame)
            kind = type(frame).__name__.removesuffix("Frame")
            self.seen.append(Came(kind, frame.stream_id, told, "END_STREAM" in frame.flags))

    def _answered(self, frame: Any) -> Any:
        """Do what the protocol asks for at once; what the frame tells."""
        if isinstance(frame, frames.HeadersFrame):
            return [(bytes(name), bytes(value)) for name, value in self.decoder.decode(bytes(frame.data), raw=True)]
        if isinstance(frame, frames.DataFrame):
            self.body.setdefault(frame.stream_id, bytearray()).extend(frame.data)
            if self.opens and frame.flow_controlled_length:
                for stream in (0,) if "END_STREAM" in frame.flags else (0, frame.stream_id):
                    window = frames.WindowUpdateFrame(stream, window_increment=frame.flow_controlled_length)
                    self.raw(window.serialize())
            return len(frame.data)
        if isinstance(frame, (frames.RstStreamFrame, frames.GoAwayFrame)):
            return frame.error_code
        if isinstance(frame, frames.SettingsFrame) and "ACK" not in frame.flags:
            self.raw(frames.SettingsFrame(0, flags=["ACK"]).serialize())
            return dict(frame.settings)
        return None


class TlsServer:
    """A server whose every connection is played by ``play``, in a thread of its own."""

    def __init__(self, folder: Path, identity: Issued, play: Callable[[Pipe], None], alpn: str = "h2") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*identity.write(folder, f"server-{alpn.replace('/', '-')}"))
        self.context.set_alpn_protocols([alpn])
        self.play = play
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listening.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join(5)

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, contextlib.suppress(OSError, Ended):
            self.play(Pipe(accepted, self.context, serves=True))


def through(proxy: str, root: Path, host: str, port: int, alpn: str = "h2") -> Pipe:
    """A client's TLS connection through the proxy, trusting that root."""
    context = ssl.create_default_context(cafile=str(root))
    context.set_alpn_protocols([alpn])
    return Pipe(open_tunnel(proxy, host, port), context, serves=False, name=host)
