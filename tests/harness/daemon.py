"""A real daemon for tests: its configuration, its processes, its log, and the command beside it.

    with Daemon(tmp_path, hosts={"good.example": "127.0.0.1"}, common=root) as daemon:
        assert curl(daemon, f"https://good.example:{origin.port}/").status == 200

Egress to loopback is allowed unless told otherwise, since that is where the tests' origins are.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import yaml

from proxy.status_client import ask_all
from store.engine import DATABASE_FILE
from tests.harness import command, installation
from tests.harness.command import REPOSITORY
from tests.harness.namespaces import Place
from tests.harness.pki import Issued
from tests.harness.processes import children, private_kib, pss_kib, runs_module, tree, wait_for

COMMAND = (sys.executable, "-m", "cli.main")
LISTENS = "Sallyport listens on "
MONITORS = "Metrics and health: http://"
CONSOLE = "Console and REST API: https://"
LOOPBACK = ("127.0.0.0/8", "::1/128")
SETTLE_SECONDS = 3
START_SECONDS = 90  # of a machine that is busy
STOP_SECONDS = 45
ASKING_SECONDS = 0.1
"""What one question through the daemon takes at most on a machine that does nothing else."""


@dataclass(frozen=True)
class Pids:
    """The processes of a daemon, as its command lines tell them apart."""

    supervisor: int
    issuer: int
    workers: tuple[int, ...]


def environment() -> dict[str, str]:
    """The environment for the command: no configuration of the person who runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SALLYPORT_")}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid over ``base``, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


