"""The Unix socket between the issuer and the workers: who may use it, and how a long path fits into an address.

A socket's address holds 108 bytes of path, and a state directory can lie deeper than that. So the folder is opened
and the socket is named through it: ``/proc/self/fd/<folder>/<name>``.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


@contextmanager
def connect_path(path: Path) -> Iterator[str]:
    """A name for ``path`` that is short enough to bind to or to connect to. It is good inside the block only.

    Raises OSError where the folder cannot be opened.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def bind_unix(path: Path, backlog: int = 1024) -> socket.socket:
    """A listening socket at ``path``, mode 0600. A socket that an earlier process left there is replaced.

    The caller must hold the lock on the state directory: a live socket would be replaced just the same.
    Raises OSError, also where ``path`` is there and is no socket.
    """
    with connect_path(path) as name:
        try:
            if not stat.S_ISSOCK(os.lstat(name).st_mode):
                raise FileExistsError(f"{path} is in the way of the issuer's socket; move it elsewhere")
            os.unlink(name)
        except FileNotFoundError:
            pass
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # The file takes its mode from the socket, so there is no moment in which others could connect.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(name)
            listener.listen(backlog)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    return listener


def connect_unix(path: Path) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError; BlockingIOError where the listener's queue is full."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        with connect_path(path) as name:
            connection.connect(name)
    except OSError:
        connection.close()
        raise
    return connection


def peer_uid(connection: socket.socket) -> int:
    """The user that the other side had when it connected, or when it began to listen. Raises OSError."""
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def is_ours(uid: int) -> bool:
    """Whether a peer of this user may be talked to: our own user, and root, from whom nothing can be kept."""
    return uid in (os.geteuid(), 0)
