"""What one program hands to the next when it executes it in its own place, and how the next one finds it.

The process stays: its number, its children, its lock on the state directory. What the next program cannot know by
itself is which descriptor is what. That is written to a file in memory, whose number is in an environment variable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any

from proxy.rehearsal import HANDOVER
from proxy.start_error import StartError

VARIABLE = "SALLYPORT_HANDOVER"
LARGEST = 64 << 20


@dataclass(frozen=True, slots=True)
class HandedChild:
    """A child that goes on. ``pid`` and ``control`` are None where it waits to be started again."""

    name: str
    pid: int | None
    control: int | None
    ready: bool
    deadline: float | None
    """When it is killed, on the monotonic clock, where it leaves already; else None."""
    row: int | None = None
    """Of a worker, in the ledger that is handed on; None where it counts in another, or not at all."""


@dataclass(frozen=True, slots=True)
class Handover:
    """Everything that the next program takes over. Numbers are descriptors."""

    pid: int
    began: float
    """When the upgrade began, on the monotonic clock."""
    settings: str
    """In force, as JSON."""
    wanted: str
    """To be in force, as JSON."""
    said: tuple[str, ...]
    roots: dict[str, str]
    lock: int
    issuing: int
    sockets: tuple[int, ...]
    """In the order of the listeners in force."""
    children: tuple[HandedChild, ...] = field(default=())
    monitoring: int | None = None
    """Where the monitor listens, while metrics are on."""
    console: int | None = None
    """Where the console listens, while it is on."""
    ledger: int | None = None
    """In which the workers in force count connections."""

    relayed: tuple[int, ...] = ()
    """Where workers take what comes out of tunnels, in the order of the WireGuard listeners in force."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that have to stay open."""
        controls = [child.control for child in self.children if child.control is not None]
        single = [fd for fd in (self.monitoring, self.console, self.ledger) if fd is not None]
        return (self.lock, self.issuing, *self.sockets, *self.relayed, *single, *controls)


def pack(handover: Handover) -> int:
    """A file in memory that the next program inherits."""
    fd = os.memfd_create("sallyport-handover", 0)
    content = memoryview(json.dumps({"version": HANDOVER, **asdict(handover)}).encode())
    while content:
        content = content[os.write(fd, content) :]
    return fd


def received(environ: MutableMapping[str, str]) -> Handover | None:
    """What the program before this one left, once; None at an ordinary start. Raises StartError."""
    text = environ.pop(VARIABLE, None)
    if text is None:
        return None
    try:
        fd = int(text)
        content = os.pread(fd, LARGEST, 0)
        os.close(fd)
        value = json.loads(content)
        if not isinstance(value, dict):
            raise TypeError  # noqa: TRY301 - one of the ways in which it is not ours; told below
        if value.pop("version") != HANDOVER:
            raise StartError(f"{VARIABLE}: it was written by a version that this one cannot follow; start it anew")
        handover = _handover(value)
    except (OSError, ValueError, KeyError, TypeError):
        raise StartError(f"{VARIABLE} is for the daemon's own use; start it without") from None
    if handover.pid != os.getpid():
        raise StartError(f"{VARIABLE} is for the daemon's own use; start it without")
    return handover


def _handover(value: Mapping[str, Any]) -> Handover:
    children = tuple(HandedChild(**child) for child in value["children"])
    lists = {name: tuple(value.get(name, ())) for name in ("said", "sockets", "relayed")}
    return Handover(**{**value, **lists, "children": children})
