"""A daemon of which a test says what its workers tell: what they do tell is tested with a real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from console.daemon import KeyManagers

TOKEN = "1-1700000000"


@dataclass
class Telling:
    """A :class:`console.daemon.Daemon` of one worker."""

    tenants: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    sessions: int = 3
    problem: str | None = None
    unsigned: dict[str, str] = field(default_factory=dict)
    """Why it can have no leaf, by tenant."""

    async def health(self) -> Sequence[Mapping[str, Any]]:
        worker = {
            "pid": 4711, "number": 1, "started": 1.0, "draining": False, "tenants": self.tenants, "missing_tenants": [],
            "store": {"problem": self.problem, "age": 0.1, "outdated": False, "patience": 3600.0},
            "issuer": {"unreachable": None, "tenants": self.unsigned, "unusable": {}, "failed": None},
            "sessions": self.sessions, "memory": 90 << 20, "crls": None, "loop_lag": 0.002, "counts": [],
        }  # fmt: skip
        return [worker]

    async def connections(self, most: int) -> Sequence[Mapping[str, Any]]:
        return []

    async def events(self, since: Mapping[str, int], most: int, tenant: str | None) -> Sequence[Mapping[str, Any]]:
        seen = since.get(TOKEN, 0)
        events = [each for each in self.told if each["seq"] > seen and tenant in (None, each["tenant"])][:most]
        last = events[-1]["seq"] if events else seen
        return [{"token": TOKEN, "number": 1, "last": last, "events": events, "more": False, "missed": False}]

    async def key_managers(self, tenants: Sequence[str]) -> KeyManagers:
        return KeyManagers({}, None)

    def serves(self, tenant: str, generation: int) -> None:
        """It works with that generation of the tenant."""
        self.tenants[tenant] = {
            "generation": generation, "signing_ca": {"name": "built-in", "begins": 0.0, "warns": 0.0, "ends": 0.0},
            "trusted_cas": [], "purged": {"generation": generation, "at": 1_700_000_000.0, "seconds": 0.042},
        }  # fmt: skip

    def tells(self, kind: str, at: float, **fields: Any) -> None:
        """Something came to pass."""
        seq = len(self.told) + 1
        self.told.append({"seq": seq, "time": at, "event": kind, "id": f"{seq:016x}", "tenant": "default", **fields})
