"""A worker in the test's own process, without an issuer: for what a test has to reach into, or what needs no leaf."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.settings import Listener, Settings
from control.installation import Installation
from proxy.ledger import Ledger
from proxy.log import Log
from proxy.seats import Seats, columns
from proxy.worker import Worker


@asynccontextmanager
async def worker(
    folder: Path,
    hosts: Mapping[str, str],
    listener: Mapping[str, Any] | None = None,
    listening: socket.socket | None = None,
) -> AsyncIterator[tuple[Worker, str]]:
    """A worker and where it listens. ``listener`` is laid over the settings of its listener, and ``listening`` is its
    socket in place of one on loopback. Its log is the file ``log`` in the folder."""
    its = Listener.model_validate({"name": "explicit", "bind": "127.0.0.1:0"} | dict(listener or {}))
    settings = Settings.model_validate(
        {
            "state_dir": str(folder / "state"),
            "listeners": [its.model_dump()],
            "resolver": {"hosts": dict(hosts)},
            "egress": {"allow": ["127.0.0.0/8"]},
            "metrics": {"enabled": False},
            "console": {"enabled": False},
        }
    )
    Installation.open(settings, datetime.now(UTC)).close()  # noqa: TID251 - certificates are judged at the real time
    (folder / "state" / "run").mkdir(mode=0o700, exist_ok=True)
    if listening is None:
        listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    name = listening.getsockname()
    ledger = Ledger.create(1, columns(settings.listeners))
    with (folder / "log").open("wb") as log:
        made = Worker(
            settings, [(its, listening)], Log(log.fileno(), "info", "test", lambda: 0.0),
            Seats(ledger, ledger.take(), settings.limits, 1, 4096),
        )  # fmt: skip
        try:
            await made.start()
            yield made, name if isinstance(name, str) else f"{name[0]}:{name[1]}"
        finally:
            made.stop_now()
            made.entrance.close()
            made.entrance.end()
            made.status.stop()
            await made.issuer.close()
            made.resolver.close()
            made.judging.shutdown()
            made.users.close()
            made.store.close()
    ledger.finish()
