"""SOCKS5's messages: read in any pieces, told apart from what is none, and every refusal with its reply."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from certs.names import Host
from proxy.listeners.socks5_messages import (
    ADDRESS_TYPE_NOT_SUPPORTED,
    COMMAND_NOT_SUPPORTED,
    GENERAL_FAILURE,
    BadSocks,
    credentials_answer,
    read_credentials,
    read_greeting,
    read_request,
    reply,
)


def request(address: bytes, port: int = 443, command: int = 1, reserved: int = 0) -> bytes:
    return bytes((5, command, reserved)) + address + port.to_bytes(2)


def named(name: bytes) -> bytes:
    return bytes((3, len(name))) + name


V4 = b"\x01" + socket.inet_aton("192.0.2.1")
V6 = b"\x04" + socket.inet_pton(socket.AF_INET6, "2001:db8::1")


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (read_greeting, b"\x05\x02\x00\x02"),
        (read_greeting, b"\x05\x00"),
        (read_credentials, b"\x01\x03ann\x06secret"),
        (read_credentials, b"\x01\x00\x00"),
        (read_request, request(V4)),
        (read_request, request(V6)),
        (read_request, request(named(b"good.example"))),
    ],
)
def test_a_message_is_whole_with_its_last_byte_and_not_before(read: Callable[[bytes], Any], message: bytes) -> None:
    for end in range(len(message)):
        assert read(message[:end]) is None
    found = read(message)
    assert found.size == len(message)
    assert read(message + b"\x16\x03\x01") == found


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (V4, Host("192.0.2.1", is_ip=True)),
        (V6, Host("2001:db8::1", is_ip=True)),
        (named(b"Good.Example."), Host("good.example", is_ip=False)),
        (named("bücher.example".encode()), Host("xn--bcher-kva.example", is_ip=False)),
        (named(b"192.0.2.1"), Host("192.0.2.1", is_ip=True)),
        (named(b"[2001:db8:0::1]"), Host("2001:db8::1", is_ip=True)),
    ],
)
def test_a_destination_is_the_host_that_any_other_way_in_would_see(address: bytes, host: Host) -> None:
    found = read_request(request(address, 8443))
    assert found is not None
    assert (found.host, found.port) == (host, 8443)


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (request(V4, command=2), COMMAND_NOT_SUPPORTED, "BIND is not served here"),
        (request(V4, command=3), COMMAND_NOT_SUPPORTED, "UDP ASSOCIATE is not served here"),
        (request(V6, command=0xF0), COMMAND_NOT_SUPPORTED, "command 240 is not served here"),
        (request(b"\x02" + bytes(4)), ADDRESS_TYPE_NOT_SUPPORTED, "there is no address type 2"),
        (request(V4, reserved=1), GENERAL_FAILURE, "the reserved byte of the request is 1"),
        (request(V4, port=0), GENERAL_FAILURE, "the port is 0"),
        (request(named(b"")), GENERAL_FAILURE, "the host name is empty"),
        (request(named(b"a" * 64)), GENERAL_FAILURE, "longer than 63"),
        (request(named(b"a." * 127 + b"a")), GENERAL_FAILURE, "at most 253"),
        (request(named(b"good.example:443")), GENERAL_FAILURE, "no IPv6 address and no host name"),
        (request(named(b"*.example")), GENERAL_FAILURE, "is a pattern"),
        (request(named(b"good.example\0.evil")), GENERAL_FAILURE, "no host name can have"),
        (request(named(b"0x7f.1")), GENERAL_FAILURE, "is no IPv4 address"),
        (request(named(b"fe80::1%eth0")), GENERAL_FAILURE, "has a zone"),
        (request(named(b"\xff.example")), GENERAL_FAILURE, "no text"),
        (b"\x04" + request(V4)[1:], GENERAL_FAILURE, "got version 4"),
    ],
)
def test_what_is_not_served_has_its_reply(message: bytes, code: int, words: str) -> None:
    with pytest.raises(BadSocks, match=words) as raised:
        read_request(message)
    assert raised.value.reply == code


def test_an_older_version_and_another_protocol_are_no_greeting() -> None:
    for first, spoken in ((b"\x04\x01", "SOCKS4"), (b"\x16\x03\x01", "0x16"), (b"\r\n\r\n\0\r\nQUIT\n", "0x0d")):
        with pytest.raises(BadSocks, match=f"expected SOCKS5, got .*{spoken}"):
            read_greeting(first)


def test_credentials_are_text_and_the_password_is_not_shown() -> None:
    found = read_credentials(b"\x01\x03ann\x06secret")
    assert found is not None
    assert (found.name, found.password) == ("ann", "secret")
    assert "secret" not in repr(found)
    found = read_credentials(b"\x01\x01\xff\x02\xc3\xa9")
    assert found is not None
    assert (found.name, found.password) == (None, "é")
    with pytest.raises(BadSocks, match="RFC 1929"):
        read_credentials(b"\x05\x03ann\x06secret")


def test_answers_are_as_the_rfcs_have_them() -> None:
    assert reply(7) == b"\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"
    assert (credentials_answer(True), credentials_answer(False)) == (b"\x01\x00", b"\x01\x01")
