"""One process of the data plane: ``python -m proxy.worker``, started by the supervisor.

It accepts from the shared listening sockets and holds what its sessions share: snapshots, leaves, verdicts, resolver,
egress rules, log. It holds no CA key; leaves come from the issuer.

Its settings come on standard input as JSON. The control socket tells the supervisor when it accepts, and tells it to
drain; at the control socket's end of file, which means that the supervisor is gone, it ends at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import gc
import resource
import signal
import socket
import sys
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from certs.trust import parse_common_store
from config.common_store import StoreFileError, read_common_store
from config.settings import Listener, Settings
from issuer.client import IssuerClient
from issuer.hardening import harden_child
from proxy.admission import Egress, Resolver
from proxy.block_page import set_contact
from proxy.bypass_lists import BypassLists
from proxy.control import DRAIN, ISSUER_SOCKET, NOT_RELOADED, READY, RELOAD, RELOADED, RETIRE
from proxy.disclosure import Disclosure, disclosure_for
from proxy.entrance import Entrance
from proxy.events import Events
from proxy.figures import Figures
from proxy.htpasswd_files import HtpasswdFiles, paths_of
from proxy.issuer_watch import IssuerWatch
from proxy.judging import judge_for
from proxy.lag import Lag
from proxy.leaves import Leaves
from proxy.ledger import Ledger
from proxy.log import ERROR, INFO, WARNING, Log, open_log
from proxy.metrics import Metrics
from proxy.metrics_sink import open_sink
from proxy.onboarding.site import Site
from proxy.ourselves import Ourselves
from proxy.overload import Overload, available, share_of
from proxy.parents import Parents
from proxy.pinning import Pinning, Recorder
from proxy.purge import Purges
from proxy.recent import RecentServers
from proxy.recent import Recorder as RecentRecorder
from proxy.rounds import Rounds
from proxy.seats import Seats, columns, own_descriptors, worker_count
from proxy.seldom import Seldom
from proxy.server_rules import VERSIONS, server_rules
from proxy.session import State
from proxy.snapshot import Snapshot, Snapshots
from proxy.stalls import Stalls
from proxy.status import Status
from proxy.users import Users
from proxy.whose import Whose
from store.engine import DATABASE_FILE, Store, StoreError

if TYPE_CHECKING:
    from proxy.lanes.inspection.inspectors import Inspectors
    from proxy.session import Session
    from proxy.tracing import Tracer

DRAIN_SECONDS = 0.1
"""How often, while draining, sessions are asked whether they rest by now."""
RESTING_SECONDS = 5.0
"""Where others have taken over, a kept connection that was silent for so long is closed: its client may not use it
again. One that is in use goes on, since its client would lose a request that crosses with the end."""
GONE = frozenset({errno.ENOTCONN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EBADF})
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""What the machine or its limits refuse: connections wait in the listening socket's queue meanwhile."""


