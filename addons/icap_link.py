"""One connection to an ICAP server, on which one transaction after the other is held (RFC 3507 section 4.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import cast

from addons.icap_answer import Answer, closes
from addons.icap_heads import IcapError, MessageError
from addons.icap_messages import Request


class CutError(IcapError):
    """The connection ended before the answer did.

    ``stale``: it had been kept from an earlier transaction and nothing of an answer came, so that most likely the
    server had closed it meanwhile, and asking again on another one is safe.
    """

    def __init__(self, text: str, *, stale: bool) -> None:
        super().__init__(text)
        self.stale = stale


class Link(asyncio.Protocol):
    """``fit`` for a transaction only when new or after a whole answer, with nothing left over in either direction."""

    def __init__(self) -> None:
        self.used = False
        """Whether a transaction was held on it before."""
        self.idle_since = 0.0
        self._fit = True
        self._heard = False
        self._lost = ""
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._waiting: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """asyncio's: what comes while nothing was asked ends the connection."""
        if self._answer is None:
            self.abort()
            return
        self._heard = True
        try:
            if self._answer.feed(data):
                self._wake(None)
        except MessageError as error:
            self.abort()
            self._wake(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        self._lost = f"the connection broke ({exc})" if exc else "the server closed the connection"
        self._wake(self._cut())

    def _wake(self, error: IcapError | None) -> None:
        if self._waiting is None or self._waiting.done():
            return
        if error is None:
            self._waiting.set_result(None)
        else:
            self._waiting.set_exception(error)

    def _cut(self) -> CutError:
        return CutError(f"{self._lost} before its answer was whole", stale=self.used and not self._heard)

    @property
    def fit(self) -> bool:
        """Whether a transaction can be held on it."""
        return self._fit and not self._lost and self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: Request, answer: Answer) -> Answer:
        """Send the request and read its answer; after ``100 Continue`` the rest, and the answer to that.

        Sending is not waited for: a server may answer before it took everything, and has to be heard then. Raises
        MessageError and CutError. Whatever it raises, a cancellation too, the connection is not fit afterwards.
        """
        self._fit = self._heard = early = False
        answer = await self._exchange(request.first, answer)
        if answer.head.status == 100:
            if not request.previewed:
                raise MessageError("it asks for more (100 Continue) where nothing is left to send")
            answer = answer.following()
            # It may have answered without waiting for the rest; for what it would take anything now, nobody knows.
            early = answer.done
            if not early:
                answer = await self._exchange(request.rest, answer)
            if answer.head.status == 100:
                raise MessageError("it asks for more (100 Continue) for a second time")
        self._answer = None
        unsent = self._transport is None or self._transport.get_write_buffer_size() > 0
        # A server that answered early with something else than the verdict may be anywhere in its reading.
        good = answer.head.status in (200, 204) and not closes(answer.head)
        self._fit = good and not early and not unsent and not answer.rest
        return answer

    async def _exchange(self, pieces: Iterable[bytes], answer: Answer) -> Answer:
        if self._transport is None or self._lost or self._transport.is_closing():
            self._lost = self._lost or "the server closed the connection"
            raise self._cut()
        self._answer = answer
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.writelines(pieces)
        try:
            await self._waiting
        finally:
            self._waiting = None
        return answer

    def abort(self) -> None:
        """End it at once, whatever it is in the middle of."""
        self._fit = False
        if self._transport is not None:
            self._transport.abort()
