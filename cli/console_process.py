"""The console's process: ``python -m cli.console_process``, started by the supervisor.

It serves the REST API and the web pages on a socket that it is handed. It opens the installation, and with it the
master key, so it keeps to itself as the issuer does: no core dumps, no other process of its user may look in, memory
out of swap. What it needs of the data plane it asks over Unix sockets: the issuer for its own certificate, the workers
for how they are.

Its settings come on standard input as JSON. At the control socket's end of file the supervisor is gone, and so it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
import traceback
from functools import partial
from pathlib import Path

from cli import clock
from cli.console_status import ConsoleStatus
from cli.console_tls import Identity, identity_of
from cli.daemon_status import OfWorkers
from config.settings import Settings
from console.app import create
from console.daemon import Daemon
from console.parts import Parts
from console.request_log import Answered, RequestLog
from console.server import Server
from control.errors import InstallationError
from control.installation import Installation
from issuer.client import IssuerClient
from issuer.hardening import harden_child, keep_others_out, lock_memory
from proxy.control import ISSUER_SOCKET, READY
from proxy.log import DEBUG, ERROR, INFO, WARNING, Log, open_log
from proxy.sockets import address

ISSUER_SECONDS = 5.0
"""How long the issuer may take over a leaf, which a key manager may have to sign."""
LOOK_SECONDS = 0.5
"""How often it is looked whether another certificate is to be shown."""


class Told:
    """Has the log know of requests and faults."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def request(self, answered: Answered) -> None:
        """See console.request_log.Told."""
        self._log.event(
            INFO, "console request", id=answered.id, method=answered.method, path=answered.route,
            status=answered.status, seconds=round(answered.seconds, 4), who=answered.who,
        )  # fmt: skip

    def unavailable(self, error: Exception, id: str) -> None:
        """See console.request_log.Told."""
        self._log.event(WARNING, "console unavailable", id=id, reason=self._log.of_fault(_first_line(error)))

    def fault(self, error: BaseException, id: str = "") -> None:
        """See console.request_log.Told."""
        frames = traceback.extract_tb(error.__traceback__)
        where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-6:]]
        reason = self._log.of_fault(_first_line(error))
        self._log.event(ERROR, "fault", id=id, error=type(error).__name__, reason=reason, where=where)

    def loop_fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """What the event loop complains of."""
        error = context.get("exception")
        if isinstance(error, OSError):
            return  # a client that is gone, or speaks no TLS
        if isinstance(error, BaseException):
            self.fault(error)
        else:
            self._log.event(WARNING, "loop", reason=str(context.get("message")))


def _first_line(error: BaseException) -> str:
    """It says what it is; those behind it may quote what was asked, or a statement's parameters."""
    return str(error).partition("\n")[0][:300]


class _Library(logging.Handler):
    """What the libraries log, as lines of ours: most of it is about what strangers send."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is None:  # a fault is told where it is caught
            self._log.event(DEBUG, "console library", library=record.name, reason=record.getMessage()[:300])


async def serve(
    settings: Settings, inst: Installation, listening: socket.socket, control: socket.socket, log: Log, daemon: Daemon
) -> None:
    """Answer until SIGTERM, or until the supervisor is gone. Raises OSError, ValueError where it cannot start."""
    loop = asyncio.get_running_loop()
    told = Told(log)
    loop.set_exception_handler(told.loop_fault)
    # These two are sent to the whole group by a terminal; what they mean is the supervisor's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    log.start(loop.call_later)
    issuer = IssuerClient(settings.state_dir.joinpath(*ISSUER_SOCKET), ISSUER_SECONDS)
    identity = identity_of(settings.console, issuer, socket.gethostname())
    app = RequestLog(create(Parts(inst, clock.now, daemon)), told, time.monotonic)
    server = Server(app, identity.certificate, settings.console.trusted_proxies)
    loop.add_signal_handler(signal.SIGTERM, server.end)
    control.setblocking(False)
    status = ConsoleStatus(settings.state_dir, address(listening), identity)
    await status.start()
    changed = await identity.look()  # before anybody is answered
    tasks = [loop.create_task(_watch(identity, log, changed=changed)), loop.create_task(_supervised(control, server))]
    for task in tasks:
        # Without either of them it must not go on: nobody would renew the certificate, or end it.
        task.add_done_callback(partial(_ended, server, told))
    try:
        await server.serve([listening])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        status.stop()
        await issuer.close()


async def _watch(identity: Identity, log: Log, *, changed: bool) -> None:
    """Have the certificate follow what it is made of, and say so. ``changed``: by now."""
    said: str | None = None
    while True:
        if changed:
            log.event(INFO, "console certificate")
        if (problem := identity.problem) != said:
            said = problem
            if problem is not None:
                log.event(WARNING, "console certificate problem", reason=problem)
        await asyncio.sleep(LOOK_SECONDS)
        changed = await identity.look()


async def _supervised(control: socket.socket, server: Server) -> None:
    """Say that it is ready, then wait for the supervisor's end of the control socket to close."""
    loop = asyncio.get_running_loop()
    await server.ready.wait()
    with contextlib.suppress(OSError):
        await loop.sock_sendall(control, READY)
        while await loop.sock_recv(control, 64):
            pass


def _ended(server: Server, told: Told, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        told.fault(error)
    server.end()


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sallyport console")
    parser.add_argument("--listen", type=int, required=True, metavar="FD")
    parser.add_argument("--control", type=int, required=True, metavar="FD")
    arguments = parser.parse_args()
    harden_child()
    keep_others_out()
    settings = Settings.model_validate_json(sys.stdin.buffer.read())
    listening = socket.socket(fileno=arguments.listen)
    listening.setblocking(False)
    log = open_log(settings.log, "console", time.time)
    # Only now: the supervisor may have raised our limit meanwhile.
    if (reason := lock_memory()) is not None:
        log.event(WARNING, "console memory not locked", reason=reason)
    logging.getLogger().addHandler(_Library(log))
    with socket.socket(fileno=arguments.control) as control:
        try:
            daemon = OfWorkers(settings.state_dir)
            with Installation.open(settings, clock.now()) as inst:
                asyncio.run(serve(settings, inst, listening, control, log, daemon))
        except (OSError, ValueError, RuntimeError, InstallationError) as error:
            log.event(ERROR, "console cannot start", reason=str(error))
            return 2
        finally:
            log.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
