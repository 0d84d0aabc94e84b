"""One daemon for each state directory: the lock that it holds, and how a command finds who holds it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from config.settings import Settings
from proxy.start_error import StartError

LOCK_FILE = "lock"


def lock(settings: Settings, *, daemon: bool = True) -> int:
    """Take the state directory for this process. Raises StartError. The descriptor must stay open.

    Only a ``daemon`` says who it is: commands send signals to whoever does.

    The file is left in place at the end: removing it would be a race with whoever takes it next. What counts is the
    lock on it, which the system takes away with the last process that holds it.
    """
    path = settings.state_dir / LOCK_FILE
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StartError(f"{path}: the lock file cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode("ascii", "replace").strip()
        os.close(fd)
        raise StartError(
            f"another Sallyport (process {holder or 'unknown'}) uses {settings.state_dir}; "
            "stop it, or give this one a state_dir of its own"
        ) from None
    os.ftruncate(fd, 0)
    if daemon:
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def holder(state_dir: Path) -> int | None:
    """The process that holds the lock; None where no daemon runs. Raises OSError where the file cannot be read.

    The number in the file alone is not believed: it could be that of a daemon long gone, and by now anybody's. The
    system's own list of locks (proc_locks(5)) has to say the same. Nothing is locked to find out, since that would be
    in the way of a daemon that starts.
    """
    try:
        fd = os.open(state_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        text = os.read(fd, 32).decode("ascii", "replace").strip()
        inode = os.fstat(fd).st_ino
    finally:
        os.close(fd)
    if not (text.isascii() and text.isdigit()):
        return None
    for line in Path("/proc/locks").read_text("ascii", "replace").splitlines():
        # 1: FLOCK  ADVISORY  WRITE 4711 fe:00:130570 0 EOF
        words = line.split()
        if words[1:4] == ["FLOCK", "ADVISORY", "WRITE"] and words[4] == text and words[5].endswith(f":{inode}"):
            return int(text)
    return None
