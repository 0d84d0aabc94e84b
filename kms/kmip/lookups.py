"""Names of key managers to addresses, by the system's resolver: on threads of their own, so many and no more.

A resolver that hangs binds a thread for as long as it likes. The event loop's own threads are for everybody; these are
daemons, so that none keeps the process from ending.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future

from kms.kmip.errors import KmipError, Reason, cleaned

MOST_THREADS = 8
SECONDS = 5.0


def _by_the_system(name: str) -> list[str]:
    entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in entries))


class Lookups:
    """Who asks for a name that is being looked up waits for that. ``look_up`` may wait for as long as it likes."""

    def __init__(
        self,
        most: int = MOST_THREADS,
        seconds: float = SECONDS,
        look_up: Callable[[str], list[str]] = _by_the_system,
    ) -> None:
        self._most = most
        self._seconds = seconds
        self._look_up = look_up
        self._lock = threading.Lock()
        self._asking: dict[str, Future[list[str]]] = {}

    async def addresses(self, name: str) -> list[str]:
        """The addresses of a name, in the system's order. Raises KmipError."""
        found = asyncio.wrap_future(self._asked(name))
        found.add_done_callback(_looked_at)  # where whoever waited has given up
        try:
            async with asyncio.timeout(self._seconds):
                # Whoever gives up leaves the answer to the others.
                return await asyncio.shield(found)
        except TimeoutError:
            raise KmipError(Reason.NAME, f"no answer from DNS for {name} within {self._seconds:g} s") from None
        except (OSError, UnicodeError) as error:
            said = getattr(error, "strerror", None) or "it cannot be asked of DNS"
            raise KmipError(Reason.NAME, f"the name {name} has no address: {cleaned(said)}") from None

    def _asked(self, name: str) -> Future[list[str]]:
        with self._lock:
            if (known := self._asking.get(name)) is not None:
                return known
            if len(self._asking) >= self._most:
                what = f"the name {name} is not looked up: DNS has not answered for {self._most} others yet"
                raise KmipError(Reason.NAME, what)
            asked: Future[list[str]] = Future()
            asked.set_running_or_notify_cancel()  # nobody takes it from the others
            try:
                threading.Thread(target=self._run, args=(name, asked), name="kmip-lookup", daemon=True).start()
            except RuntimeError:
                raise KmipError(Reason.NAME, f"the name {name} is not looked up: there is no thread for it") from None
            self._asking[name] = asked
        return asked

    def _run(self, name: str, asked: Future[list[str]]) -> None:
        try:
            outcome: list[str] | Exception = self._look_up(name)
        except Exception as error:  # noqa: BLE001 - nothing carries on: it is raised where it is awaited
            outcome = error
        with self._lock:
            del self._asking[name]
        if isinstance(outcome, Exception):
            asked.set_exception(outcome)
        else:
            asked.set_result(outcome)


SHARED = Lookups()
"""Of this process."""


def _looked_at(done: asyncio.Future[list[str]]) -> None:
    if not done.cancelled():
        done.exception()
