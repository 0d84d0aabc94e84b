"""The tap for what is no HTTP: counts, and tells one exchange at the end."""

from __future__ import annotations

from collections.abc import Callable

from proxy.lanes.exchange import Detour, Exchange, Tap


class BytesTap(Tap):
    """Counts the bytes both ways. Its one exchange is "complete" where a side ended it in order, else "cut"."""

    __slots__ = ("_exchange", "_orderly")

    def __init__(self, host: str, done: Callable[[Exchange], None], clock: Callable[[], float]) -> None:
        super().__init__(host, done, clock, "bytes")
        self._exchange: Exchange | None = Exchange("bytes", "", host, "", started=clock())
        self._orderly = False

    @property
    def busy(self) -> bool:
        return self._exchange is not None

    def from_client(self, data: bytes) -> Detour | None:
        if self._exchange is not None:
            self._exchange.request_bytes += len(data)
        return None

    def from_server(self, data: bytes) -> Detour | None:
        if self._exchange is not None:
            if not self._exchange.response_bytes:
                self._exchange.first_byte = self._clock()
            self._exchange.response_bytes += len(data)
        return None

    def client_ended(self) -> None:
        self._orderly = True

    def server_ended(self) -> None:
        self._orderly = True

    def closed(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.outcome = "complete" if self._orderly else "cut"
            exchange.ended = self._clock()
            self._done(exchange)