class Daemon:
    """``sallyport serve`` in a folder of its own.

    ``listeners`` are pairs of a name and a tenant, each on a free port of ``address``; a tenant other than ``default``
    is created first. ``ways`` is laid over the configuration of the listeners that it names: their modes, and what else
    they have. The daemon's processes run in ``namespace``, where one is given. ``common`` is the common store:
    certificates of the tests' PKI, or a name or path as the configuration takes it. ``extra`` is laid over the
    configuration, section by section. In a ``with`` it starts on a copy of an installation that was made before, like
    every other; with ``first`` it makes one of its own.
    """

    running: ClassVar[weakref.WeakSet[Daemon]] = weakref.WeakSet()
    """Those of this process that were started and not ended."""
    start_seconds = START_SECONDS
    """How long it may take to listen."""
    forked = True
    """Whether the supervisor is forked from a process that has imported everything (:mod:`tests.harness.command`).

    Its issuer and its workers are started as ever. Not for measurements, and not in a namespace.
    """

    def __init__(
        self,
        folder: Path,
        *,
        hosts: Mapping[str, str] | None = None,
        allow: Sequence[str] = LOOPBACK,
        deny: Sequence[str] = (),
        common: Issued | Sequence[Issued] | str | Path = "certifi",
        listeners: Sequence[tuple[str, str]] = (("explicit", "default"),),
        address: str = "127.0.0.1",
        ways: Mapping[str, Mapping[str, Any]] | None = None,
        namespace: Place | None = None,
        workers: int = 1,
        metrics: bool = False,
        console: bool = False,
        extra: Mapping[str, Any] | None = None,
        first: bool = False,
    ) -> None:
        self.folder = folder
        self.config = folder / "sallyport.yaml"
        self.state_dir = folder / "state"
        self.stderr = folder / "daemon.stderr"
        self.listeners = tuple(listeners)
        self.tenants = tuple(dict.fromkeys(tenant for _, tenant in listeners))
        self.addresses: dict[str, str] = {}
        self.said: list[str] = []
        """What the daemon wrote to its standard output, line by line."""
        self._process: subprocess.Popen[bytes] | command.Process | None = None
        self._reader: threading.Thread | None = None
        self._roots: dict[str, Path] = {}
        self._rested: dict[tuple[int, ...], int] = {}
        self._first = first
        folder.mkdir(parents=True, exist_ok=True)
        where = f"[{address}]" if ":" in address else address
        base = {
            "state_dir": str(self.state_dir),
            "workers": workers,
            "listeners": [
                {"name": name, "mode": "explicit", "bind": f"{where}:0", "tenant": tenant, **(ways or {}).get(name, {})}
                for name, tenant in listeners
            ],
            "trust": {"common_store": self._common_store(common)},
            "egress": {"allow": list(allow), "deny": list(deny)},
            "resolver": {"hosts": dict(hosts or {})},
            # On a port of its own, where a test wants it: tests run beside each other.
            "metrics": {"enabled": metrics, "bind": "127.0.0.1:0"},
            # A process more, which few tests are about.
            "console": {"enabled": console, "bind": "127.0.0.1:0"},
            # A machine that is busy with other tests makes every worker late; tests of overload set their own.
            "limits": {"loop_lag": 10},
        }
        self.namespace = namespace
        self.settings = merged(base, extra or {})
        self.write_config()

    def _common_store(self, common: Issued | Sequence[Issued] | str | Path) -> str:
        if isinstance(common, (str, Path)):
            return str(common)
        path = self.folder / "common.pem"
        path.write_bytes(b"".join(one.pem() for one in ([common] if isinstance(common, Issued) else common)))
        return str(path)

    def write_config(self) -> None:
        """Write the configuration file from ``settings``, which a test may have changed."""
        self.config.write_text(yaml.safe_dump(self.settings, sort_keys=False))

    # The command

    def cli(
        self, *args: str, tenant: str | None = None, stdin: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run ``sallyport ARGS`` with this daemon's configuration, as a process from the repository's folder."""
        scope = [] if tenant is None else ["--tenant", tenant]
        line = ["--config", str(self.config), *scope, *args]
        return command.run(line, environment=environment(), stdin=stdin, timeout=timeout)

    def told(self, *args: str, tenant: str | None = None, stdin: str | None = None, timeout: float = 60) -> str:
        """Run the command, which must succeed, and return what it printed."""
        done = self.cli(*args, tenant=tenant, stdin=stdin, timeout=timeout)
        assert done.returncode == 0, f"sallyport {' '.join(args)}: exit {done.returncode}: {done.stderr}"
        return done.stdout

    def root_of(self, tenant: str) -> Path:
        """The tenant's root certificate, downloaded by the command."""
        if tenant not in self._roots:
            path = self.folder / f"{tenant}-root.pem"
            self.told("signing-ca", "download", "--root", "--output", str(path), tenant=tenant)
            self._roots[tenant] = path
        return self._roots[tenant]

    # The process

    def __enter__(self) -> Self:
        if not self._first and self.settings["state_dir"] == str(self.state_dir) and not self.state_dir.exists():
            installation.copy_to(self.state_dir, environment())
        for tenant in self.tenants:
            if tenant != "default" and self.cli("tenant", "show", tenant).returncode != 0:
                self.told("tenant", "create", tenant)
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"the daemon's log ended with:\n{self.stderr_text()[-4000:]}")
            self.kill()
            return
        self.stop()

    def start(self) -> None:
        """Start it and wait until it listens. Fails the test with what it wrote where it does not."""
        assert self._process is None, "it runs already"
        line = ["--config", str(self.config), "serve"]
        inside = self.namespace.prefix if self.namespace is not None else ()
        self.running.add(self)
        reading, writing = os.pipe()
        with self.stderr.open("ab") as stderr, open(writing, "wb") as stdout, open(os.devnull, "rb") as stdin:
            if self.forked and self.namespace is None:
                self._process = command.start(
                    line, environment=environment(), stdin=stdin, stdout=stdout, stderr=stderr
                )
            else:
                self._process = subprocess.Popen(
                    [*inside, *COMMAND, *line], cwd=REPOSITORY, env=environment(),
                    stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True,
                )  # fmt: skip
        self.addresses = {}
        self.said = []
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(reading, ready), daemon=True)
        self._reader.start()
        if not ready.wait(self.start_seconds) or len(self.addresses) < len(self.listeners):
            self.kill()
            raise AssertionError(f"the daemon did not start: {self.said}\n{self.stderr_text()[-4000:]}")

    def _read(self, stdout: int, ready: threading.Event) -> None:
        names = [name for name, _ in self.listeners]
        with open(stdout, encoding="utf-8") as lines:
            for line in lines:
                self.said.append(line.rstrip("\n"))
                if line.startswith(LISTENS) and len(self.addresses) < len(names):
                    address = line.removeprefix(LISTENS).split()[0].rpartition("/")[2]
                    self.addresses[names[len(self.addresses)]] = address
                    if len(self.addresses) == len(names):
                        ready.set()
        ready.set()

    @property
    def process(self) -> subprocess.Popen[bytes] | command.Process:
        """The running supervisor."""
        assert self._process is not None, "it does not run"
        return self._process

    @property
    def proxy(self) -> str:
        """ADDRESS:PORT of the first listener."""
        return self.addresses[self.listeners[0][0]]

    @property
    def root(self) -> Path:
        """The root certificate of the first listener's tenant."""
        return self.root_of(self.listeners[0][1])

    @property
    def monitor(self) -> str:
        """ADDRESS:PORT of metrics and health."""
        line = wait_for("the daemon to say where its metrics are", lambda: [s for s in self.said if MONITORS in s])[0]
        return line.removeprefix(MONITORS).partition("/")[0]

    @property
    def console(self) -> str:
        """ADDRESS:PORT of the console."""
        line = wait_for("the daemon to say where its console is", lambda: [s for s in self.said if CONSOLE in s])[0]
        return line.removeprefix(CONSOLE).partition("/")[0]

    def listener(self, name: str) -> Entrance:
        """One of several listeners, for ``curl``."""
        return Entrance(self.addresses[name], self.root_of(dict(self.listeners)[name]))

    def stop(self, *, expect: int = 0) -> None:
        """SIGTERM, and wait; nothing may stay behind."""
        if self._process is None:
            return
        pids = tree(self._process.pid)
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"SIGTERM did not end it in {STOP_SECONDS} s:\n{self.stderr_text()[-4000:]}") from None
        self._finish()
        left = [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]
        if left:
            wait_for(f"the daemon's processes {left} to end", lambda: not any(_there(pid) for pid in left), timeout=5)
        assert status == expect, f"it ended with status {status}:\n{self.stderr_text()[-4000:]}"

    def kill(self) -> None:
        """SIGKILL to all of its processes. For clearing up, and for tests of a crash."""
        if self._process is None:
            return
        for pid in reversed(tree(self._process.pid)):
            if pid != self._process.pid:
                _kill(pid)
        self._process.kill()
        self._process.wait()
        self._finish()

    def _finish(self) -> None:
        self._process = None
        self.running.discard(self)
        if self._reader is not None:
            self._reader.join(5)

    # What it looks like from outside

    def settle(self) -> None:
        """Wait until every worker that answers goes by what the store says: what a test has put back is so.

        Of a store in a file alone, and no longer than a few seconds: a test may have left a daemon that cannot follow.
        """
        store = self.state_dir / DATABASE_FILE

        def behind() -> bool:
            with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as reading:
                wanted = dict(reading.execute("SELECT name, generation FROM tenants"))
            served = [worker["tenants"] for worker in asyncio.run(ask_all(self.state_dir, {"ask": "health"}))]
            return any(one["generation"] < wanted.get(name, 0) for each in served for name, one in each.items())

        until = time.monotonic() + SETTLE_SECONDS
        with suppress(sqlite3.Error):
            while self._process is not None and behind() and time.monotonic() < until:
                time.sleep(0.02)

    def pids(self) -> Pids:
        """The processes that run now. Fails the test where there is no issuer or no worker."""

        def ask() -> Pids | None:
            below = children(self.process.pid)
            issuers = [pid for pid in below if runs_module(pid, "issuer")]
            workers = [pid for pid in below if runs_module(pid, "proxy.worker")]
            return Pids(self.process.pid, issuers[0], tuple(sorted(workers))) if issuers and workers else None

        found = wait_for("an issuer and a worker", ask)
        assert found is not None
        return found

    def memory_kib(self) -> int:
        """The memory of all its processes, in KiB (PSS), of the supervisor what it shares with no other process."""
        supervisor, *others = tree(self.process.pid)
        return private_kib(supervisor) + sum(pss_kib(pid) for pid in others)

    def open_files(self, pid: int) -> int:
        """How many descriptors a process of it has open."""
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    def resting_files(self, *pids: int) -> int:
        """The same of several, once nothing of what went before is still closing: unchanged for half a second.

        Or as many as when they rested before: what is still closing would be more.
        """
        if sum(map(self.open_files, pids)) == self._rested.get(pids):
            return self._rested[pids]
        seen: list[int] = []

        def unchanged() -> bool:
            seen.append(sum(map(self.open_files, pids)))
            return len(seen) > 5 and len(set(seen[-6:])) == 1

        wait_for("descriptors to come to rest", unchanged, timeout=30, pause=0.1)
        self._rested[pids] = seen[-1]
        return seen[-1]

    def stderr_text(self) -> str:
        return self.stderr.read_text("utf-8", "replace") if self.stderr.exists() else ""

    def log(self, event: str | None = None, **fields: object) -> list[dict[str, Any]]:
        """The log's events, of one name and with these fields where given. A line that is no JSON fails the test."""
        found: list[dict[str, Any]] = []
        text = self.stderr_text()
        for line in text[: text.rfind("\n") + 1].splitlines():  # the last line may be being written
            assert line.startswith("{"), f"not a line of the log: {line!r}\n{self.stderr_text()[-4000:]}"
            entry: dict[str, Any] = json.loads(line)
            fits = event is None or entry.get("event") == event
            if fits and all(entry.get(name) == value for name, value in fields.items()):
                found.append(entry)
        return found

    def wait_log(self, event: str, timeout: float = 5, **fields: object) -> list[dict[str, Any]]:
        """The same, waited for: the log is written a moment after what it tells of."""
        return wait_for(f"{event} {fields} in the log", lambda: self.log(event, **fields), timeout)

    def within[T](self, seconds: float, ask: Callable[[], T]) -> tuple[T, float]:
        """Ask until the answer is true; the answer, and the seconds it took. For "within a second" claims.

        Where asking takes longer than it should, the machine is busy, and acting on it may take longer in proportion.
        """
        started = now = time.monotonic()
        slowest = ASKING_SECONDS
        while True:
            if answer := ask():
                return answer, time.monotonic() - started
            asked, now = now, time.monotonic()
            slowest = max(slowest, now - asked)
            allowed = seconds * slowest / ASKING_SECONDS
            assert now - started <= allowed, f"waited {allowed:.1f} s for the daemon to act on it"
            time.sleep(0.01)


@dataclass(frozen=True)
class Entrance:
    """One listener of a daemon, as ``curl`` wants it."""

    proxy: str
    root: Path


def _there(pid: int) -> bool:
    """Whether the process runs (one that nobody waited for has no executable any more)."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return False
    return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