class Worker:
    """What the sessions of one process share."""

    def __init__(
        self, settings: Settings, sockets: list[tuple[Listener, socket.socket]], log: Log, seats: Seats, number: int = 0
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.sink = open_sink(settings, "worker", log)
        self.limits = settings.limits
        self.sockets = sockets
        self.log = log
        self.loop = asyncio.get_running_loop()
        self.wall = time.time
        self.sessions: set[Session] = set()
        self.seldom = Seldom(
            lambda what, count, fields: log.event(WARNING, "refused", **fields, details=what, count=count)
        )
        memory = self.limits.memory or share_of(available(), worker_count(settings.workers))
        self.overload = Overload(memory, self.limits.loop_lag)
        self.stalls = Stalls(self.limits.write_timeout, self.limits.write_rate)
        self.entrance = Entrance(self, seats)
        self.judging = ThreadPoolExecutor(1, thread_name_prefix="judge")
        """One at a time: costly chains must not keep anything else from a thread, the change feed least of all."""
        # Of a WireGuard listener we have a Unix socket, to which no address leads.
        inet = [each for each in sockets if each[1].family != socket.AF_UNIX]
        self.ourselves = Ourselves([(listener, listening.getsockname()[:2]) for listener, listening in inet])
        self.egress = Egress(settings.egress.allow, settings.egress.deny)
        self.bypass_lists = BypassLists(settings.bypass.files, log)
        self.site = Site(settings, self.clock)
        self.resolver = Resolver(settings.resolver.hosts, settings.limits.resolve_timeout, own=self.site.name)
        self.parents = Parents(settings, self.resolver, self.egress, self.clock)
        self.judge = judge_for(
            settings,
            self.resolver,
            self.egress,
            self.judging,
            self.clock,
            self.loop.time,
            log,
            self.metrics,
            self.parents,
        )
        self.issuer = IssuerClient(settings.state_dir.joinpath(*ISSUER_SOCKET), settings.limits.leaf_timeout)
        self.leaves = Leaves(
            self.issuer, settings.limits.cached_hosts, self.wall, self.metrics, VERSIONS[settings.tls.client_minimum]
        )
        self.store = Store.open(settings.state_dir / DATABASE_FILE, create=False)
        tenants = [tenant for listener, _ in sockets for tenant in listener.tenants]
        common = parse_common_store(read_common_store(settings.trust.common_store))
        stapled = settings.verification.revocation != "off"
        self.snapshots = Snapshots(
            self.store, common, tenants, log, self.clock, settings.limits.store_outage,
            rules={tenant: server_rules(settings.tls, tenant, stapled) for tenant in tenants},
        )  # fmt: skip
        self.whose = Whose(listener for listener, _ in sockets)
        paths = paths_of(listener for listener, _ in sockets)
        self.htpasswd = HtpasswdFiles(paths, log, self._users_changed)
        self.users = Users(lambda: self.snapshots.current, self.htpasswd.users)
        self.snapshots.changed = self._changed
        self.snapshots.replaced = self._replaced
        self.purges = Purges(self)
        self.events = Events(self.wall, len(set(tenants)))
        self.pinning = Pinning(self.wall)
        self.recent: RecentServers | None = None
        """Where it gathers which servers are judged; None where that is not to be remembered."""
        if settings.verification.remember_servers:
            self.recent = RecentServers(self.wall, log, worker_count(settings.workers))
        self.figures = Figures(
            self.wall, log, worker_count(settings.workers), hosts=settings.verification.remember_servers
        )
        self.issuer_watch = IssuerWatch(self.issuer, lambda: self.snapshots.current, self.loop.time)
        self.leaves.heard = self.issuer_watch.heard
        self.inspectors = _inspectors(settings, log, self.metrics)
        self.draining = asyncio.Event()
        self.tracer = _tracer(settings, log)
        self._disclosures: dict[str, Disclosure] = {}
        self.retiring = False
        """Others have taken over, so that there is no hurry."""
        self.complained = 0.0
        self.lag = Lag()
        self.status = Status(self, number)

    def disclosure(self, tenant: str) -> Disclosure:
        """What may be told of the clients of a tenant, and of their requests."""
        found = self._disclosures.get(tenant)
        if found is None:
            found = self._disclosures[tenant] = disclosure_for(self.settings.log, tenant)
        return found

    def clock(self) -> datetime:
        """The time now, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the process's own clock, handed to everything else

    async def start(self) -> None:
        """Load the working sets and accept connections. Raises StoreError."""
        self.snapshots.load()
        self.bypass_lists.load()
        self.htpasswd.load()
        if self.judge.revocation is not None:
            await self.judge.revocation.start()
        if self.inspectors is not None:
            self.inspectors.start()
        if self.tracer is not None:
            self.tracer.start(self.loop.call_later)
        try:
            await self.status.start()
        except OSError as error:  # a full disk has no room for a socket's name; to serve matters more than to tell
            self.log.event(ERROR, "status cannot be told", reason=error.strerror or str(error))
        self.entrance.open(self.sockets)

    async def run(self, control: socket.socket) -> None:
        """Serve until told to drain, then until the last session has ended or the drain time is over."""
        control.setblocking(False)
        following = self.loop.create_task(self.snapshots.follow())
        following.add_done_callback(self._follower_ended)
        lists = self.loop.create_task(self.bypass_lists.follow())
        lists.add_done_callback(self._follower_ended)
        users = self.loop.create_task(self.htpasswd.follow())
        users.add_done_callback(self._follower_ended)
        commands = self.loop.create_task(self._commands(control))
        recording = self.loop.create_task(Recorder(self.pinning, self.store, self.log, self.settings.bypass).follow())
        recorder = RecentRecorder(self.recent, self.figures, self.store, self.log, self.clock)
        remembering = self.loop.create_task(recorder.follow())
        watching = self.loop.create_task(self.issuer_watch.follow())
        watching.add_done_callback(self._watch_ended)
        revocation = self.judge.revocation
        revoked = self.loop.create_task(revocation.follow()) if revocation is not None else None
        if revoked is not None:
            revoked.add_done_callback(self._follower_ended)
        Rounds(self).start()
        await self.loop.sock_sendall(control, READY)
        await self.draining.wait()
        await self._accept_no_more()
        end = self.loop.time() + self.limits.drain_timeout
        for outer in tuple(self.entrance.outer):
            outer.drain()
        while (self.sessions or self.entrance.turned_away or self.entrance.outer) and self.loop.time() < end:
            for session in tuple(self.sessions):
                if not self.retiring or self._rests(session):
                    session.drain()
            await asyncio.sleep(DRAIN_SECONDS)
        for session in tuple(self.sessions):
            session.close("the proxy is stopping")
        self.entrance.end()
        self.seldom.flush(float("inf"))
        await asyncio.sleep(0)
        if self.inspectors is not None:
            await self.inspectors.stop()
        if self.tracer is not None:
            await self.tracer.stop()
        following.cancel()
        recording.cancel()
        remembering.cancel()
        await recorder.write_gathered()
        lists.cancel()
        users.cancel()
        watching.cancel()
        commands.cancel()
        if revoked is not None:
            revoked.cancel()
        self.status.stop()
        self.flush()
        await self.issuer.close()
        self.judge.close()
        self.resolver.close()
        self.judging.shutdown(wait=False, cancel_futures=True)
        self.users.close()

    async def _accept_no_more(self) -> None:
        """Close our ends of the listening sockets. What was accepted already becomes a session first."""
        self.entrance.close()
        # An accepted connection is told of its transport, and becomes one of the sessions, a round of the loop later.
        for _ in range(3):
            await asyncio.sleep(0)

    def _rests(self, session: Session) -> bool:
        """Whether a connection of one who retires can be closed without taking anything from its client."""
        if session.state not in (State.OPEN, State.PLAIN) or session.phase.busy:
            return False  # it has just been accepted, or nobody can tell when it rests
        return self.loop.time() - session.active > RESTING_SECONDS

    def _follower_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # A removed CA would stay trusted, a removed bypass rule a rule, a revoked certificate good: better no
            # worker than that one.
            self.fault("", error)
            self.stop_now()

    def _watch_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fault("", error)  # readiness is told of less; whoever wants a leaf asks for it all the same

    async def _commands(self, control: socket.socket) -> None:
        while True:
            try:
                command = await self.loop.sock_recv(control, 1)
            except OSError:
                command = b""
            if not command:
                return self.stop_now()
            if command in (DRAIN, RETIRE):
                self.retiring = command == RETIRE
                self.draining.set()
            elif command == RELOAD:
                loaded = self.inspectors is None or self.inspectors.reload()
                loaded = await self.bypass_lists.reread() and loaded
                loaded = self._reread_parents() and loaded
                loaded = await self.htpasswd.reread() and loaded
                with contextlib.suppress(OSError):  # its end is noticed above
                    await self.loop.sock_sendall(control, RELOADED if loaded else NOT_RELOADED)

    def _reread_parents(self) -> bool:
        try:
            self.parents.reread()
        except (ValueError, StoreFileError) as error:
            self.log.event(ERROR, "parents not reread", reason=str(error))
            return False
        return True

    def stop_now(self) -> None:
        """End every connection and the process."""
        for session in tuple(self.sessions):
            session.abort("the proxy is stopping")
        self.limits = self.limits.model_copy(update={"drain_timeout": 0.1})
        self.retiring = False
        self.draining.set()

    def _changed(self, snapshot: Snapshot | None, tenant: str) -> None:
        """A tenant's working set was replaced; what was derived from the old one goes."""
        self.judge.forget(tenant)
        self.purges.changed(snapshot, tenant)
        self.issuer_watch.changed(tenant, snapshot.signing_ca if snapshot is not None else None)

    def _replaced(self, seconds: float) -> None:
        """All working sets that were changed are replaced."""
        self._users_changed()
        self.metrics.purged(seconds)
        self.purges.done(seconds)

    def _users_changed(self) -> None:
        """End the connections of users who are gone, or have another password now."""
        for session in self.users.gone(self.sessions):
            session.abort("the user is gone or has another password")

    def refuse_counted(self, which: str, /, **fields: object) -> None:
        """Count what a limit has refused, and say so once a second at most: ``fields`` tell of the last one."""
        self.metrics.refused(which)
        if self.log.withholds(fields):
            return  # else the line that is not written would take those with it that came before
        self.events.keep(
            "refused", str(fields.get("id", "")), str(fields.get("tenant") or ""), str(fields.get("client") or ""),
            "", "", fields | {"details": which},
        )  # fmt: skip
        self.seldom.happened(which, self.loop.time(), **fields)

    def counted(self) -> dict[tuple[str, ...], int]:
        """What was counted since the start, by name and labels' values."""
        self.metrics.log_dropped = self.log.lost
        return self.metrics.totals()

    def flush(self) -> None:
        self.metrics.log_dropped = self.log.lost
        self.sink.flush(self.metrics)

    def exhausted(self, error: OSError) -> None:
        """The machine gives no more of something; said once a second at most."""
        if self.loop.time() - self.complained > 1:
            self.complained = self.loop.time()
            self.log.event(ERROR, "out of resources", reason=error.strerror, sessions=len(self.sessions))

    def abused(self, kind: str) -> None:
        """Somebody went beyond a limit of this kind."""
        self.metrics.abuse(kind)

    def fault(self, session: str, error: BaseException) -> None:
        """Log a fault of ours with the place where it happened, in one line."""
        self.metrics.faults += 1
        frames = traceback.extract_tb(error.__traceback__)
        # A library's assertion may quote what a client or server sent, which has no place in a log.
        reason = str(error).partition(":")[0][:100] if isinstance(error, AssertionError) else str(error)[:300]
        where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-6:]]
        self.log.event(
            ERROR, "fault", id=session, error=type(error).__name__, reason=self.log.of_fault(reason), where=where
        )


