from __future__ import annotations

import base64

import pytest

from certs.names import Host
from proxy.parent import Parent, ParentError
from proxy.parent_answer import LARGEST_HEAD, MOST_INTERIM, ConnectAnswer, refused

PARENT = Parent("proxy.example:3128", Host("proxy.example", is_ip=False), 3128)
LOGIN = b"Basic " + base64.b64encode(b"house:secret")
KNOWN = Parent("proxy.example:3128", Host("proxy.example", is_ip=False), 3128, LOGIN)
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


def answered(*pieces: bytes, parent: Parent = PARENT) -> bytes | None:
    """What comes of an answer in pieces: what is behind it, None where it is not whole. Nothing is given after it."""
    connect, rest = ConnectAnswer(parent, "good.example", 443), None
    for place, piece in enumerate(pieces):
        rest = connect.receive(piece)
        if rest is not None:
            return rest + b"".join(pieces[place + 1 :])
    return rest


def failed(*pieces: bytes, parent: Parent = PARENT) -> ParentError:
    with pytest.raises(ParentError) as caught:
        answered(*pieces, parent=parent)
    assert caught.value.parent == "proxy.example:3128"
    return caught.value


def test_the_request_names_host_and_port_twice_and_shows_the_credentials() -> None:
    head = ConnectAnswer(KNOWN, "good.example", 8443).request.decode()
    lines = head.split("\r\n")
    assert lines[0] == "CONNECT good.example:8443 HTTP/1.1"
    assert "Host: good.example:8443" in lines
    assert f"Proxy-Authorization: {LOGIN.decode()}" in lines
    assert any(line.startswith("Via: 1.1 sallyport-") for line in lines)
    assert head.endswith("\r\n\r\n")


def test_an_ipv6_address_is_in_brackets_and_without_credentials_none_are_sent() -> None:
    head = ConnectAnswer(PARENT, "2001:db8::1", 443).request
    assert head.startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n")
    assert b"uthorization" not in head


def test_the_credentials_are_in_no_repr() -> None:
    assert LOGIN.decode() not in repr(KNOWN)
    assert "house" not in repr(KNOWN)


@pytest.mark.parametrize("status", [b"200", b"204", b"299"])
def test_every_success_is_a_tunnel_and_what_its_fields_say_of_a_body_is_nothing(status: bytes) -> None:
    """RFC 9110 9.3.6: a client must ignore Content-Length and Transfer-Encoding in it."""
    for field in (b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"):
        assert answered(b"HTTP/1.1 " + status + b" Fine\r\n" + field + b"\r\n" + b"\x16\x03") == b"\x16\x03"


def test_an_answer_is_understood_wherever_it_is_cut() -> None:
    whole = b"HTTP/1.1 103 Early\r\nX: 1\r\n\r\n" + OK + b"SSH-2.0"
    for cut in range(1, len(whole)):
        assert answered(whole[:cut], whole[cut:]) == b"SSH-2.0"
    assert answered(*(whole[at : at + 1] for at in range(len(whole)))) == b"SSH-2.0"


def test_no_part_of_an_answer_is_an_answer() -> None:
    for cut in range(1, len(OK)):
        assert answered(OK[:cut]) is None
        assert failed(OK[:cut], b"").error == "http_response_incomplete"
    assert failed(b"").error == "connection_terminated"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (407, "proxy_configuration_error"),
        (403, "http_request_denied"),
        (404, "http_request_denied"),
        (451, "http_request_denied"),
        (500, "destination_unavailable"),
        (502, "destination_unavailable"),
        (503, "destination_unavailable"),
        (504, "destination_unavailable"),
        (302, "http_protocol_error"),
    ],
)
def test_a_refusal_is_told_by_its_head_alone(status: int, error: str) -> None:
    told = failed(b"HTTP/1.1 %d No\r\nContent-Length: 99999999\r\nX-Secret: inside.example\r\n\r\n<html>" % status)
    assert (told.error, told.status) == (error, status)
    assert str(status) in str(told)
    assert "inside" not in str(told)


def test_the_error_says_whether_there_were_credentials() -> None:
    assert "does not take the credentials" in str(refused(KNOWN, 407))
    assert "none are set" in str(refused(PARENT, 407))


@pytest.mark.parametrize(
    "lie",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: 1\r\n folded\0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 407 No\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_what_is_no_http_opens_no_tunnel_and_is_not_quoted(lie: bytes) -> None:
    told = failed(lie)
    assert told.error in ("http_protocol_error", "proxy_configuration_error")
    assert "OpenSSH" not in str(told)


def test_a_head_without_end_is_not_read_for_ever() -> None:
    assert failed(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n" * 100] * 100).error == "http_response_header_section_size"
    assert failed(b"HTTP/1.1 200 " + b"O" * LARGEST_HEAD, b"K" * 10).error == "http_response_header_section_size"


def test_neither_are_interim_answers() -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    assert answered(*[interim] * MOST_INTERIM, OK) == b""
    assert failed(*[interim] * (MOST_INTERIM + 1)).error == "http_protocol_error"
