"""Clients that keep asking while something happens to a daemon, and tell of every request that did not go well."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from types import TracebackType
from typing import Self

from tests.harness.curl import Through

PAUSE_SECONDS = 0.1
CLIENT_SECONDS = 60.0


class Steady:
    """``clients`` threads that each ask for ``/`` of a host through a proxy, again and again, until the block ends.

    With ``keep`` a client makes all its requests on one connection; else each has one of its own. Nothing is asked
    twice: the first failure of a request is kept in ``failures``.
    """

    def __init__(self, through: Through, host: str, port: int, *, clients: int = 1, keep: bool = False) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._proxy, _, proxy_port = through.proxy.rpartition(":")
        self._proxy_port = int(proxy_port)
        self._to = (host, port)
        self._context = ssl.create_default_context(cafile=str(through.root))
        self._keep = keep
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(CLIENT_SECONDS + 5)

    def connection(self) -> http.client.HTTPSConnection:
        """A connection of the sort that the clients make."""
        made = http.client.HTTPSConnection(self._proxy, self._proxy_port, context=self._context, timeout=CLIENT_SECONDS)
        made.set_tunnel(*self._to)
        return made

    def _ask(self) -> None:
        connection = self.connection()
        number = 0
        while not self._ending.is_set():
            number += 1
            began = time.monotonic()
            try:
                connection.request("GET", f"/echo?{number}")
                answer = connection.getresponse()
                body = answer.read().decode()
                # Whether it is the answer to this very question.
                good = answer.status == 200 and f'"uri":"/echo?{number}"' in body
                problem = "" if good else f"request {number}: {answer.status} {body[:200]}"
            except (OSError, http.client.HTTPException) as error:
                problem = f"request {number}: {error!r} after {time.monotonic() - began:.2f} s"
            with self._lock:
                if problem:
                    self.failures.append(problem)
                else:
                    self.answered += 1
            if not self._keep:
                connection.close()
                connection = self.connection()
            self._ending.wait(PAUSE_SECONDS)
        connection.close()
