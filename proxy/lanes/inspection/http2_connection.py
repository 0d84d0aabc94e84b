"""hyper-h2's connection as the inspection lane needs it: bounded, and patient where RFC 9113 asks for patience."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import h2.connection
import h2.errors
import h2.events
import h2.stream
from h2.connection import _decode_headers as decode_headers
from hpack import Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import RstStreamFrame
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection, SendH2Data

from proxy.lanes.abuse import Bounds
from proxy.lanes.exchange import OverLimit
from proxy.lanes.http2_frames import BEYOND, beyond
from proxy.lanes.http2_meter import Meter
from proxy.lanes.http2_rates import RESETS, Rates

LARGEST_FRAME: Final = 64 * 1024
MOST_TABLE: Final = 4096
"""Bytes of the table that heads are compressed with (RFC 7541 section 4.2): the protocol's default."""
CRUMB: Final = 1024
"""Bytes. A frame that a window has cut to less explains nothing (CVE-2019-9511: windows that open byte by byte)."""
_WRITABLE: Final = frozenset({h2.stream.StreamState.OPEN, h2.stream.StreamState.HALF_CLOSED_REMOTE})
UNMARKED: Final[frozenset[bytes]] = frozenset()


def tell_sizes(encoder: Encoder) -> None:
    """See that the next head begins with what RFC 7541 section 4.2 asks for: the smallest size since the last head, and
    the one that holds. hpack would name each, even one that is no longer allowed, or none where the last was the same.
    """
    if sizes := encoder.table_size_changes:
        encoder.table_size_changes = sorted({min(sizes), sizes[-1]})
        encoder.header_table.resized = True


@dataclass
class GoAway(h2.events.Event):
    """The peer takes no more streams (RFC 9113 section 6.8). hyper-h2's own event would end those that go on."""

    last_stream_id: int