def _inspectors(settings: Settings, log: Log, metrics: Metrics) -> Inspectors | None:
    """The inspectors, loaded, where there are any: what they need is not imported for nothing. Raises ValueError."""
    if not settings.inspection.addons:
        return None
    from proxy.lanes.inspection.inspectors import Inspectors
    from proxy.lanes.inspection.scripts import ScriptError

    inspectors = Inspectors(settings.inspection, log, metrics.inspector_failed)
    try:
        inspectors.load()
    except ScriptError as error:
        raise ValueError(str(error)) from error
    return inspectors


def _tracer(settings: Settings, log: Log) -> Tracer | None:
    """What sends traces, where they are wanted. Raises ValueError where its libraries are not installed."""
    if settings.tracing.endpoint is None:
        return None
    try:
        from proxy.tracing import Tracer
    except ImportError as error:
        raise ValueError(f"tracing.endpoint: {error.name} is missing; install sallyport[tracing]") from error
    return Tracer(settings.tracing, log.source, log)


def _loop_fault(worker: Worker, context: dict[str, object]) -> None:
    error = context.get("exception")
    if isinstance(error, ConnectionError | TimeoutError) or (isinstance(error, OSError) and error.errno in GONE):
        return  # a client or server that went away in the middle; the transport has ended already
    if isinstance(error, OSError) and error.errno in EXHAUSTED:
        worker.exhausted(error)
    elif isinstance(error, BaseException):
        worker.fault("", error)
    else:
        worker.log.event(WARNING, "loop", reason=str(context.get("message")))


