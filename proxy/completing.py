"""Issuers that servers leave out, fetched in the first handshake that lacks them, so that the first visit works.

Who has made the certificate has chosen the URL (:mod:`proxy.fetching`), and can choose it so that fetching is slow or
for nothing. So there are bounds on levels, bytes and time; what came is kept, and so is that nothing came, for a short
while: a server cannot have us fetch all the time. Only a failure that says something of the URL is kept. One for want
of time or of a place may be a stranger's doing, and must not keep a good server from being completed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from cachetools import TLRUCache
from cryptography import x509

from certs.completion import Attempt, issuer_urls
from certs.facts import Facts
from certs.formats import BundleError, read_certificates
from certs.intermediates import Intermediates
from certs.verdict import Verdict
from proxy.fetching import Fetcher, FetchFailed
from proxy.metrics import Metrics

LEVELS = 3
"""Issuers above each other that are fetched for one chain."""
LARGEST = 64 * 1024
"""Bytes of one body."""
MOST_CERTIFICATES = 16
"""Certificates of one body that are looked at: a PKCS #7 may hold many (RFC 5280, section 4.2.2.1)."""
SECONDS = 2.0
"""For all that is fetched for one chain."""
FAIR_SECONDS = 0.9
"""Who had less and did not answer may have been good."""
KEPT_SECONDS = 3600.0
FAILED_SECONDS = 60.0
"""For how long it is known what is at a URL; that nothing of use is; and that a chain could not be completed."""
KEPT_BYTES = 4 << 20
_OVERHEAD = 1024
"""Bytes that keeping a URL costs beside its body."""
_SHOWN = 200
"""Characters of a stranger's URL, or of what is said of a file of his, in a message."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a URL: certificates, or why there are none."""

    certificates: tuple[x509.Certificate, ...]
    problem: str
    seconds: float
    """For how long that is known; 0: it is not kept."""
    size: int = 0
    kind: str = "no_issuer"
    """Why there is nothing of use, for the metrics."""


def read_issuers(body: bytes) -> Found:
    """The certificates of a body: one as DER, several as PKCS #7 (RFC 5280, 4.2.2.1); as PEM, too, as servers do it."""
    try:
        certificates = tuple(read_certificates(body)[:MOST_CERTIFICATES])
    except BundleError as error:
        return Found((), f"no certificate: {str(error)[:_SHOWN]}", FAILED_SECONDS)
    # Known for long once somebody had use for it.
    return Found(certificates, "", FAILED_SECONDS, len(body))


@dataclass(slots=True)
class _Search:
    """A chain on its way to an anchor."""

    attempt: Attempt
    until: float
    pool: tuple[x509.Certificate, ...] = ()
    """What has come."""
    used: list[str] = field(default_factory=list)
    """The URLs of what the chain was made longer with."""
    failures: list[str] = field(default_factory=list)
    busy: bool = False
    outcome: str = "no_anchor"
    """Why no anchor was reached, for the metrics: the last thing that failed, or that nothing is left to ask for."""

    @property
    def remark(self) -> str:
        """What came of it, where no anchor was reached."""
        above = [f"{url[:_SHOWN]} (nobody trusted is above it)" for url in self.used]
        return f"looked for it: {', '.join([*above, *self.failures])}"


class Completer:
    """Completes chains, for one process. ``thread`` is where chains are judged, ``clock`` the time that they have."""

    def __init__(
        self,
        fetcher: Fetcher,
        thread: Executor,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        """To be made inside of a running loop. ``monotonic`` is by what is forgotten what was at a URL."""
        self.seen = Intermediates()
        self._fetcher = fetcher
        self._thread = thread
        self._clock = clock
        self._metrics = metrics or Metrics()
        self._loop = asyncio.get_running_loop()
        self._found: TLRUCache[str, Found] = TLRUCache(
            KEPT_BYTES,
            ttu=lambda _url, found, now: now + found.seconds,
            timer=monotonic,
            getsizeof=lambda found: found.size + _OVERHEAD,
        )

    def can_ask(self, attempt: Attempt) -> bool:
        """Whether the chain lacks an issuer that it says where to get."""
        return (child := attempt.lacking) is not None and bool(issuer_urls(child))

    def close(self) -> None:
        """Give up what is being fetched."""
        self._fetcher.close()

    async def complete(self, attempt: Attempt) -> tuple[Verdict, float | None]:
        """The verdict by what can be had, and for how many seconds it may be kept at most; None: as any other."""
        search = _Search(attempt, self._loop.time() + SECONDS)
        for _ in range(LEVELS):
            if not await self._longer(search):
                break
        verdict = search.attempt.verdict(f"from {', '.join(search.used)}", search.remark)
        self._metrics.completed("completed" if search.attempt.whole else search.outcome)
        if not search.attempt.whole:
            return verdict, 0.0 if search.busy else FAILED_SECONDS
        self.seen.learn(verdict)
        return verdict, None

    async def _longer(self, search: _Search) -> bool:
        """Ask for the issuer that is missing; whether it was had."""
        child = search.attempt.lacking
        urls = issuer_urls(child) if child is not None else ()
        for place, url in enumerate(urls):
            found = await self._at(url, search, len(urls) - place)
            if found.certificates and await self._made_longer(search, found.certificates):
                search.used.append(url)
                search.outcome = "no_anchor"
                if found.seconds < KEPT_SECONDS:
                    self._found[url] = replace(found, seconds=KEPT_SECONDS)
                return True
            search.outcome = found.kind
            search.failures.append(f"{url[:_SHOWN]} ({found.problem or 'what is there is not the issuer'})")
        return False

    async def _made_longer(self, search: _Search, certificates: tuple[x509.Certificate, ...]) -> bool:
        pool = (*certificates, *search.pool)

        def known(child: Facts) -> Iterable[x509.Certificate]:
            return (*pool, *self.seen.issuers_of(child))

        work = partial(search.attempt.completed, known, self._clock())
        attempt = await self._loop.run_in_executor(self._thread, work)
        if attempt is search.attempt:
            return False
        search.attempt, search.pool = attempt, pool
        return True

    async def _at(self, url: str, search: _Search, urls: int) -> Found:
        """What is at a URL, one of so many that the time has to be enough for."""
        if (kept := self._found.get(url)) is not None:
            return kept
        now = self._loop.time()
        given = (search.until - now) / urls
        try:
            body = await self._fetcher.get(url, most=LARGEST, until=now + given)
        except FetchFailed as failed:
            search.busy |= failed.busy
            passing = failed.busy or (failed.timed_out and given < FAIR_SECONDS)
            kind = "busy" if failed.busy else "timed_out" if failed.timed_out else "unreachable"
            found = Found((), str(failed), 0.0 if passing else FAILED_SECONDS, kind=kind)
        else:
            found = await self._loop.run_in_executor(self._thread, read_issuers, body)
        self._found[url] = found
        return found
