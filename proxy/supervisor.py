"""The process that everything hangs on: binds the sockets once, starts the issuer and the workers, keeps them alive.

Another configuration, or another program, means other workers on the same sockets. The new ones are started beside the
old; only when all of them are ready are the old ones told that others have taken over. What cannot start changes
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from config.settings import Listener, Settings
from issuer import metric_files
from issuer.hardening import no_core_dumps
from issuer.sockets import bind_unix
from proxy import notify, outcome
from proxy.admission import check_resolver_hosts
from proxy.change import wireguard_part
from proxy.children import BY_SIGNAL, CONSOLE, ISSUER, MONITOR, WIREGUARD, Child, Keeper
from proxy.control import ISSUER_SOCKET, STATUS_SOCKETS, TUNNELS_SOCKETS, WORKERS_SOCKETS, status_socket, workers_socket
from proxy.expiry_watch import follow
from proxy.handover import HandedChild, Handover
from proxy.ledger import Ledger
from proxy.ledgers import fitting
from proxy.ledgers import handed_on as ledger_handed_on
from proxy.log import ERROR, INFO, WARNING, Log, never_logged, open_log
from proxy.metrics import Metrics, NullSink, Sink
from proxy.metrics_sink import open_sink
from proxy.privileges import ROOT, Account, account, lower, raised
from proxy.rehearsal import Program
from proxy.reload import Reloading
from proxy.seats import worker_count
from proxy.sockets import Bound, address, arrange, bind, bind_tcp, handed_on, over_udp
from proxy.start_error import StartError
from proxy.state_lock import lock

__all__ = ["StartError", "Supervisor", "address", "bind", "lock", "resume", "run"]

ISSUER_DRAIN_SECONDS = 2.0
"""What the issuer gives itself to answer what is in flight."""
MONITOR_DRAIN_SECONDS = 2.0
CONSOLE_DRAIN_SECONDS = 4.0
WIREGUARD_DRAIN_SECONDS = 2.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)


class Supervisor:
    """Holds the sockets and the children."""

    def __init__(self, settings: Settings, log: Log, program: Program, held: int, to: Account | None) -> None:
        self.settings = settings
        self.log = log
        self.program = program
        self.held = held
        """The lock's descriptor."""
        self.account = to
        self.metrics = Metrics()
        self.sink: Sink = NullSink()
        self.keeper = Keeper(log, to, self._ended)
        self.sockets: list[Bound] = []
        self.issuing = -1
        """The descriptor of the issuer's listening socket."""
        self.ledger: Ledger | None = None
        """In which the workers in force count their connections. Those that leave may count in another."""
        self.issuer: Child | None = None
        self.workers: list[Child] = []
        self.monitoring: socket.socket | None = None
        """Where the monitor listens, while metrics are on."""
        self.monitor: Child | None = None
        self.managing: socket.socket | None = None
        """Where the console listens, while it is on."""
        self.console: Child | None = None
        self.relayed: list[Bound] = []
        """Where workers take what comes out of the tunnels of WireGuard listeners."""
        self.wireguard: Child | None = None
        """What ends these tunnels, where there are such listeners."""
        self.adopted = False
        """The processes are still those of the program before this one, which may tell less of themselves."""
        self.stopping = asyncio.Event()
        self.reloading = Reloading(self)
        self._watching: asyncio.Task[None] | None = None

    @property
    def status(self) -> str:
        """One line for the service manager."""
        return f"{len(self.workers)} workers on {', '.join(address(listening) for _, listening in self.sockets)}"

    # --- the beginning ---

    def bind(self) -> None:
        """Bind every listener, and the issuer's socket. Raises StartError; then nothing is bound."""
        try:
            with raised(self.account):
                self.sockets = arrange((), self.settings.listeners).bound
                if self.settings.metrics.enabled:
                    self.monitoring = bind_tcp(self.settings.metrics.bind, "metrics.bind")
                if self.settings.console.enabled:
                    self.managing = bind_tcp(self.settings.console.bind, "console.bind")
        except StartError:
            self.close()
            raise
        run = self.settings.state_dir / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        for kind in (STATUS_SOCKETS, TUNNELS_SOCKETS, WORKERS_SOCKETS):
            for left in run.glob(kind):
                left.unlink(missing_ok=True)  # of a daemon that was killed
        if self.settings.metrics.enabled:
            metric_files.clear(self.settings.state_dir.joinpath(*metric_files.FOLDER))
            self.sink = open_sink(self.settings, "supervisor", self.log)
        outcome.clear(self.settings.state_dir)
        self.issuing = bind_unix(self.settings.state_dir.joinpath(*ISSUER_SOCKET)).detach()
        self.relayed = self._relayed(self.settings)

    def _relayed(self, settings: Settings) -> list[Bound]:
        """The Unix sockets of WireGuard listeners: those that are there, and new ones. Raises StartError."""
        there = {(listener.name, listener.tenant): taking for listener, taking in self.relayed}
        found, opened = list[Bound](), list[socket.socket]()
        for listener in filter(over_udp, settings.listeners):
            taking = there.get((listener.name, listener.tenant))
            if taking is None:
                try:
                    taking = bind_unix(workers_socket(settings.state_dir, listener))
                except OSError as error:
                    for each in opened:
                        each.close()
                    raise StartError(f"listener {listener.name}: its socket cannot be made: {error}") from None
                opened.append(taking)
            found.append((listener, taking))
        return found

    async def start(self) -> None:
        """Start the issuer, then the workers, and wait until all are ready. Raises StartError."""
        self.ledger = fitting(None, self.settings)
        self.issuer = self.issuer_for(self.settings)
        self.workers = self.workers_for(self.settings, self.sockets, self.relayed, self.ledger)
        self.wireguard = self.wireguard_for(self.settings, self.sockets)
        await self.keeper.begin([self.issuer], self.stopping)
        if not self.stopping.is_set():
            await self.keeper.begin(self.workers, self.stopping)
        if not self.stopping.is_set() and self.wireguard is not None:
            await self.keeper.begin([self.wireguard], self.stopping)
        if not self.stopping.is_set():
            self._watch(self.settings)

    def _watch(self, settings: Settings) -> None:
        """Another monitor and console, in place of those that are there. A proxy that serves waits for neither."""
        before = [child for child in (self.monitor, self.console) if child is not None]
        if self.monitoring is not None:
            self.monitor = self.monitor_for(settings, self.monitoring)
        if self.managing is not None:
            self.console = self.console_for(settings, self.managing)
        self.keeper.retire(before)
        for child in (self.monitor, self.console):
            if child is not None:
                self.keeper.keep(child)

    def watch_expiry(self) -> None:
        """Say in the log, from now on, which CAs are about to end or have ended."""
        following = follow(self.settings.state_dir, self.log, lambda: datetime.fromtimestamp(self.log.wall(), UTC))
        self._watching = asyncio.get_running_loop().create_task(following)
        self._watching.add_done_callback(self._watch_ended)

    def _watch_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # Readiness and metrics tell it too: it is no reason to end what serves.
            frames = traceback.extract_tb(error.__traceback__)
            where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-6:]]
            reason = self.log.of_fault(str(error)[:300])
            self.log.event(ERROR, "fault", error=type(error).__name__, reason=reason, where=where)

    def _ended(self, child: Child, pid: int | None, died: bool) -> None:
        """A process has ended; ``died``: by itself, and another one takes its place."""
        if pid is not None:
            for kind in (STATUS_SOCKETS, TUNNELS_SOCKETS):
                status_socket(self.settings.state_dir, pid, kind).unlink(missing_ok=True)
        if died:
            self.metrics.restarted(child.name)
            self.sink.flush(self.metrics)

    def adopt(self, handover: Handover) -> None:
        """Take over from the program before this one: sockets, lock, children, as they are."""
        self.adopted = True
        self.issuing = handover.issuing
        self.sockets = [
            (listener, handed_on(fd)) for listener, fd in zip(self.settings.listeners, handover.sockets, strict=True)
        ]
        through = filter(over_udp, self.settings.listeners)
        self.relayed = [(one, handed_on(fd)) for one, fd in zip(through, handover.relayed, strict=True)]
        for fd in handover.descriptors:
            if fd != handover.ledger:  # which we could do without
                os.set_inheritable(fd, False)
        rows = [child.row for child in handover.children if child.row is not None]
        known = ledger_handed_on(handover.ledger, self.settings, rows)
        if known is None:
            reason = "the program before counted in another form; what is open on its workers is not among them"
            self.log.event(WARNING, "connections counted anew", reason=reason)
        # A worker that dies before its successor is there is started again, so there has to be one.
        self.ledger = known or fitting(None, self.settings)
        self.issuer = self.issuer_for(self.settings)
        staying = [child for child in handover.children if child.deadline is None]
        count = sum(child.name not in BY_SIGNAL for child in staying)
        self.workers = self.workers_for(self.settings, self.sockets, self.relayed, self.ledger, count)
        self.wireguard = self.wireguard_for(self.settings, self.sockets)
        mine = {child.name: child for child in (self.issuer, *self.workers, self.wireguard) if child is not None}
        if handover.monitoring is not None:
            self.monitoring = handed_on(handover.monitoring)
            self.monitor = mine[MONITOR] = self.monitor_for(self.settings, self.monitoring)
            self.sink = open_sink(self.settings, "supervisor", self.log)
        if handover.console is not None:
            self.managing = handed_on(handover.console)
            self.console = mine[CONSOLE] = self.console_for(self.settings, self.managing)
        for handed in staying:
            mine[handed.name].row = handed.row if known is not None else None
            self.keeper.adopt(mine[handed.name], handed.pid, handed.control, handed.ready)
        for handed in handover.children:
            if handed.deadline is not None:
                child = Child(handed.name, [], [], "", 0.0)
                if known is not None and handed.row is not None:
                    child.ledger, child.row = known, handed.row
                child.leaving.set()
                self.keeper.adopt(child, handed.pid, handed.control, handed.ready)
                self.keeper.limit(child, handed.deadline)

    def issuer_for(self, settings: Settings) -> Child:
        """An issuer, not started."""
        command = [*_PYTHON, "issuer", "--listen-fd", str(self.issuing)]
        return Child(ISSUER, command, [self.issuing], settings.model_dump_json(), ISSUER_DRAIN_SECONDS)

    def monitor_for(self, settings: Settings, listening: socket.socket) -> Child:
        """A monitor, not started."""
        fd = listening.fileno()
        command = [*_PYTHON, "proxy.monitor", f"--listen={fd}"]
        return Child(MONITOR, command, [fd], settings.model_dump_json(), MONITOR_DRAIN_SECONDS)

    def console_for(self, settings: Settings, listening: socket.socket) -> Child:
        """A console, not started. It joins what the data plane and the console know, and so is none of ours."""
        fd = listening.fileno()
        command = [*_PYTHON, "cli.console_process", f"--listen={fd}"]
        return Child(CONSOLE, command, [fd], settings.model_dump_json(), CONSOLE_DRAIN_SECONDS)

    def wireguard_for(self, settings: Settings, bound: list[Bound]) -> Child | None:
        """What ends the tunnels of WireGuard listeners, not started; None where there are none."""
        places = [(n, listening.fileno()) for n, (listener, listening) in enumerate(bound) if over_udp(listener)]
        if not places:
            return None
        command = [*_PYTHON, "proxy.wireguard", *(f"--listen={index}:{fd}" for index, fd in places)]
        fds = [fd for _, fd in places]
        return Child(WIREGUARD, command, fds, settings.model_dump_json(), WIREGUARD_DRAIN_SECONDS)

    def workers_for(
        self, settings: Settings, bound: list[Bound], relayed: list[Bound], ledger: Ledger, count: int | None = None
    ) -> list[Child]:
        """Workers, not started, that count in ``ledger``: as many as the settings say, or ``count``."""
        # Of a WireGuard listener they take what comes out of its tunnels.
        instead = {listener.name: taking for listener, taking in relayed}
        fds = [instead.get(listener.name, listening).fileno() for listener, listening in bound]
        listen = [f"--listen={index}:{fd}" for index, fd in enumerate(fds)]
        text, drain = settings.model_dump_json(), settings.limits.drain_timeout
        return [
            Child(name, [*_PYTHON, "proxy.worker", f"--number={number}", *listen], fds, text, drain, ledger)
            for number, name in ((n + 1, f"worker {n + 1}") for n in range(count or worker_count(settings.workers)))
        ]

    # --- others take over ---

    async def replace(self, settings: Settings, *, issuer: bool, program: bool = False) -> list[str]:
        """Have other workers, and another issuer where asked, take over; what changed, a line each.

        ``program``: this is another program than the one that started those that are there.

        Raises StartError; then everything is as it was.
        """
        with raised(self.account):
            arrangement = arrange(self.sockets, settings.listeners)
        ledger, fresh = self.ledger, list[Child]()
        relayed = self.relayed
        # Its tunnels do not survive it, so it stays where it can.
        tunnels = self.wireguard
        another = program or self.adopted or wireguard_part(settings) != wireguard_part(self.settings)
        try:
            ledger = fitting(self.ledger, settings)
            relayed = self._relayed(settings)
            workers = self.workers_for(settings, arrangement.bound, relayed, ledger)
            successor = self.issuer_for(settings) if issuer else None
            if another:
                tunnels = self.wireguard_for(settings, arrangement.bound)
            fresh = [successor, *workers] if successor is not None else [*workers]
            if successor is not None:
                await self.keeper.begin([successor], self.stopping)
            await self.keeper.begin(workers, self.stopping)
            if tunnels is not None and tunnels is not self.wireguard:
                fresh.append(tunnels)
                await self.keeper.begin([tunnels], self.stopping)
        except StartError:
            await self.keeper.abandon(fresh)
            self._finish(ledger, self.ledger)
            for _, listening in (*arrangement.opened, *_without(relayed, self.relayed)):
                listening.close()
            raise
        if self.stopping.is_set():
            raise StartError("the daemon is stopping")
        before = [*self.workers, self.issuer] if successor is not None and self.issuer is not None else self.workers
        if self.wireguard is not None and self.wireguard is not tunnels:
            before = [*before, self.wireguard]
        self.keeper.retire(before)
        for listener, taking in _without(self.relayed, relayed):
            taking.close()
            workers_socket(settings.state_dir, listener).unlink(missing_ok=True)
        self.wireguard, self.relayed, self.adopted = tunnels, relayed, False
        self.issuer = successor or self.issuer
        self.workers, self.sockets, self.settings = workers, arrangement.bound, settings
        self._watch(settings)
        counted_in, self.ledger = self.ledger, ledger
        counted = "1 worker" if len(workers) == 1 else f"{len(workers)} workers"
        said = [f"replaced: {counted}{' and the issuer' if issuer else ''}"]
        for listener, listening in arrangement.opened:
            tenants = ", ".join(listener.tenants)
            said.append(f"listening on {address(listening)} (listener {listener.name}, tenant {tenants})")
        for listener, listening in arrangement.left:
            said.append(f"no longer listening on {address(listening)} (listener {listener.name})")
            listening.close()
        if self._finish(counted_in, ledger):
            said.append("connections are counted anew: those of the workers before are not among them")
        return said

    @staticmethod
    def _finish(ledger: Ledger | None, used: Ledger | None) -> bool:
        """Let go of a ledger as its workers go, unless it is the one that is used; whether it is let go of."""
        if ledger is None or ledger is used:
            return False
        ledger.finish()
        return True

    def handed(self) -> tuple[HandedChild, ...]:
        """The children, as the next program gets to know them."""
        return tuple(
            HandedChild(
                child.name,
                child.process.pid if child.runs and child.process is not None else None,
                child.control.fileno() if child.runs and child.control is not None else None,
                child.ready.is_set(),
                child.deadline if child.leaving.is_set() else None,
                child.row if child.runs and child.ledger is self.ledger else None,
            )
            for child in self.keeper.children
            if child.runs or not child.leaving.is_set()
        )

    # --- the end ---

    async def stop(self) -> None:
        """Drain the workers, then end the issuer. Nothing of them is left behind."""
        self.stopping.set()
        if self._watching is not None:
            self._watching.cancel()
        await self.reloading.stop()
        await self.keeper.end([child for child in self.keeper.children if child.name not in BY_SIGNAL])
        await self.keeper.end([child for child in self.keeper.children if child.name in BY_SIGNAL])

    def close(self) -> None:
        """Close the listening sockets, and take away what was only there while it ran."""
        for _, listening in (*self.sockets, *self.relayed):
            listening.close()
        for listener, _ in self.relayed:
            workers_socket(self.settings.state_dir, listener).unlink(missing_ok=True)
        self.sockets, self.relayed = [], []
        for each in (self.monitoring, self.managing):
            if each is not None:
                each.close()

    def clear(self) -> None:
        """Take away the files that mean something only while the daemon runs."""
        self._finish(self.ledger, None)
        self.ledger = None
        if self.issuing >= 0:
            os.close(self.issuing)
            self.issuing = -1
            outcome.clear(self.settings.state_dir)
            with contextlib.suppress(OSError):
                self.settings.state_dir.joinpath(*ISSUER_SOCKET).unlink()


