"""What the store asks has an answer of newer versions of SQLite: each system has its own, which plans as it likes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]


@pytest.mark.skipif(
    importlib.util.find_spec("pysqlite3") is None, reason="pysqlite3-binary is for Linux on x86-64 alone"
)
def test_what_the_store_and_issuance_ask_is_answered_with_a_newer_one() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-p", "no:randomly", "-p", "tests.harness.newer_sqlite",
         "--ignore", __file__, "tests/store", "tests/issuer/test_issuing.py"],
        cwd=HERE, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    assert "SQLite 3." in done.stdout
