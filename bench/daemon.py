"""The daemon under load: the tests' harness, many descriptors, limits that fit a load from one address, two lanes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.machine import descriptor_limit
from bench.origin import Origin
from config.settings import Limits
from tests.harness.daemon import Daemon, merged

INSPECTOR = '''"""Counts requests, as the smallest inspector that sees everything there is of their heads."""


class Count:
    def __init__(self) -> None:
        self.requests = 0

    def request(self, flow) -> None:
        self.requests += 1


addons = [Count()]
'''
FAST, INSPECTED = "fast.test", "inspected.test"
"""What is below the one has the fast lane, what is below the other an inspector."""
LANES = {"fast": FAST, "inspected": INSPECTED}


def generous() -> dict[str, int]:
    """Limits on how much one client may do, far out of the way: here one address is all clients."""
    wide = {"leaves_per_second": 100_000, "cached_hosts": 20_000}
    for name in Limits.model_fields:
        if "connections" in name or name.endswith("_per_second"):
            wide.setdefault(name, 100_000)
    return {name: value for name, value in wide.items() if _fits(name, value)}


def _fits(name: str, value: int) -> bool:
    try:
        Limits.model_validate({name: value})
    except ValueError:
        return False
    return True


class LoadedDaemon(Daemon):
    """``descriptors``: how many each of its processes may have open; None: as many as the machine allows."""

    start_seconds = 120
    """The machine is at its limit when it is started beside clients."""
    forked = False

    def __init__(
        self,
        folder: Path,
        origin: Origin,
        *,
        workers: int = 1,
        inspect: bool = True,
        limits: Mapping[str, Any] | None = None,
        hosts: Mapping[str, str] | None = None,
        descriptors: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.descriptors = descriptors
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / "count.py"
        script.write_text(INSPECTOR)
        wanted: dict[str, Any] = {"limits": generous() if limits is None else dict(limits)}
        if inspect:
            wanted["inspection"] = {"addons": [{"script": str(script), "hosts": [f"*.{INSPECTED}"]}]}
        super().__init__(
            folder,
            hosts=hosts,
            common=origin.root_file,
            workers=workers,
            extra=merged(wanted, extra or {}),
        )

    def start(self) -> None:
        """See :class:`Daemon`."""
        with descriptor_limit(self.descriptors):
            super().start()
