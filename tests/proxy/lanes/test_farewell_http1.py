from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.lanes.exchange import Misdirected, Unparsed
from proxy.lanes.farewell_http1 import MAX_DROPPED, Http1Farewell
from tests.proxy.lanes.relay import Relay

GOOD = b"GET /good HTTP/1.1\r\nHost: good.example\r\n\r\n"
POST = b"POST /post HTTP/1.1\r\nHost: Good.example:8443\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"\r\nPUT /put HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n"
)
EVIL = b"GET /evil?q HTTP/1.1\r\nCookie: secret\r\nHost: evil.example\r\nAccept: text/html\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def relay(*asked: bytes, size: int = 0) -> Relay:
    made = Relay(b"http/1.1")
    made.client(b"".join(asked), size)
    return made


def parts(answer: bytes | bytearray) -> tuple[bytes, dict[str, str], bytes]:
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    return line, dict(field.decode().lower().split(": ", 1) for field in fields), body


def test_a_request_for_another_host_is_answered_421_and_not_passed_on() -> None:
    end = relay(EVIL)
    assert end.to_server == b""
    line, fields, body = parts(end.to_client)
    assert line == b"HTTP/1.1 421 Misdirected Request"
    assert fields["proxy-status"] == 'sallyport; error=http_request_denied; details="misdirected"'
    assert (fields["cache-control"], fields["connection"]) == ("no-store", "close")
    assert int(fields["content-length"]) == len(body)
    assert b"evil.example" in body
    assert end.done
    assert not end.told
    assert end.refused[0].host == "evil.example"


def test_its_page_is_written_for_who_asks() -> None:
    _, fields, body = parts(relay(EVIL.replace(b"text/html", b"application/json")).to_client)
    assert fields["content-type"] == "application/problem+json"
    assert json.loads(body)["details"] == "misdirected"
    line, fields, body = parts(relay(EVIL.replace(b"GET", b"HEAD")).to_client)
    assert line == b"HTTP/1.1 421 Misdirected Request"
    assert int(fields["content-length"]) > 0
    assert body == b""


@pytest.mark.parametrize("before", [b"", GOOD, POST, CHUNKED, GOOD + POST + CHUNKED], ids=len)
def test_however_the_bytes_are_cut_all_before_it_passes_and_nothing_of_it(before: bytes) -> None:
    stream = before + EVIL + GOOD
    for cut in range(len(stream)):
        made = relay(stream[:cut])
        made.client(stream[cut:])
        assert made.to_server == before, cut
        assert len(made.refused) == 1
        assert not made.to_client or not before
    made = relay(stream, size=1)
    assert made.to_server == before


@given(st.lists(st.sampled_from([GOOD, POST, CHUNKED]), max_size=6), st.lists(st.integers(1, 60), min_size=1))
def test_good_requests_pass_unchanged_and_answers_come_in_order(asked: list[bytes], sizes: list[int]) -> None:
    made = Relay(b"http/1.1")
    stream = b"".join(asked) + EVIL
    turn = 0
    while stream:
        size = sizes[turn % len(sizes)]
        made.client(stream[:size])
        stream = stream[size:]
        turn += 1
    assert made.to_server == b"".join(asked)
    for place in range(len(asked)):
        assert not made.done
        assert made.to_client == OK * place
        made.server(OK, size=sizes[place % len(sizes)])
    assert made.done
    assert made.to_client.startswith(OK * len(asked) + b"HTTP/1.1 421 ")
    assert made.to_client.count(b"HTTP/1.1 421 ") == 1
    assert len(made.told) == len(asked)


