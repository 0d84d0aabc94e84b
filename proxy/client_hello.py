"""Reads a TLS ClientHello out of a stranger's first bytes, before any TLS library sees them.

The session needs the server name, the ALPN offers and the versions to choose the server leg, and OpenSSL is to get
the same bytes afterwards; so nothing here changes or consumes them. Everything is bounded: the bytes by the caller's
limit, the work by being linear in them (:class:`HelloReader` carries on where it stopped).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_UNEXPECTED_MESSAGE: Final = 10
_RECORD_OVERFLOW: Final = 22
_ILLEGAL_PARAMETER: Final = 47
_DECODE_ERROR: Final = 50
_PROTOCOL_VERSION: Final = 70

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_MAX_FRAGMENT: Final = 2**14
_TLS12: Final = 0x0303
_TLS13: Final = b"\x03\x04"

_SERVER_NAME: Final = 0
_SIGNATURE_ALGORITHMS: Final = 13
_ALPN: Final = 16
_SUPPORTED_VERSIONS: Final = 43

_ECDSA_P256_SHA256: Final = 0x0403
# RFC 5289, 7251, 7905 and 8422: the suites that need a certificate with an ECDSA key.
_ECDHE_ECDSA: Final = frozenset(
    {0xC009, 0xC00A, 0xC023, 0xC024, 0xC02B, 0xC02C, 0xC0AC, 0xC0AD, 0xC0AE, 0xC0AF, 0xCCA9},
)

_RECORD = struct.Struct(">BHH").unpack_from
_PAIR = struct.Struct(">HH").unpack_from
_SHORT = struct.Struct(">H").unpack_from
# What may stand in a DNS name; the exact rules are those of certs.names.
_NAME_CHARACTERS: Final = bytes(range(0x21, 0x7F))


class NotTls(ValueError):  # noqa: N818 - it names what the bytes are; most callers then try something else
    """The first bytes are no TLS record of a handshake: another protocol, or the hello of SSL 2."""


class BadClientHello(ValueError):  # noqa: N818 - named after what is bad, as h11 and cryptography do
    """The bytes claim to be a ClientHello and are not a valid one.

    ``alert`` is the TLS AlertDescription (RFC 8446 section 6) to answer with.
    """

    def __init__(self, message: str, alert: int) -> None:
        super().__init__(message)
        self.alert = alert


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client asks for.

    ``server_name`` is as the client wrote it: ASCII, not normalised, None where there was no such extension.
    ``ecdsa``: a leaf with an ECDSA P-256 key can be verified by this client.
    """

    server_name: str | None
    alpn: tuple[bytes, ...]
    offers_tls13: bool
    offers_tls12: bool
    ecdsa: bool


def alert_record(description: int) -> bytes:
    """A fatal alert as a whole TLS record in the clear (RFC 8446 sections 5.1 and 6)."""
    return bytes((21, 3, 3, 0, 2, 2, description))


def parse(buffer: bytes | bytearray, limit: int) -> ClientHello | None:
    """The ClientHello at the start of ``buffer``; None while more bytes are needed.

    What follows the hello's last record (early data) is not looked at. At most ``limit`` bytes are taken; a hello
    that needs more is refused as soon as that shows. A caller that reads piece by piece keeps a
    :class:`HelloReader` instead, so that a hello in many small records is not walked from the start each time.

    Raises :class:`NotTls` and :class:`BadClientHello`.
    """
    return HelloReader(limit).read(buffer)


class HelloReader:
    """Joins the records of one ClientHello, carrying on where it stopped.

    Each call of :meth:`read` gets the same buffer again, grown at its end.
    """

    __slots__ = ("_limit", "_message", "_offset")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._offset = 0
        self._message = bytearray()

    @property
    def message(self) -> bytearray:
        """The handshake message so far, its header included; what follows it in the buffer is not in it."""
        return self._message

    def read(self, buffer: bytes | bytearray) -> ClientHello | None:
        """See :func:`parse`."""
        size = len(buffer)
        if not self._offset and size:
            if buffer[0] != _HANDSHAKE:
                raise NotTls(f"the first byte is {buffer[0]:#04x}, not 0x16 as in a TLS handshake record")
            if size > 1 and buffer[1] != 3:
                raise NotTls(f"the second byte is {buffer[1]:#04x}, not 0x03 as in a TLS record")
        message = self._message
        while size - self._offset >= 5:
            length = self._record_length(buffer)
            start = self._offset + 5
            end = start + length
            if end > size:
                # The first bytes of an unfinished record already tell how large the hello will be.
                self._needed(bytes(message) + buffer[start : start + 4])
                break
            message += buffer[start:end]
            self._offset = end
            needed = self._needed(message)
            if needed is None or len(message) < needed:
                continue
            if len(message) > needed:
                raise BadClientHello("bytes follow the ClientHello in its record", _UNEXPECTED_MESSAGE)
            if end > self._limit:
                self._refuse_size()
            return _parse_message(bytes(message))
        if size >= self._limit:
            self._refuse_size()
        return None

    def _record_length(self, buffer: bytes | bytearray) -> int:
        """The length of the record at the offset, its header being there; checked as RFC 8446 section 5.1 says."""
        kind, version, length = _RECORD(buffer, self._offset)
        if kind != _HANDSHAKE:
            raise BadClientHello(f"a record of type {kind} in the middle of the ClientHello", _UNEXPECTED_MESSAGE)
        if version >> 8 != 3:
            raise BadClientHello(f"a record of version {version:#06x}", _PROTOCOL_VERSION)
        if not length:
            raise BadClientHello("an empty handshake record", _UNEXPECTED_MESSAGE)
        if length > _MAX_FRAGMENT:
            raise BadClientHello(f"a record of {length} bytes; at most {_MAX_FRAGMENT} are allowed", _RECORD_OVERFLOW)
        return int(length)

    def _needed(self, message: bytes | bytearray) -> int | None:
        """The length of the whole handshake message, once its header is there."""
        if message and message[0] != _CLIENT_HELLO:
            raise BadClientHello(f"a handshake message of type {message[0]}, not a ClientHello", _UNEXPECTED_MESSAGE)
        if len(message) < 4:
            return None
        needed = 4 + int.from_bytes(message[1:4], "big")
        if needed + 5 > self._limit:
            self._refuse_size()
        return needed

    def _refuse_size(self) -> None:
        raise BadClientHello(f"the ClientHello takes more than the {self._limit} bytes allowed", _DECODE_ERROR)


