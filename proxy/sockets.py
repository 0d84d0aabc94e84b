"""The listening sockets: bound once, by the supervisor, and kept for as long as a listener keeps its address.

A socket outlives the processes that accept from it, and the program that bound it: connections wait in its queue.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from config.settings import Listener, parse_bind
from proxy.control import BACKLOG
from proxy.start_error import StartError

IPV6_TRANSPARENT = 75
"""Of linux/in6.h; the module socket has that of IPv4 alone."""

type Bound = tuple[Listener, socket.socket]
"""A listener and the socket that it listens on."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Sockets for another list of listeners: those that were there, those that are new, those that nobody wants."""

    bound: list[Bound]
    opened: list[Bound]
    left: list[Bound]


def bind(listener: Listener, index: int) -> socket.socket:
    """A listener's socket. Raises StartError."""
    kind = socket.SOCK_DGRAM if over_udp(listener) else socket.SOCK_STREAM
    listening = _bind(listener.bind, f"listeners[{index}].bind", kind)
    try:
        _suit(listener, index, listening)
    except StartError:
        listening.close()
        raise
    return listening


def _suit(listener: Listener, index: int, listening: socket.socket) -> None:
    """Have the socket take what its listener's mode takes. Raises StartError.

    What a mode before has asked for stays: on a socket that nobody sends foreign packets to it changes nothing.
    """
    if listener.mode != "tproxy":
        return
    try:
        if listening.family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        else:
            listening.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
    except OSError as error:
        why = f"listeners[{index}].mode: tproxy cannot take other machines' addresses: {error.strerror}"
        if error.errno == errno.EPERM:
            why += (
                "; it takes the capability CAP_NET_ADMIN: with systemd AmbientCapabilities=CAP_NET_ADMIN in the unit "
                "(deploy/sallyport-gateway.conf), without it start as root with user set"
            )
        raise StartError(why) from None


def over_udp(listener: Listener) -> bool:
    """Whether a listener's socket is one of UDP."""
    return listener.mode == "wireguard"


def bind_tcp(where: str, setting: str) -> socket.socket:
    """A listening socket; ``setting`` is what an error names. Raises StartError."""
    return _bind(where, setting, socket.SOCK_STREAM)


def _bind(where: str, setting: str, kind: socket.SocketKind) -> socket.socket:
    host, port = parse_bind(where)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:  # of UDP it would let another program have the same address
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        if kind == socket.SOCK_STREAM:
            listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise StartError(
            f"{setting}: cannot listen on {where}: {error.strerror}; "
            "stop what uses it, or choose another address and port"
        ) from None
    return listening


def arrange(bound: Sequence[Bound], listeners: Sequence[Listener]) -> Arrangement:
    """The sockets for ``listeners``, of which ``bound`` are there already. Raises StartError; then none is new.

    A listener keeps the socket of its address, whatever its name or tenant are now. Where the system chose the port
    (port 0), the name tells whose it is.
    """
    there = {_place(listener): (listener, listening) for listener, listening in bound}
    result: list[Bound] = []
    opened: list[Bound] = []
    try:
        for index, listener in enumerate(listeners):
            if (known := there.pop(_place(listener), None)) is not None:
                _suit(listener, index, known[1])
                result.append((listener, known[1]))
            else:
                opened.append((listener, bind(listener, index)))
                result.append(opened[-1])
    except StartError:
        for _, listening in opened:
            listening.close()
        raise
    return Arrangement(result, opened, list(there.values()))


def _place(listener: Listener) -> tuple[str, str, bool]:
    _, port = parse_bind(listener.bind)
    return ("" if port else listener.name, listener.bind, over_udp(listener))


def address(listening: socket.socket) -> str:
    """``127.0.0.1:8080`` or ``[::1]:8080``."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def handed_on(fd: int) -> socket.socket:
    """The socket behind a descriptor that came from the program before us. Raises OSError where it is none."""
    received = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    received.setblocking(False)
    return received
