"""The log: one JSON object a line, gathered for a tenth of a second and written by a thread of its own.

A worker must never wait for whoever reads its log, so a line is formatted and put aside, and a thread writes what has
gathered. Where the reader is too slow, lines are dropped and counted, and the count is logged as soon as there is room.

What names a host of ``log.never_log`` is not written at all. Under load a share of the request lines is written
(:mod:`proxy.log_limits`), and of one event no more than a number of lines in a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import stat
import threading
from collections.abc import Callable, Mapping
from typing import Any

from certs.mentions import Mentions
from certs.names import InvalidHost
from config.settings import Log as Settings
from proxy.lanes.exchange import Exchange
from proxy.log_limits import FloodGate, Sampler
from proxy.privileges import RAISED

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
NAMES = {number: name for name, number in LEVELS.items()}
MAX_LINE = 4000
"""A longer line loses its long fields: a pipe takes up to 4096 bytes (PIPE_BUF) whole, without another's in between."""
CUT = 256
MAX_WAITING = 4 << 20
"""Characters that may wait to be written."""
GATHER_SECONDS = 0.1
FOLLOW_SECONDS = 10.0
"""How long a process that says nothing may keep a file that was renamed or removed."""
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
LEFT_OUT_SECONDS = 1.0
"""How long after the first line that was left out of a flood it is said how many that were."""

_quote = json.encoder.encode_basestring_ascii
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, default=str).encode


