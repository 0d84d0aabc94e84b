"""The service's unit: what systemd itself says of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.harness.programs import need

HERE = Path(__file__).parents[1]
UNIT = HERE / "deploy" / "sallyport.service"
MOST_EXPOSED = 2.5


def analyzed(*words: str) -> subprocess.CompletedProcess[str]:
    command = [need("systemd-analyze"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_is_little_exposed() -> None:
    told = analyzed("security", "--offline=true", "--no-pager", str(UNIT))
    found = re.search(r"Overall exposure level for sallyport\.service: ([0-9.]+)", told.stdout)
    assert found is not None, told.stderr
    assert float(found[1]) < MOST_EXPOSED


def test_systemd_understands_all_of_it(tmp_path: Path) -> None:
    installed = tmp_path / "sallyport"
    installed.write_text("#!/bin/sh\n")
    installed.chmod(0o755)
    unit = tmp_path / "sallyport.service"
    unit.write_text(UNIT.read_text().replace("/opt/sallyport/.venv/bin/sallyport", str(installed)))
    told = analyzed("verify", "--man=no", str(unit))
    assert (told.returncode, told.stderr) == (0, "")


def test_a_stop_waits_longer_than_connections_are_drained() -> None:
    from config.settings import Limits

    found = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert found is not None
    assert int(found[1]) > Limits().drain_timeout + 5
