"""The htpasswd files of listeners in a worker: read at its start, and again whenever one has changed.

A line that cannot be used lets nobody in, and the log says which it is. A file that cannot be read any more lets nobody
in either: whoever took it away may have meant just that. Files are looked at and read off the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from config.list_files import ListFileBusyError, ListFileError, Look, look, read
from config.passwords import UserFile, parse_htpasswd
from config.settings import Listener
from proxy.log import ERROR, INFO, Log

LOOK_SECONDS = 0.5
"""How often files are looked at. What has changed is read when it looks the same at the next time: who writes it may be
in the middle of a line."""
NOBODY: Mapping[str, str] = {}


@dataclass(slots=True)
class _Followed:
    """A file, and what is known of it."""

    path: str
    held: UserFile = field(default_factory=lambda: UserFile({}, ()))
    seen: Look | None = None
    """Its state at the last look."""
    read: Look | None = None
    """Its state when it was last read."""
    away: int = 0
    """Looks at which it could not be read, one after the other: who writes it anew may take it away for a moment."""


def paths_of(listeners: Iterable[Listener]) -> tuple[str, ...]:
    """The files, each once."""
    found = (listener.authentication for listener in listeners)
    return tuple(dict.fromkeys(each.file for one in found if one is not None for each in one.htpasswd))


def problems_of(paths: Iterable[str]) -> list[str]:
    """What is wrong with the files, a line for each problem."""
    found = []
    for path in paths:
        try:
            found += [f"{path}:{problem}" for problem in parse_htpasswd(read(path)[0]).problems]
        except ListFileError as error:
            found.append(str(error))
    return found


class HtpasswdFiles:
    """The files. ``changed`` is called after what they hold has changed."""

    def __init__(self, paths: Iterable[str], log: Log, changed: Callable[[], None] = lambda: None) -> None:
        self._log = log
        self._files = {path: _Followed(path) for path in paths}
        self._changed = changed
        self._one_at_a_time = asyncio.Lock()

    def users(self, path: str) -> Mapping[str, str]:
        """Hashes by name."""
        found = self._files.get(path)
        return NOBODY if found is None else found.held.users

    def load(self) -> None:
        """Read all of them now."""
        for each in self._files.values():
            self._take(each, _read(each.path))

    async def follow(self) -> None:
        """Look for changes, until cancelled."""
        while self._files:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Look once at each, and read what has changed and rests."""
        async with self._one_at_a_time:
            for each in self._files.values():
                if (outcome := await asyncio.to_thread(_look, each)) is not None:
                    self._take(each, outcome)

    async def reread(self) -> bool:
        """Read all of them now; whether every line of all can be used."""
        async with self._one_at_a_time:
            for each in self._files.values():
                self._take(each, await asyncio.to_thread(_read, each.path))
            return not any(each.held.problems for each in self._files.values())

    def _take(self, each: _Followed, outcome: tuple[UserFile, Look | None]) -> None:
        before, (each.held, each.read) = each.held, outcome
        if before.users != each.held.users or each.read is not None:
            self._log.event(INFO, "htpasswd file read", file=each.path, users=len(each.held.users))
        if each.held.problems and each.held.problems != before.problems:
            self._log.event(
                ERROR, "htpasswd file has problems", file=each.path, reason="; ".join(each.held.problems[:10]),
                effect="these lines let nobody in",
            )  # fmt: skip
        if before.users != each.held.users:
            self._changed()


def _look(each: _Followed) -> tuple[UserFile, Look | None] | None:
    """In a thread: what is in the file, where it has changed since it was read, and rests."""
    try:
        now = look(each.path)
        rests, each.seen = now == each.seen, now
        if not rests or now == each.read:
            each.away = 0
            return None
        data, state = read(each.path)
    except ListFileBusyError:
        return None
    except ListFileError as error:
        each.away, each.seen = each.away + 1, None
        return (UserFile({}, (str(error),)), None) if each.away == 2 else None
    each.away = 0
    return parse_htpasswd(data), state


def _read(path: str) -> tuple[UserFile, Look | None]:
    try:
        data, state = read(path)
    except ListFileError as error:
        return UserFile({}, (str(error),)), None
    return parse_htpasswd(data), state
