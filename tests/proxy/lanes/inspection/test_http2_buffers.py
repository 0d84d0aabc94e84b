"""What HTTP/2 of the inspection lane keeps for a peer: counted, in frames that it takes, and no table without end."""

from __future__ import annotations

import contextlib

import h2.config
import h2.connection
import h2.events
import pytest
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes
from hyperframe import frame as frames

from config.settings import Limits
from proxy.lanes.abuse import Bounds
from proxy.lanes.exchange import OverLimit
from proxy.lanes.inspection.http2_connection import MOST_TABLE, Connection

REQUEST = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.example"), (b":path", b"/")]


def pair(**settings: int) -> tuple[Connection, h2.connection.H2Connection]:
    """A server of ours, and a client that has asked on stream 1, with these SETTINGS by number."""
    ours = Connection(
        h2.config.H2Configuration(client_side=False, header_encoding=False), Bounds(Limits(), lambda _: None)
    )
    theirs = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=False))
    theirs.initiate_connection()
    theirs.update_settings({SettingCodes(int(number[1:])): value for number, value in settings.items()})
    ours.initiate_connection()
    theirs.send_headers(1, REQUEST, end_stream=True)
    ours.receive_data(theirs.data_to_send())
    theirs.receive_data(ours.data_to_send())
    ours.receive_data(theirs.data_to_send())
    ours.send_headers(1, [(b":status", b"200")])
    return ours, theirs


def test_what_waits_is_counted_and_goes_when_the_window_opens() -> None:
    ours, theirs = pair(_4=1000)
    ours.send_data(1, b"x" * 2500)
    ours.send_data(1, b"y", end_stream=True)
    assert (ours.backlog(1), ours.held, ours.unsent) == (1501, 1501, True)
    got = b""
    for _ in range(4):
        for event in theirs.receive_data(ours.data_to_send()):
            if isinstance(event, h2.events.DataReceived):
                got += event.data
                theirs.acknowledge_received_data(event.flow_controlled_length, 1)
        ours.receive_data(theirs.data_to_send())
    assert got == b"x" * 2500 + b"y"
    assert (ours.backlog(1), ours.held, ours.unsent) == (0, 0, False)


def test_an_end_without_bytes_needs_no_window() -> None:
    ours, theirs = pair(_4=0)
    ours.end_stream(1)
    assert not ours.unsent
    assert any(isinstance(event, h2.events.StreamEnded) for event in theirs.receive_data(ours.data_to_send()))


def test_what_waits_for_a_stream_that_is_reset_is_dropped() -> None:
    for by_us in (True, False):
        ours, theirs = pair(_4=0)
        ours.send_data(1, b"x" * 100_000)
        ours.send_trailers(1, [(b"a", b"b")])
        assert ours.held == 100_000
        if by_us:
            ours.reset_stream(1)
        else:
            theirs.reset_stream(1)
            ours.receive_data(theirs.data_to_send())
        assert (ours.held, ours.unsent, ours.stream_trailers) == (0, False, {})


def test_trailers_follow_what_waited() -> None:
    ours, theirs = pair(_4=3)
    ours.send_data(1, b"12345")
    ours.send_trailers(1, [(b"a", b"b")])
    kinds = []
    for _ in range(3):
        for event in theirs.receive_data(ours.data_to_send()):
            kinds.append(type(event).__name__)
            if isinstance(event, h2.events.DataReceived):
                with contextlib.suppress(StreamClosedError):
                    theirs.increment_flow_control_window(3, 1)
        ours.receive_data(theirs.data_to_send())
    assert kinds.index("TrailersReceived") > max(at for at, kind in enumerate(kinds) if kind == "DataReceived")


def test_the_table_for_heads_stays_small_whatever_the_peer_allows() -> None:
    ours, _ = pair(_1=2**32 - 1)
    assert ours.encoder.header_table_size == MOST_TABLE
    for number in range(200):
        ours.encoder.encode([(b"x-%d" % number, b"v" * 1000)])
    assert ours.encoder.header_table._current_size <= MOST_TABLE


