"""What a client is told: page, problem document, and the same answer to every request over HTTP/1 and HTTP/2."""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.decision import Decision, Reason, Source
from certs.verdict import STRICTNESS, Action, Defect, Finding
from proxy import block, block_page, refusals
from proxy.block import Http1Answer, Http2Answer, Refusal, answer_bytes, headers, proxy_status, render
from proxy.plain_words import WORDS

NASTY = "\"><script>alert(1)</script>--><img src=x onerror=alert(1)>${title}'"
FINDINGS = (
    Finding(Defect.UNTRUSTED_ROOT, f"the chain ends in {NASTY}", "RFC 5280 6.1", 2, "Trust its CA."),
    Finding(Defect.EXPIRED, "valid until 2020-01-01", "RFC 5280 4.1.2.5", 0, ""),
)
REFUSAL = block.certificate(FINDINGS, "bad.example", "0123456789abcdef")


class Page(HTMLParser):
    """The elements, attributes, comments and text of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.comments: list[str] = []
        self.text = ""
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


# --- the page and the problem document ---


def test_the_page_says_what_why_where_and_whom_to_ask() -> None:
    content_type, body = render(REFUSAL, "text/html")
    page = Page(body)
    assert content_type == "text/html; charset=utf-8"
    for text in ("bad.example", "untrusted_root", "expired", "valid until 2020-01-01", "RFC 5280 4.1.2.5",
                 "Trust its CA.", "They can trust its CA", "ask the people who run this proxy",
                 "0123456789abcdef", "before anything of your request was sent"):  # fmt: skip
        assert text in page.text, text
    assert "bad.example" in page.comments[0]
    assert body.index(b"untrusted_root") < body.index(b"<html")


def test_nothing_of_a_stranger_becomes_markup() -> None:
    refusal = Refusal(502, "tls_certificate_error", NASTY, NASTY, NASTY, NASTY, NASTY, NASTY, FINDINGS)
    page = Page(render(refusal, None)[1])
    plain = Page(render(REFUSAL, None)[1])
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert sorted(page.tags) == sorted(plain.tags)
    assert len(page.comments) == 1
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    # Title twice, host, explanation, what a finding means, its own explanation, remedy, details, id.
    assert page.text.count(NASTY) == 9


def test_the_page_loads_nothing_and_its_policy_allows_its_own_style_only() -> None:
    content_type, body = render(REFUSAL, None)
    policy = dict(headers(REFUSAL, content_type, len(body)))["Content-Security-Policy"]
    style = re.search(rb"<style>(.*?)</style>", body, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1]).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "unsafe" not in policy
    assert b"url(" not in body
    assert b"@import" not in body
    assert not [name for name, _ in Page(body).attributes if name in ("src", "href", "style")]
    assert b"prefers-color-scheme: dark" in style[1]


def test_the_problem_document_is_rfc_9457_with_the_findings() -> None:
    content_type, body = render(REFUSAL, "application/problem+json")
    document = json.loads(body)
    assert content_type == "application/problem+json"
    assert document["type"] == "urn:sallyport:error:tls_certificate_error"
    assert document["status"] == 502
    assert document["title"] == REFUSAL.title
    assert document["detail"] == REFUSAL.explanation
    assert document["instance"] == "urn:sallyport:refusal:0123456789abcdef"
    assert document["error"] == "tls_certificate_error"
    assert document["details"] == "untrusted_root"
    assert [finding["defect"] for finding in document["findings"]] == ["untrusted_root", "expired"]
    assert document["findings"][1] == {
        "defect": "expired", "explanation": "valid until 2020-01-01", "clause": "RFC 5280 4.1.2.5", "certificate": 0,
        "remedy": "", "allowed": False,
    }  # fmt: skip
    assert document["contact"] is None


def decided(**actions: Action) -> Decision:
    reasons = tuple(Reason(Defect(name), action, Source.ROW) for name, action in actions.items())
    return Decision(min((each.action for each in reasons), key=STRICTNESS.__getitem__), reasons)


def test_details_and_the_pages_first_reason_are_the_first_defect_that_blocks() -> None:
    findings = (
        Finding(Defect.UNTRUSTED_ROOT, "nobody knows it", "RFC 5280 6.1", 1),
        Finding(Defect.EXPIRED, "it is old", "RFC 5280 4.1.2.5", 0),
        Finding(Defect.HOSTNAME_MISMATCH, "no such name", "RFC 9525 6", 0),
    )
    decision = decided(untrusted_root=Action.ALLOW, expired=Action.BLOCK, hostname_mismatch=Action.BLOCK)
    refusal = block.certificate(findings, "bad.example", "0123456789abcdef", decision)
    assert proxy_status(refusal) == 'sallyport; error=tls_certificate_error; details="expired"'
    assert refusal.findings[0].explanation == "it is old"
    assert refusal.by == ("row untrusted_root", "row expired", "row hostname_mismatch")
    assert refusal.defects == [Defect.UNTRUSTED_ROOT, Defect.EXPIRED, Defect.HOSTNAME_MISMATCH]
    text = Page(render(refusal, None)[1]).text
    places = [
        text.index(part) for part in ("What is wrong", "it is old", "no such name", "allowed here", "nobody knows")
    ]
    assert places == sorted(places)
    document = json.loads(render(refusal, "application/json")[1])
    assert [(one["defect"], one["allowed"]) for one in document["findings"]] == [
        ("expired", False), ("hostname_mismatch", False), ("untrusted_root", True),
    ]  # fmt: skip
    # Where nothing is set to block, the strictest is why: nobody can be warned of a further server, say.
    warned = decided(untrusted_root=Action.ALLOW, expired=Action.WARN, hostname_mismatch=Action.BYPASS)
    assert block.certificate(findings, "bad.example", "id", warned).details == "expired"
    assert block.certificate(findings, "bad.example", "id").details == "untrusted_root"


def test_a_server_that_wants_a_client_certificate_is_blocked_for_that_where_its_own_defects_are_allowed() -> None:
    findings = (Finding(Defect.EXPIRED, "it is old", "", 0), Finding(Defect.PROTOCOL, "it asks for one", ""))
    decision = decided(expired=Action.ALLOW, protocol=Action.BLOCK)
    refusal = block.certificate(findings, "bad.example", "id", decision)
    assert proxy_status(refusal) == 'sallyport; error=tls_protocol_error; details="protocol"'
    assert [finding.defect for finding in refusal.findings] == [Defect.PROTOCOL, Defect.EXPIRED]
    assert refusal.by == ("row expired", "row protocol")


@pytest.mark.parametrize("defect", Defect)
def test_each_defect_is_said_in_plain_words_with_the_hosts_name_and_what_it_means(defect: Defect) -> None:
    refusal = block.certificate([Finding(defect, "so", "RFC 1 2")] * 2, "bad.example", "0123456789abcdef")
    page = Page(render(refusal, None)[1])
    what, means = (words.format(host="bad.example") for words in WORDS[defect])
    assert page.text.count(what) == page.text.count(means) == 1
    assert page.text.count(f"{defect.value}: so (RFC 1 2).") == 2
    assert not re.search(r"RFC|X\.509|keyUsage|issuer|anchor|root", what + means)
    assert len(what) < 80
    assert len(means) < 160


def test_whom_to_ask_is_on_the_page_and_in_the_document_where_it_is_configured() -> None:
    block_page.set_contact('Help desk <help@corp.example>, "ext." 4711')
    try:
        page = Page(render(REFUSAL, None)[1])
        assert 'Whom to ask: Help desk <help@corp.example>, "ext." 4711' in page.text
        assert "Whom to ask: Help desk" in page.comments[0]
        assert "help@corp.example" not in page.tags
        assert json.loads(render(block.loop("a", "id"), "application/json")[1])["contact"].startswith("Help desk <")
        assert "Help desk" in Page(render(block.loop("a", "id"), None)[1]).text
    finally:
        block_page.set_contact(None)
    assert "Whom to ask" not in Page(render(REFUSAL, None)[1]).text


def test_an_id_that_is_a_uuid_is_a_uuid_urn() -> None:
    refusal = block.dns_error("a", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff")
    assert json.loads(render(refusal, "application/json")[1])["instance"] == (
        "urn:uuid:6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
    )


@pytest.mark.parametrize(
    ("accept", "json_wins"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json", True),
        ("application/problem+json", True),
        ("Application/JSON ; charset=utf-8", True),
        ("application/json, text/plain, */*", True),
        ("application/*", True),
        ("text/*, application/json;q=0.5", False),
        ("text/html;q=0.5, application/json;q=0.6", True),
        ("text/html;q=0.6, application/problem+json;q=0.5", False),
        ("text/html, application/json", False),
        ("application/json, text/html", True),
        ("application/json;q=0", False),
        ("application/json;q=0, */*", False),
        ("application/json;q=2", False),
        ("application/json;q=0.5, */*", False),
        ("text/html;q=0, */*;q=0.1", True),
        ("image/png", False),
        (";;;,,,q=", False),
    ],
)
def test_accept_decides(accept: str | None, json_wins: bool) -> None:
    assert (render(REFUSAL, accept)[0] == "application/problem+json") is json_wins


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("aplication/json*;q=01.,txhm ", max_size=60))
def test_any_accept_gets_an_answer(accept: str) -> None:
    assert render(REFUSAL, accept)[1]


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_in_a_refusal_can_be_written(host: str, details: str) -> None:
    refusal = Refusal(502, "x", details, host, details, host, host, details)
    answer = answer_bytes(refusal, None)
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.receive_data(answer)
    assert isinstance(connection.next_event(), h11.Response)


# --- the words ---


@pytest.mark.parametrize(
    ("details", "value"),
    [
        (None, "sallyport; error=dns_error"),
        ("expired", 'sallyport; error=dns_error; details="expired"'),
        ('a"b\\c', 'sallyport; error=dns_error; details="a\\"b\\\\c"'),
        ("é\r\nX: y", 'sallyport; error=dns_error; details="???X: y"'),
    ],
)
def test_proxy_status_is_a_structured_field(details: str | None, value: str) -> None:
    assert proxy_status(Refusal(502, "dns_error", details, "", "", "", "", "")) == value


@pytest.mark.parametrize(
    ("refusal", "status", "line"),
    [
        (REFUSAL, 502, 'sallyport; error=tls_certificate_error; details="untrusted_root"'),
        (
            block.certificate((Finding(Defect.PROTOCOL, "x", ""),), "a", "1"),
            502,
            'sallyport; error=tls_protocol_error; details="protocol"',
        ),
        (block.sni_mismatch("a", "b", "1"), 403, 'sallyport; error=http_request_denied; details="sni_mismatch"'),
        (block.destination_prohibited("a", "10.0.0.1", "1"), 403, "sallyport; error=destination_ip_prohibited"),
        (block.destination_prohibited("a", "", "1"), 403, "sallyport; error=destination_ip_prohibited"),
        (block.dns_error("a", "1"), 502, "sallyport; error=dns_error"),
        (block.dns_timeout("a", "1"), 504, "sallyport; error=dns_timeout"),
        (block.connection_refused("a", 443, "1"), 502, "sallyport; error=connection_refused"),
        (block.connection_timeout("a", 443, "1"), 504, "sallyport; error=connection_timeout"),
        (block.connection_terminated("a", 443, "1"), 502, "sallyport; error=connection_terminated"),
        (
            block.unreachable("destination_ip_unroutable", "a", 1, "1"),
            502,
            "sallyport; error=destination_ip_unroutable",
        ),
        (block.unreachable("never heard of", "a", 1, "1"), 503, "sallyport; error=destination_unavailable"),
        (block.bad_request(431, "too long", "1"), 431, "sallyport; error=http_request_error"),
        (block.not_tls("a", "1"), 403, 'sallyport; error=http_request_denied; details="not_tls"'),
        (block.wrong_scheme("https", "1"), 400, 'sallyport; error=http_request_denied; details="scheme"'),
        (block.internal("a", "1"), 502, "sallyport; error=proxy_internal_error"),
        (block.loop("a", "1"), 502, "sallyport; error=proxy_loop_detected"),
    ],
)
def test_each_standard_refusal_has_its_status_and_error_type(refusal: Refusal, status: int, line: str) -> None:
    assert (refusal.status, proxy_status(refusal)) == (status, line)
    for text in (refusal.title, refusal.explanation, refusal.remedy):
        assert text
        assert "None" not in text
    assert refusal.remedy.endswith(".")
    assert refusal.explanation.endswith((".", ")"))


def test_what_the_system_said_is_told_and_bounded() -> None:
    assert "(no route)" in block.unreachable("destination_ip_unroutable", "a", 1, "1", "no route").explanation
    assert len(block.unreachable("connection_refused", "a", 1, "1", "x" * 9999).explanation) < 600


# --- whole answers ---


def test_an_answer_to_connect_is_a_whole_response() -> None:
    answer = answer_bytes(REFUSAL, None)
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 502 Bad Gateway"
    assert "Cache-Control: no-store" in lines
    assert "X-Content-Type-Options: nosniff" in lines
    assert "Connection: close" in lines
    assert f"Content-Length: {len(body)}" in lines
    assert 'Proxy-Status: sallyport; error=tls_certificate_error; details="untrusted_root"' in lines
    assert body == render(REFUSAL, None)[1]
    assert answer_bytes(REFUSAL, None, head_only=True) == head + b"\r\n\r\n"
    assert b"Connection" not in answer_bytes(REFUSAL, None, close=False).partition(b"\r\n\r\n")[0]


# --- HTTP/1 ---


def ask1(client: h11.Connection, method: str = "GET", accept: str = "*/*", body: bytes = b"") -> bytes:
    fields = [("Host", "a"), ("Accept", accept), *([("Content-Length", str(len(body)))] if body else [])]
    out = client.send(h11.Request(method=method, target="/", headers=fields))
    out += client.send(h11.Data(data=body)) if body else b""
    return out + client.send(h11.EndOfMessage())


def answer1(client: h11.Connection, data: bytes) -> tuple[h11.Response, bytes]:
    client.receive_data(data)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        body += event.data
    return response, body


def test_every_http1_request_gets_the_refusal_and_the_connection_stays() -> None:
    client, server = h11.Connection(h11.CLIENT), Http1Answer(REFUSAL)
    assert server.start() == b""
    for _ in range(3):
        response, body = answer1(client, server.feed(ask1(client)))
        assert response.status_code == 502
        assert body == render(REFUSAL, None)[1]
        assert not server.done
        client.start_next_cycle()
    response, body = answer1(client, server.feed(ask1(client, accept="application/json")))
    assert dict(response.headers)[b"content-type"] == b"application/problem+json"
    assert json.loads(body)["status"] == 502


def test_http1_bytes_one_by_one_and_pipelined_give_the_same() -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    slow, fast = Http1Answer(REFUSAL), Http1Answer(REFUSAL)
    one_by_one = b"".join(slow.feed(bytes([byte])) for byte in request * 2)
    assert one_by_one == fast.feed(request * 2)
    assert one_by_one.count(b"HTTP/1.1 502 Bad Gateway") == 2
    assert not fast.done


def test_head_gets_no_body_over_http1() -> None:
    client, server = h11.Connection(h11.CLIENT), Http1Answer(REFUSAL)
    response, body = answer1(client, server.feed(ask1(client, "HEAD")))
    assert body == b""
    assert int(dict(response.headers)[b"content-length"]) == len(render(REFUSAL, None)[1])
    client.start_next_cycle()
    assert answer1(client, server.feed(ask1(client)))[1]


def test_an_http10_client_is_answered_and_the_connection_ends() -> None:
    server = Http1Answer(REFUSAL)
    assert b"502 Bad Gateway" in server.feed(b"GET / HTTP/1.0\r\n\r\n")
    assert server.done


def test_a_request_body_is_dropped_and_the_next_request_answered() -> None:
    client, server = h11.Connection(h11.CLIENT), Http1Answer(REFUSAL)
    answer1(client, server.feed(ask1(client, "POST", body=b"x" * 100_000)))
    assert not server.done
    client.start_next_cycle()
    assert answer1(client, server.feed(ask1(client)))[0].status_code == 502


def test_a_body_of_more_than_1_mib_ends_the_connection_after_the_answer() -> None:
    server = Http1Answer(REFUSAL)
    out = server.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n")
    assert b"502 Bad Gateway" in out
    for _ in range(16):
        assert server.feed(b"x" * 65536) == b""
    assert not server.done
    server.feed(b"x")
    assert server.done


def test_expect_100_continue_gets_the_answer_at_once_and_no_100() -> None:
    server = Http1Answer(REFUSAL)
    out = server.feed(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
    assert out.startswith(b"HTTP/1.1 502 ")
    assert b"\r\nConnection: close\r\n" in out
    assert server.done


def test_the_hundredth_request_is_the_last() -> None:
    server = Http1Answer(REFUSAL)
    out = server.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 150)
    assert out.count(b"HTTP/1.1 502 Bad Gateway") == 100
    assert out.count(b"Connection: close") == 1
    assert server.done


def test_a_malformed_request_is_answered_and_bytes_that_are_no_text_are_not() -> None:
    server = Http1Answer(REFUSAL)
    assert server.feed(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 502 ")  # no Host
    assert server.done
    server = Http1Answer(REFUSAL)
    assert server.feed(b"\x00\x01\r\n\r\n") == b""
    assert server.done


# --- HTTP/2 ---


class Client2:
    """An h2 client and the answer it talks to."""

    def __init__(self, window: int | None = None) -> None:
        self.server = Http2Answer(REFUSAL)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.events: list[h2.events.Event] = []
        if window is not None:
            self.h2.local_settings = h2.settings.Settings(
                client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
            )
        self.h2.initiate_connection()
        self.receive(self.server.start())

    def receive(self, data: bytes) -> None:
        self.events += self.h2.receive_data(data)

    def ask(self, stream: int, end: bool = True, **fields: str) -> None:
        request = {":method": "GET", ":path": "/", ":scheme": "https", ":authority": "a"}
        request |= {name.replace("pseudo_", ":"): value for name, value in fields.items()}
        self.h2.send_headers(stream, list(request.items()), end_stream=end)

    def exchange(self, rounds: int = 10) -> None:
        for _ in range(rounds):
            if data := self.h2.data_to_send():
                self.receive(self.server.feed(data))

    def answer(self, stream: int) -> tuple[dict[str, str], bytes]:
        fields = [dict(e.headers or ()) for e in self.events
                  if isinstance(e, h2.events.ResponseReceived) and e.stream_id == stream]  # fmt: skip
        body = [e.data or b"" for e in self.events
                if isinstance(e, h2.events.DataReceived) and e.stream_id == stream]  # fmt: skip
        assert len(fields) == 1
        return {str(k): str(v) for k, v in fields[0].items()}, b"".join(body)

    def goaways(self) -> list[int | None]:
        return [e.last_stream_id for e in self.events if isinstance(e, h2.events.ConnectionTerminated)]


def test_every_stream_gets_the_refusal_and_then_the_connection_ends() -> None:
    client = Client2()
    for stream in (1, 3, 5):
        client.ask(stream)
    client.receive(client.server.feed(client.h2.data_to_send()))
    for stream in (1, 3, 5):
        fields, body = client.answer(stream)
        assert fields[":status"] == "502"
        assert fields["proxy-status"] == 'sallyport; error=tls_certificate_error; details="untrusted_root"'
        assert fields["cache-control"] == "no-store"
        assert body == render(REFUSAL, None)[1]
    assert client.goaways() == [2**31 - 1]
    assert not client.server.done
    # h2's client closes at the first GOAWAY, so the PING is answered with bytes.
    out = client.server.feed(ping_ack())
    assert client.server.done
    assert out == bytes.fromhex("000008 07 00 00000000 00000005 00000000")


def ping_ack() -> bytes:
    return bytes.fromhex("000008 06 01 00000000") + b"sallypor"


def raw_client() -> tuple[Http2Answer, Callable[[int], bytes]]:
    """An answer that has seen the preface, and a maker of requests (a client that goes on after GOAWAY)."""
    server = Http2Answer(REFUSAL)
    server.start()
    assert server.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000 04 00 00000000"))

    def request(stream: int) -> bytes:
        block_ = bytes([0x82, 0x84, 0x87, 0x41, 0x01]) + b"a"
        return len(block_).to_bytes(3) + b"\x01\x05" + stream.to_bytes(4) + block_

    return server, request


def responses(data: bytes) -> list[int]:
    """The streams of the HEADERS frames in ``data``."""
    streams = []
    while data:
        size = int.from_bytes(data[:3])
        if data[3] == 1:
            streams.append(int.from_bytes(data[5:9]))
        data = data[9 + size :]
    return streams


def test_streams_opened_before_the_client_saw_the_goaway_are_answered_too() -> None:
    server, request = raw_client()
    assert responses(server.feed(request(1))) == [1]
    assert responses(server.feed(request(3) + request(5))) == [3, 5]
    out = server.feed(ping_ack())
    assert server.done
    assert out.endswith(bytes.fromhex("07 00 00000000 00000005 00000000"))
    assert server.feed(request(7)) == b""


def test_after_a_hundred_streams_it_ends() -> None:
    server, request = raw_client()
    answered: list[int] = []
    for number in range(150):
        # The client hands the window back, or the answers would wait for it.
        window = bytes.fromhex("000004 08 00 00000000 0000ffff")
        answered += responses(server.feed(request(2 * number + 1) + window))
    assert len(answered) == 100
    assert server.done


def test_a_small_window_is_respected_and_the_answer_still_arrives() -> None:
    client = Client2(window=100)
    client.ask(1)
    client.receive(client.server.feed(client.h2.data_to_send()))
    assert len(client.answer(1)[1]) == 100
    assert not [e for e in client.events if isinstance(e, h2.events.StreamEnded)]
    assert client.server.feed(ping_ack()) == b""
    assert not client.server.done  # the body is not out yet
    update = bytes.fromhex("000004 08 00 00000001 0000ffff")
    out = client.server.feed(update)
    assert out.endswith(bytes.fromhex("00000001 00000000"))  # the last GOAWAY
    assert client.server.done
    assert len(out) > len(render(REFUSAL, None)[1]) - 100


def test_head_gets_no_body_over_http2_and_json_goes_to_who_prefers_it() -> None:
    client = Client2()
    client.ask(1, pseudo_method="HEAD")
    client.ask(3, accept="application/json")
    client.receive(client.server.feed(client.h2.data_to_send()))
    assert client.answer(1)[1] == b""
    assert json.loads(client.answer(3)[1])["details"] == "untrusted_root"


def test_an_upload_over_http2_is_answered_at_once_and_its_body_dropped() -> None:
    client = Client2()
    client.ask(1, end=False, pseudo_method="POST")
    client.h2.send_data(1, b"x" * 1000)
    client.receive(client.server.feed(client.h2.data_to_send()))
    assert client.answer(1)[1] == render(REFUSAL, None)[1]
    assert not [e for e in client.events if isinstance(e, h2.events.StreamReset)]
    client.server.feed(ping_ack())
    assert not client.server.done  # the upload goes on
    client.server.feed(data_frame(1, 1000, end=True))
    assert client.server.done


def data_frame(stream: int, size: int, end: bool = False) -> bytes:
    return size.to_bytes(3) + bytes([0, int(end)]) + stream.to_bytes(4) + b"x" * size


def test_an_upload_of_more_than_1_mib_over_http2_is_told_to_stop() -> None:
    server, request = raw_client()
    head = bytearray(request(1))
    head[4] = 4  # END_HEADERS without END_STREAM
    assert responses(server.feed(bytes(head))) == [1]
    out = b""
    for _ in range(64):
        assert not server.done
        out += server.feed(data_frame(1, 16384))
    assert b"\x08\x00\x00\x00\x00\x01" in out  # WINDOW_UPDATE of the stream, or the client would wait
    assert not server.done
    last = server.feed(data_frame(1, 1))
    assert server.done
    assert bytes.fromhex("000004 03 00 00000001 00000000") in last  # RST_STREAM, NO_ERROR
    assert last.endswith(bytes.fromhex("07 00 00000000 00000001 00000000"))


@pytest.mark.parametrize(
    "frame",
    [
        "000008 06 00 00000000 0000000000000000",  # PING
        "000000 04 00 00000000",  # SETTINGS
        "000000 ff 00 00000000",  # unknown
        "000005 02 00 00000001 0000000000",  # PRIORITY
    ],
)
def test_a_flood_of_frames_ends_the_connection(frame: str) -> None:
    server, _ = raw_client()
    sent = 0
    while not server.done and sent < 2000:
        server.feed(bytes.fromhex(frame))
        sent += 1
    assert 900 <= sent <= 1001
    server, _ = raw_client()
    assert len(server.feed(bytes.fromhex(frame) * 5000)) < 100
    assert server.done


def test_rapid_reset_ends_the_connection() -> None:
    server, request = raw_client()
    for number in range(1000):
        stream = 2 * number + 1
        server.feed(request(stream) + bytes.fromhex("000004 03 00") + stream.to_bytes(4) + bytes(4))
        if server.done:
            break
    assert server.done
    assert number <= 100


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_garbage_never_raises(pieces: list[bytes], preface: bool) -> None:
    for answer in (Http1Answer(REFUSAL), Http2Answer(REFUSAL)):
        answer.start()
        if preface and isinstance(answer, Http2Answer):
            answer.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000 04 00 00000000"))
        for piece in pieces:
            answer.feed(piece)


FRAMES = st.tuples(
    st.binary(max_size=40), st.integers(0, 10), st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1])
).map(lambda f: len(f[0]).to_bytes(3) + bytes(f[1:3]) + f[3].to_bytes(4) + f[0])


@settings(deadline=None, max_examples=400)
@given(st.lists(FRAMES | st.sampled_from([1, 3, 5]), max_size=8))
def test_any_frames_never_raise(frames: list[bytes | int]) -> None:
    server, request = raw_client()
    for frame in frames:
        server.feed(request(frame) if isinstance(frame, int) else frame)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(
    [b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n", b"Content-Length: 3\r\n", b"abc",
     b"Transfer-Encoding: chunked\r\n", b"3\r\n", b"0\r\n\r\n", b"Upgrade: x\r\n", b"CONNECT a:1 HTTP/1.1\r\n",
     b"Expect: 100-continue\r\n", b""]
), max_size=12))  # fmt: skip
def test_any_mix_of_http1_pieces_never_raises(pieces: list[bytes]) -> None:
    server = Http1Answer(REFUSAL)
    for piece in pieces:
        server.feed(piece)


# --- a real client ---


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_curl_reads_the_answer_whatever_it_asks(version: str, need: Callable[[str], str], tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(b"x" * 500_000)

    class Server(asyncio.Protocol):
        def __init__(self) -> None:
            self.answer = Http1Answer(REFUSAL) if version == "--http1.1" else Http2Answer(REFUSAL)

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport
            transport.write(self.answer.start())

        def data_received(self, data: bytes) -> None:
            self.transport.write(self.answer.feed(data))
            if self.answer.done:
                self.transport.close()

    async def scene() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        async with server, asyncio.timeout(30):
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            for arguments in ([url], ["-I", url], ["-T", str(upload), url], ["-T", str(upload), "-H", "Expect:", url]):
                process = await asyncio.create_subprocess_exec(
                    need("curl"), "-sS", version, "--noproxy", "*", "-o", str(tmp_path / "out"),
                    "-w", "%{http_code} %header{proxy-status}", *arguments,
                    stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={},
                )  # fmt: skip
                out, _ = await process.communicate()
                assert out.decode() == f"502 {proxy_status(REFUSAL)}"
                if "-I" not in arguments:
                    assert (tmp_path / "out").read_bytes() == render(REFUSAL, None)[1]

    asyncio.run(scene())


def reset_frame(stream: int) -> bytes:
    return bytes.fromhex("000004 03 00") + stream.to_bytes(4) + bytes(4)


def test_a_stream_reset_in_the_same_piece_does_not_take_the_others_along() -> None:
    server, request = raw_client()
    out = server.feed(request(1) + request(3) + reset_frame(1))
    assert responses(out) == [3]
    assert render(REFUSAL, None)[1] in out
    assert not server.done
    assert responses(server.feed(request(5))) == [5]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_what_is_open_when_the_client_says_goaway_is_answered_and_then_it_ends(size: int) -> None:
    server, request = raw_client()
    window = bytes.fromhex("000006 04 00 00000000 0004 00000064")  # SETTINGS: streams begin with a window of 100 bytes
    goaway = bytes.fromhex("000008 07 00 00000000 00000000 00000000")
    data, out = window + request(1) + request(3) + goaway, b""
    for place in range(0, len(data), size):
        assert not server.done
        out += server.feed(data[place : place + size])
    assert responses(out) == [1, 3]
    assert not server.done  # the bodies are not out yet
    for stream in (1, 3):
        out += server.feed(bytes.fromhex("000004 08 00") + stream.to_bytes(4) + (60_000).to_bytes(4))
    assert len(out) > 2 * len(render(REFUSAL, None)[1])
    assert server.done


def test_late_connect_and_the_shown_target_have_no_user_information() -> None:
    assert refusals.shown_target("user:p@ss@example.com:443") == "example.com:443"
    assert refusals.shown_target("a" * 200) == "a" * 100
    assert refusals.late_connect("user:secret@example.com:443", "id1").host == "example.com:443"
