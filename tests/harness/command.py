"""The command ``sallyport`` beside a test: each a process of its own, without the second that its imports cost.

The first :func:`run` or :func:`start` of a test process starts one process more, which imports what commands need and
waits. For each command it forks one that goes on as ``python -m cli.main`` does after its imports: with the environment
and the standard files that were asked for, an exit status, and nothing of the commands before it. It ends with the test
process. The kernel has another command line for such a process than the one that ``sys.orig_argv`` tells it; what it
starts, and what it becomes when it executes itself again by that line, is as real as ever.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import IO, Self

REPOSITORY = Path(__file__).resolve().parents[2]
MESSAGE_BYTES = 128 * 1024  # arguments and environment
NUMBER_BYTES = 4
USED = (
    "config.loader", "control.audit_log", "control.backup", "control.bypass_rules", "control.ends",
    "control.error_settings", "control.host_exceptions", "control.installation", "control.kmip_forwarding",
    "control.on_premises", "control.pinning", "control.recent_traffic", "control.signing_cas", "control.tenants",
    "control.trusted_cas", "kms.kmip.validation", "proxy.admission", "proxy.bypass_lists", "proxy.handover",
    "proxy.htpasswd_files", "proxy.listeners.outer_identity", "proxy.parents", "proxy.privileges", "proxy.probe",
    "proxy.rehearsal", "proxy.server_rules", "proxy.status_client", "proxy.supervisor", "store.migrations.run",
)  # fmt: skip
"""What commands import when they are used, beside their own modules. What is missing here is imported by each."""


class Commands:
    """The process that has imported everything, and the way to it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # In a session of its own: it ends at the end of file, whoever else a terminal's Ctrl-C ends.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.harness.command", str(theirs.fileno())],
                cwd=REPOSITORY, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait()

    def run(
        self, line: Sequence[str], environment: Mapping[str, str], stdin: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As :func:`run` has it."""
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            given.write((stdin or "").encode())
            given.seek(0)
            with self.start(line, environment, given, out, err) as process:
                try:
                    code = process.wait(timeout)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(list(line), code, out.read().decode(), err.read().decode())

    def start(
        self,
        line: Sequence[str],
        environment: Mapping[str, str],
        stdin: IO[bytes],
        stdout: IO[bytes],
        stderr: IO[bytes],
    ) -> Process:
        """As :func:`start` has it."""
        request = json.dumps({"line": list(line), "environment": dict(environment)}).encode()
        assert len(request) < MESSAGE_BYTES, "longer than what is read at once"
        reading, writing = os.pipe()
        with open(writing, "wb") as status:
            files = [stdin.fileno(), stdout.fileno(), stderr.fileno(), status.fileno()]
            socket.send_fds(self._socket, [request], files)
        return Process(line, open(reading, "rb", buffering=0))


class Process:
    """A command that runs, or has run: what a test asks of a ``subprocess.Popen``, under the same names."""

    def __init__(self, line: Sequence[str], reply: IO[bytes]) -> None:
        self.args = tuple(line)
        self._reply = reply
        self.pid = _number(reply)
        self.returncode: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reply.close()

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended. Raises subprocess.TimeoutExpired after so many seconds."""
        if self.returncode is None:
            told = select.poll()
            told.register(self._reply, select.POLLIN)
            if not told.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = _number(self._reply)
            self._reply.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


_commands: Commands | None = None
_starting = threading.Lock()


def run(
    line: Sequence[str], *, environment: Mapping[str, str], stdin: str | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """``sallyport LINE`` as a process in the repository's folder, from any thread: its exit status, what it wrote.

    Raises subprocess.TimeoutExpired, the command killed, where it takes longer than so many seconds.
    """
    return _ready(environment).run(line, environment, stdin, timeout)


def start(
    line: Sequence[str], *, environment: Mapping[str, str], stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]
) -> Process:
    """Start ``sallyport LINE`` as a process in the repository's folder, in a session of its own, with these files."""
    return _ready(environment).start(line, environment, stdin, stdout, stderr)


def _ready(environment: Mapping[str, str]) -> Commands:
    global _commands
    with _starting:
        if _commands is None:
            _commands = Commands(environment)
            atexit.register(_commands.close)
    return _commands


def _number(reply: IO[bytes]) -> int:
    """The next number that was sent: the command's process, then its status. Raises EOFError where there is none."""
    said = reply.read(NUMBER_BYTES)
    if len(said) < NUMBER_BYTES:
        raise EOFError("the process that commands are forked from has ended; its reason stands above")
    return int.from_bytes(said, "big", signed=True)


# --- in the process that they are forked from ---


def serve(requests: socket.socket) -> None:
    """Fork a command for each request and tell its number, then its status, until the test process is gone."""
    events = selectors.DefaultSelector()
    events.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in events.select():
            if key.fileobj is not requests:
                process, reply = key.data
                events.unregister(key.fileobj)
                os.close(key.fd)
                process.join()
                _send(reply, process.exitcode)
                os.close(reply)
                process.close()
                continue
            message, fds, _, _ = socket.recv_fds(requests, MESSAGE_BYTES, 4)
            if not message:
                for left in [one.data[0] for one in events.get_map().values() if one.data]:
                    left.kill()  # the test process has ended, and not ended it; we would wait for it for ever
                return
            *files, reply = fds
            process = ForkProcess(target=become, args=(requests, files), kwargs=json.loads(message))
            process.start()
            for fd in files:
                os.close(fd)
            _send(reply, process.pid)
            # Its sentinel would do, but for one that executes another program, and lives on.
            events.register(os.pidfd_open(process.pid), selectors.EVENT_READ, (process, reply))


def become(requests: socket.socket, files: Sequence[int], line: Sequence[str], environment: Mapping[str, str]) -> None:
    """Be the command ``sallyport LINE``, with these standard files."""
    import cli.main

    requests.close()
    os.setsid()
    for standard, fd in enumerate(files):
        os.dup2(fd, standard)
        os.close(fd)
    sys.stdin = os.fdopen(0, closefd=False)  # in place of the empty one of a ForkProcess
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [cli.main.__file__, *line]
    sys.orig_argv = [sys.executable, "-m", cli.main.__name__, *line]
    cli.main.main()


def _send(reply: int, number: int | None) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked has gone
        os.write(reply, (number or 0).to_bytes(NUMBER_BYTES, "big", signed=True))


def _load() -> None:
    """Import what commands will need, and keep the garbage collector from touching, and so from copying, its pages."""
    from cli.main import COMMANDS

    for module in (*(f"cli.{name.replace('-', '_')}" for name in COMMANDS), *USED):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    _load()
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        serve(asked)
