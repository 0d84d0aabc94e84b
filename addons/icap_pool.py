"""The connections to one ICAP server: a bounded number, kept open from one transaction to the next."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohappyeyeballs

from addons.icap_heads import IcapError
from addons.icap_link import Link
from addons.icap_messages import Method
from addons.icap_service import Address

STAGGER: Final = 0.25
"""Seconds for which one address is tried before the next is tried beside it (RFC 8305 section 5)."""
IDLE: Final = 60.0
"""Seconds after which an unused connection is given up: a firewall between may have forgotten it without a word."""


@dataclass
class Progress:
    """What a transaction is at, to be told when it fails."""

    method: Method
    waits_for: str = "a free connection"


class Pool:
    """At most ``limit`` connections at a time; who finds none waits, first come first served, for as long as it may."""

    def __init__(self, address: Address, limit: int, trust: ssl.SSLContext | None) -> None:
        self.limit = limit
        self._address = address
        self._trust = trust
        self._taken = 0
        self._idle: list[Link] = []
        self._queue: deque[asyncio.Future[None]] = deque()
        self._closed = False

    @asynccontextmanager
    async def link(self, progress: Progress, *, new: bool = False) -> AsyncIterator[Link]:
        """A connection for one transaction: the one that was used last, or a ``new`` one.

        It is kept if it is fit afterwards, else ended. Raises IcapError where the server cannot be reached.
        """
        progress.waits_for = "a free connection"
        await self._take_place()
        link: Link | None = None
        try:
            progress.waits_for = "a connection to be accepted"
            link = self._kept(new=new) or await self._connect()
            progress.waits_for = "an answer"
            yield link
        except BaseException:
            if link is not None:
                link.abort()
            raise
        finally:
            if link is not None:
                self._put_back(link)
            self._taken -= 1
            self._call_next()

    def close(self) -> None:
        """End what is idle now, and what is in use as soon as it is given back."""
        self._closed = True
        self._drop_idle()

    async def _take_place(self) -> None:
        if self._taken < self.limit and not self._queue:
            self._taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # The place came in the same moment as the deadline.
                self._taken -= 1
                self._call_next()
            raise

    def _call_next(self) -> None:
        while self._queue and self._taken < self.limit:
            turn = self._queue.popleft()
            if not turn.done():  # who was cancelled is passed over
                self._taken += 1
                turn.set_result(None)

    def _kept(self, *, new: bool) -> Link | None:
        if new:
            # Where one had been closed unnoticed, the server has most likely closed them all.
            self._drop_idle()
        oldest = asyncio.get_running_loop().time() - IDLE
        while self._idle:
            link = self._idle.pop()
            if link.fit and link.idle_since > oldest:
                return link
            link.abort()
        return None

    def _put_back(self, link: Link) -> None:
        if self._closed or not link.fit:
            link.abort()
            return
        link.used = True
        link.idle_since = asyncio.get_running_loop().time()
        self._idle.append(link)

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    async def _connect(self) -> Link:
        try:
            return await self._open()
        except ssl.SSLCertVerificationError as error:
            raise IcapError(
                f"its certificate is not trusted: {error.verify_message}; if it is of a private CA, set icap_ca_file"
            ) from error
        except OSError as error:
            raise IcapError(
                f"no connection to {self._address.host} port {self._address.port}: {_why(error)}; "
                "is it running, and is the URL right?"
            ) from error

    async def _open(self) -> Link:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        # asyncio's own staggering fails where tasks start eagerly, as they do in mitmdump.
        connected = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=STAGGER)
        try:
            name = self._address.host if self._trust is not None else None
            _, link = await loop.create_connection(Link, sock=connected, ssl=self._trust, server_hostname=name)
        except BaseException:
            connected.close()
            raise
        return link


def _why(error: OSError) -> str:
    # asyncio puts a text of its own in the place of the system's.
    if isinstance(error, (socket.gaierror, ssl.SSLError)) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)
