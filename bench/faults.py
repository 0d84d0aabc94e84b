"""What the soak does to the daemon and the origin, and which errors of clients each of these explains.

A fault explains errors of its kinds alone, and of requests alone that were under way while it lasted. Most explain
nothing: a trusted CA that comes or goes must not be seen by any client. Where other workers take over, or another
signing CA does, a connection that rests is ended in order; who asks on it afterwards finds it so, which is all that a
reload, an upgrade or an activation explains.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from bench.client import Route, Trouble
from bench.daemon import FAST, LoadedDaemon
from bench.origin import Origin
from tests.harness.pki import Authority
from tests.harness.processes import wait_for
from tests.harness.signing_cas import imported, roots

PRIVATE = f"private.{FAST}"
SELF_SIGNED = f"selfsigned.{FAST}"
SIGNING_CA, BUILT_IN = "soak", "built-in"
"""The signing CAs of the daemon: one that was imported, and the one that it begins with."""
ACT_SECONDS = 5.0
"""A change has to count within it. The contract says one second; this is a machine under load."""

HEALED_SECONDS = 20.0
"""What the fault before has broken is whole again within it."""


@dataclass(frozen=True)
class Explains:
    """Errors that a fault may cause: of these stages, and where ``texts`` are given, with one of them in the text."""

    stages: frozenset[str] = frozenset()
    texts: tuple[str, ...] = ()

    def fits(self, trouble: Trouble) -> bool:
        return trouble.stage in self.stages and (not self.texts or any(text in trouble.what for text in self.texts))


NOTHING = Explains()
CONNECTION_LOST = Explains(frozenset({"connect", "handshake", "request", "response", "reset", "goaway", "stale"}))
"""The process that had the connection is gone."""
NO_LEAVES = Explains(frozenset({"handshake", "connect", "status"}), ("alert", "closed", "reset", " 50", "eof"))
"""No leaf can be had for a new host."""
NO_SERVER = Explains(
    frozenset({"status", "response", "reset", "goaway", "stale", "request", "handshake"}),
    ("502", "503", "504", "closed", "close_notify", "reset", "RST_STREAM", "GOAWAY", "eof", "pipe", "alert", "EOF"),
)
"""The server is gone, or goes in the middle of an answer."""
DRAINED = Explains(frozenset({"stale"}))
"""A worker that leaves, or purges a signing CA, closes connections between two requests."""


@dataclass
class Fault:
    """One that was done. Times are those of ``time.monotonic``; ``problem``: it did not do what it must."""

    kind: str
    start: float
    end: float
    explains: Explains
    note: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Stage:
    """What there is to be done things to."""

    daemon: LoadedDaemon
    origin: Origin
    route: Route
    private: Path
    """A CA that ``PRIVATE`` is below."""
    signing: Path
    """The root of ``SIGNING_CA``. The route trusts it, and the built-in one's."""
    changes: list[int] = field(default_factory=list)


def prepare(origin: Origin, folder: Path) -> Path:
    """The hosts that faults are about; the file of the private CA."""
    authority = Authority.root("Soak Private Root")
    origin.add_under(authority, PRIVATE)
    origin.add_self_signed(SELF_SIGNED)
    path = folder / "private.pem"
    path.write_bytes(authority.pem())
    return path


def prepare_signing(daemon: LoadedDaemon) -> tuple[Path, Path]:
    """Import ``SIGNING_CA``, while the built-in one signs. Files of its root, and of the roots of both."""
    root, _ = imported(daemon, SIGNING_CA)
    path = daemon.folder / f"{SIGNING_CA}-root.pem"
    path.write_bytes(root.pem())
    return path, roots(daemon, root)


def answers(stage: Stage, host: str, status: int, root: Path | None = None) -> bool:
    """Whether a request for the host gets this status, on a new connection that ``root`` alone is to vouch for."""
    route = stage.route if root is None else replace(stage.route, root=root)
    result = route.run("--pattern", host, "--connections", "1", "--threads", "1", "--status", str(status), "--quiet")
    return result.errors == 0 and result.requests == 1


def _becomes(stage: Stage, host: str, status: int, root: Path | None = None) -> str:
    """Wait until the host answers so: how long it took, as a note. Raises AssertionError where it does not."""
    started = time.monotonic()
    under = f" under {root.name}" if root is not None else ""
    wait_for(f"{host} to answer {status}{under}", lambda: answers(stage, host, status, root), timeout=ACT_SECONDS)
    return f"{time.monotonic() - started:.1f} s"


def kill_worker(stage: Stage) -> str:
    """SIGKILL to one worker; another takes its place."""
    before = stage.daemon.pids().workers
    os.kill(before[0], signal.SIGKILL)
    wait_for(
        "a new worker",
        lambda: len(now := stage.daemon.pids().workers) == len(before) and before[0] not in now,
        timeout=30,
    )
    return f"worker {before[0]}"


def kill_issuer(stage: Stage) -> str:
    """SIGKILL to the issuer; another takes its place."""
    before = stage.daemon.pids().issuer
    os.kill(before, signal.SIGKILL)
    wait_for("a new issuer", lambda: stage.daemon.pids().issuer != before, timeout=30)
    time.sleep(1)
    return f"issuer {before}"


