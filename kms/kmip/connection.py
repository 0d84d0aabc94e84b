"""One connection to a key manager: to an address that may be connected to, TLS both ways, one request at a time.

Whatever goes wrong ends the connection. A request that was given up is the worst of it: its answer still comes, and
would be taken for the answer to the next.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiohappyeyeballs

from certs.addresses import globally_reachable
from certs.names import Host
from kms.kmip.errors import KmipError, Reason, cleaned
from kms.kmip.lookups import SHARED, Lookups
from kms.kmip.messages import (
    FIRST_ASKED,
    HEADER_BYTES,
    LARGEST_MESSAGE,
    VERSIONS,
    Encoder,
    Login,
    Question,
    Version,
    message_length,
)
from kms.kmip.operations import discover_versions

DEFAULT_PORT = 5696
"""KMIP's, by IANA."""
OTHER_FAMILY_SECONDS = 0.25
"""After so long the next address of a name is tried beside the first (RFC 8305 5)."""
GOODBYE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a key manager is."""

    host: Host
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host.text else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Reach:
    """How key managers are reached. ``names``: addresses that are known without asking DNS."""

    context: ssl.SSLContext = field(repr=False)
    names: Mapping[str, str] = field(default_factory=dict)
    private: bool = False
    """Whether an address that is none of the internet's may be connected to."""
    source: str | None = None
    """The address to connect from; None: the system's choice."""
    login: Login | None = None
    lookups: Lookups = field(default=SHARED, repr=False)


async def connect(endpoint: Endpoint, reach: Reach) -> Connection:
    """A connection on which a version was agreed. Whoever calls has a deadline. Raises KmipError."""
    at = await tls(endpoint, reach)
    try:
        return await agree(at, reach.login)
    except BaseException:
        at.abort()
        raise


async def addresses_of(endpoint: Endpoint, reach: Reach) -> list[str]:
    """The addresses of the host, those that may be connected to. Raises KmipError where there is none."""
    host = endpoint.host
    if host.is_ip:
        found = [host.text]
    elif (known := reach.names.get(host.text)) is not None:
        found = [known]
    else:
        found = await reach.lookups.addresses(host.text)
    allowed = [address for address in found if reach.private or globally_reachable(address)]
    if not allowed:
        leads = found[0] if host.is_ip else f"{host}, which leads to {found[0]},"
        raise KmipError(
            Reason.ADDRESS,
            f"{leads} is a private, loopback or link-local address; where the key manager is in your own network, set "
            "kmip.allow_private_addresses",
        )
    return allowed


@dataclass(slots=True)
class TlsStream:
    """A connection on which TLS stands. ``address`` is the one that was connected to, ``source`` the one from which."""

    endpoint: Endpoint
    reader: asyncio.StreamReader = field(repr=False)
    writer: asyncio.StreamWriter = field(repr=False)
    address: str = ""
    source: str = ""
    protocol: str = ""
    cipher: str = ""

    def abort(self) -> None:
        self.writer.transport.abort()


async def tcp(endpoint: Endpoint, reach: Reach, addresses: list[str]) -> socket.socket:
    """A TCP connection to one of the addresses, which were judged. Raises KmipError."""
    infos = [_info(address, endpoint.port) for address in addresses]
    source = None if reach.source is None else [_info(reach.source, 0)]
    try:
        return await aiohappyeyeballs.start_connection(
            infos, local_addr_infos=source, happy_eyeballs_delay=OTHER_FAMILY_SECONDS
        )
    except (OSError, ExceptionGroup) as error:
        what = f"no connection to {endpoint}: {_system(error)}"
        if reach.source is not None:
            what += f" (from kmip.source_address {reach.source})"
        raise KmipError(Reason.CONNECT, what) from None


async def tls(endpoint: Endpoint, reach: Reach) -> TlsStream:
    """TCP and TLS to the host, its certificate and its name checked. Raises KmipError."""
    addresses = await addresses_of(endpoint, reach)
    return await secure(endpoint, reach, await tcp(endpoint, reach, addresses))


async def secure(endpoint: Endpoint, reach: Reach, raw: socket.socket) -> TlsStream:
    """TLS over the TCP connection. Raises KmipError."""
    try:
        address, source = str(raw.getpeername()[0]), str(raw.getsockname()[0])
        reader, writer = await asyncio.open_connection(sock=raw, limit=LARGEST_MESSAGE)
    except BaseException:
        raw.close()
        raise
    # From here on the socket is the transport's, which alone may close it: its number would go to the next connection,
    # and the loop would take that for this one. Given up just when TLS stands, it would say goodbye for half a minute.
    try:
        await writer.start_tls(reach.context, server_hostname=endpoint.host.text)
    except (ssl.SSLError, OSError) as error:
        writer.transport.abort()
        raise tls_error(endpoint, error) from None
    except BaseException:
        writer.transport.abort()
        raise
    shown = writer.get_extra_info("ssl_object")
    cipher = shown.cipher()
    return TlsStream(
        endpoint, reader, writer, address, source, shown.version() or "", "" if cipher is None else cipher[0]
    )


