"""The list files of bypass rules in a worker: read at its start, and again whenever one has changed.

A file that cannot be used leaves what was read of it before in force, and the log says so. A worker that starts with
one goes on without its rules: then more is decrypted, never less. Files are looked at and read off the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from certs.bypass import BypassRules, Matched, PatternList
from certs.names import Host
from config.list_files import ListFileBusyError, ListFileError, Look, look, read
from config.settings import BypassList
from proxy.log import ERROR, INFO, Log

LOOK_SECONDS = 1.0
"""How often files are looked at. One that has changed is read when it looks the same at the next time: who writes it
may be in the middle of a line, and half a network is a larger one."""
NOTHING = PatternList(b"")


@dataclass(slots=True)
class _Followed:
    """A file, and what is known of it."""

    entry: BypassList
    rules: PatternList = NOTHING
    used: bool = False
    """Whether rules of it are in force."""
    seen: Look | None = None
    """Its state at the last look."""
    read: Look | None = None
    """Its state when it was last read, whatever came of it."""
    problems: tuple[str, ...] = ()
    """What is wrong with it, which was said."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of reading a file: its rules, or why there are none."""

    rules: PatternList | None
    problems: tuple[str, ...]
    state: Look | None


class BypassLists:
    """The lists of the settings. Used on the event loop alone, but for what it hands to a thread itself."""

    def __init__(self, entries: Sequence[BypassList], log: Log) -> None:
        self._log = log
        self._files = [_Followed(entry) for entry in entries]
        self._one_at_a_time = asyncio.Lock()

    def __bool__(self) -> bool:
        return bool(self._files)

    def match(self, tenant: str, host: Host) -> Matched | None:
        """The rule of a list that covers the host for the tenant. A few lookups for each list."""
        for each in self._files:
            if each.entry.is_for(tenant) and (rule := each.rules.match(host)) is not None:
                return Matched(rule, each.entry.file)
        return None

    def load(self) -> None:
        """Read all of them now."""
        for each in self._files:
            self._take(each, _read_now(each.entry.file))

    async def follow(self) -> None:
        """Look for changes, until cancelled."""
        while self._files:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Look once at each, and read what has changed and rests."""
        async with self._one_at_a_time:
            for each in self._files:
                if (outcome := await asyncio.to_thread(_look, each)) is not None:
                    self._take(each, outcome)

    async def reread(self) -> bool:
        """Read all of them now, on somebody's word that they are as they are to be; whether all can be used."""
        async with self._one_at_a_time:
            for each in self._files:
                self._take(each, await asyncio.to_thread(_read_now, each.entry.file))
            return not any(each.problems for each in self._files)

    def _take(self, each: _Followed, outcome: _Outcome) -> None:
        """Use what was read, or say once why not."""
        each.read = outcome.state
        path, before, each.problems = each.entry.file, each.problems, outcome.problems
        if outcome.rules is not None:
            each.rules, each.used = outcome.rules, True
            self._log.event(INFO, "bypass list read", file=path, rules=each.rules.count)
        elif outcome.problems != before:
            effect = "what was read of it before stays in force" if each.used else "none of its rules counts"
            self._log.event(ERROR, "bypass list not used", file=path, reason="; ".join(outcome.problems), effect=effect)


def problems_of(entries: Iterable[BypassList]) -> list[str]:
    """What is wrong with the files, a line for each problem."""
    return [problem for entry in entries for problem in _read_now(entry.file).problems]


def matching(
    own: BypassRules, lists: BypassLists, tenant: str, hosts: Iterable[Host], clock: Callable[[], datetime]
) -> Matched | None:
    """The rule that covers one of the hosts now: of the tenant's own, or of a list that counts for it."""
    for host in hosts:
        if own.ends and (rule := own.match(host, clock())) is not None:
            return Matched(rule)
        if lists and (matched := lists.match(tenant, host)) is not None:
            return matched
    return None


def _look(each: _Followed) -> _Outcome | None:
    """In a thread: what came of reading the file, where it has changed since it was read, and rests."""
    try:
        now = look(each.entry.file)
    except ListFileError as error:
        each.seen = None
        return _Outcome(None, (str(error),), None)
    rests, each.seen = now == each.seen, now
    if not rests or now == each.read:
        return None
    try:
        return _read(each.entry.file)
    except ListFileBusyError:
        return None


def _read_now(path: str) -> _Outcome:
    try:
        return _read(path)
    except ListFileBusyError as error:
        return _Outcome(None, (str(error),), None)


def _read(path: str) -> _Outcome:
    """Raises ListFileBusyError."""
    try:
        data, state = read(path)
    except ListFileBusyError:
        raise
    except ListFileError as error:
        return _Outcome(None, (str(error),), None)
    rules = PatternList(data)
    return _Outcome(None if rules.problems else rules, tuple(rules.complaints(path)), state)
