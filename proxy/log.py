"""The log: one JSON object a line, gathered for a tenth of a second and written by a thread of its own.

A worker must never wait for whoever reads its log, so a line is formatted and put aside, and a thread writes what has
gathered. Where the reader is too slow, lines are dropped and counted, and the count is logged as soon as there is room.
"""

from __future__ import annotations

import json
import os
import queue
import stat
import threading
from collections.abc import Callable
from typing import Any

from proxy.lanes.exchange import Exchange

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
NAMES = {number: name for name, number in LEVELS.items()}
MAX_LINE = 4000
"""A longer line loses its long fields: a pipe takes up to 4096 bytes (PIPE_BUF) whole, without another's in between."""
CUT = 256
MAX_WAITING = 4 << 20
"""Characters that may wait to be written."""
GATHER_SECONDS = 0.1

_quote = json.encoder.encode_basestring_ascii
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, default=str).encode


class Log:
    """Takes events, gives lines. ``wall`` tells the time in seconds since 1970."""

    def __init__(self, fd: int, level: str, source: str, wall: Callable[[], float]) -> None:
        self.fd = fd
        self.level = LEVELS[level]
        self._source = _quote(source)
        self.wall = wall
        self.dropped = 0
        self.waiting: list[str] = []
        self.size = 0
        self.later: Callable[[float, Callable[[], None]], object] | None = None
        self._pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
        self._queue: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
        # Each is counted up by one thread alone: a sum of both in one number would lose counts between them.
        self._queued = 0
        self._written = 0
        self._thread: threading.Thread | None = None

    def start(self, later: Callable[[float, Callable[[], None]], object]) -> None:
        """Gather from now on; ``later`` is the loop's ``call_later``. Until then every line is written at once."""
        self.later = later
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, for two seconds at most."""
        self._gathered()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(2)

    def change(self, fd: int, level: str) -> None:
        """Write to another descriptor from now on, which is then this log's own, and log from another level."""
        self.level = LEVELS[level]
        if fd == self.fd:
            return
        if 2 in (fd, self.fd):
            self.fd = fd
        else:
            # In one step, since the thread may be writing to the one before.
            os.dup2(fd, self.fd, inheritable=False)
            os.close(fd)
        self._pipe = stat.S_ISFIFO(os.fstat(self.fd).st_mode)

    @property
    def _backlog(self) -> int:
        """Characters that the thread still has to write."""
        return self._queued - self._written

    def event(self, level: int, event: str, **fields: Any) -> None:
        """Log one event. Fields that are None or empty are left out."""
        if level < self.level:
            return
        self._put(self._line(level, event, fields))

    def request(self, about: str, exchange: Exchange) -> None:
        """Log a request that has ended; ``about`` is the connection's part of the line (:func:`members`).

        There is one such line for each request, so it is put together in one expression.
        """
        if self.level > INFO:
            return
        x = exchange
        method = f',"method":{_quote(x.method)}' if x.method else ""
        path = f',"path":{_quote(x.path)}' if x.path else ""
        first = f',"first_byte_ms":{(x.first_byte - x.started) * 1e3:.2f}' if x.first_byte else ""
        last = f',"ms":{(x.ended - x.started) * 1e3:.2f}' if x.ended else ""
        status = f',"status":{x.status}' if x.status else ""
        line = (
            f'{{"time":{x.ended or self.wall():.3f},"level":"info","event":"request","from":{self._source}{about}'
            f',"protocol":"{x.protocol}"{method},"host":{_quote(x.host)}{path}{status},"request_bytes":{x.request_bytes}'
            f',"response_bytes":{x.response_bytes}{first}{last},"outcome":"{x.outcome}"}}'
        )
        self._put(line if len(line) <= MAX_LINE else _cut(json.loads(line)))

    def _put(self, line: str) -> None:
        if self.later is None:
            _write(self.fd, (line + "\n").encode())
            return
        if self._backlog + self.size > MAX_WAITING:
            self.dropped += 1
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
        while (batch := self._queue.get()) is not None:
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
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
