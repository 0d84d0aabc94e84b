"""The workers' side of the issuer: the only part of it that the data plane imports, and light for that reason.

One connection, many requests in flight, matched by their number. Where the issuer is restarted, the client connects
again and sends once more what was not answered: a request for a leaf can be repeated without harm. No caller ever waits
longer than the time-out.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key

from issuer.protocol import (
    Answer,
    CheckAnswer,
    CheckRequest,
    Failure,
    FrameReader,
    KeyKind,
    KeyManagerAnswer,
    KeyManagerRequest,
    LeafAnswer,
    LeafKeyAnswer,
    LeafKeyRequest,
    LeafRequest,
    ProtocolError,
    Request,
    WireGuardKeyAnswer,
    WireGuardKeyRequest,
    decode_answer,
    encode_request,
)
from issuer.sockets import connect_unix, is_ours, peer_uid

if TYPE_CHECKING:
    from certs.signer import Health

type PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.2
"""Seconds between attempts to connect: an issuer that is restarted is back within half a second."""


@dataclass(frozen=True, slots=True)
class IssuedLeaf:
    """A leaf and the chain to send with it, DER. Times are seconds since 1970.

    After ``reuse_until`` the issuer is to be asked again; it may give the same one.
    """

    certificate: bytes
    chain: tuple[bytes, ...]
    leaf_key: int
    signing_ca: int
    not_after: float
    reuse_until: float
    generation: int


class IssuerUnavailable(Exception):  # noqa: N818 - the name that the parts agreed on
    """No leaf, or no key. ``code`` is the issuer's, or ``timeout``, ``closed``, ``protocol``, ``refused_peer``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(slots=True)
class _Waiting:
    """A request that is not answered yet."""

    frame: bytes
    answer: asyncio.Future[Answer] = field(repr=False)


