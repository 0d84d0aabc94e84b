"""The forwarder: mutual TLS in, mutual TLS out, and between the two only what :mod:`kms.kmip.gate` admits.

A small process in the organisation's own network, so that the key manager need not be reached by the data plane, and
whoever gets hold of the data plane's client certificate can do no more than what this lets through.

Each connection in has one of its own out, so that no answer can be another's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cachetools import LRUCache

from kms.bucket import Bucket
from kms.kmip import gate
from kms.kmip.connection import Endpoint, Reach, TlsStream, tls
from kms.kmip.errors import KmipError, Reason
from kms.kmip.gate import Admitted, Denied
from kms.kmip.messages import HEADER_BYTES, message_length

MOST_IDENTIFIERS = 4096
"""Unique Identifiers that are remembered as those of keys that may be used."""
PROBE_SECONDS = 10.0
QUIET_SECONDS = 1.0
"""At most one line in this time about connections that are too many: whoever has no certificate can make them."""


@dataclass(frozen=True, slots=True)
class ForwarderLimits:
    """Connections at a time, and as many whose handshake is under way; requests a second, of all together and of one
    connection; the others are seconds. ``request`` is for a handshake too.
    """

    connections: int = 64
    rate: int = 500
    rate_each: int = 200
    idle: float = 300.0
    request: float = 5.0
    answer: float = 10.0


class Log(Protocol):
    """Where events go."""

    def __call__(self, event: str, /, **fields: object) -> None: ...


class Forwarder:
    """``targets``: the key manager's hosts, in the order in which they are tried. ``names``: of keys; None: all."""

    def __init__(
        self,
        targets: Sequence[Endpoint],
        reach: Reach,
        limits: ForwarderLimits,
        names: frozenset[str] | None,
        log: Log,
        clock: Callable[[], float],
    ) -> None:
        self.targets = tuple(targets)
        self.reach = reach
        self.limits = limits
        self.names = names
        self.log = log
        self.clock = clock
        self.unwell: str | None = "nobody has looked yet"
        """Why no target can be reached; None: one can."""
        self.open = 0
        """Connections whose client certificate was accepted."""
        self._shaking: Counter[str] = Counter()
        """Those whose handshake is under way, by the client's address."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._complained = float("-inf")
        self.known: LRUCache[str, None] = LRUCache(MOST_IDENTIFIERS)
        self.rate = Bucket(limits.rate, clock)

    async def listen(self, host: str, port: int, context: ssl.SSLContext) -> asyncio.Server:
        """Accept connections. Raises OSError."""

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._accepted(reader, writer, context)

        return await asyncio.start_server(accepted, host, port, limit=gate.LARGEST_REQUEST)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        """A connection of whomever: it is bounded from here on."""
        assert isinstance(writer.transport, asyncio.Transport)  # noqa: S101 - a server makes no other kind
        writer.transport.pause_reading()  # nothing is read that came in the clear
        peer = writer.get_extra_info("peername")
        client = str(peer[0]) if peer else ""
        most = self.limits.connections
        # Who has no certificate can take a quarter of the places for a handshake, and none of the others.
        if self._shaking.total() >= most or self._shaking[client] >= max(1, most // 4):
            return self._refuse(writer, client, "handshakes under way")
        self._shaking[client] += 1
        task = asyncio.get_running_loop().create_task(self._shake(reader, writer, context, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    async def _shake(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext, client: str
    ) -> None:
        try:
            await writer.start_tls(context, ssl_handshake_timeout=self.limits.request)
        except (OSError, ssl.SSLError):  # a time-out too
            writer.transport.abort()
            return
        except BaseException:
            writer.transport.abort()
            raise
        finally:
            self._shaking[client] -= 1
            if not self._shaking[client]:
                del self._shaking[client]
        await self._serve(reader, writer, client)

    def _refuse(self, writer: asyncio.StreamWriter, client: str, what: str) -> None:
        writer.transport.abort()
        if self.clock() - self._complained >= QUIET_SECONDS:
            self._complained = self.clock()
            self.log("too many connections", client=client, reason=f"{what}; at most {self.limits.connections}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str) -> None:
        """One connection on which TLS stands, until it ends. Never raises for what a peer does."""
        if self.open >= self.limits.connections:
            return self._refuse(writer, client, "connections")
        self.open += 1
        passage = Passage(self, client)
        try:
            await passage.run(reader, writer)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError, TimeoutError):
            pass  # the client is gone, or too slow
        finally:
            self.open -= 1
            passage.end()
            writer.transport.abort()
        return None

    async def watch(self) -> None:
        """See again and again whether a target can be reached, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(PROBE_SECONDS)

    async def look(self) -> None:
        """Whether one can be reached now."""
        try:
            async with asyncio.timeout(self.limits.answer):
                stream = await self.dial()
        except (KmipError, TimeoutError, OSError) as error:
            why = str(error) or "no target answers in time"
            if self.unwell is None:
                self.log("no target", reason=why)
            self.unwell = why
            return
        stream.abort()
        self.unwell = None

    async def dial(self) -> TlsStream:
        """A connection to the first target that can be reached. Raises KmipError."""
        problems: list[str] = []
        for target in self.targets:
            try:
                async with asyncio.timeout(self.limits.answer / len(self.targets)):
                    return await tls(target, self.reach)
            except KmipError as error:
                problems.append(str(error))
            except TimeoutError:
                problems.append(f"no connection to {target} in time")
        raise KmipError(Reason.CONNECT, "; ".join(problems))