async def serve(
    settings: Settings,
    sockets: list[tuple[Listener, socket.socket]],
    control: socket.socket,
    log: Log,
    ledger: Ledger,
    row: int,
    number: int,
) -> None:
    """Run a worker to its end; its connections count in a row of the ledger."""
    seats = Seats(ledger, row, settings.limits, worker_count(settings.workers), own_descriptors())
    worker = Worker(settings, sockets, log, seats, number)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: _loop_fault(worker, context))
    loop.add_signal_handler(signal.SIGTERM, worker.draining.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    log.start(loop.call_later)
    await worker.start()
    # What is alive now stays alive: the collector need not walk over it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    await worker.run(control)
    log.event(INFO, "worker stopped")


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sallyport worker")
    parser.add_argument("--listen", action="append", default=[], metavar="INDEX:FD")
    parser.add_argument("--control", type=int, required=True, metavar="FD")
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--ledger", type=int, required=True, metavar="FD")
    parser.add_argument("--row", type=int, required=True)
    arguments = parser.parse_args()
    # Odd certificates of strangers make cryptography warn on standard error, which is the log; certs looks at what
    # the warnings are about by itself.
    warnings.simplefilter("ignore")
    harden_child()
    try:
        settings = Settings.model_validate_json(sys.stdin.buffer.read())
    except ValidationError as error:  # the supervisor was killed in the middle of it, or is of another version
        sys.stderr.write(f"worker: the settings on stdin are not valid: {error.error_count()} errors\n")
        return 2
    sockets = []
    for entry in arguments.listen:
        index, _, fd = entry.partition(":")
        listening = socket.socket(fileno=int(fd))
        listening.setblocking(False)
        sockets.append((settings.listeners[int(index)], listening))
    with contextlib.suppress(ValueError, OSError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    set_contact(settings.block_page.contact)
    log = open_log(settings.log, f"worker {arguments.number}", time.time)
    with socket.socket(fileno=arguments.control) as control:
        try:
            ledger = Ledger(arguments.ledger, columns(settings.listeners))
            asyncio.run(serve(settings, sockets, control, log, ledger, arguments.row, arguments.number))
        except (StoreError, StoreFileError, OSError, ValueError) as error:
            log.event(ERROR, "worker cannot start", reason=str(error))
            return 2
        finally:
            log.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