def _without(some: list[Bound], others: list[Bound]) -> list[Bound]:
    """Those whose sockets are not among the others'."""
    there = {taking for _, taking in others}
    return [(listener, taking) for listener, taking in some if taking not in there]


_PYTHON = (sys.executable, "-I", "-m")
"""Isolated: neither the current folder nor PYTHONPATH adds modules."""


type Ready = Callable[[list[tuple[Listener, str]], str | None, str | None], None]


def run(settings: Settings, ready: Ready, program: Program) -> int:
    """Serve until a signal says otherwise; the exit status. Raises StartError before anything is started.

    ``ready`` is called once with the listeners and the addresses they really listen on, and the addresses of metrics
    and console.
    """
    if (problem := check_resolver_hosts(settings.resolver.hosts)) is not None:
        raise StartError(problem)
    try:
        never_logged(settings.log)
    except ValueError as error:
        raise StartError(str(error)) from None
    to = account(settings.user)
    if to is not None:
        lower(to)
    no_core_dumps()
    held = lock(settings)
    try:
        return asyncio.run(_run(settings, held, to, program, ready))
    finally:
        os.close(held)


def resume(handover: Handover, program: Program) -> int:
    """Serve on, in the place of the program that handed over; the exit status."""
    settings = Settings.model_validate_json(handover.settings)
    to = account(settings.user)
    if to is not None:
        lower(to)
    no_core_dumps()
    return asyncio.run(_run(settings, handover.lock, to, program, lambda _bound, _monitoring, _console: None, handover))