class Passage:
    """One connection in, and the one out that belongs to it."""

    def __init__(self, forwarder: Forwarder, client: str) -> None:
        self._forwarder = forwarder
        self._client = client
        self._rate = Bucket(forwarder.limits.rate_each, forwarder.clock)
        self._out: TlsStream | None = None

    def end(self) -> None:
        """Let go of the one out."""
        if self._out is not None:
            self._out.abort()
            self._out = None

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Request by request. Raises what the client's connection ends with."""
        limits = self._forwarder.limits
        while True:
            async with asyncio.timeout(limits.idle):
                header = await reader.readexactly(HEADER_BYTES)
            try:
                length = gate.request_length(header)
            except KmipError as error:
                self._denied(str(error))
                return
            async with asyncio.timeout(limits.request):
                octets = header + await reader.readexactly(length)
            if (answer := await self._answer(octets)) is None:
                return
            writer.write(answer)
            async with asyncio.timeout(limits.request):
                await writer.drain()

    async def _answer(self, octets: bytes) -> bytes | None:
        """What is answered; None where the key manager cannot be reached, or is asked too much.

        To whoever asks that is as if it were here and had closed the connection: another host of it is asked.
        """
        forwarder = self._forwarder
        if not (self._rate.take() and forwarder.rate.take()):
            self._denied("too many requests in a second")
            return None
        try:
            admitted = gate.admit(octets, forwarder.names, forwarder.known.__contains__)
        except Denied as denied:
            self._denied(str(denied), denied.operations)
            return denied.answer
        try:
            async with asyncio.timeout(forwarder.limits.answer):
                answer = await self._exchanged(admitted)
        except (KmipError, TimeoutError, OSError, ssl.SSLError, asyncio.IncompleteReadError) as error:
            why = str(error) if isinstance(error, KmipError) else "the key manager did not answer in time, or broke off"
            self.end()
            forwarder.log("not forwarded", client=self._client, operations=admitted.operations, reason=why)
            return None
        if admitted.locates and forwarder.names is not None:
            for identifier in gate.identifiers_in(admitted, answer):
                forwarder.known[identifier] = None
        return answer

    async def _exchanged(self, admitted: Admitted) -> bytes:
        if self._out is None:
            self._out = await self._forwarder.dial()
        self._out.writer.write(admitted.octets)
        await self._out.writer.drain()
        header = await self._out.reader.readexactly(HEADER_BYTES)
        return header + await self._out.reader.readexactly(message_length(header))

    def _denied(self, why: str, operations: tuple[str, ...] = ()) -> None:
        self._forwarder.log("denied", client=self._client, operations=operations, reason=why)
