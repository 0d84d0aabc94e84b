"""Telling the service manager how it stands (sd_notify(3)): a datagram to the socket that it named.

Without ``NOTIFY_SOCKET`` nobody asked and nothing is sent. The library of that name has not been kept for years, and
what the protocol takes are these lines.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time

VARIABLE = "NOTIFY_SOCKET"


def ready(status: str) -> None:
    """It serves, or it serves again after :func:`reloading`."""
    _send(f"READY=1\nSTATUS={status}\n")


def reloading() -> None:
    """A reload has begun."""
    _send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}\n")


def stopping() -> None:
    """The end has begun; connections may still be under way."""
    _send("STOPPING=1\n")


def _send(message: str) -> None:
    address = os.environ.get(VARIABLE, "")
    if not address.startswith(("/", "@")):
        return
    # A name that begins with @ is in the abstract namespace, which sockets spell with a zero byte (unix(7)).
    place = f"\0{address[1:]}" if address[0] == "@" else address
    # A manager that went away is no reason not to serve.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ours:
        ours.sendto(message.encode(), place)
