"""What every test has: programs by need, and a hypothesis that is patient on a loaded machine."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from tests.harness import programs

# Deadlines measure the machine, not the code: the suite shares its cores with daemons that it starts.
# No example database: a run depends on the code and on the seed that it prints, not on earlier runs.
# Half as many as hypothesis has by itself: `make fuzz` is for more.
settings.register_profile(
    "here", max_examples=50, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("here"), max_examples=2000)
# `make fuzz`: as many as it is told, for the tests that do not set a number of their own (all of tests/fuzz).
settings.register_profile("fuzz", settings.get_profile("here"), max_examples=int(os.environ.get("EXAMPLES") or 100_000))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "here"))


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are cores: a test that starts a daemon waits for half of its time."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    """``need("nginx")``: the program's path; else the test is skipped with what to install (in CI: fails)."""
    return programs.need