def tls_error(endpoint: Endpoint, error: Exception) -> KmipError:
    """Whose fault it is that there is no TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return KmipError(Reason.TLS, f"the certificate of {endpoint} is not accepted: {cleaned(error.verify_message)}")
    if isinstance(error, ssl.SSLError):
        said = cleaned((error.reason or str(error)).replace("_", " ").lower())
        if "alert" in said:
            return KmipError(Reason.TLS, f"{endpoint} refuses our client certificate or TLS: {said}")
        return KmipError(Reason.TLS, f"no TLS with {endpoint}: {said}")
    return KmipError(Reason.TLS, f"{endpoint} closed the connection during the TLS handshake")


class Connection:
    """A connection on which requests are made, one at a time."""

    def __init__(self, at: TlsStream, version: Version, login: Login | None, after: int = 0) -> None:
        self.at = at
        self.version = version
        self._encoder = Encoder(version, login, after)
        self._asking = False
        self.ended = False

    @property
    def last_id(self) -> int:
        """The number of the last request."""
        return self._encoder.last

    @property
    def usable(self) -> bool:
        """Whether another request can be made. A server that has closed meanwhile is seen here."""
        return not self.ended and not self.at.reader.at_eof() and not self.at.writer.transport.is_closing()

    async def ask[A](self, question: Question[A]) -> A:
        """The answer. Whoever calls has a deadline. Raises KmipError.

        The connection can be used on only where this returns, or raises what the key manager answered.
        """
        assert not self._asking  # noqa: S101 - whoever asks has it for itself
        request = self._encoder.request(question)
        self._asking = True
        try:
            octets = await self._exchange(request.octets)
            answer = question.answer(request, self.version, octets)
        except KmipError as error:
            if not error.answered:
                self.abort()
            raise
        except BaseException:
            self.abort()  # the answer may still come
            raise
        finally:
            self._asking = False
        return answer

    async def _exchange(self, octets: bytes) -> bytes:
        endpoint, reader, writer = self.at.endpoint, self.at.reader, self.at.writer
        try:
            writer.write(octets)
            await writer.drain()
            header = await reader.readexactly(HEADER_BYTES)
            return header + await reader.readexactly(message_length(header))
        except asyncio.IncompleteReadError as error:
            cut = " in the middle of its answer" if error.partial else ""
            raise KmipError(Reason.CLOSED, f"{endpoint} closed the connection{cut}") from None
        except ssl.SSLError as error:
            raise tls_error(endpoint, error) from None
        except OSError as error:
            if isinstance(said := reader.exception(), ssl.SSLError):
                raise tls_error(endpoint, said) from None  # why it closed, which came before that was noticed
            raise KmipError(Reason.CLOSED, f"the connection to {endpoint} broke: {_system(error)}") from None

    def abort(self) -> None:
        """End it at once."""
        self.ended = True
        self.at.abort()

    async def close(self) -> None:
        """End it in order."""
        if self.ended:
            return
        self.ended = True
        self.at.writer.close()
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self.at.writer.wait_closed()
        except (TimeoutError, OSError):
            self.at.abort()


async def agree(at: TlsStream, login: Login | None) -> Connection:
    """A connection in the newest version that both speak. Raises KmipError."""
    first = Connection(at, FIRST_ASKED, login)
    try:
        theirs = await first.ask(discover_versions())
    except KmipError as error:
        if error.reason is Reason.CLOSED:
            # In TLS 1.3 the client's certificate is looked at behind the handshake, and not every server says more.
            what = f"{error}, right after the TLS handshake; it may not accept our client certificate"
            raise KmipError(Reason.CLOSED, what) from None
        if error.said not in ("INVALID_MESSAGE", "OPERATION_NOT_SUPPORTED"):
            raise
        # It cannot be asked in this version, but speaks the oldest with SIGN, it may be.
        first = Connection(at, VERSIONS[-1], login)
        theirs = await first.ask(discover_versions())
    shared = [version for version in VERSIONS if version in theirs]
    if not shared:
        named = ", ".join(f"{major}.{minor}" for major, minor in theirs) or "none"
        raise KmipError(Reason.VERSION, f"{at.endpoint} speaks no version of KMIP from 1.2 to 2.0 (it names {named})")
    # Its ids go on from where they were: an answer that comes twice is nobody else's.
    return Connection(at, shared[0], login, first.last_id)


type Connect = Callable[[Endpoint, Reach], Awaitable[Connection]]


def _info(address: str, port: int) -> aiohappyeyeballs.AddrInfoType:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    place = (address, port, 0, 0) if family == socket.AF_INET6 else (address, port)
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place)


def _system(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[-1]
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno).lower()
    return type(error).__name__
