"""What a SOCKS5 client and its server say to each other before the tunnel stands (RFC 1928, RFC 1929).

Each reader gets the bytes that have come and gives a message with its size, or None while more are needed. A message
has 513 bytes at most, so nothing here needs a limit, or remembers where it stopped.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from certs.names import Host, InvalidHost, parse_host

VERSION = 5
CREDENTIALS_VERSION = 1
"""Of the negotiation of RFC 1929, which counts for itself."""

NO_AUTHENTICATION = 0
USERNAME_PASSWORD = 2
NOT_ACCEPTABLE = 0xFF
"""Methods (RFC 1928, section 3)."""

SUCCEEDED = 0
GENERAL_FAILURE = 1
NOT_ALLOWED = 2
NETWORK_UNREACHABLE = 3
HOST_UNREACHABLE = 4
CONNECTION_REFUSED = 5
COMMAND_NOT_SUPPORTED = 7
ADDRESS_TYPE_NOT_SUPPORTED = 8
"""Replies (RFC 1928, section 6)."""

REPLIES = {
    "destination_ip_prohibited": NOT_ALLOWED,
    "http_request_denied": NOT_ALLOWED,
    "dns_error": HOST_UNREACHABLE,
    "dns_timeout": HOST_UNREACHABLE,
    "connection_timeout": HOST_UNREACHABLE,
    "destination_ip_unroutable": NETWORK_UNREACHABLE,
    "connection_refused": CONNECTION_REFUSED,
}
"""What is replied for an error type of RFC 9209; for any other it is GENERAL_FAILURE."""

_CONNECT = 1
_COMMANDS = {2: "BIND", 3: "UDP ASSOCIATE"}
_IPV4, _NAME, _IPV6 = 1, 3, 4
_SIZES = {_IPV4: 4, _IPV6: 16}
_FIXED = 4
"""Bytes of a request before its address."""
_NOWHERE = bytes((_IPV4, 0, 0, 0, 0, 0, 0))
"""The address and port from which the server was connected to: nobody knows them yet when the reply is made."""


class BadSocks(ValueError):  # noqa: N818 - named after what is bad, as BadHead and BadClientHello are
    """The client does not speak SOCKS5, or asks for what is not served. ``reply``: the code to say to a request."""

    def __init__(self, message: str, reply: int = GENERAL_FAILURE) -> None:
        super().__init__(message)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Greeting:
    """The methods that a client offers (RFC 1928, section 3)."""

    methods: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who the client says it is (RFC 1929, section 2). None: what it sent is no text."""

    name: str | None
    password: str | None = field(repr=False)
    size: int


@dataclass(frozen=True, slots=True)
class Request:
    """Where a client wants to go (RFC 1928, section 4)."""

    host: Host
    port: int
    size: int


def read_greeting(buffer: bytes | bytearray) -> Greeting | None:
    """The client's first message. Raises :class:`BadSocks`."""
    if buffer and buffer[0] != VERSION:
        spoken = "SOCKS4" if buffer[0] == 4 else f"a first byte of {buffer[0]:#04x}"
        raise BadSocks(f"expected SOCKS5, got {spoken}")
    if len(buffer) < 2 or len(buffer) < (size := 2 + buffer[1]):
        return None
    return Greeting(bytes(buffer[2:size]), size)


def method_chosen(method: int) -> bytes:
    """The answer to a greeting."""
    return bytes((VERSION, method))


def read_credentials(buffer: bytes | bytearray) -> Credentials | None:
    """A user's name and password. Raises :class:`BadSocks`."""
    if buffer and buffer[0] != CREDENTIALS_VERSION:
        raise BadSocks(f"expected a user name and a password (RFC 1929), got version {buffer[0]}")
    if len(buffer) < 2 or len(buffer) <= (after_name := 2 + buffer[1]):
        return None
    if len(buffer) < (size := after_name + 1 + buffer[after_name]):
        return None
    return Credentials(_text(buffer[2:after_name]), _text(buffer[after_name + 1 : size]), size)


def credentials_answer(right: bool) -> bytes:
    """The answer to credentials; where they are wrong, the connection ends with it."""
    return bytes((CREDENTIALS_VERSION, 0 if right else 1))


def read_request(buffer: bytes | bytearray) -> Request | None:
    """What the client asks for. Raises :class:`BadSocks`.

    A domain name is taken as the name of a CONNECT is; one beyond ASCII as UTF-8.
    """
    if buffer and buffer[0] != VERSION:
        raise BadSocks(f"expected a request of SOCKS5, got version {buffer[0]}")
    if len(buffer) <= _FIXED:
        return None
    _, command, reserved, kind = buffer[:_FIXED]
    begin = _FIXED + (kind == _NAME)
    length = buffer[_FIXED] if kind == _NAME else _SIZES.get(kind)
    if length is None:
        raise BadSocks(f"there is no address type {kind}", ADDRESS_TYPE_NOT_SUPPORTED)
    end = begin + length
    if len(buffer) < end + 2:
        return None
    # Only of a whole request is said what is wrong: bytes that nobody has read would reset the connection, reply and
    # all.
    if command != _CONNECT:
        named = _COMMANDS.get(command, f"command {command}")
        raise BadSocks(f"{named} is not served here; expected CONNECT", COMMAND_NOT_SUPPORTED)
    if reserved:
        raise BadSocks(f"the reserved byte of the request is {reserved}; expected 0")
    port = int.from_bytes(buffer[end : end + 2])
    if not port:
        raise BadSocks("the port is 0; expected 1 to 65535")
    return Request(_host(kind, bytes(buffer[begin:end])), port, end + 2)


def reply(code: int) -> bytes:
    """The answer to a request."""
    return bytes((VERSION, code, 0)) + _NOWHERE


def _host(kind: int, address: bytes) -> Host:
    if kind != _NAME:
        return parse_host(str(ipaddress.ip_address(address)))
    if (text := _text(address)) is None:
        raise BadSocks("the host name is no text (UTF-8)")
    try:
        return parse_host(text)
    except InvalidHost as error:
        raise BadSocks(str(error)) from None


def _text(data: bytes | bytearray) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