class IssuerClient:
    """Asks the issuer behind ``socket_path``; ``timeout`` is in seconds and for each request as a whole."""

    def __init__(self, socket_path: Path, timeout: float) -> None:
        self._path = socket_path
        self._timeout = timeout
        self._ids = count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._link: _Link | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE
        self._closed = False

    async def leaf(
        self,
        tenant: str,
        host: str,
        key: str,
        server_not_after: float | None,
        connection: str = "",
        warned_of: str = "",
    ) -> IssuedLeaf:
        """A leaf for ``host`` (normalised). ``key`` is the kind that the client can verify, ``ecdsa`` or ``rsa``.

        ``server_not_after`` is when the server's own certificate ends; None where it showed none. ``connection`` is
        the id of the client's connection that it is for, which the issuer's log then names. ``warned_of``: one that the
        client is to be warned by, with the SHA-256 of the server's certificate. Raises IssuerUnavailable.
        """
        kind: KeyKind = "rsa" if key == "rsa" else "ecdsa"
        request = LeafRequest(next(self._ids), tenant, host, kind, server_not_after, connection, warned_of)
        answer = await self._ask(request)
        if not isinstance(answer, LeafAnswer):
            raise self._misfit(answer)
        return IssuedLeaf(
            answer.certificate,
            answer.chain,
            answer.leaf_key,
            answer.signing_ca,
            answer.not_after,
            answer.reuse_until,
            answer.generation,
        )

    async def leaf_key(self, tenant: str, leaf_key: int, connection: str = "", untrusted: bool = False) -> PrivateKey:
        """The private key that goes with leaves of that ``leaf_key``. Raises IssuerUnavailable."""
        answer = await self._ask(LeafKeyRequest(next(self._ids), tenant, leaf_key, connection, untrusted))
        if not isinstance(answer, LeafKeyAnswer):
            raise self._misfit(answer)
        try:
            private_key = load_der_private_key(answer.key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # The cause's text could quote what was parsed, which is a private key.
            raise IssuerUnavailable("protocol", f"leaf key {leaf_key} cannot be parsed") from None
        if not isinstance(private_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise IssuerUnavailable("protocol", f"leaf key {leaf_key} is neither ECDSA nor RSA")
        return private_key

    async def check(self, tenant: str) -> int:
        """Whether leaves can be made for a tenant; the generation of what they would be made with.

        Raises IssuerUnavailable with the reason.
        """
        answer = await self._ask(CheckRequest(next(self._ids), tenant))
        if not isinstance(answer, CheckAnswer):
            raise self._misfit(answer)
        return answer.generation

    async def key_manager(self, tenant: str) -> Health:
        """How the hosts are that keep the key of a tenant's signing CA; none where it is in no key manager.

        Raises IssuerUnavailable.
        """
        answer = await self._ask(KeyManagerRequest(next(self._ids), tenant))
        if not isinstance(answer, KeyManagerAnswer):
            raise self._misfit(answer)
        return answer.health

    async def wireguard_key(self, tenant: str) -> bytes:
        """The private key of the tenant's WireGuard listeners, 32 bytes; empty where it has none yet.

        Raises IssuerUnavailable.
        """
        answer = await self._ask(WireGuardKeyRequest(next(self._ids), tenant))
        if not isinstance(answer, WireGuardKeyAnswer):
            raise self._misfit(answer)
        return answer.key

    async def close(self) -> None:
        """Close the connection; who still waits gets IssuerUnavailable."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(IssuerUnavailable("closed", "this worker is about to end"))
        if self._link is not None:
            self._link.transport.abort()
            await self._link.gone

    async def _ask(self, request: Request) -> Answer:
        if self._closed:
            raise IssuerUnavailable("closed", "this worker is about to end")
        try:
            frame = encode_request(request)
        except ProtocolError as error:
            raise IssuerUnavailable("protocol", str(error)) from None
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = _Waiting(frame, answer)
        try:
            if self._link is not None:
                self._link.transport.write(frame)
            else:
                self._connect()
            async with asyncio.timeout(self._timeout):
                got = await answer
        except TimeoutError:
            raise IssuerUnavailable("timeout", f"the issuer did not answer within {self._timeout:g} s") from None
        finally:
            del self._waiting[request.id]
        if isinstance(got, Failure):
            raise IssuerUnavailable(got.error.value, got.message)
        return got

    def _misfit(self, answer: Answer) -> IssuerUnavailable:
        return IssuerUnavailable("protocol", f"the issuer gave a {type(answer).__name__} to another question")

    def _connect(self, pause: bool = False) -> None:
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.get_running_loop().create_task(self._keep_connecting(pause))

    async def _keep_connecting(self, pause: bool) -> None:
        """Connect, and pause longer after each attempt that brought no answer, for as long as anybody waits."""
        loop = asyncio.get_running_loop()
        if pause:
            await self._back_off()
        while self._waiting and not self._closed:
            try:
                connection = connect_unix(self._path)
            except OSError:  # not there, or its queue is full: the issuer is being restarted
                await self._back_off()
                continue
            if not is_ours(peer_uid(connection)):
                connection.close()
                self._refuse_all("refused_peer", f"{self._path} belongs to another user")
                return
            await loop.create_connection(lambda: _Link(self), sock=connection)
            if self._link is not None:
                return
            await self._back_off()  # it was gone again before this task came to know of it

    async def _back_off(self) -> None:
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _refuse_all(self, code: str, message: str) -> None:
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(IssuerUnavailable(code, message))

    def connected(self, link: _Link) -> None:
        """A connection stands: whatever is unanswered is asked on it."""
        self._link = link
        link.transport.write(b"".join(waiting.frame for waiting in self._waiting.values()))

    def answered(self, answer: Answer) -> None:
        """An answer came. One that nobody waits for any more is dropped."""
        self._pause = FIRST_PAUSE
        waiting = self._waiting.get(answer.id)
        if waiting is not None and not waiting.answer.done():
            waiting.answer.set_result(answer)

    def disconnected(self, link: _Link) -> None:
        """The connection is gone."""
        if self._link is link:
            self._link = None
        if self._waiting and not self._closed:
            self._connect(pause=True)  # what was asked may be what ended the issuer


class _Link(asyncio.Protocol):
    """One connection to the issuer."""

    transport: asyncio.Transport

    def __init__(self, client: IssuerClient) -> None:
        self._client = client
        self._reader = FrameReader()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_connection makes no other kind
        self.transport = transport
        self._client.connected(self)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (frame := self._reader.next()) is not None:
                self._client.answered(decode_answer(frame))
        except ProtocolError:
            self.transport.abort()  # whoever waits is asked for again on a new connection, or times out

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set_result(None)
        self._client.disconnected(self)
