"""Whether what a path is made of was revoked: by what the server sent along, the operator's CRLs, and who can be asked.

It is asked after a verdict that reached an anchor, for the server's certificate and each issuer below the anchor. What
is at hand comes first, and a source that says *revoked* counts whatever another says. Where nothing is at hand, the
responders and CRLs that the certificates name are asked, all certificates at once, within the time that is allowed;
what comes later serves the next. Nobody is asked about a server that is blocked for something else, and nobody about
what says itself that nothing will be known of it; that such a one was revoked counts where it is at hand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

from certs.ocsp import standing as stapled_standing
from certs.revocation import OFF, Standing, Subject, Unusable, Wanted, revoked, subjects, unknown, unmade
from certs.verdict import COVERED_BY_UNTRUSTED, Finding, Verdict
from config.settings import Verification
from proxy.crl_cache import CrlCache, Means, Passing
from proxy.crl_directory import CrlDirectory
from proxy.log import WARNING
from proxy.metrics import Metrics
from proxy.ocsp_cache import OcspCache
from store.crls import CrlFiles

LOOK_SECONDS = 5.0
TIDY_SECONDS = 3600.0
UNKNOWN_KEPT = timedelta(seconds=15)
"""For how long it is kept that nothing is known: a fetch that took too long may be through by then."""
_AGAIN_SECONDS = 0.1
_URL_SHOWN = 200


class _Source(NamedTuple):
    """Who was asked: ``kind`` for the metrics (``stapled``, ``directory``, ``crl``, ``ocsp``), ``name`` for people."""

    kind: str
    name: str


_STAPLED = _Source("stapled", "the OCSP answer that the server sent along")


@dataclass(slots=True)
class _Heard:
    """What was heard of one certificate, with where from; and why others did not count."""

    subject: Subject
    answers: list[tuple[Standing, _Source]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def take(self, source: _Source, ask: Callable[[], Standing | None]) -> None:
        """Hear one source, which may have nothing to say."""
        try:
            said = ask()
        except Unusable as error:
            if (reason := f"{source.name}: {error}") not in self.reasons:
                self.reasons.append(reason)
        else:
            if said is not None:
                self.answers.append((said, source))

    @property
    def unanswered(self) -> bool:
        """Nobody has said anything that counts, and somebody should have."""
        return not self.answers and not self.subject.silence_is_good

    @property
    def finding(self) -> Finding | None:
        """That it was revoked, where anybody said so."""
        for said, source in self.answers:
            if said.revocation is not None:
                return revoked(self.subject, said, said.revocation, source.name)
        return None

    @property
    def told(self) -> tuple[str, str]:
        """Whose word counts, and what it is; for the metrics."""
        for said, source in self.answers:
            if said.revocation is not None:
                return source.kind, "revoked"
        return (self.answers[0][1].kind, "good") if self.answers else ("none", "unknown")


@dataclass(frozen=True, slots=True)
class Checked:
    """The verdict with what was found; ``until``: for how long that may be kept, None: as long as any."""

    verdict: Verdict
    until: datetime | None = None


class Revocation:
    """For one process."""

    def __init__(self, settings: Verification, means: Means, files: CrlFiles, metrics: Metrics | None = None) -> None:
        """To be made inside of a running loop."""
        self._means = means
        self._metrics = metrics or Metrics()
        self._files = files
        self._mode = settings.revocation
        self._ocsp_allowed = settings.ocsp
        self.patience = settings.revocation_timeout
        """Seconds that :meth:`asked` takes at most, about."""
        self._clock = means.clock
        self._loop = asyncio.get_running_loop()
        self._crls = CrlCache(means, files, settings.largest_crl)
        self._ocsp = OcspCache(means)
        self.directory: CrlDirectory | None = None
        if settings.crl_directory is not None:
            self.directory = CrlDirectory(Path(settings.crl_directory), settings.largest_crl, means.log)

    async def start(self) -> None:
        """Read the operator's lists, and make sure of the folder."""
        try:
            await self._elsewhere(self._files.open)
        except OSError as error:  # a full disk: then each worker fetches for itself
            self._means.log.event(WARNING, "crl cannot be kept", reason=error.strerror or str(error))
        await self._look()

    async def follow(self) -> None:
        """Look after the lists, until cancelled."""
        tidied = 0.0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()
            if self._means.monotonic() - tidied > TIDY_SECONDS:
                tidied = self._means.monotonic()
                with contextlib.suppress(OSError):
                    await self._elsewhere(self._files.tidy, self._clock().timestamp())

    def close(self) -> None:
        """Give up what is being asked."""
        self._means.fetcher.close()
        self._means.thread.shutdown(wait=False, cancel_futures=True)
        self._files.close()

    async def _look(self) -> None:
        if self.directory is not None:
            before = self.directory.changes
            await self._elsewhere(self.directory.look)
            self.directory.tell(before)

    async def _elsewhere[**P](self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        await self._loop.run_in_executor(self._means.thread, partial(work, *args, **kwargs))

    @property
    def crls(self) -> dict[str, int]:
        """What is kept of CRLs that were fetched: :attr:`proxy.crl_cache.CrlCache.state`."""
        return self._crls.state

    @property
    def changes(self) -> int:
        """Another number: what was judged before may be otherwise now."""
        return self.directory.changes if self.directory is not None else 0

    def at_hand(self, verdict: Verdict, stapled: bytes, wanted: Wanted) -> Checked | None:
        """The verdict with what is known without asking anybody; None where somebody is to be asked."""
        heard = self._at_hand(verdict, stapled)
        if self._settled(verdict, heard, wanted):
            return self._checked(verdict, heard, wanted)
        return None

    async def asked(self, verdict: Verdict, stapled: bytes, wanted: Wanted) -> Checked:
        """The verdict with what can be known in the time allowed."""
        heard = self._at_hand(verdict, stapled)
        if not self._settled(verdict, heard, wanted):
            until = self._loop.time() + self.patience
            await asyncio.gather(*(self._ask(each, until) for each in heard if each.unanswered))
        return self._checked(verdict, heard, wanted)

    def _at_hand(self, verdict: Verdict, stapled: bytes) -> list[_Heard]:
        if not COVERED_BY_UNTRUSTED.isdisjoint(verdict.defects):
            return []
        now = self._clock()
        return [self._known(subject, b"" if subject.place else stapled, now) for subject in subjects(verdict.chain)]

    def _known(self, subject: Subject, stapled: bytes, now: datetime) -> _Heard:
        heard = _Heard(subject)
        if stapled:
            heard.take(_STAPLED, partial(stapled_standing, stapled, subject, now))
        if self.directory is not None:
            for name, crl in self.directory.of(subject.issuer.subject):
                heard.take(_Source("directory", f"the CRL in {name}"), partial(crl.standing, subject, now))
        if self._mode != "off":
            for url in subject.crl_urls:
                if (kept := self._crls.at_hand(url, subject.issuer)) is not None:
                    heard.take(_crl_at(url), partial(kept.standing, subject, now))
            if self._ocsp_allowed:
                heard.take(_Source("ocsp", "OCSP"), partial(self._ocsp.at_hand, subject))
        return heard

    def _settled(self, verdict: Verdict, heard: Sequence[_Heard], wanted: Wanted) -> bool:
        """Whether asking would change nothing."""
        silent = [each for each in heard if each.unanswered]
        if self._mode == "off" or not silent or any(each.finding for each in heard):
            return True
        if wanted.blocked(verdict):
            return True
        return not any(self._sources(each.subject) for each in silent)

    def _checked(self, verdict: Verdict, heard: Sequence[_Heard], wanted: Wanted) -> Checked:
        for each in heard:
            if each.answers or self._mode != "off":
                self._metrics.revocation(*each.told)
        found = [finding for each in heard if (finding := each.finding) is not None]
        ends = [max(said.until for said, _ in each.answers) for each in heard if each.answers]
        silent = [each for each in heard if each.unanswered]
        result = _with(verdict, found)
        if silent and self._mode != "off":
            ends.append(self._clock() + UNKNOWN_KEPT)
            told = silent
            if self._mode != "hard" and not wanted.unknown(result):
                # RFC 7633 4.2.3.1: whoever keeps back the answer that the server has promised is not to gain by it.
                told = [each for each in silent if each.subject.must_staple and not each.subject.place]
            if told and not wanted.blocked(result):
                result = _with(result, [unknown(each.subject, each.reasons) for each in told])
        blocked = bool(silent) and wanted.blocked(verdict)
        result = replace(result, unmade=self._unmade(result, heard, silent, blocked))
        return Checked(result, min(ends, default=None))

    def _unmade(
        self, verdict: Verdict, heard: Sequence[_Heard], silent: Sequence[_Heard], blocked: bool
    ) -> dict[str, str]:
        """The verdict's checks that were not made, with those of revocation as they came out.

        ``blocked``: the server is blocked for something else.
        """
        before = {name: why for name, why in verdict.unmade.items() if name not in OFF}
        if not COVERED_BY_UNTRUSTED.isdisjoint(verdict.defects):
            return {**before, **unmade("no trusted CA is reached")}
        if not heard:
            return {**before, **unmade("of these certificates nobody is to be asked")}
        if not silent:
            return before
        if self._mode == "off":
            return {**before, **unmade("verification.revocation is off, and no list of crl_directory is about all")}
        if blocked:
            return {**before, **unmade("nobody is asked about a server that is blocked for something else")}
        reasons = "; ".join(dict.fromkeys(reason for each in silent for reason in each.reasons))
        why = f"nobody has told of {silent[0].subject.who}" + (f": {reasons}" if reasons else "")
        soft = "what nobody tells passes (verification.revocation is soft)"
        return {**before, **unmade(why, soft if self._mode == "soft" else "what was revoked settles it")}

    # --- asking ---

    def _sources(self, subject: Subject) -> list[tuple[_Source, Callable[[], Coroutine[None, None, Standing]]]]:
        """Whom to ask: of a server's certificate the responders first, of a CA's the CRLs, which are short."""
        crls = [(_crl_at(url), partial(self._by_crl, url, subject)) for url in subject.crl_urls]
        if not self._ocsp_allowed:
            return list(crls)
        responders = [(_ocsp_at(url), partial(self._ocsp.get, url, subject)) for url in subject.ocsp_urls]
        return [*crls, *responders] if subject.place else [*responders, *crls]

    async def _by_crl(self, url: str, subject: Subject) -> Standing:
        crl = await self._crls.get(url, subject.issuer)
        return crl.standing(subject, self._clock())

    async def _ask(self, heard: _Heard, until: float) -> None:
        """Ask one source after the other, and the next beside one that is slow, until one answers."""
        sources = self._sources(heard.subject)
        asked: dict[asyncio.Task[Standing], _Source] = {}
        try:
            for place, (source, ask) in enumerate(sources):
                asked[self._loop.create_task(_patiently(ask))] = source
                now = self._loop.time()
                await self._hear(heard, asked, now + (until - now) / (len(sources) - place))
                if heard.answers:
                    return
            while asked and self._loop.time() < until:
                await self._hear(heard, asked, until)
                if heard.answers:
                    return
            heard.reasons += [f"{source.name}: no answer within {self.patience:g} s" for source in asked.values()]
        finally:
            for task in asked:
                task.cancel()  # the fetch itself goes on, for who comes next

    async def _hear(self, heard: _Heard, asked: dict[asyncio.Task[Standing], _Source], until: float) -> None:
        """Wait until one has answered or failed, or the time is over."""
        if not asked:
            return
        timeout = max(0.0, until - self._loop.time())
        done, _ = await asyncio.wait(asked, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            heard.take(asked.pop(task), task.result)


def _with(verdict: Verdict, found: Sequence[Finding]) -> Verdict:
    if not found:
        return verdict
    return replace(verdict, findings=Verdict.of([*verdict.findings, *found]).findings)


async def _patiently(ask: Callable[[], Coroutine[None, None, Standing]]) -> Standing:
    """Ask again where there was no place for it, until whoever wants it gives up."""
    while True:
        try:
            return await ask()
        except Passing:
            await asyncio.sleep(_AGAIN_SECONDS)


def _crl_at(url: str) -> _Source:
    return _Source("crl", f"CRL {url[:_URL_SHOWN]}")


def _ocsp_at(url: str) -> _Source:
    return _Source("ocsp", f"OCSP {url[:_URL_SHOWN]}")
