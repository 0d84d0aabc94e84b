"""Processes that are kept alive: started by module name, restarted when they die, told to end and waited for.

They execute afresh, so that no memory is shared with them; what they need of this process are the sockets that they
are handed. Each has a control socket: its end of file tells a child that its supervisor is gone, whatever way it went.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from proxy.control import DRAIN, READY, RETIRE
from proxy.ledger import Ledger
from proxy.log import ERROR, WARNING, Log
from proxy.privileges import Account, for_popen, raised
from proxy.process import Process
from proxy.sockets import handed_on
from proxy.start_error import StartError

START_SECONDS = 30.0
STEADY_SECONDS = 1.0
"""A child that was ready for longer is restarted at once. One that was not may be so once; then it waits, longer each
time: whatever ends it would end it again."""
FIRST_WAIT, LONGEST_WAIT = 0.2, 30.0
GRACE_SECONDS = 3.0
"""How long a child may take over its drain time before it is killed."""
ISSUER, MONITOR, WIREGUARD, CONSOLE = "issuer", "monitor", "wireguard", "console"
BY_SIGNAL = frozenset({ISSUER, MONITOR, WIREGUARD, CONSOLE})
"""They end at SIGTERM, and after the workers, which are told on their control socket."""
HOLD_KEYS = frozenset({ISSUER, CONSOLE})
"""Their memory is not to be swapped."""


@dataclass(slots=True, eq=False)
class Child:
    """A process to be kept alive. ``settings`` is what it gets on standard input, ``drain`` its time to end in."""

    name: str
    command: list[str]
    fds: list[int]
    settings: str = field(repr=False)
    drain: float
    ledger: Ledger | None = None
    """In which a worker counts its connections; the issuer has none."""
    row: int | None = None
    """Its row there, while it lives."""
    process: Process | None = None
    control: socket.socket | None = None
    started: float = 0.0
    wait: float = 0.0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    """It is not started again any more."""
    deadline: float | None = None
    """When a child that leaves is killed, on the monotonic clock."""

    @property
    def runs(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.poll() is None

    def tell(self, command: bytes) -> None:
        """Send a command, where there is somebody to hear it."""
        if self.control is not None and self.runs:
            with contextlib.suppress(OSError):
                self.control.send(command)

    def leave_row(self) -> None:
        """Its process is gone: what it counted as open is closed."""
        if self.ledger is not None and self.row is not None:
            row, self.row = self.row, None
            self.ledger.free(row)


class Keeper:
    """Keeps children alive."""

    def __init__(self, log: Log, account: Account | None, ended: Callable[[Child, int | None, bool], None]) -> None:
        """``ended`` hears of each process that has ended, with its number, and whether another takes its place."""
        self._log = log
        self._account = account
        self._ended = ended
        self._tasks: dict[Child, asyncio.Task[None]] = {}

    @property
    def leaving(self) -> list[Child]:
        """Those that were told to end and have not."""
        return [child for child in self._tasks if child.leaving.is_set()]

    @property
    def children(self) -> list[Child]:
        """All that are kept, and those that leave."""
        return list(self._tasks)

    def adopt(self, child: Child, pid: int | None, control: int | None, ready: bool) -> None:
        """Keep a child that the program before this one started, where it runs."""
        if pid is not None and control is not None:
            child.process = Process(pid)
            child.control = handed_on(control)
            child.started = time.monotonic()
            if ready:
                child.ready.set()
        self.keep(child)

    def keep(self, child: Child) -> None:
        """Keep a child alive until it is to leave. One that runs already is kept as it is."""
        task = self._tasks[child] = asyncio.get_running_loop().create_task(self._keep(child))
        task.add_done_callback(lambda _: self._tasks.pop(child, None))

    async def begin(self, children: Sequence[Child], stopping: asyncio.Event) -> None:
        """Keep the children, and wait until all are ready (or the daemon is to stop). Raises StartError."""
        for child in children:
            self.keep(child)
        for child in children:
            await self._ready(child, stopping)

    def retire(self, children: Sequence[Child]) -> None:
        """Others have taken over: let them end by themselves, for their drain time at the most."""
        # Workers that left before have had their time for what rests; processes must not pile up.
        if any(child.name not in BY_SIGNAL for child in children):
            for child in self.leaving:
                if child.name not in BY_SIGNAL:
                    child.tell(DRAIN)
        for child in children:
            self._leave(child, RETIRE)

    async def end(self, children: Sequence[Child]) -> None:
        """Have them end what is under way, and wait for it, for their drain time at the most."""
        for child in children:
            self._leave(child, DRAIN)
        if tasks := [self._tasks[child] for child in children if child in self._tasks]:
            await asyncio.wait(tasks)

    async def abandon(self, children: Sequence[Child]) -> None:
        """Those that are ready end as if others had taken over, for they have connections; the others end now."""
        unready = [child for child in children if not child.ready.is_set()]
        self.retire([child for child in children if child.ready.is_set()])
        for child in unready:
            self._leave(child, DRAIN)
            if child.process is not None:
                child.process.signal(signal.SIGKILL)
        if tasks := [self._tasks[child] for child in unready if child in self._tasks]:
            await asyncio.wait(tasks)

    def _leave(self, child: Child, command: bytes) -> None:
        child.leaving.set()
        if child.name in BY_SIGNAL:
            if child.process is not None:
                child.process.signal(signal.SIGTERM)
        else:
            child.tell(command)
        self.limit(child, time.monotonic() + child.drain + GRACE_SECONDS)

    def limit(self, child: Child, deadline: float) -> None:
        """Kill a child that leaves at ``deadline`` (monotonic), should it still be there."""
        child.deadline = deadline
        asyncio.get_running_loop().call_later(max(0.0, deadline - time.monotonic()), self._overdue, child, deadline)

    def _overdue(self, child: Child, deadline: float) -> None:
        if child.deadline == deadline and child.runs and child.process is not None:
            self._log.event(
                WARNING, "process killed", process=child.name, pid=child.process.pid, reason="it did not end in time"
            )
            child.process.signal(signal.SIGKILL)

    async def _keep(self, child: Child) -> None:
        while not child.leaving.is_set() or child.runs:
            try:
                status: int | str = await self._live(child)
            except OSError as error:
                status = f"it could not be started: {error.strerror}"
            pid = child.process.pid if child.process is not None else None
            self._ended(child, pid, not child.leaving.is_set())
            if child.leaving.is_set():
                if status != 0 and child.ready.is_set():
                    self._log.event(WARNING, "process ended", process=child.name, pid=pid, status=status)
                break
            if not child.ready.is_set():
                child.failed.set()
            steady = child.ready.is_set() and time.monotonic() - child.started > STEADY_SECONDS
            wait, child.wait = next_wait(child.wait, steady)
            self._log.event(ERROR, "process died", process=child.name, pid=pid, status=status, restart_in=wait)
            child.ready.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.leaving.wait(), wait)
        child.leave_row()  # where it ended before it was adopted

    async def _live(self, child: Child) -> int:
        """A child's life, from its start to its exit status. Raises OSError where it cannot be started."""
        loop = asyncio.get_running_loop()
        if not child.runs:
            self._spawn(child)
        process, control = child.process, child.control
        assert process is not None and control is not None  # noqa: S101, PT018 - a child that runs has both
        try:
            if not child.ready.is_set():
                async with asyncio.timeout(START_SECONDS):
                    if await loop.sock_recv(control, 1) == READY:
                        child.ready.set()
                        child.started = time.monotonic()
        except ConnectionError:
            pass  # it died before it was ready
        except TimeoutError:
            reason = f"not ready within {START_SECONDS:g} s"
            self._log.event(ERROR, "process killed", process=child.name, pid=process.pid, reason=reason)
            process.signal(signal.SIGKILL)
        try:
            status = await process.exited()
            child.leave_row()
            return status
        finally:
            control.close()

    def _spawn(self, child: Child) -> None:
        """Start a child, in a session of its own, so that signals to our group are ours. Raises OSError."""
        counting, fds = [], child.fds
        child.leave_row()  # of one that ended before anybody waited for it
        if child.ledger is not None:
            child.row = child.ledger.take()
            counting, fds = [f"--ledger={child.ledger.fd}", f"--row={child.row}"], [*fds, child.ledger.fd]
        try:
            self._execute(child, counting, fds)
        except OSError:
            child.leave_row()
            raise

    def _execute(self, child: Child, counting: list[str], fds: list[int]) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        reading, writing = os.pipe()
        option = "--control-fd" if child.name == ISSUER else "--control"
        command = [*child.command, *counting, option, str(theirs.fileno())]
        environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        try:
            with raised(self._account):
                started = subprocess.Popen(
                    command, stdin=reading, pass_fds=[*fds, theirs.fileno()], start_new_session=True,
                    env=environment, **for_popen(self._account),  # type: ignore[call-overload] # by name
                )  # fmt: skip
                started.returncode = 0  # its status is Process's to take: a Popen that goes away would take it too
                if child.name in HOLD_KEYS and self._account is not None:
                    limit = resource.RLIM_INFINITY  # for keys that are not to be swapped; issuer.hardening
                    with contextlib.suppress(OSError):
                        resource.prlimit(started.pid, resource.RLIMIT_MEMLOCK, (limit, limit))
        except OSError:
            ours.close()
            os.close(writing)
            raise
        finally:
            theirs.close()
            os.close(reading)
        child.process, child.control = Process(started.pid), ours
        child.started = time.monotonic()
        child.ready.clear()
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as pipe:
            pipe.write(child.settings.encode())

    async def _ready(self, child: Child, stopping: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        waits = [loop.create_task(event.wait()) for event in (child.ready, child.failed, stopping)]
        _, pending = await asyncio.wait(waits, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if stopping.is_set() or child.ready.is_set():
            return
        if child.failed.is_set():
            raise StartError(f"the {child.name} process could not start; its reason stands above")
        raise StartError(f"the {child.name} process was not ready within {START_SECONDS:g} s; look at its log")


def next_wait(wait: float, steady: bool) -> tuple[float, float]:
    """How long a dead child waits now, and how long it will the next time, in seconds."""
    if steady:
        return 0.0, 0.0
    return wait, min(max(wait * 2, FIRST_WAIT), LONGEST_WAIT)