async def _run(
    settings: Settings,
    held: int,
    to: Account | None,
    program: Program,
    ready: Ready,
    handover: Handover | None = None,
) -> int:
    log = open_log(settings.log, "supervisor", time.time)
    supervisor = Supervisor(settings, log, program, held, to)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reloading.ask, "reload")
    loop.add_signal_handler(signal.SIGUSR2, supervisor.reloading.ask, "upgrade")
    log.start(loop.call_later)
    try:
        if handover is None:
            supervisor.bind()
            await supervisor.start()
            if not supervisor.stopping.is_set():
                bound = [(listener, address(listening)) for listener, listening in supervisor.sockets]
                own = (supervisor.monitoring, supervisor.managing)
                ready(bound, *(None if each is None else address(each) for each in own))
                log.event(INFO, "started", workers=len(supervisor.workers), pid=os.getpid())
                if os.getuid() == ROOT and to is None:
                    log.event(
                        WARNING, "running as root",
                        reason="strangers' bytes are parsed with root's rights; set user, or start it as another user",
                    )  # fmt: skip
        else:
            supervisor.adopt(handover)
        # What was held back while the program was replaced comes now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        supervisor.reloading.begin(handover)
        supervisor.watch_expiry()
        notify.ready(supervisor.status)
        await supervisor.stopping.wait()
        notify.stopping()
        log.event(INFO, "stopping")
    finally:
        supervisor.close()
        await supervisor.stop()
        supervisor.clear()
        log.stop()
    return 0
