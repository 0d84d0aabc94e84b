"""What a process does to itself before it holds what others must not see: prctl(2), mlockall(2), limits.

Of these calls the issuer needs all, the other processes some. What one of them cannot do on some kernel, nothing else
depends on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_NET_BIND_SERVICE, _CAP_NET_ADMIN, _CAP_NET_RAW, _CAP_IPC_LOCK = 10, 12, 13, 14
_FOR_SOCKETS = (_CAP_NET_BIND_SERVICE, _CAP_NET_ADMIN, _CAP_NET_RAW)
_CAPABILITY_VERSION_3 = 0x20080522
_SETS = struct.Struct("=6I")
"""Twice 32 capabilities: effective, permitted, inheritable."""


def harden_child() -> None:
    """For every process that the supervisor starts: files are ours alone, no core dumps, no more rights than now.

    With no_new_privs, whatever this process executes gains nothing from set-user-ID bits or file capabilities.
    """
    os.umask(0o077)
    no_core_dumps()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    give_up(*_FOR_SOCKETS)


def give_up(*capabilities: int) -> None:
    """Have these capabilities no more (capabilities(7)), nor hand them on. Where that fails, all is as it was.

    The supervisor needs some to bind listeners; its children get the sockets, bound.
    """
    c = ctypes.CDLL(None)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    held = ctypes.create_string_buffer(_SETS.size)
    if c.capget(header, held) == 0:
        kept = ~sum(1 << number for number in capabilities) & 0xFFFFFFFF
        low, high = _SETS.unpack(held.raw)[:3], _SETS.unpack(held.raw)[3:]
        c.capset(header, _SETS.pack(*(each & kept for each in low), *high))


def no_core_dumps() -> None:
    """A crash writes no memory to a file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def keep_others_out() -> None:
    """No other process of the same user may look into this one (ptrace(2), /proc). Root still may."""
    _prctl(_PR_SET_DUMPABLE, 0)


def end_with_parent() -> None:
    """This process is killed when the thread that started it ends. For short work that nobody would wait for then."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def lock_memory() -> str | None:
    """Keep this process's memory out of swap, what it gets later too. The reason where that is not allowed.

    Not tried within a limit: memory that is to be locked and may not be is then refused, wherever it is asked for.
    """
    with contextlib.suppress(ValueError, OSError):
        most = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (most, most))
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and not _may_lock():
        return f"only {limit} bytes may be locked (RLIMIT_MEMLOCK); allow it with LimitMEMLOCK=infinity"
    # On fault: what is mapped and never touched, as most of a thread's stack, takes no memory.
    if ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        return os.strerror(ctypes.get_errno())
    return None


def _may_lock() -> bool:
    """Whether this process has CAP_IPC_LOCK, with which the limit does not count."""
    for line in Path("/proc/self/status").read_bytes().splitlines():
        if line.startswith(b"CapEff:"):
            return bool(int(line.split()[1], 16) & 1 << _CAP_IPC_LOCK)
    return False


def _prctl(option: int, argument: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(argument), *[ctypes.c_ulong(0)] * 3)
