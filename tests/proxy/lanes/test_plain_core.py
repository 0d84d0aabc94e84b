"""Plain requests without a socket: events in, commands out."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.names import parse_host
from config.settings import Limits
from proxy import refusals
from proxy.lanes.exchange import Exchange
from proxy.lanes.plain_answer import Answer, Ours
from proxy.lanes.plain_commands import (
    Abort,
    Close,
    Command,
    Connect,
    DropServer,
    EndServer,
    Phase,
    ToClient,
    ToServer,
    joined,
)
from proxy.lanes.plain_core import MAX_DROPPED, MAX_HELD, MOST_EVENTS, PlainCore
from proxy.refusals import Refusal

ME = "sallyport-00c0ffee"
GET = b"GET http://example.com/a?secret HTTP/1.1\r\nHost: example.com\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Play:
    """A core, and what it has asked for so far. Every method says what came of one event."""

    def __init__(self, ours: Ours | None = None, origin: bool = False) -> None:
        self.exchanges: list[Exchange] = []
        self.refusals: list[Refusal] = []
        self.time = 0.0
        self.core = PlainCore(
            self.exchanges.append, self.refusals.append, self.clock, "id1", ME, Limits(), origin=origin, ours=ours
        )
        self.client = b""
        self.server = b""
        self.asked: list[Command] = []

    def clock(self) -> float:
        self.time += 1
        return self.time

    def run(self, commands: list[Command]) -> "Play":
        self.client, self.server, self.asked = b"", b"", []
        for command in commands:
            if isinstance(command, ToClient):
                self.client += command.data
            elif isinstance(command, ToServer):
                self.server += command.data
            else:
                self.asked.append(command)
        return self

    def says(self, data: bytes) -> "Play":
        return self.run(self.core.client_data(data))

    def connects(self) -> "Play":
        return self.run(self.core.connected())

    def replies(self, data: bytes) -> "Play":
        return self.run(self.core.server_data(data))

    def server_ends(self, orderly: bool = True) -> "Play":
        return self.run(self.core.server_gone(orderly))

    def client_ends(self) -> "Play":
        return self.run(self.core.client_ended())

    def status(self) -> int:
        assert self.client.startswith(b"HTTP/1.1 "), self.client[:100]
        return int(self.client[9:12])

    def server_fields(self) -> dict[bytes, bytes]:
        return fields(self.server)

    def client_fields(self) -> dict[bytes, bytes]:
        return fields(self.client)


def fields(message: bytes) -> dict[bytes, bytes]:
    lines = message.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}


def connect(host: str = "example.com", port: int = 80) -> Connect:
    return Connect(parse_host(host), port)


def forwarded(request: bytes = GET) -> Play:
    """A play whose request has gone to the server."""
    play = Play()
    assert [type(command) for command in play.says(request).asked] == [Connect]
    play.connects()
    assert play.server
    return play


# --- the request on its way ---


def test_a_request_goes_to_its_host_in_origin_form_and_the_response_comes_back() -> None:
    play = Play()
    assert play.says(GET).asked == [connect()]
    assert play.connects().server == (
        b"GET /a?secret HTTP/1.1\r\nHost: example.com\r\nVia: 1.1 sallyport-00c0ffee\r\n\r\n"
    )
    play.replies(OK)
    assert play.client == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 sallyport-00c0ffee\r\n\r\nhi"
    assert play.asked == []
    assert play.core.phase is Phase.IDLE


def test_an_exchange_is_told_without_the_query() -> None:
    play = forwarded(b"POST http://example.com:8080/a?secret HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
    play.replies(OK)
    assert play.exchanges == [
        Exchange("HTTP/1.1", "POST", "example.com:8080", "/a", 200, 3, 2, 1.0, 2.0, 3.0, "complete")
    ]


@pytest.mark.parametrize(
    ("target", "host", "port", "line", "authority"),
    [
        (b"http://example.com", "example.com", 80, b"GET / ", b"example.com"),
        (b"http://EXAMPLE.com:80/x", "example.com", 80, b"GET /x ", b"example.com"),
        (b"HTTP://example.com:8080?q=1", "example.com", 8080, b"GET /?q=1 ", b"example.com:8080"),
        (b"http://[::1]:81/", "::1", 81, b"GET / ", b"[::1]:81"),
        (b"http://192.0.2.1/", "192.0.2.1", 80, b"GET / ", b"192.0.2.1"),
    ],
)
def test_the_target_decides_where_it_goes_and_what_host_says(
    target: bytes, host: str, port: int, line: bytes, authority: bytes
) -> None:
    play = Play()
    play.says(b"GET " + target + b" HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n")
    assert play.asked == [connect(host, port)]
    play.connects()
    assert play.server.startswith(line + b"HTTP/1.1\r\nHost: " + authority + b"\r\n")
    assert b"elsewhere" not in play.server


def test_options_without_a_path_asks_about_the_whole_server() -> None:
    play = forwarded(b"OPTIONS http://example.com HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert play.server.startswith(b"OPTIONS * HTTP/1.1\r\n")


def test_what_belongs_to_one_connection_stays_on_it() -> None:
    play = forwarded(
        b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close, X-Hop, Host, Via\r\nX-Hop: 1\r\n"
        b"Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: gzip\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: x\r\nAuthorization: Bearer t\r\nX-End: 2\r\nVia: 1.0 first\r\n\r\n"
    )
    assert play.server == (
        b"GET / HTTP/1.1\r\nHost: a.example\r\nHTTP2-Settings: x\r\nAuthorization: Bearer t\r\nX-End: 2\r\n"
        b"Via: 1.0 first\r\nVia: 1.1 sallyport-00c0ffee\r\n\r\n"
    )
    play.replies(
        b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n"
        b"Content-Length: 0\r\nX-End: 2\r\n\r\n"
    )
    assert play.client == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-End: 2\r\nVia: 1.1 sallyport-00c0ffee\r\nConnection: close\r\n\r\n"
    )
    assert play.asked[-1] == Close()


def test_te_trailers_is_passed_on() -> None:
    sent = forwarded(
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\nTE: trailers, deflate\r\nConnection: TE\r\n\r\n"
    ).server_fields()
    assert sent[b"te"] == b"trailers"
    assert sent[b"connection"] == b"TE"


def test_chunks_are_made_anew_and_trailers_kept_but_for_those_that_may_not_be_there() -> None:
    play = forwarded(
        b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;ext=1\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n"
    )
    assert play.server.endswith(b"Via: 1.1 sallyport-00c0ffee\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert play.server_fields()[b"transfer-encoding"] == b"chunked"
    play.replies(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n"
        b"2\r\nhi\r\n0\r\nX-T: 1\r\nHost: x\r\n\r\n"
    )
    assert play.client.endswith(b"\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n")
    assert b"content-length" not in play.client_fields()


def test_the_body_waits_until_there_is_a_connection() -> None:
    play = Play()
    play.says(b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 30_000)
    assert play.server == b""
    play.says(b"x" * 70_000)
    assert play.server == b""
    assert play.core.full
    assert play.connects().server.count(b"x") == 100_000
    assert not play.core.full


# --- one after the other ---


def test_the_next_request_to_the_same_host_goes_over_the_same_connection() -> None:
    play = forwarded()
    play.replies(OK)
    assert play.says(GET).asked == []
    assert play.server.startswith(b"GET /a?secret ")


def test_the_next_request_to_another_host_or_port_gets_a_connection_of_its_own() -> None:
    play = forwarded()
    play.replies(OK)
    play.says(b"GET http://example.com:81/ HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert play.asked == [DropServer(), connect(port=81)]
    assert play.server == b""


def test_pipelined_requests_are_answered_in_order() -> None:
    play = Play()
    assert play.says(GET + GET.replace(b"example.com", b"other.example")).asked == [connect()]
    assert play.connects().server.count(b"GET") == 1
    play.replies(OK)
    assert play.client.startswith(b"HTTP/1.1 200")
    assert play.asked == [DropServer(), connect("other.example")]
    assert play.connects().server.startswith(b"GET /a?secret HTTP/1.1\r\nHost: other.example\r\n")


def test_what_is_pipelined_waits_bounded() -> None:
    play = forwarded()
    play.says(GET * (MAX_HELD // len(GET)))
    assert not play.core.full
    play.says(GET * 2)
    assert play.core.full


def test_a_refused_request_leaves_the_connection_usable() -> None:
    play = Play()
    play.says(b"POST http://nowhere.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + GET)
    play.run(play.core.refused(refusals.dns_error("nowhere.example", "id1")))
    assert play.status() == 502
    assert play.client_fields()[b"Proxy-Status".lower()] == b"sallyport; error=dns_error"
    assert play.asked == [connect()]
    assert [exchange.status for exchange in play.exchanges] == [502]


def test_an_idle_server_that_closes_is_let_go_and_the_next_request_gets_a_new_connection() -> None:
    play = forwarded()
    play.replies(OK)
    assert play.server_ends().asked == [DropServer()]
    assert play.says(GET).asked == [connect()]


def test_bytes_that_no_request_asked_for_end_the_servers_connection() -> None:
    play = forwarded()
    assert play.replies(OK + OK).asked == [DropServer()]
    assert play.client.count(b"HTTP/1.1") == 1
    play = forwarded()
    play.replies(OK)
    assert play.replies(OK).asked == [DropServer()]
    assert play.client == b""


def test_a_reused_connection_that_closes_unheard_is_tried_again_once_for_idempotent_requests() -> None:
    play = forwarded()
    play.replies(OK)
    play.says(GET)
    assert play.server_ends().asked == [DropServer(), connect()]
    assert play.client == b""
    assert play.connects().server.startswith(b"GET /a?secret ")
    play.server_ends()
    assert play.status() == 502  # a fresh one is not tried again
    play = forwarded()
    play.replies(OK)
    play.says(b"POST http://example.com/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    play.server_ends()
    assert play.status() == 502
    assert play.client_fields()[b"proxy-status"] == b"sallyport; error=connection_terminated"


# --- responses of all kinds ---


def test_a_response_that_ends_with_the_connection_is_chunked_for_the_client() -> None:
    play = forwarded()
    play.replies(b"HTTP/1.0 200 OK\r\n\r\nhello")
    assert play.client.endswith(b"5\r\nhello\r\n")
    play.server_ends()
    assert play.client == b"0\r\n\r\n"
    assert play.asked == [DropServer()]
    assert play.core.phase is Phase.IDLE
    assert play.exchanges[0].response_bytes == 5


def test_a_connection_that_breaks_does_not_complete_such_a_response() -> None:
    play = forwarded()
    play.replies(b"HTTP/1.0 200 OK\r\n\r\nhello")
    play.server_ends(orderly=False)
    assert play.client == b""
    assert play.asked == [DropServer(), Abort()]
    assert play.exchanges[0].outcome == "cut"


def test_an_http10_client_gets_no_chunks_no_1xx_and_a_close() -> None:
    play = forwarded(b"POST http://example.com/ HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx")
    assert b"expect" not in play.server_fields()
    assert play.server_fields()[b"via"] == b"1.0 sallyport-00c0ffee"
    assert play.replies(b"HTTP/1.1 103 Early Hints\r\n\r\n").client == b""
    play.replies(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n")
    assert play.client.endswith(b"\r\n\r\nhi")
    assert b"transfer-encoding" not in play.client_fields()
    assert play.asked[-1] == Close()


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\nETag: x\r\n\r\n"),
    ],
)
def test_responses_without_a_body_end_with_their_head(method: bytes, response: bytes) -> None:
    play = forwarded(GET.replace(b"GET", method))
    play.replies(response)
    assert play.client.endswith(b"\r\n\r\n")
    assert play.client_fields().get(b"content-length") == (b"999" if b"999" in response else None)
    assert play.says(GET).server.startswith(b"GET ")  # the connection is reusable
    assert play.exchanges[0].response_bytes == 0


def test_100_continue_passes_both_ways() -> None:
    play = forwarded(b"PUT http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert play.server_fields()[b"expect"] == b"100-continue"
    assert play.replies(b"HTTP/1.1 100 Continue\r\n\r\n").client == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert play.says(b"abc").server == b"abc"
    assert play.replies(OK).status() == 200
    assert play.core.phase is Phase.IDLE


def test_a_final_answer_in_place_of_100_ends_the_connection() -> None:
    play = forwarded(b"PUT http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    play.replies(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
    assert play.client_fields()[b"connection"] == b"close"
    assert play.asked == [DropServer(), Close()]


def test_an_early_answer_drops_the_rest_of_the_body_and_goes_on() -> None:
    play = forwarded(b"PUT http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
    play.replies(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert play.asked == [DropServer()]
    assert play.says(b"def" + GET).asked == [connect("example.com")]
    assert play.server == b""


def test_after_an_early_answer_only_so_much_of_the_body_is_read() -> None:
    play = forwarded(b"PUT http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\nabc")
    play.replies(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert play.says(b"x" * MAX_DROPPED).asked == []
    assert play.says(b"x").asked == [Close()]


# --- upgrades ---

WEBSOCKET = (
    b"GET http://a.example/ws HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Key: k\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\n"


def test_a_websocket_becomes_bytes_both_ways() -> None:
    play = forwarded(WEBSOCKET)
    assert play.server_fields()[b"upgrade"] == b"websocket"
    assert play.server_fields()[b"connection"] == b"Upgrade"
    play.says(b"early")
    play.replies(SWITCH + b"\x81\x00")
    assert play.client.startswith(b"HTTP/1.1 101 ")
    assert play.client_fields()[b"sec-websocket-accept"] == b"a"
    assert play.client_fields()[b"upgrade"] == b"websocket"
    assert play.client.endswith(b"\r\n\r\n\x81\x00")
    assert play.server == b"early"
    assert play.says(b"\x00GET").server == b"\x00GET"
    assert play.replies(b"\xff").client == b"\xff"
    assert play.client_ends().asked == [EndServer()]
    assert play.server_ends().asked == [DropServer(), Close()]
    assert [(e.protocol, e.status, e.outcome, e.request_bytes, e.response_bytes) for e in play.exchanges] == [
        ("WebSocket", 101, "upgraded", 9, 3)
    ]


def test_a_refused_upgrade_goes_on_as_http() -> None:
    play = forwarded(WEBSOCKET)
    assert play.says(GET).server == b""
    play.replies(OK)
    assert play.status() == 200
    assert play.asked == [DropServer(), connect()]


def test_other_upgrades_are_not_passed_on_and_not_accepted() -> None:
    play = forwarded(WEBSOCKET.replace(b"WebSocket\r", b"h2c\r"))
    assert b"upgrade" not in play.server.lower()
    play.replies(SWITCH)
    assert play.status() == 502
    assert play.client_fields()[b"proxy-status"] == b"sallyport; error=http_protocol_error"


# --- what is not served ---


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (b"GET / HTTP/1.1\r\nHost: proxy\r\n\r\n", 400, b"This is a proxy, not a website"),
        (b"OPTIONS * HTTP/1.1\r\nHost: proxy\r\n\r\n", 400, b"This is a proxy, not a website"),
        (b"GET https://a.example/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, b"CONNECT"),
        (b"GET ftp://a.example/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, b"ftp://"),
        (b"GET a.example HTTP/1.1\r\nHost: a\r\n\r\n", 400, b"no http:// address"),
        (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400, b"host name is empty"),
        (b"GET http://user:pw@a.example/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, b"user information"),
        (b"GET http://a.example:99999/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, b"port"),
        (b"GET http://a.example/#f HTTP/1.1\r\nHost: a\r\n\r\n", 400, b"fragment"),
        (b"GET http://a_<b>/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, b"&lt;"),
    ],
)
def test_requests_that_are_not_for_a_proxy_are_told_so(request_: bytes, status: int, said: bytes) -> None:
    play = Play().says(request_)
    assert play.status() == status
    assert said in play.client
    assert play.asked == []
    assert [refusal.id for refusal in play.refusals] == ["id1"]
    assert play.exchanges[0].status == status
    assert play.says(GET).asked == [connect()]


def test_after_a_hundred_refusals_the_connection_ends() -> None:
    play = Play().says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
    assert len(play.refusals) == 100
    assert play.asked == [Close()]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\nabcd", 400),
        (b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
        (
            b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST http://a/ HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", 501),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\x00\r\n\r\n", 400),
        (b"GET http://a/\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n\x16\x03\x01", 400),
    ],
)
def test_requests_that_could_be_understood_in_two_ways_are_refused_and_nothing_after_them_is_read(
    request_: bytes, status: int
) -> None:
    play = Play().says(request_ + GET)
    assert play.status() == status
    assert play.client_fields()[b"connection"] == b"close"
    assert play.asked == [Close()]
    assert play.client.count(b"HTTP/1.1 ") == 1 + play.client.partition(b"\r\n\r\n")[2].count(b"HTTP/1.1 ")
    assert len(play.refusals) == 1
    assert play.says(GET).asked == []


def test_a_head_that_does_not_end_is_431() -> None:
    play = Play().says(b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX: " + b"y" * Limits().connect_head_bytes)
    assert play.status() == 431
    assert play.asked == [Close()]


def test_a_malformed_chunk_ends_the_upload_with_400() -> None:
    play = forwarded(b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    play.says(b"zz\r\n")
    assert play.status() == 400
    assert play.asked == [DropServer(), Close()]


def test_a_request_that_has_passed_here_before_is_a_loop() -> None:
    play = Play().says(GET[:-2] + b"Via: 1.1 other, 1.1 Sallyport-00C0FFEE (x)\r\n\r\n")
    assert play.status() == 502
    assert play.client_fields()[b"proxy-status"] == b"sallyport; error=proxy_loop_detected"
    play = Play().says(GET[:-2] + b"Via: 1.1 sallyport-00000000\r\n\r\n")
    assert play.asked == [connect()]


def test_json_is_for_who_prefers_it() -> None:
    play = Play().says(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
    assert play.client_fields()[b"content-type"] == b"application/problem+json"


def test_max_forwards_counts_down_and_ends_here() -> None:
    sent = forwarded(b"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 5\r\n\r\n").server_fields()
    assert sent[b"max-forwards"] == b"4"
    play = Play().says(
        b"TRACE http://a/x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nCookie: c\r\nAuthorization: t\r\nX: y\r\n\r\n"
    )
    assert play.status() == 200
    assert play.client_fields()[b"content-type"] == b"message/http"
    assert play.client.endswith(b"\r\n\r\nTRACE http://a/x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nX: y\r\n\r\n")
    assert play.asked == []
    play = Play().says(b"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
    assert b"GET" in play.client_fields()[b"allow"]
    get = forwarded(GET[:-2] + b"Max-Forwards: 0\r\n\r\n").server_fields()
    assert get[b"max-forwards"] == b"0"  # it counts for TRACE and OPTIONS only


# --- servers that misbehave ---


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", b"http_protocol_error"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"http_protocol_error"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", b"http_protocol_error"),
        (b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", b"http_protocol_error"),
        (SWITCH, b"http_protocol_error"),
    ],
)
def test_a_malformed_response_head_is_502(response: bytes, error: bytes) -> None:
    play = forwarded().replies(response)
    assert play.status() == 502
    assert play.client_fields()[b"proxy-status"] == b"sallyport; error=" + error
    assert play.asked == [DropServer()]
    assert play.says(GET).asked == [connect()]


def test_a_connection_that_ends_before_or_in_the_head_is_502() -> None:
    play = forwarded().server_ends()
    assert play.client_fields()[b"proxy-status"] == b"sallyport; error=connection_terminated"
    play = forwarded().replies(b"HTTP/1.1 200 OK\r\nX").server_ends()
    assert play.client_fields()[b"proxy-status"] == b"sallyport; error=http_response_incomplete"
    play = forwarded().server_ends(orderly=False)
    assert play.client_fields()[b"proxy-status"] == b"sallyport; error=connection_terminated"


@pytest.mark.parametrize(
    ("response", "more"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"zz\r\n"),
    ],
)
def test_a_body_that_breaks_off_or_breaks_resets_the_client(response: bytes, more: bytes | None) -> None:
    play = forwarded().replies(response)
    assert play.status() == 200
    play = play.server_ends() if more is None else play.replies(more)
    assert play.client == b""
    assert play.asked == [DropServer(), Abort()]
    assert play.exchanges[0].outcome == "cut"
    assert play.exchanges[0].response_bytes == 3


# --- clients that leave ---


def test_a_client_that_ends_between_requests_is_closed() -> None:
    assert Play().client_ends().asked == [Close()]
    play = forwarded()
    play.replies(OK)
    assert play.client_ends().asked == [DropServer(), Close()]


def test_a_client_that_ends_after_its_request_still_gets_the_answer() -> None:
    play = forwarded()
    assert play.client_ends().asked == []
    play.replies(OK)
    assert play.status() == 200
    assert play.asked == [DropServer(), Close()]


def test_a_client_that_ends_inside_its_request_gets_nothing() -> None:
    play = Play()
    play.says(GET[:20])
    play.client_ends()
    assert (play.client, play.asked) == (b"", [Close()])
    play = forwarded(b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc")
    play.client_ends()
    assert (play.client, play.asked) == (b"", [DropServer(), Close()])
    assert play.exchanges[0].outcome == "cut"


def test_a_client_that_is_lost_takes_its_server_with_it() -> None:
    play = Play()
    play.says(GET)
    assert play.run(play.core.client_lost()).asked == [DropServer()]
    assert play.connects().asked == []
    assert play.core.phase is Phase.CLOSED
    assert play.exchanges[0].outcome == "cut"
    play = forwarded()
    assert play.run(play.core.client_lost()).asked == [DropServer()]


# --- whatever comes ---

CLIENT = st.sampled_from(
    [GET, GET[:30], GET[30:], WEBSOCKET, b"POST http://a/ HTTP/1.1\r\nHost: a\r\n", b"Content-Length: 3\r\n", b"\r\n",
     b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", b"\x00",
     b"HEAD http://b/ HTTP/1.0\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"]
)  # fmt: skip
SERVER = st.sampled_from(
    [OK, SWITCH, b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n", b"\x00", b"HTTP/1.1 ",
     b"0\r\nX: y\r\n\r\n"]
)  # fmt: skip
EVENTS = st.one_of(
    CLIENT.map(lambda data: ("says", data)),
    SERVER.map(lambda data: ("replies", data)),
    st.just(("connects",)),
    st.booleans().map(lambda orderly: ("server_ends", orderly)),
    st.just(("refused",)),
    st.just(("client_ends",)),
)


@settings(deadline=None, max_examples=800)
@given(st.lists(EVENTS, max_size=14))
def test_no_order_of_events_raises_and_every_exchange_is_told_once(events: list[tuple[object, ...]]) -> None:
    play = Play()
    begun = ended = False
    for name, *arguments in events:
        if name == "client_ends":
            ended = True
        if name == "says" and ended:
            continue
        if name == "connects" and play.core.phase is not Phase.CONNECTING:
            continue
        if name == "refused":
            play.run(play.core.refused(refusals.dns_error("a", "1")))
        else:
            getattr(play, str(name))(*arguments)
        begun = begun or bool(play.asked)
        assert play.asked.count(Close()) + play.asked.count(Abort()) <= 1
        if Close() in play.asked or Abort() in play.asked:
            assert play.core.phase is Phase.CLOSED
    play.run(play.core.client_lost())
    assert all(exchange.ended >= exchange.started > 0 for exchange in play.exchanges)
    assert len({id(exchange) for exchange in play.exchanges}) == len(play.exchanges)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_arbitrary_bytes_on_either_side_never_raise(client: bytes, server: bytes) -> None:
    Play().says(client)
    forwarded().replies(server).server_ends()
    forwarded().says(client).replies(server)


# --- what a stranger can cause ---


def test_small_chunks_of_one_read_go_on_as_one_write() -> None:
    play = forwarded()
    play.replies(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    (command,) = play.core.server_data(b"1\r\nx\r\n" * 300)
    assert command == ToClient(b"1\r\nx\r\n" * 300)
    play = forwarded(b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    (sent,) = play.core.client_data(b"1\r\nx\r\n" * 300)
    assert sent == ToServer(b"1\r\nx\r\n" * 300)


def test_joining_keeps_the_order() -> None:
    a, b, c = ToClient(b"a"), ToServer(b"b"), ToClient(b"c")
    drop = DropServer()
    assert joined([a, c, b, a, drop, c, drop, drop]) == [ToClient(b"ac"), b, a, drop, c, drop, drop]


def test_no_request_begins_while_the_client_does_not_read() -> None:
    play = Play()
    play.core.client_full = True
    play.says(GET)
    assert play.asked == []
    assert not play.core.reading_head
    play.core.client_full = False
    assert play.run(play.core.go_on()).asked == [connect()]


def test_after_a_hundred_answers_of_our_own_the_connection_ends() -> None:
    play = Play()
    play.says(b"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n" * 150)
    assert play.client.count(b"HTTP/1.1 200 ") == 100
    assert play.asked == [Close()]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\nAuthorization : Basic c2VjcmV0\r\n\r\n", "NAME: VALUE"),
        (b"GET http://c2VjcmV0 HTTP/1.1 x\r\nHost: a\r\n\r\n", "METHOD TARGET"),
        (b"GET http://u:c2VjcmV0/@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "user information"),
        (b"CONNECT u:c2VjcmV0@a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "no tunnel"),
    ],
)
def test_a_refusal_does_not_repeat_what_may_be_a_secret(head: bytes, said: str) -> None:
    play = Play()
    play.says(head)
    assert play.status() == 400
    assert said in play.refusals[0].explanation
    assert "c2VjcmV0" not in repr(play.refusals[0])
    assert b"c2VjcmV0" not in play.client


def test_a_head_is_being_read_from_its_first_byte_to_its_last() -> None:
    play = forwarded()
    assert not play.core.reading_head
    play.replies(OK)
    assert not play.core.reading_head
    for byte in GET[:-1]:
        play.says(bytes([byte]))
        assert play.core.reading_head
    play.says(GET[-1:])
    assert not play.core.reading_head


def test_more_than_can_be_worked_on_in_one_turn_waits_for_the_next_in_both_directions() -> None:
    play = forwarded(b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunks = b"1\r\nx\r\n" * (2 * MOST_EVENTS)
    (asked,) = play.core.client_data(chunks + b"0\r\n\r\n")
    assert isinstance(asked, ToServer)
    assert len(asked.data) <= MOST_EVENTS * 6
    assert play.core.more
    assert play.core.full
    rest = b""
    while play.core.more:
        rest += b"".join(one.data for one in play.core.go_on() if isinstance(one, ToServer))
    assert asked.data + rest == chunks + b"0\r\n\r\n"
    play.replies(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    (answered,) = play.core.server_data(chunks + b"0\r\n\r\n")
    assert isinstance(answered, ToClient)
    play.core.server_gone(orderly=False)  # behind all of it, though it is not worked through yet
    rest = b""
    while play.core.more:
        rest += b"".join(one.data for one in play.core.go_on() if isinstance(one, ToClient))
    assert answered.data + rest == chunks + b"0\r\n\r\n"


def test_a_response_head_without_end_is_502() -> None:
    play = forwarded().replies(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2 * Limits().header_bytes)
    assert play.status() == 502
    assert b'http_response_header_section_size; details="header_bytes"' in play.client_fields()[b"proxy-status"]


def test_a_head_with_more_fields_than_may_pass_is_refused_either_way() -> None:
    fields = b"".join(b"X-%d: y\r\n" % n for n in range(Limits().header_fields + 1))
    play = Play().says(b"GET http://a/ HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
    assert play.status() == 431
    assert play.client_fields()[b"proxy-status"] == b'sallyport; error=http_request_error; details="header_fields"'
    play = forwarded().replies(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
    assert play.status() == 502
    assert b"http_response_header_section_size" in play.client_fields()[b"proxy-status"]


# --- requests for the proxy itself ---


def own(alone: bool = False) -> Ours:
    """Answers with what it was asked: the path, and whether it came straight."""

    def answer(request: h11.Request, path: str, straight: bool) -> Answer:
        body = f"{path} {straight}".encode()
        return Answer(200, [(b"Content-Length", b"%d" % len(body))], body)

    return Ours("own.example", answer, lambda named: named == b"192.0.2.7:8080", alone)


def test_a_request_for_the_proxy_itself_is_answered_and_nobody_is_connected_to() -> None:
    play = Play(own()).says(b"GET http://OWN.example:81/a?b HTTP/1.1\r\nHost: own.example\r\n\r\n")
    assert (play.status(), play.asked) == (200, [])
    assert play.client.endswith(b"/a?b False")
    assert (play.exchanges[0].host, play.exchanges[0].status) == ("own.example:81", 200)
    # The connection goes on, to others too, and back.
    assert play.says(GET).asked == [connect()]
    play.connects().replies(OK)
    assert play.says(b"GET http://own.example/ HTTP/1.1\r\nHost: own.example\r\n\r\n").client.endswith(b"/ False")


def test_the_body_of_one_is_dropped_and_an_ambiguous_one_ends_the_connection() -> None:
    post = b"POST http://own.example/ HTTP/1.1\r\nHost: own.example\r\nContent-Length: 3\r\n\r\nabc"
    play = Play(own()).says(post + GET)
    assert (play.status(), play.asked) == (200, [connect()])
    both = b"POST http://own.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    play = Play(own()).says(both)
    assert (play.status(), play.asked) == (400, [Close()])


def test_where_others_are_another_lanes_the_connection_ends_with_the_answer() -> None:
    play = Play(own(alone=True)).says(b"GET http://own.example/ HTTP/1.1\r\nHost: own.example\r\n\r\n" + GET)
    assert (play.status(), play.asked) == (200, [Close()])
    assert b"Connection: close" in play.client
    assert play.says(GET).asked == []
    # Whatever was taken for a request for the proxy itself goes nowhere else.
    assert Play(own(alone=True)).says(GET).asked == [Close()]


def test_who_takes_the_proxy_for_a_web_server_is_answered_where_that_may_be() -> None:
    straight = b"GET /proxy.pac HTTP/1.1\r\nHost: 192.0.2.7:8080\r\n\r\n"
    assert Play(own()).says(straight).client.endswith(b"/proxy.pac True")
    rebound = straight.replace(b"192.0.2.7", b"rebound.example")
    play = Play(own()).says(rebound)
    assert (play.status(), play.refusals[0].details) == (400, "origin_form")
    assert Play().says(straight).status() == 400
    # Behind a gateway it is a server's address, and no word for us.
    assert Play(own(), origin=True).says(straight).asked == [connect("192.0.2.7", 8080)]
