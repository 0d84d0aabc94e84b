"""What a client sends first: every malformed head is refused, and as soon as it shows."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.head import BadHead, HeadReader, RequestHead, parse_head

LIMIT = 32 * 1024
CONNECT = b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nProxy-Connection: keep-alive\r\n\r\n"
GET = b"GET http://example.com/a?b HTTP/1.0\r\nAccept:  text/html \t\r\nX: 1\r\nX: 2\r\n\r\n"


def refusal(data: bytes, limit: int = LIMIT) -> BadHead:
    with pytest.raises(BadHead) as caught:
        parse_head(data, limit)
    return caught.value


def test_a_connect_is_read_and_its_size_tells_where_the_next_bytes_begin() -> None:
    head = parse_head(CONNECT + b"\x16\x03\x01\x02\x00", LIMIT)
    assert head == RequestHead(
        "CONNECT",
        "example.com:443",
        ((b"host", b"example.com:443"), (b"proxy-connection", b"keep-alive")),
        "1.1",
        len(CONNECT),
    )


def test_a_plain_request_is_read_and_white_space_around_values_is_dropped() -> None:
    head = parse_head(bytearray(GET + b"body"), LIMIT)
    assert head is not None
    assert (head.method, head.target, head.version, head.size) == ("GET", "http://example.com/a?b", "1.0", len(GET))
    assert head.get(b"accept") == "text/html"
    assert head.get(b"x") == "1, 2"
    assert head.get(b"cookie") is None


def test_a_body_or_a_second_request_after_the_head_is_not_looked_at() -> None:
    head = parse_head(b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\x00", LIMIT)
    assert head is not None
    assert head.method == "POST"


@pytest.mark.parametrize("data", [CONNECT, GET, b"\r\n\r\n" + CONNECT])
def test_every_prefix_of_a_head_waits_for_more(data: bytes) -> None:
    for end in range(len(data)):
        assert parse_head(data[:end], LIMIT) is None, data[:end]
    assert parse_head(data, LIMIT) is not None


def test_empty_lines_before_the_request_are_ignored_and_counted_in_its_size() -> None:
    head = parse_head(b"\r\n\r\n" + CONNECT, LIMIT)
    assert head is not None
    assert head.size == 4 + len(CONNECT)
    refusal(b"\r\n" * 5)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16",  # TLS
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x05\x01\x00",  # SOCKS5
        b"\x04\x01",  # SOCKS4
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"SS",
        b"\x00",
        b"get ",
        b"FOO",
        b"EHLO x",
        b"\n",
        b"\r\r",
        b"GET /\r\n",  # HTTP/0.9
        b"GET / HTTP/1.1\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET / HTTP/1.1 \r\n",
        b"GET / HTTP/1.11\r\n",
        b"GET /\xc3\xbc",
        b"CONNECT a b ",
        b"PLAY rtsp://x RTSP/1.0\r\n",
        b"GET / HTTP/1.1\r\n X: folded",
        b"GET / HTTP/1.1\r\nA : b",
        b"GET / HTTP/1.1\r\nA: b\r\n c",  # obs-fold
        b"GET / HTTP/1.1\r\nA: b\rc",
        b"GET / HTTP/1.1\r\nA: b\n",
        b"GET / HTTP/1.1\r\nA: \x00",
        b"GET / HTTP/1.1\r\nA: \x01",
        b"GET / HTTP/1.1\r\nA: \x7f",
        b"GET / HTTP/1.1\r\n: b",
        b"GET / HTTP/1.1\r\nno colon\r\n",
        b"GET / HTTP/1.1\r\n\xff: b",
    ],
)
def test_what_can_no_longer_become_a_request_is_refused_at_once(data: bytes) -> None:
    assert refusal(data).status == 400


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: x\r\n",
        b"Content-Length: 1\r\nContent-Length: 2\r\n",
        b"Host: a\r\nHost: a\r\n",
    ],
)
def test_a_connect_with_a_body_or_two_hosts_is_refused(fields: bytes) -> None:
    assert refusal(b"CONNECT a:443 HTTP/1.1\r\n" + fields + b"\r\n").status == 400


def test_a_connect_that_says_its_body_is_empty_is_served() -> None:
    head = parse_head(b"CONNECT a:443 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", LIMIT)
    assert head is not None
    assert head.target == "a:443"


@pytest.mark.parametrize("fields", [b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", b"Host: a\r\nhost: b\r\n"])
def test_a_plain_request_with_two_framings_or_two_hosts_is_refused(fields: bytes) -> None:
    assert refusal(b"POST http://a/ HTTP/1.1\r\n" + fields + b"\r\n").status == 400


@pytest.mark.parametrize("line", [b"GET / HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/0.9\r\n"])
def test_another_version_is_answered_505(line: bytes) -> None:
    error = refusal(line)
    assert error.status == 505
    assert "expected HTTP/1.1 or HTTP/1.0" in str(error)


def test_a_head_of_exactly_the_limit_passes_and_one_byte_more_is_431() -> None:
    head = b"GET / HTTP/1.1\r\nA: " + b"b" * 2000 + b"\r\n\r\n"
    assert parse_head(head, len(head)) is not None
    assert refusal(head, len(head) - 1).status == 431
    assert parse_head(head[:-1], len(head)) is None
    assert refusal(b"GET /" + b"a" * 995, 1000).status == 431


def test_credentials_are_not_in_the_repr() -> None:
    head = parse_head(b"CONNECT a:443 HTTP/1.1\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n", LIMIT)
    assert "c2VjcmV0" not in repr(head)
    assert "a:443" in repr(head)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_a_head_or_bad_head(data: bytes) -> None:
    try:
        parse_head(data, 200)
    except BadHead as error:
        assert error.status in (400, 431, 505)  # noqa: PT017 - a head or no error are right as well


PIECES = st.sampled_from(
    [b"GET", b"CONNECT", b" ", b"http://a/", b"a:443", b"HTTP/1.1", b"\r\n", b"\n", b"\r", b":", b"Host", b"x", b"\x00"]
)


@settings(deadline=None)
@given(st.lists(PIECES, max_size=14).map(b"".join), st.lists(st.integers(0, 120), max_size=6))
def test_the_split_of_the_bytes_does_not_change_what_is_said(data: bytes, cuts: list[int]) -> None:
    def outcome(points: list[int]) -> RequestHead | type[BadHead] | None:
        head, reader = None, HeadReader(1000)
        for point in points:
            try:
                head = reader.read(data[:point])
            except BadHead:
                return BadHead
            if head is not None:
                return head
        return head

    whole = outcome([len(data)])
    assert outcome([*sorted(min(cut, len(data)) for cut in cuts), len(data)]) == whole


@pytest.mark.parametrize("data", [CONNECT, GET, b"\r\n\r\n" + GET])
def test_a_head_in_single_bytes_is_read_as_in_one_piece(data: bytes) -> None:
    reader, buffer = HeadReader(LIMIT), bytearray()
    for byte in data[:-1]:
        buffer.append(byte)
        assert reader.read(buffer) is None
    buffer += data[-1:]
    assert reader.read(buffer) == parse_head(data, LIMIT)


def test_no_byte_goes_to_the_parser_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[bytes] = []

    class Parser:
        def __init__(self, _: object) -> None: ...

        def feed_data(self, data: bytes) -> None:
            fed.append(data)

    monkeypatch.setattr("proxy.head.HttpRequestParser", Parser)
    reader, buffer = HeadReader(LIMIT), bytearray()
    for byte in CONNECT[:-1]:
        buffer.append(byte)
        reader.read(buffer)
    assert b"".join(fed) == CONNECT[:-1]


def test_a_reader_refuses_as_soon_as_the_whole_would_be_refused() -> None:
    for data in (b"\x16", b"FO", b"GET / HTTP/1.1\r\nA ", b"\r\r"):
        reader = HeadReader(LIMIT)
        for end in range(1, len(data)):
            assert reader.read(data[:end]) is None
        with pytest.raises(BadHead):
            reader.read(data)
    reader = HeadReader(100)
    assert reader.read(b"GET /" + b"a" * 94) is None
    with pytest.raises(BadHead) as caught:
        reader.read(b"GET /" + b"a" * 95)
    assert caught.value.status == 431
