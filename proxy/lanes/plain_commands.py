"""What the plain lane's core asks its surroundings to do, and where a request can be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby

from certs.names import Host


@dataclass(frozen=True, slots=True)
class ToClient:
    """Send to the client."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ToServer:
    """Send to the server."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a connection to this server. ``connected`` or ``refused`` is what comes of it."""

    host: Host
    port: int


@dataclass(frozen=True, slots=True)
class EndServer:
    """Tell the server that nothing more comes (FIN); what it sends still counts."""


@dataclass(frozen=True, slots=True)
class DropServer:
    """The server's connection is not needed any more."""


@dataclass(frozen=True, slots=True)
class Close:
    """Everything is said: close the client's connection when what was sent is out."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Reset the client's connection, so that it does not take what it has for the whole."""


Command = ToClient | ToServer | Connect | EndServer | DropServer | Close | Abort


def joined(wanted: Iterable[Command]) -> list[Command]:
    """The same with what goes to one side in a row as one piece: a transport's write costs more than the joining.

    (asyncio adds up all that waits at each write, so that many small ones to a peer who does not read are quadratic.)
    """
    out: list[Command] = []
    for kind, group in groupby(wanted, type):
        if kind is ToClient or kind is ToServer:
            out.append(kind(b"".join(command.data for command in group if isinstance(command, ToClient | ToServer))))
        else:
            out.extend(group)
    return out


class Phase(Enum):
    """Where the current request is."""

    IDLE = auto()
    """No request yet."""
    CONNECTING = auto()
    FORWARDING = auto()
    """The request goes to the server, its response to the client."""
    DROPPING = auto()
    """The answer is complete; what is left of the request's body is read and dropped."""
    RAW = auto()
    """After 101: bytes both ways."""
    CLOSED = auto()
