"""The process that answers for the daemon: ``python -m proxy.monitor``, started by the supervisor.

It serves /metrics, /healthz and /readyz on a socket that it is handed. It parses what strangers send, so it is neither
the supervisor nor a worker: it holds no key, no connection of a client's, and reads nothing but counts and what workers
say of themselves.

Its settings come on standard input as JSON. At the control socket's end of file the supervisor is gone, and so it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from config.settings import Settings
from issuer.hardening import harden_child
from issuer.metric_files import FOLDER
from proxy import readiness
from proxy.control import READY, TUNNELS_SOCKETS
from proxy.log import ERROR, Log, open_log
from proxy.monitor_http import Reply, Server
from proxy.monitor_metrics import exposition
from proxy.negotiation import prefers_json
from proxy.sockets import over_udp
from proxy.status_client import ask_all

FRESH_SECONDS = 0.2
"""Answers of the workers are good for so long: however many ask, each worker is asked five times a second at most."""
BACKLOG = 64
JSON = "application/json"


class Told(NamedTuple):
    """What the processes that answer say of themselves."""

    workers: list[dict[str, Any]]
    tunnels: list[dict[str, Any]]
    """What ends the tunnels of WireGuard listeners: one, but for the moment in which another takes over."""


class Monitor:
    """Answers requests. ``wall`` tells seconds since 1970."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self.settings = settings
        self.log = log
        self.expected = settings.workers or os.cpu_count() or 1
        self.wall = time.time
        self.tunnelling = any(map(over_udp, settings.listeners))
        self._health = Told([], [])
        self._asked = -FRESH_SECONDS
        self._asking = asyncio.Lock()

    async def handle(self, path: str, accept: str) -> Reply | None:
        """The answer; None where nothing is at that path."""
        match path:
            case "/healthz":
                return Reply(200, b'{"status": "ok"}\n', JSON) if prefers_json(accept) else Reply(200, b"ok\n")
            case "/readyz":
                return self._ready(self._reasons(await self.health()), accept)
            case "/metrics":
                health = await self.health()
                ready = not self._reasons(health)
                folder = self.settings.state_dir.joinpath(*FOLDER)
                return Reply(200, *exposition(folder, health.workers, health.tunnels, ready, self.wall(), accept))
            case _:
                return None

    def _reasons(self, health: Told) -> list[str]:
        reasons = readiness.reasons(health.workers, self.expected)
        return [*reasons, *readiness.of_tunnels(health.tunnels)] if self.tunnelling else reasons

    def _ready(self, reasons: list[str], accept: str) -> Reply:
        status = 503 if reasons else 200
        if prefers_json(accept):
            return Reply(status, json.dumps({"ready": not reasons, "reasons": reasons}).encode() + b"\n", JSON)
        return Reply(status, "".join(f"{line}\n" for line in reasons or ["ready"]).encode())

    async def health(self) -> Told:
        """What the processes say of themselves, not older than a fifth of a second."""
        async with self._asking:
            loop = asyncio.get_running_loop()
            if loop.time() - self._asked > FRESH_SECONDS:
                state_dir, question = self.settings.state_dir, {"ask": "health"}
                workers = ask_all(state_dir, question)
                tunnels = ask_all(state_dir, question, TUNNELS_SOCKETS)
                self._health = Told(*await asyncio.gather(workers, tunnels))
                self._asked = loop.time()
            return self._health

    def fault(self, error: BaseException) -> None:
        """Log a fault of ours with the place where it happened."""
        frames = traceback.extract_tb(error.__traceback__)
        where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-6:]]
        self.log.event(
            ERROR, "fault", error=type(error).__name__, reason=self.log.of_fault(str(error)[:300]), where=where
        )


async def serve(settings: Settings, listening: socket.socket, control: socket.socket, log: Log) -> None:
    """Answer until SIGTERM, or until the supervisor is gone."""
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    # These two are sent to the whole group by a terminal; what they mean is the supervisor's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    log.start(loop.call_later)
    monitor = Monitor(settings, log)
    server = Server(monitor.handle, monitor.fault)
    accepting = await loop.create_server(server.connection, sock=listening, backlog=BACKLOG)
    control.setblocking(False)
    await loop.sock_sendall(control, READY)
    gone = loop.create_task(_gone(control, ending))
    await ending.wait()
    gone.cancel()
    accepting.close()
    for transport in tuple(server.open):
        transport.abort()


async def _gone(control: socket.socket, ending: asyncio.Event) -> None:
    """Wait for the supervisor's end of the control socket to close."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while await loop.sock_recv(control, 64):
            pass
    ending.set()


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sallyport monitor")
    parser.add_argument("--listen", type=int, required=True, metavar="FD")
    parser.add_argument("--control", type=int, required=True, metavar="FD")
    arguments = parser.parse_args()
    settings = Settings.model_validate_json(sys.stdin.buffer.read())
    listening = socket.socket(fileno=arguments.listen)
    listening.setblocking(False)
    harden_child()
    log = open_log(settings.log, "monitor", time.time)
    with socket.socket(fileno=arguments.control) as control:
        try:
            asyncio.run(serve(settings, listening, control, log))
        except OSError as error:
            log.event(ERROR, "monitor cannot start", reason=str(error))
            return 2
        finally:
            log.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
