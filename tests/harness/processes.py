"""Processes as Linux tells of them: children, command lines, memory. For tests that look at the daemon from outside."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path


def children(pid: int) -> list[int]:
    """The processes that ``pid`` started and that are still there, of all its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue  # the thread ended while we looked
    return found


def tree(pid: int) -> list[int]:
    """``pid`` and all below it."""
    found = [pid]
    for one in found:
        found += children(one)
    return found


def argv(pid: int) -> list[str]:
    """The command line; empty for a process that is gone, or that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
    except OSError:
        return []


def runs_module(pid: int, module: str) -> bool:
    """Whether the process is ``python -m MODULE``."""
    line = argv(pid)
    return any(flag == "-m" and name == module for flag, name in pairwise(line))


def pss_kib(pid: int) -> int:
    """The process's share of memory in KiB (PSS: a page that n processes share counts 1/n to each); 0 if it is gone."""
    return _memory_kib(pid, "Pss:")


def private_kib(pid: int) -> int:
    """The memory in KiB that is the process's alone (USS); 0 if it is gone."""
    return _memory_kib(pid, "Private_Clean:", "Private_Dirty:")


def _memory_kib(pid: int, *kinds: str) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(kinds))


def who_holds(connection: socket.socket, pids: Iterable[int]) -> int | None:
    """Which of the processes has the other end of a TCP connection over IPv4 loopback; None: none of them, or no more.

    The kernel tells which socket that is in ``/proc/net/tcp``, and each process's folder which sockets it has open.
    """
    mine, theirs = (_as_the_kernel(*name) for name in (connection.getsockname(), connection.getpeername()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if (row[1], row[2]) == (theirs, mine)}
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed while we looked
                if os.readlink(descriptor) in sockets:
                    return pid
    return None


def _as_the_kernel(address: str, port: int) -> str:
    """An IPv4 address and port as ``/proc/net/tcp`` has them: the address as a number of the machine's byte order."""
    number = int.from_bytes(socket.inet_aton(address), sys.byteorder)
    return f"{number:08X}:{port:04X}"


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listened on a moment ago."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def wait_for[T](what: str, ask: Callable[[], T], timeout: float = 10, pause: float = 0.02) -> T:
    """Ask until the answer is true, and return it. Fails the test, saying what was waited for, after ``timeout``."""
    deadline = time.monotonic() + timeout
    while True:
        if answer := ask():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(pause)


def listens_on(pid: int) -> set[int]:
    """The TCP ports that somebody listens on in the process's network namespace."""
    found: set[int] = set()
    for family in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]:
                _, local, _, state = line.split()[:4]
                if state == "0A":
                    found.add(int(local.rpartition(":")[2], 16))
    return found