def reload(stage: Stage) -> str:
    """A changed configuration and SIGHUP."""
    stage.changes.append(len(stage.changes))
    settings = stage.daemon.settings
    settings.setdefault("limits", {})["idle_timeout"] = 500 + len(stage.changes) % 50
    stage.daemon.config.write_text(yaml.safe_dump(settings, sort_keys=False))
    stage.daemon.process.send_signal(signal.SIGHUP)
    time.sleep(1)
    return f"idle_timeout {settings['limits']['idle_timeout']}"


def upgrade(stage: Stage) -> str:
    """``sallyport reload --exec``: other workers, of the program as it is now."""
    before = stage.daemon.pids()
    done = stage.daemon.cli("reload", "--exec")
    assert done.returncode == 0, f"reload --exec: exit {done.returncode}: {done.stderr.strip()[-300:]}"  # noqa: S101 - the fault's own check
    wait_for("other workers", lambda: not set(before.workers) & set(stage.daemon.pids().workers), timeout=60)
    return f"workers {before.workers} to {stage.daemon.pids().workers}"


def origin_down(stage: Stage) -> str:
    """The origin ends, and is back two seconds later."""
    stage.origin.stop()
    time.sleep(2)
    stage.origin.start()
    return ""


def origin_slow(stage: Stage) -> str:
    """The origin stands still for two seconds."""
    stage.origin.freeze(True)
    time.sleep(2)
    stage.origin.freeze(False)
    return ""


def trusted_ca(stage: Stage) -> str:
    """A private CA is added, and taken away: the host below it passes meanwhile."""
    assert not answers(stage, PRIVATE, 200), "a host of an unknown CA passed"  # noqa: S101 - the fault's own check
    wait_for("a host of an unknown CA to be blocked", lambda: answers(stage, PRIVATE, 502), timeout=HEALED_SECONDS)
    stage.daemon.told("trusted-ca", "add", "soak", str(stage.private))
    added = _becomes(stage, PRIVATE, 200)
    stage.daemon.told("trusted-ca", "delete", "soak")
    return f"passed after {added}, blocked again after {_becomes(stage, PRIVATE, 502)}"


def error_settings(stage: Stage) -> str:
    """Self-signed servers are allowed, and no longer."""
    assert not answers(stage, SELF_SIGNED, 200), "a self-signed server passed"  # noqa: S101 - the fault's own check
    wait_for("a self-signed server to be blocked", lambda: answers(stage, SELF_SIGNED, 502), timeout=HEALED_SECONDS)
    stage.daemon.told("errors", "set", "self_signed", "allow")
    passed = _becomes(stage, SELF_SIGNED, 200)
    stage.daemon.told("errors", "unset", "self_signed")
    return f"passed after {passed}, blocked again after {_becomes(stage, SELF_SIGNED, 502)}"


def signing_ca(stage: Stage) -> str:
    """Another signing CA is activated, and then the built-in one again: new connections show it."""
    shown = []
    for name, root in ((SIGNING_CA, stage.signing), (BUILT_IN, stage.daemon.root)):
        stage.daemon.told("signing-ca", "activate", name)
        shown.append(_becomes(stage, f"h0.{FAST}", 200, root))
    return f"shown after {shown[0]}, the built-in one again after {shown[1]}"


Doing = tuple[str, Callable[[Stage], str], Explains, float]
"""The name, what is done, what it explains, and for how many seconds after."""
REPLACING: tuple[Doing, ...] = (
    ("a worker killed", kill_worker, CONNECTION_LOST, 1.0),
    ("the issuer killed", kill_issuer, NO_LEAVES, 6.0),
)
UPGRADE: Doing = ("an upgrade", upgrade, DRAINED, 35.0)
LASTING: tuple[Doing, ...] = (
    ("a trusted CA added and removed", trusted_ca, NOTHING, 0.0),
    ("the origin down", origin_down, NO_SERVER, 1.5),
    ("the configuration reloaded", reload, DRAINED, 35.0),
    ("the origin slow", origin_slow, NOTHING, 0.0),
    ("an error set and unset", error_settings, NOTHING, 0.0),
    ("another CA activated", signing_ca, DRAINED, 5.0),
)


def can_upgrade(daemon: LoadedDaemon) -> bool:
    """Whether this version has ``reload --exec``."""
    done = daemon.cli("reload", "--help")
    return done.returncode == 0 and "--exec" in done.stdout


def do(stage: Stage, doing: Doing) -> Fault:
    """Do it, and tell of it."""
    name, act, explains, after = doing
    start = time.monotonic()
    note = problem = ""
    try:
        note = act(stage)
    except AssertionError as error:
        problem = str(error).split("\n", 1)[0]
    return Fault(name, start, time.monotonic() + after, explains, note, problem)


def blamed(trouble: Trouble, faults: list[Fault]) -> Fault | None:
    """The fault that explains an error; None where there is none."""
    for each in faults:
        if trouble.end >= each.start and trouble.start <= each.end and each.explains.fits(trouble):
            return each
    return None