def test_a_smaller_table_is_kept_as_the_peer_asks() -> None:
    ours, _ = pair(_1=100)
    assert ours.encoder.header_table_size == 100


def test_a_table_whose_size_is_asked_for_twice_is_told_of_all_the_same() -> None:
    ours, theirs = pair(_1=0)
    theirs.receive_data(ours.data_to_send())
    for size in (100, 50, 50):
        theirs.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
        ours.receive_data(theirs.data_to_send())
        theirs.receive_data(ours.data_to_send())
    theirs.send_headers(3, REQUEST, end_stream=True)
    ours.receive_data(theirs.data_to_send())
    ours.send_headers(3, [(b":status", b"200")])
    assert any(isinstance(event, h2.events.ResponseReceived) for event in theirs.receive_data(ours.data_to_send()))


def test_frames_are_no_larger_than_the_peer_takes() -> None:
    ours, _ = pair(_4=2**31 - 1)
    ours.data_to_send()
    ours.send_data(1, b"x" * 60_000)
    sent = ours.data_to_send()
    while sent:
        frame, length = frames.Frame.parse_frame_header(memoryview(sent[:9]))
        assert length <= 16_384
        assert isinstance(frame, frames.DataFrame)
        sent = sent[9 + length :]


def downloaded(size: int, opened: int) -> int:
    """A client takes ``size`` bytes that were sent at once, and opens both windows for each so many. Returns how many
    frames it took."""
    ours, theirs = pair()
    body = bytes(range(256)) * (size // 256)
    ours.send_data(1, body, end_stream=True)
    got: list[bytes] = []
    taken = 0
    while True:
        for event in theirs.receive_data(ours.data_to_send()):
            if isinstance(event, h2.events.DataReceived):
                got.append(event.data)
                taken += len(event.data)
                while taken >= opened:
                    taken -= opened
                    theirs.increment_flow_control_window(opened)
                    with contextlib.suppress(StreamClosedError):
                        theirs.increment_flow_control_window(opened, 1)
            if isinstance(event, h2.events.StreamEnded):
                assert b"".join(got) == body
                return len(got)
        ours.receive_data(theirs.data_to_send())


def test_a_large_answer_goes_in_whole_frames_however_the_windows_lie() -> None:
    assert downloaded(4 << 20, 16_384) < (4 << 20) / 16_384 * 1.3


def test_a_client_that_opens_its_windows_for_each_frame_is_none_that_floods() -> None:
    assert downloaded(10 << 20, 8_000) < 700


def test_small_pieces_explain_what_is_answered_to_them() -> None:
    """As a gRPC client does that measures its way with a PING each time."""
    ours, theirs = pair()
    for _ in range(2500):
        ours.send_data(1, b"x" * 200)
        theirs.receive_data(ours.data_to_send())
        theirs.ping(b"12345678")
        theirs.increment_flow_control_window(200)
        theirs.increment_flow_control_window(200, 1)
        ours.receive_data(theirs.data_to_send())
        theirs.receive_data(ours.data_to_send())


def test_an_end_behind_a_window_that_was_taken_back_is_one_frame() -> None:
    ours, theirs = pair()
    ours.send_data(1, b"x" * 1000)
    theirs.receive_data(ours.data_to_send())
    theirs.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    ours.receive_data(theirs.data_to_send())
    ours.data_to_send()
    ours.end_stream(1)
    assert ours.data_to_send() == frames.DataFrame(1, flags=["END_STREAM"]).serialize()
    assert ours.held == 0


def test_what_is_sent_of_a_large_answer_is_let_go() -> None:
    ours, _ = pair(_4=2**31 - 1)
    ours.outbound_flow_control_window = (1 << 20) - 1
    ours.send_data(1, bytes(1 << 20))
    assert ours.held == 1
    assert len(ours.stream_buffers[1][0].data.obj) < 1 << 16  # type: ignore[attr-defined]  # a view, as we keep it


def test_one_who_opens_them_byte_by_byte_is() -> None:
    with pytest.raises(OverLimit, match="control"):
        downloaded(4 << 20, 10)
