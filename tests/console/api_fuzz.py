"""The same as test_schemathesis, for as long as it is told (``make api-fuzz``, ``SECONDS``): never in the suite."""

from __future__ import annotations

import os
import time

from tests.console.conftest import Console
from tests.console.test_schemathesis import furnish
from tests.harness.console_fuzz import Fuzzer

SECONDS = float(os.environ.get("SECONDS") or 600)
EXAMPLES = int(os.environ.get("EXAMPLES") or 25)


def test_whatever_is_asked_for_long(console: Console) -> None:
    furnish(console)
    fuzzer, until = Fuzzer(console), time.monotonic() + SECONDS
    faults = []
    while time.monotonic() < until:
        for fault in fuzzer.run(EXAMPLES, again=True, until=until):
            if fault not in faults:
                faults.append(fault)
                print(f"\n{fault}", flush=True)  # noqa: T201 - at once: it goes on for minutes
    assert faults == []