class Log:
    """Takes events, gives lines. ``wall`` tells the time in seconds since 1970.

    ``never``: hosts of which nothing is logged. ``sampler`` and ``flood`` bound what is written in a second.
    """

    def __init__(
        self,
        fd: int,
        level: str,
        source: str,
        wall: Callable[[], float],
        never: Mentions | None = None,
        sampler: Sampler | None = None,
        flood: FloodGate | None = None,
    ) -> None:
        self.fd = fd
        self.level = LEVELS[level]
        self.source = source
        self._source = _quote(source)
        self.wall = wall
        self.never = never
        self.dropped = 0
        """Lines that were lost since the last time that this was said."""
        self.lost = 0
        """Lines dropped since the start; ``dropped`` begins again when the log has said so."""
        self.withheld = 0
        """Lines that name a host of which nothing is logged."""
        self.level_changed: list[Callable[[int], None]] = []
        """Whom :meth:`set_level` tells."""
        self._sampler = sampler
        self._flood = flood
        self._flood_told = True
        self.waiting: list[str] = []
        self.size = 0
        self.later: Callable[[float, Callable[[], None]], object] | None = None
        self.path: str | None = None
        """The file behind ``fd``: when it was renamed, the log goes on in a new one of that name."""
        self._changing = threading.Lock()
        self._stuck = False
        """It was renamed, and there can be no new one: said once."""
        self._pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
        self._queue: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
        # Each is counted up by one thread alone: a sum of both in one number would lose counts between them.
        self._queued = 0
        self._written = 0
        self._thread: threading.Thread | None = None

    def start(self, later: Callable[[float, Callable[[], None]], object]) -> None:
        """Gather from now on; ``later`` is the loop's ``call_later``. Until then every line is written at once."""
        self.later = later
        if self.waiting:  # what was put aside after a stop, which this start follows
            later(GATHER_SECONDS, self._gathered)
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def set_level(self, level: str) -> None:
        """Log from this level on, from now on: debug, info, warning or error. Raises ValueError for another."""
        if level not in LEVELS:
            raise ValueError(f"no level of the log: {level!r}; expected one of {', '.join(LEVELS)}")
        self.level = LEVELS[level]
        for tell in self.level_changed:
            tell(self.level)

    def stop(self) -> None:
        """Write what is left, for two seconds at most."""
        if self.later is not None:
            self.later = _not_any_more
            self._say_left_out()
        self._gathered()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(2)

    def apply(self, settings: Settings) -> None:
        """Follow other settings from now on, but for the file. Raises ValueError as never_logged; nothing changes."""
        never, sampler, flood = _rules(settings)
        self._say_left_out()  # what the old gate has counted
        self.never, self._sampler, self._flood = never, sampler, flood
        self.set_level(settings.level)

    def write_to(self, path: str | None) -> None:
        """Write to another file (None: standard error) from now on. Raises OSError; then nothing changes."""
        fd = open_log_file(path)
        with self._changing:
            self._write_to(fd)
            self.path = path

    def _write_to(self, fd: int) -> None:
        if fd == self.fd:
            return
        if self.fd == 2:
            self.fd = fd
        else:
            # In one step, since the thread may be writing to the one before.
            os.dup2(fd, self.fd, inheritable=False)
            if fd != 2:
                os.close(fd)
        self._pipe = stat.S_ISFIFO(os.fstat(self.fd).st_mode)

    def _follow(self) -> None:
        """Where the file was renamed or removed, as those do who rotate logs, go on in a new one."""
        path = self.path
        if path is None or not RAISED.acquire(blocking=False):
            return  # while this process has root's rights nothing is opened here: the next line will do
        try:
            mine = os.fstat(self.fd)
            with contextlib.suppress(FileNotFoundError):
                there = os.stat(path)
                if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                    self._stuck = False
                    return
            fd = os.open(path, _APPEND | os.O_NONBLOCK, 0o600)  # whatever is there now, it must not be waited for
        except OSError as error:
            if not self._stuck:
                self._stuck = True
                line = self._line(ERROR, "log not followed", {"reason": f"{path}: {error.strerror}"})
                _write(self.fd, (line + "\n").encode())
            return
        finally:
            RAISED.release()
        with self._changing:
            if self.path == path:
                self._write_to(fd)
            else:
                os.close(fd)
        self._stuck = False

    @property
    def _backlog(self) -> int:
        """Characters that the thread still has to write."""
        return self._queued - self._written

    def event(self, level: int, event: str, **fields: Any) -> None:
        """Log one event. Fields that are None or empty are left out."""
        if level < self.level:
            return
        if self.withholds(fields):
            return
        # Whoever asks for debug wants the whole story.
        flood = self._flood if level > DEBUG else None
        if flood is not None and self.later is not None and not flood.lets_through(event, self.wall()):
            if self._flood_told:
                self._flood_told = False
                self.later(LEFT_OUT_SECONDS, self._say_left_out)
            return
        self._put(self._line(level, event, fields))

    def request(self, about: str, exchange: Exchange) -> bool:
        """Log a request that has ended; ``about`` is the connection's part of the line (:func:`members`).

        False: it may not be told of at all, since it names a host of which nothing is logged. There is one such line
        for each request, so it is put together in one expression.
        """
        x = exchange
        if self.never is not None and self.is_withheld(x):
            self.withheld += 1
            return False
        if self.level > INFO:
            return True
        sampled = ""
        if self._sampler is not None and (stands := self._sampler.stands_for(x.ended)) != 1:
            if not stands:
                return True
            sampled = f',"sampled":{stands}'
        more = members(x.more) if x.more else ""
        method = f',"method":{_quote(x.method)}' if x.method else ""
        path = f',"path":{_quote(x.path)}' if x.path else ""
        first = f',"first_byte_ms":{(x.first_byte - x.started) * 1e3:.2f}' if x.first_byte else ""
        last = f',"ms":{(x.ended - x.started) * 1e3:.2f}' if x.ended else ""
        status = f',"status":{x.status}' if x.status else ""
        line = (
            f'{{"time":{x.ended or self.wall():.3f},"level":"info","event":"request","from":{self._source}{about}'
            f',"protocol":"{x.protocol}"{method},"host":{_quote(x.host)}{path}{more}{status},"request_bytes":{x.request_bytes}'
            f',"response_bytes":{x.response_bytes}{first}{last},"outcome":"{x.outcome}"{sampled}}}'
        )
        self._put(line if len(line) <= MAX_LINE else _cut(json.loads(line)))
        return True

    def withholds(self, fields: Mapping[str, Any]) -> bool:
        """Whether a line may not have these fields, since one names a host of which nothing is logged; counts it."""
        if self.never is None or not names_one_of(self.never, fields):
            return False
        self.withheld += 1
        return True

    def is_withheld(self, exchange: Exchange) -> bool:
        """Whether nothing may be logged of a request, or what is to be told of it names a host of which that holds."""
        never = self.never
        return never is not None and (
            never.covers(exchange.host)
            or (":" in exchange.host and never.named_in(exchange.host))
            or never.named_in(exchange.path)
            or (exchange.more is not None and names_one_of(never, exchange.more))
        )

    def of_fault(self, reason: str) -> str:
        """The reason of a fault as it may be told: the fault itself is logged whatever it names."""
        hidden = self.never is not None and self.never.named_in(reason)
        return "not told: it names a host of log.never_log" if hidden else reason

    def _say_left_out(self) -> None:
        self._flood_told = True
        for event, count in self._flood.left_out().items() if self._flood is not None else ():
            self._put(self._line(WARNING, "log lines left out", {"of": event, "count": count}))

    def _put(self, line: str) -> None:
        if self.later is None:
            _write(self.fd, (line + "\n").encode())
            return
        if self._backlog + self.size > MAX_WAITING:
            self.dropped += 1
            self.lost += 1
            return
        if not self.waiting:
            self.later(GATHER_SECONDS, self._gathered)
        self.waiting.append(line)
        self.size += len(line)

    def _line(self, level: int, event: str, fields: dict[str, Any]) -> str:
        said = f'{{"time":{self.wall():.3f},"level":"{NAMES[level]}","event":{_quote(event)},"from":{self._source}'
        line = f"{said}{members(fields)}}}"
        return line if len(line) <= MAX_LINE else _cut(json.loads(line))

    def _gathered(self) -> None:
        if not self.waiting:
            return
        if self.dropped and self._backlog < MAX_WAITING // 2:
            line = self._line(WARNING, "log lines dropped", {"count": self.dropped})
            self.waiting.append(line)
            self.size += len(line)
            self.dropped = 0
        self._queued += self.size
        batch, self.waiting, self.size = self.waiting, [], 0
        self._queue.put(batch)

    def _write_all(self) -> None:
        while True:
            try:
                batch = self._queue.get(timeout=FOLLOW_SECONDS)
            except queue.Empty:
                batch = []
            if batch is None:
                return
            self._follow()
            if not batch:
                continue
            if self._pipe:
                for line in batch:
                    _write(self.fd, (line + "\n").encode())
            else:
                _write(self.fd, ("\n".join(batch) + "\n").encode())
            self._written += sum(map(len, batch))


