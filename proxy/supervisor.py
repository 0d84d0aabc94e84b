"""The process that everything hangs on: binds the sockets once, starts the issuer and the workers, restarts what dies.

Children are started by module name and execute afresh, so that no memory is shared with them; what they need of this
process are the sockets that they are handed. Each has a control socket: its end of file tells a child that its
supervisor is gone, whatever way it went.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from config.settings import Listener, Settings, parse_bind
from issuer.sockets import bind_unix
from proxy.admission import check_resolver_hosts
from proxy.control import BACKLOG, DRAIN, ISSUER_SOCKET, READY, RELOAD
from proxy.ledger import Ledger
from proxy.log import ERROR, INFO, WARNING, Log, open_log_file
from proxy.seats import columns, worker_count

START_SECONDS = 30.0
STEADY_SECONDS = 1.0
"""A child that was ready for longer is restarted at once. One that was not may be so once; then it waits, longer each
time: whatever ends it would end it again."""
FIRST_WAIT, LONGEST_WAIT = 0.2, 30.0
ROWS_PER_WORKER = 4
"""In the ledger of connections: a worker that drains keeps its row while its successor has another."""


class StartError(Exception):
    """It cannot start; one line that says what is wrong and what to do."""


@dataclass(slots=True)
class Child:
    """A process to be kept alive."""

    name: str
    command: list[str]
    fds: list[int]
    process: subprocess.Popen[bytes] | None = None
    control: socket.socket | None = None
    started: float = 0.0
    wait: float = 0.0
    row: int | None = None
    """A worker's, in the ledger of connections, while it lives."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    failed: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Holds the sockets and the children."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self.settings = settings
        self.log = log
        self.sockets: list[tuple[Listener, socket.socket]] = []
        self.children: list[Child] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.stopping = asyncio.Event()

    def bind(self) -> None:
        """Bind every listener. Raises StartError; then nothing is bound."""
        try:
            for index, listener in enumerate(self.settings.listeners):
                self.sockets.append((listener, bind(listener, index)))
        except StartError:
            self.close()
            raise

    def close(self) -> None:
        """Close the listening sockets."""
        for _, listening in self.sockets:
            listening.close()

    def prepare(self) -> None:
        """Name the children: one issuer, then the workers."""
        run = self.settings.state_dir / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        issuing = bind_unix(self.settings.state_dir.joinpath(*ISSUER_SOCKET))
        self._issuing = issuing
        python = [sys.executable, "-I", "-m"]  # isolated: neither the current folder nor PYTHONPATH adds modules
        self.children.append(
            Child("issuer", [*python, "issuer", "--listen-fd", str(issuing.fileno())], [issuing.fileno()])
        )
        listen = [f"--listen={index}:{s.fileno()}" for index, (_, s) in enumerate(self.sockets)]
        count = worker_count(self.settings.workers)
        self.ledger = Ledger.create(count * ROWS_PER_WORKER, columns(self.settings.listeners))
        fds = [self.ledger.fd, *(s.fileno() for _, s in self.sockets)]
        for number in range(count):
            command = [*python, "proxy.worker", f"--number={number + 1}", f"--ledger={self.ledger.fd}", *listen]
            self.children.append(Child(f"worker {number + 1}", command, fds))

    def spawn(self, child: Child) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """Start a child; it executes Python afresh in a session of its own, so that signals to our group are ours.

        Raises OSError.
        """
        row = []
        if child.name != "issuer":
            child.row = self.ledger.take()
            row = [f"--row={child.row}"]
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        option = "--control-fd" if child.name == "issuer" else "--control"
        try:
            process = subprocess.Popen(
                [*child.command, *row, option, str(theirs.fileno())],
                stdin=subprocess.PIPE, pass_fds=[*child.fds, theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        except OSError:
            ours.close()
            self.gone(child)
            raise
        finally:
            theirs.close()
        child.process, child.control = process, ours
        child.started = time.monotonic()
        child.ready.clear()
        pipe = process.stdin
        assert pipe is not None  # noqa: S101 - asked for above
        with contextlib.suppress(BrokenPipeError):
            pipe.write(self.settings.model_dump_json().encode())
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
        return process, ours

    def gone(self, child: Child) -> None:
        """A child has ended: what it counted as open is closed."""
        if child.row is not None:
            self.ledger.free(child.row)
            child.row = None

    async def keep(self, child: Child) -> None:
        """Keep a child alive until stopping."""
        while not self.stopping.is_set():
            try:
                status: int | str = await self._live(child)
            except OSError as error:
                status = f"it could not be started: {error.strerror}"
            if self.stopping.is_set():
                break
            if not child.ready.is_set():
                child.failed.set()
            steady = child.ready.is_set() and time.monotonic() - child.started > STEADY_SECONDS
            wait, child.wait = next_wait(child.wait, steady)
            pid = child.process.pid if child.process is not None else None
            self.log.event(ERROR, "process died", process=child.name, pid=pid, status=status, restart_in=wait)
            child.ready.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), wait)

    async def _live(self, child: Child) -> int:
        """A child's life, from its start to its exit status. Raises OSError where it cannot be started."""
        loop = asyncio.get_running_loop()
        process, control = self.spawn(child)
        try:
            async with asyncio.timeout(START_SECONDS):
                if await loop.sock_recv(control, 1) == READY:
                    child.ready.set()
                    child.started = time.monotonic()
        except ConnectionError:
            pass  # it died before it was ready
        except TimeoutError:
            self.log.event(ERROR, "process killed", process=child.name, reason=f"not ready within {START_SECONDS:g} s")
            process.kill()
        try:
            status = await exited(process)
            self.gone(child)
            return status
        finally:
            control.close()

    async def start(self) -> None:
        """Start the issuer, then the workers, and wait until all are ready. Raises StartError."""
        loop = asyncio.get_running_loop()
        for group in (self.children[:1], self.children[1:]):
            for child in group:
                self.tasks.append(loop.create_task(self.keep(child)))
            for child in group:
                await self._ready(child)

    async def _ready(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        waits = [loop.create_task(event.wait()) for event in (child.ready, child.failed, self.stopping)]
        _, pending = await asyncio.wait(waits, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if self.stopping.is_set() or child.ready.is_set():
            return
        if child.failed.is_set():
            raise StartError(f"the {child.name} process could not start; its reason stands above")
        raise StartError(f"the {child.name} process was not ready within {START_SECONDS:g} s; look at its log")

    def reload(self) -> None:
        """Have the workers load their inspectors again. Settings are read at the start only."""
        self.log.event(INFO, "reloading", reason="inspectors are loaded again; settings are read at the start only")
        for child in self.children[1:]:
            if child.control is not None and child.ready.is_set():
                with contextlib.suppress(OSError):
                    child.control.send(RELOAD)

    async def stop(self) -> None:
        """Drain the workers, then end the issuer. Nothing of them is left behind."""
        self.stopping.set()
        await self._end(self.children[1:], self.settings.limits.drain_timeout + 3)
        await self._end(self.children[:1], 5)
        for task in self.tasks:
            task.cancel()

    async def _end(self, children: list[Child], patience: float) -> None:
        running = [c for c in children if c.process is not None and c.process.poll() is None]
        for child in running:
            with contextlib.suppress(OSError):
                if child.name == "issuer":
                    child.process.terminate()  # type: ignore[union-attr] # running was filtered by it
                elif child.control is not None:
                    child.control.send(DRAIN)
        end = time.monotonic() + patience
        while time.monotonic() < end and any(c.process.poll() is None for c in running if c.process):  # noqa: ASYNC110 - once
            await asyncio.sleep(0.02)
        for child in running:
            if child.process is not None and child.process.poll() is None:
                self.log.event(WARNING, "process killed", process=child.name, reason="it did not end in time")
                child.process.kill()
                child.process.wait()


def next_wait(wait: float, steady: bool) -> tuple[float, float]:
    """How long a dead child waits now, and how long it will the next time, in seconds."""
    if steady:
        return 0.0, 0.0
    return wait, min(max(wait * 2, FIRST_WAIT), LONGEST_WAIT)


async def exited(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process by its descriptor (Linux 5.3); its exit status, negative for a signal."""
    loop = asyncio.get_running_loop()
    fd = os.pidfd_open(process.pid)
    done: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        loop.remove_reader(fd)
        if not done.done():
            done.set_result(None)

    try:
        loop.add_reader(fd, readable)
        await done
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    return process.wait()


def bind(listener: Listener, index: int) -> socket.socket:
    """A listening socket. Raises StartError."""
    host, port = parse_bind(listener.bind)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise StartError(
            f"listeners[{index}].bind: cannot listen on {listener.bind}: {error.strerror}; "
            "stop what uses it, or choose another address and port"
        ) from None
    return listening


def lock(settings: Settings) -> int:
    """Take the state directory for this process. Raises StartError. The descriptor must stay open."""
    path = settings.state_dir / "lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def run(settings: Settings, ready: Callable[[list[tuple[Listener, str]]], None]) -> int:
    """Serve until a signal says otherwise; the exit status. Raises StartError before anything is started.

    ``ready`` is called once with the listeners and the addresses they really listen on.
    """
    if (problem := check_resolver_hosts(settings.resolver.hosts)) is not None:
        raise StartError(problem)
    held = lock(settings)
    try:
        log = Log(open_log_file(settings.log.file), settings.log.level, "supervisor", time.time)
        return asyncio.run(_run(settings, log, ready))
    finally:
        os.close(held)


async def _run(settings: Settings, log: Log, ready: Callable[[list[tuple[Listener, str]]], None]) -> int:
    supervisor = Supervisor(settings, log)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    supervisor.bind()
    log.start(loop.call_later)
    try:
        supervisor.prepare()
        await supervisor.start()
        if not supervisor.stopping.is_set():
            ready([(listener, address(listening)) for listener, listening in supervisor.sockets])
            log.event(INFO, "started", workers=len(supervisor.children) - 1, pid=os.getpid())
        await supervisor.stopping.wait()
        log.event(INFO, "stopping")
    finally:
        supervisor.close()
        await supervisor.stop()
        log.stop()
    return 0


def address(listening: socket.socket) -> str:
    """``127.0.0.1:8080`` or ``[::1]:8080``."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
