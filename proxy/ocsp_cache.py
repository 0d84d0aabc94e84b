"""OCSP answers: asked of the responder that a certificate names, and kept in memory for as long as they count.

What is kept is never older than what was known before: an old answer can be sent again by whoever is on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from cachetools import LRUCache, TTLCache

from certs.ocsp import LARGEST_ANSWER, MEDIA_TYPE, question, standing
from certs.revocation import Standing, Subject, Unusable
from issuer.joined import Joined
from proxy.crl_cache import FAILED_SECONDS, Means, Passing, older, renewal
from proxy.fetching import FetchFailed
from proxy.log import WARNING

ASK_SECONDS = 10.0
KEPT_ANSWERS = 8192
_MOST_FAILURES = 4096

Key = tuple[bytes, int]
"""The digest of the issuer's key, and the serial number: what an answer is about."""


@dataclass(frozen=True, slots=True)
class _Kept:
    standing: Standing
    renew_at: datetime


class OcspCache:
    """For one process."""

    def __init__(self, means: Means) -> None:
        """To be made inside of a running loop."""
        self._fetcher = means.fetcher
        self._clock = means.clock
        self._log = means.log
        self._loop = asyncio.get_running_loop()
        self._kept: LRUCache[Key, _Kept] = LRUCache(KEPT_ANSWERS)
        self._silent: TTLCache[str, str] = TTLCache(_MOST_FAILURES, FAILED_SECONDS, timer=means.monotonic)
        """Responders that do not answer, and why."""
        self._failed: TTLCache[tuple[str, Key], str] = TTLCache(_MOST_FAILURES, FAILED_SECONDS, timer=means.monotonic)
        """Answers that do not count, and why."""
        self._joined: Joined[tuple[str, Key], Standing] = Joined()
        self._renewing: set[asyncio.Task[None]] = set()

    def at_hand(self, subject: Subject) -> Standing | None:
        """What is known of the certificate. What is to be asked again is, meanwhile."""
        if (key := _key(subject)) is None or (kept := self._kept.get(key)) is None:
            return None
        now = self._clock()
        if now > kept.standing.until:
            return None
        if now >= kept.renew_at:
            for url in subject.ocsp_urls[:1]:
                task = self._loop.create_task(self._renew(url, subject))
                self._renewing.add(task)
                task.add_done_callback(self._renewing.discard)
        return kept.standing

    async def get(self, url: str, subject: Subject) -> Standing:
        """What the responder at a URL says of the certificate. Raises Unusable, saying why that does not count."""
        if (key := _key(subject)) is None:
            raise Unusable("its issuer's key cannot be read")
        why = self._silent.get(url) or self._failed.get((url, key))
        if why is not None:
            raise Unusable(why)
        # Whoever gives up leaves it to those who come next.
        return await self._joined.run((url, key), partial(self._asked, url, key, subject))

    async def _renew(self, url: str, subject: Subject) -> None:
        with contextlib.suppress(Unusable):  # said already; the old one serves
            await self.get(url, subject)

    async def _asked(self, url: str, key: Key, subject: Subject) -> Standing:
        try:
            body = await self._fetcher.post(
                url, question(subject), MEDIA_TYPE, most=LARGEST_ANSWER, until=self._loop.time() + ASK_SECONDS
            )
        except FetchFailed as failed:
            if failed.busy:
                raise Passing(str(failed)) from None
            self._silent[url] = str(failed)
            self._tell(url, str(failed))
            raise Unusable(str(failed)) from None
        now = self._clock()
        try:
            found = standing(body, subject, now)
            before = self._kept.get(key)
            if before is not None and found.this_update < before.standing.this_update:
                raise older(before.standing.this_update)
        except Unusable as error:
            self._failed[url, key] = str(error)
            self._tell(url, str(error))
            raise
        self._kept[key] = _Kept(found, renewal(now, found.until))
        return found

    def _tell(self, url: str, why: str) -> None:
        self._log.event(WARNING, "revocation cannot be asked", url=url, reason=why)


def _key(subject: Subject) -> Key | None:
    spki = subject.issuer.spki
    return None if spki is None else (spki, subject.facts.serial)
