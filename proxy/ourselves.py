"""What of a connection is this very machine's: its addresses, its listeners, and connections that the proxy has made.

Asked by transparent ways in alone, so that rules of a gateway which send the proxy's own connections back to it end in
a refusal, and not in a circle. Whose a connection is, the kernel says (sock_diag(7)): nothing is kept for it, and other
modes pay nothing.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence

from cachetools import TTLCache

from config.settings import Listener, parse_bind

ADDRESS_SECONDS = 10.0
"""For how long it is remembered whether an address is this machine's."""
MOST_ADDRESSES = 4096
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""
_SOCKET_ID = struct.Struct("=2s2s16s16sI8s")
"""struct inet_diag_sockid: source and destination port, their addresses, interface, cookie."""
_REQUEST = struct.Struct("=BBBxI")
"""struct inet_diag_req_v2 before its socket: family, protocol, extensions, states."""
_ANSWER = struct.Struct("=4x48s12xI")
"""struct inet_diag_msg up to the user: behind the socket stand timer, and bytes that wait to be read and written."""
_ERROR = struct.Struct("=i")
_NO_COOKIE = b"\xff" * 8
_PATIENCE = 1.0

type Place = tuple[str, int]
"""An address and a port."""


class Unknown(Exception):  # noqa: N818 - an answer that is none, and no fault
    """The kernel does not tell whose the connection is."""


class Ourselves:
    """This machine, as a worker with transparent listeners knows it."""

    def __init__(
        self,
        bound: Sequence[tuple[Listener, Place]],
        owner: Callable[[Place, Place], int | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``bound``: the listeners, and where they really listen. ``owner``: see :func:`owner_of`."""
        self._listens = [(parse_bind(listener.bind)[0], port) for listener, (_, port) in bound]
        self._owner = owner or owner_of
        self._addresses: TTLCache[str, bool] = TTLCache(MOST_ADDRESSES, ADDRESS_SECONDS, clock)

    def has(self, address: str) -> bool:
        """Whether the address is one of this machine's own."""
        if (known := self._addresses.get(address)) is None:
            known = self._addresses[address] = is_own(address)
        return known

    def listens_on(self, address: str, port: int) -> bool:
        """Whether a connection to there is one to a listener of ours."""
        for text, own_port in self._listens:
            if port == own_port:
                own, there = ipaddress.ip_address(text), ipaddress.ip_address(address)
                if own == there or (own.is_unspecified and own.version == there.version and self.has(address)):
                    return True
        return False

    def has_made(self, source: Place, destination: Place) -> str | None:
        """Why a connection from ``source`` that was to go to ``destination`` is taken for one of the proxy's own.

        None where it is none. Programs of another user of this machine are none; one of the same user is.
        """
        if not self.has(source[0]):
            return None
        try:
            owner = self._owner(source, destination)
        except Unknown as error:
            return f"a program of this machine has made it, and whose it is cannot be told ({error})"
        return "the proxy's own user has made it" if owner == os.geteuid() else None


def is_own(address: str) -> bool:
    """Whether the address is one of this machine's: then a socket can be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if "%" in address:
        address, _, scope = address.partition("%")
        with contextlib.suppress(OSError):
            where: tuple[str | int, ...] = (address, 0, 0, socket.if_nametoindex(scope))
            return _binds(family, where)
        return False
    return _binds(family, (address, 0))


def _binds(family: socket.AddressFamily, where: tuple[str | int, ...]) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(where)
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def owner_of(source: Place, destination: Place) -> int | None:
    """The user (a uid) whose program has made the connection; None where no program of this machine has.

    Raises Unknown where the kernel does not say.
    """
    family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
    wanted = _socket_id(source, destination)
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + wanted
    message = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(_PATIENCE)
            kernel.send(message)
            return _owner_in(kernel.recv(4096), wanted)
    except OSError as error:
        raise Unknown(error.strerror or str(error)) from None


def _owner_in(answer: bytes, wanted: bytes) -> int | None:
    """The owner that the kernel's answer names. Raises Unknown."""
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _NLMSG_ERROR:
        (code,) = _ERROR.unpack_from(answer, _HEADER.size)
        if -code in (errno.ENOENT, errno.ESTALE):
            return None
        raise Unknown(os.strerror(-code))
    socket_id, owner = _ANSWER.unpack_from(answer, _HEADER.size)
    # Where there is no such connection, the kernel tells of a listener on the port.
    return int(owner) if socket_id[:36] == wanted[:36] else None


def _socket_id(source: Place, destination: Place) -> bytes:
    ends = [ipaddress.ip_address(place[0].partition("%")[0]).packed.ljust(16, b"\0") for place in (source, destination)]
    ports = [place[1].to_bytes(2) for place in (source, destination)]
    return _SOCKET_ID.pack(*ports, *ends, 0, _NO_COOKIE)