def _malformed(what: str) -> BadClientHello:
    return BadClientHello(f"{what} of the ClientHello has a wrong length", _DECODE_ERROR)


def _parse_message(message: bytes) -> ClientHello:
    """The handshake message, header included (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2)."""
    try:
        (version,) = _SHORT(message, 4)
        suites_at = 39 + message[38]
        if message[38] > 32:
            raise _malformed("the session id")
        (length,) = _SHORT(message, suites_at)
        suites_at += 2
        compression_at = suites_at + length
        if not length or length % 2:
            raise _malformed("the cipher suite list")
        extensions_at = compression_at + 1 + message[compression_at]
        if extensions_at > len(message):
            raise _malformed("the compression method list")
    except (struct.error, IndexError):
        raise BadClientHello("the ClientHello ends too early", _DECODE_ERROR) from None
    if 0 not in message[compression_at + 1 : extensions_at]:
        raise BadClientHello("the ClientHello does not offer the null compression method", _ILLEGAL_PARAMETER)
    extensions = _extensions(message, extensions_at)

    versions = extensions.get(_SUPPORTED_VERSIONS)
    if versions is None:
        tls13, tls12 = False, _TLS12 <= version < 0x0400
    else:
        # RFC 8446 section 4.2.1: where it is there, legacy_version does not count.
        if len(versions) < 3 or versions[0] != len(versions) - 1 or versions[0] % 2:
            raise _malformed("supported_versions")
        pairs = [versions[at : at + 2] for at in range(1, len(versions), 2)]
        tls13, tls12 = _TLS13 in pairs, b"\x03\x03" in pairs
    if not tls13 and not tls12:
        raise BadClientHello("the ClientHello offers neither TLS 1.2 nor TLS 1.3", _PROTOCOL_VERSION)

    name = extensions.get(_SERVER_NAME)
    alpn = extensions.get(_ALPN)
    algorithms = extensions.get(_SIGNATURE_ALGORITHMS)
    ecdsa = algorithms is not None and _ECDSA_P256_SHA256 in _shorts(algorithms)
    if ecdsa and not tls13:
        suites = struct.unpack_from(f">{length // 2}H", message, suites_at)
        ecdsa = not _ECDHE_ECDSA.isdisjoint(suites)
    return ClientHello(
        server_name=None if name is None else _server_name(name),
        alpn=() if alpn is None else _protocols(alpn),
        offers_tls13=tls13,
        offers_tls12=tls12,
        ecdsa=ecdsa,
    )


def _extensions(message: bytes, at: int) -> dict[int, bytes]:
    """Extension type to data. No type may be there twice (RFC 8446 section 4.2)."""
    end = len(message)
    found: dict[int, bytes] = {}
    if at == end:
        return found  # TLS 1.2 without extensions (RFC 5246 section 7.4.1.2)
    if end - at < 2 or _SHORT(message, at)[0] != end - at - 2:
        raise _malformed("the extension list")
    at += 2
    while at + 4 <= end:
        kind, length = _PAIR(message, at)
        at += 4 + length
        if kind in found:
            raise BadClientHello(f"extension {kind} is there twice in the ClientHello", _ILLEGAL_PARAMETER)
        found[kind] = message[at - length : at]
    if at != end:
        raise _malformed("an extension")
    return found


def _shorts(data: bytes) -> tuple[int, ...]:
    """The list of signature_algorithms (RFC 8446 section 4.2.3)."""
    length = len(data) - 2
    if length < 2 or length % 2 or _SHORT(data, 0)[0] != length:
        raise _malformed("signature_algorithms")
    return struct.unpack_from(f">{length // 2}H", data, 2)


def _server_name(data: bytes) -> str:
    """The one host_name of server_name (RFC 6066 section 3: no two names of one type; no other type exists)."""
    size = len(data)
    if size < 6 or data[2] != 0 or _SHORT(data, 0)[0] != size - 2 or _SHORT(data, 3)[0] != size - 5:
        raise _malformed("server_name")
    name = data[5:]
    if size > 260:
        raise BadClientHello(f"the server name has {size - 5} characters; at most 255 are allowed", _ILLEGAL_PARAMETER)
    if name.translate(None, _NAME_CHARACTERS):
        raise BadClientHello("the server name holds a character that no host name has", _ILLEGAL_PARAMETER)
    return name.decode("ascii")


def _protocols(data: bytes) -> tuple[bytes, ...]:
    """The names of application_layer_protocol_negotiation (RFC 7301 section 3.1), none of them empty."""
    end = len(data)
    if end < 4 or _SHORT(data, 0)[0] != end - 2:
        raise _malformed("application_layer_protocol_negotiation")
    names = []
    at = 2
    while at < end:
        length = data[at]
        at += 1 + length
        if not length or at > end:
            raise _malformed("application_layer_protocol_negotiation")
        names.append(data[at - length : at])
    return tuple(names)