def members(fields: dict[str, Any]) -> str:
    """Fields as members of an object that others come before; None and empty texts are left out."""
    parts = []
    for name, value in fields.items():
        # Nearly all are text or whole numbers: put together here, they cost a third of what the encoder does.
        kind = type(value)
        if kind is str:
            if value:
                parts.append(f',"{name}":{_quote(value)}')
        elif kind is int or kind is float:  # our floats are times: finite
            parts.append(f',"{name}":{value}')
        elif value is not None:
            parts.append(f',"{name}":{_encode(value)}')
    return "".join(parts)


def names_one_of(never: Mentions, value: Any) -> bool:
    """Whether a field's value, or one within it, names one of the hosts."""
    if isinstance(value, str):
        return never.named_in(value)
    if isinstance(value, Mapping):
        return any(names_one_of(never, part) for part in value.values())
    if isinstance(value, list | tuple):
        return any(names_one_of(never, part) for part in value)
    return False


def _not_any_more(seconds: float, work: Callable[[], None]) -> None:
    """The loop is at its end: what is put aside now is written by :meth:`Log.stop` itself."""


def never_logged(settings: Settings) -> Mentions | None:
    """The hosts of which nothing is logged; None where there are none. Raises ValueError, for a start that says so."""
    try:
        return Mentions(settings.never_log) if settings.never_log else None
    except InvalidHost as error:
        raise ValueError(f"log.never_log: {error}") from None


def open_log(settings: Settings, source: str, wall: Callable[[], float]) -> Log:
    """The log as it is configured. Raises OSError where its file cannot be opened, ValueError as never_logged."""
    log = Log(open_log_file(settings.file), settings.level, source, wall, *_rules(settings))
    log.path = settings.file
    return log


def _rules(settings: Settings) -> tuple[Mentions | None, Sampler | None, FloodGate | None]:
    """What bounds what is written."""
    sampler = Sampler(settings.sample_above) if settings.sample_above is not None else None
    flood = FloodGate(settings.flood_above) if settings.flood_above is not None else None
    return never_logged(settings), sampler, flood


def _cut(whole: dict[str, Any]) -> str:
    """The event with its long texts cut, and as many of its fields as there is room for."""
    said = {name: whole.pop(name) for name in ("time", "level", "event", "from")} | {"cut": True}
    line = _encode(said)
    for name, value in whole.items():
        more = said | {name: value[:CUT] if isinstance(value, str) else value}
        if len(longer := _encode(more)) <= MAX_LINE:
            said, line = more, longer
    return line


def _write(fd: int, data: bytes) -> None:
    """Write all of it; where nobody reads any more, the log has no place to say so."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            threading.Event().wait(0.01)
        except OSError:
            return


def open_log_file(path: str | None) -> int:
    """The descriptor to log to: standard error, or the file, made 0600 and appended to. Raises OSError."""
    if path is None:
        return 2
    return os.open(path, _APPEND, 0o600)