class Connection(BufferedH2Connection):
    """hyper-h2's connection with bounded windows, and a GOAWAY that ends nothing by itself."""

    def __init__(self, config: Any, bounds: Bounds) -> None:
        super().__init__(config)
        self.bounds = bounds
        limits = bounds.limits
        self.who = "server" if config.client_side else "client"
        self.rates = Rates(limits, time.monotonic)
        self.meter = Meter(self.who, limits, self.rates)
        self.decoder.max_header_list_size = limits.header_bytes * BEYOND * 2
        self.local_settings.max_header_list_size = limits.header_bytes
        self.local_settings.max_concurrent_streams = limits.http2_streams
        self.local_settings.initial_window_size = limits.http2_stream_window
        self.local_settings.max_frame_size = LARGEST_FRAME
        self.max_inbound_frame_size = LARGEST_FRAME
        self.local_settings.acknowledge()
        self.resets: set[int] = set()
        """Streams to be reset, without an error, once all that waits was sent."""
        self.marked = UNMARKED
        """Names of fields in the next head that may never be indexed."""
        self.waiting: dict[int, int] = {}
        """Bytes that wait for a window, by stream."""
        self.held = 0
        """The same, of all streams."""

    def send_headers(self, stream_id: int, headers: Any, *arguments: Any, **more: Any) -> None:
        if self.marked:
            names, self.marked = self.marked, UNMARKED
            headers = [NeverIndexedHeaderTuple(*field) if field[0] in names else field for field in headers]
        super().send_headers(stream_id, headers, *arguments, **more)

    def initiate_connection(self) -> None:
        h2.connection.H2Connection.initiate_connection(self)
        window = self.bounds.limits.http2_connection_window
        self.increment_flow_control_window(window - self.inbound_flow_control_window)

    def _receive_headers_frame(self, frame: Any) -> Any:
        stream_id = frame.stream_id
        new = self.who == "client" and stream_id % 2 and stream_id > self.highest_inbound_stream_id
        if new and self.open_inbound_streams >= self.local_settings.max_concurrent_streams:
            return self._one_too_many(frame)
        frames, told = super()._receive_headers_frame(frame)
        for event in told:
            if (fields := getattr(event, "headers", None)) and (detail := beyond(fields, self.bounds.limits)):
                if isinstance(event, h2.events.TrailersReceived):
                    raise OverLimit(self.who, "trailers", f"trailers beyond limits.{detail}", calm=True)
                event.beyond = detail  # type: ignore[attr-defined]  # for whoever gets the event
        return frames, told

    def _one_too_many(self, frame: Any) -> Any:
        """RFC 9113 section 5.1.2: a client may not have seen yet how many streams it may open.

        The block is decoded all the same, since it changes the table (section 4.3). hyper-h2 would end the connection.
        """
        stream_id = frame.stream_id
        self.rates.count(self.who, RESETS)
        decode_headers(self.decoder, frame.data)
        told = self.state_machine.process_input(h2.connection.ConnectionInputs.RECV_HEADERS)
        self.highest_inbound_stream_id = stream_id
        self._closed_streams[stream_id] = h2.stream.StreamClosedBy.SEND_RST_STREAM
        reset = RstStreamFrame(stream_id, error_code=int(h2.errors.ErrorCodes.REFUSED_STREAM))
        return [reset], told

    def _receive_goaway_frame(self, frame: Any) -> Any:
        # RFC 9113 section 6.8: streams up to the last one named go on. hyper-h2 would take no more frames.
        return [], [GoAway(frame.last_stream_id)]

    def _begin_new_stream(self, stream_id: int, allowed_ids: Any) -> h2.stream.H2Stream:
        stream = super()._begin_new_stream(stream_id, allowed_ids)
        initialize = stream._initialize_content_length

        def unless_there_is_none(headers: Any) -> None:
            # A 304 says how long the body would be (RFC 9110 section 8.6); hyper-h2 knows this of HEAD alone.
            if (b":status", b"304") not in headers:
                initialize(headers)

        stream._initialize_content_length = unless_there_is_none  # type: ignore[method-assign]
        return stream

    def _acknowledge_settings(self) -> Any:
        frames = super()._acknowledge_settings()
        # What the peer allows is the most (RFC 7541 section 4.2): a table of 4 GiB need not be filled for it.
        if self.encoder.header_table_size > MOST_TABLE:
            self.encoder.table_size_changes.pop()
            self.encoder.header_table_size = MOST_TABLE
        tell_sizes(self.encoder)
        return frames

    # --- what waits for a window: counted, since a peer that opens none must not cost more and more ---

    def backlog(self, stream_id: int) -> int:
        """Bytes that wait for the stream's window."""
        return self.waiting.get(stream_id, 0)

    @property
    def unsent(self) -> bool:
        """Whether something waits for a window, if only the end of a stream."""
        return bool(self.stream_buffers)

    def send_data(self, stream_id: int, data: Any, end_stream: bool = False, pad_length: Any = None) -> None:
        """Send what the windows allow; the rest waits."""
        size = len(data)
        rest: Any = memoryview(data)
        self.stream_buffers[stream_id].append(SendH2Data(rest, end_stream))
        self.waiting[stream_id] = self.waiting.get(stream_id, 0) + size
        self.held += size
        self.stream_window_updated(stream_id)

    def stream_window_updated(self, stream_id: int) -> bool:
        """Send what the windows allow now; whether that was anything."""
        stream = self.streams.get(stream_id)
        if stream is None or stream.state_machine.state not in _WRITABLE:
            self._drop(stream_id)
            return False
        queue = self.stream_buffers.get(stream_id)
        window, sent = self.local_flow_control_window(stream_id), False
        # An end without bytes needs no window.
        while queue and (window > 0 or not queue[0].data):
            data, ends = queue[0]
            size = max(0, min(len(data), window, self.max_outbound_frame_size))
            whole = size == len(data)
            if whole:
                queue.popleft()
            else:
                # The rest stays one piece: cut into frames by now, each window would leave a crumb of the last one.
                queue[0], ends = SendH2Data(_rest_of(data, size), ends), False
            h2.connection.H2Connection.send_data(self, stream_id, bytes(data[:size]), ends)
            if size >= CRUMB or (whole and size):
                self.rates.useful += 1  # the peer opens its windows for each frame
            window -= size
            self.waiting[stream_id] -= size
            self.held -= size
            sent = True
        if queue is not None and not queue:
            trailers, reset = self.stream_trailers.pop(stream_id, None), stream_id in self.resets
            self._drop(stream_id)
            if trailers is not None:
                self.send_headers(stream_id, trailers, end_stream=True)
            if reset and not stream.closed:
                self.reset_stream(stream_id, 0)
        return sent

    def reset_stream(self, stream_id: int, error_code: int = 0) -> None:
        """Reset the stream; what waits for it is not sent any more."""
        self._drop(stream_id)
        h2.connection.H2Connection.reset_stream(self, stream_id, error_code)

    def receive_data(self, data: Any) -> Any:
        """See hyper-h2; what waited for streams that the peer has reset is dropped. Raises OverLimit, too."""
        self.meter.read(data)
        found: list[Any] = super().receive_data(data)
        for event in found:
            if isinstance(event, h2.events.StreamReset):
                self._drop(event.stream_id or 0)
        return found

    def _drop(self, stream_id: int) -> None:
        self.stream_buffers.pop(stream_id, None)
        self.stream_trailers.pop(stream_id, None)
        self.held -= self.waiting.pop(stream_id, 0)
        self.resets.discard(stream_id)


def _rest_of(data: Any, size: int) -> Any:
    """What is left of a view behind ``size`` bytes; what it is a view of is let go where it is mostly sent."""
    rest = data[size:]
    return memoryview(bytes(rest)) if len(rest) * 2 < len(rest.obj) else rest