def test_of_a_head_that_is_not_whole_nothing_passes() -> None:
    for cut in range(1, len(GOOD)):
        made = relay(POST, GOOD[:cut])
        assert made.to_server == POST
        made.client(GOOD[cut:])
        assert made.to_server == POST + GOOD


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET https://good.example/ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: good.example\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: good.example\r\nhost: good.example\r\n\r\n",
    ],
)
def test_a_request_without_a_host_or_with_several_is_malformed(head: bytes) -> None:
    made = relay(GOOD, head)
    assert made.to_server == GOOD
    assert made.refused[0].malformed


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: good.example\r\n\r\n",
        b"GET https://good.example/ HTTP/1.0\r\n\r\n",
        b"GET https://GOOD.example:443/ HTTP/1.1\r\nHost: good.example\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: good.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\t good.example \r\n\r\n",
    ],
)
def test_requests_that_name_the_host_otherwise_pass(head: bytes) -> None:
    made = relay(head)
    assert made.to_server == head
    assert not made.refused


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: evil.example\r\n\r\n",
        b"GET https://evil.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n",
        b"GET https://evil.example/ HTTP/1.0\r\n\r\n",
        b"GET https://good.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET https://good.example@evil.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n",
        b"GET https://evil.example@good.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n",
        b"GET https:///x HTTP/1.1\r\nHost: good.example\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        UPGRADE.replace(b"good", b"evil"),
    ],
)
def test_requests_that_name_another_host_in_any_place_do_not_pass(head: bytes) -> None:
    made = relay(GOOD, head)
    assert made.to_server == GOOD
    assert not made.refused[0].malformed


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: good.example\r\n .evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: good.example\r\n\t.evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n evil.example\r\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: y\nHost: evil.example\r\nHost: good.example\r\n\r\n",
        b"GET / HTTP/1.1\nHost: evil.example\r\nX-Y: z\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : evil.example\r\nHost: good.example\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: evil.example\r\nHost: good.example\r\n\r\n",
        b"GET https://good.example\\.evil.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: good.example\rHost: evil.example\r\n\r\n",
    ],
)
def test_no_head_that_two_readers_may_read_differently_passes(head: bytes) -> None:
    made = Relay(b"http/1.1")
    try:
        made.client(head)
    except Unparsed:
        assert not made.refused
    else:
        assert made.refused
    assert made.to_server == b""


def test_what_comes_behind_a_request_for_an_upgrade_waits_for_the_answer() -> None:
    for answer in (OK, b"HTTP/1.1 100 Continue\r\n\r\n" + OK):
        made = relay(UPGRADE, EVIL[:9], EVIL[9:])
        assert made.to_server == UPGRADE
        assert not made.refused
        made.server(answer)
        assert made.to_server == UPGRADE
        assert len(made.refused) == 1
        assert made.to_client.startswith(answer + b"HTTP/1.1 421 ")


def test_good_requests_behind_a_request_for_an_upgrade_pass_after_the_answer() -> None:
    made = relay(UPGRADE, POST, GOOD[:10])
    made.server(OK)
    assert made.to_server == UPGRADE + POST
    made.client(GOOD[10:])
    assert made.to_server == UPGRADE + POST + GOOD
    made.server(OK + OK)
    assert made.to_client == OK * 3
    assert [exchange.path for exchange in made.told] == ["/ws", "/post", "/good"]


def test_another_protocol_passes_whatever_it_looks_like() -> None:
    made = relay(UPGRADE, EVIL[:20])
    made.server(SWITCHED)
    made.client(EVIL[20:] + EVIL)
    assert made.to_server == UPGRADE + EVIL + EVIL
    assert not made.refused


def test_answers_on_the_way_and_long_ones_pass_while_it_waits() -> None:
    made = relay(GOOD, POST, EVIL)
    long = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"4\r\nabcd\r\n" * 100 + b"0\r\n\r\n"
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    made.server(early + long + OK[:-1], size=7)
    assert made.to_client == early + long + OK[:-1]
    assert not made.done
    made.server(OK[-1:])
    assert made.to_client.startswith(early + long + OK + b"HTTP/1.1 421 ")
    assert made.done


def test_behind_an_answer_that_is_the_last_comes_no_other() -> None:
    made = relay(GOOD, EVIL)
    last = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    made.server(last)
    assert made.to_client == last
    assert made.done


def test_a_client_that_goes_on_and_on_is_cut_off() -> None:
    made = relay(GOOD, EVIL)
    assert isinstance(made.tap, Http1Farewell)
    made.client(bytes(MAX_DROPPED))
    assert made.to_server == GOOD
    with pytest.raises(Unparsed, match=r"^client: more than"):
        made.client(b"x")


def test_a_request_that_was_cut_off_before_its_head_was_whole_is_none() -> None:
    made = relay(GOOD, EVIL[:-1])
    made.server(OK)
    made.tap.client_ended()
    made.tap.closed()
    assert made.to_server == GOOD
    assert not made.refused
    assert [exchange.path for exchange in made.told] == ["/good"]


def test_what_is_not_answered_any_more_was_cut() -> None:
    made = relay(GOOD, EVIL)
    assert made.tap.busy
    made.tap.server_ended()
    made.tap.closed()
    assert [exchange.outcome for exchange in made.told] == ["cut"]


def test_what_it_says_of_a_request_is_safe_to_show() -> None:
    request = Misdirected(b"<B>\r\n\xff", "", [], head_only=False)
    assert request.host == "<b>%0D%0A%FF"
