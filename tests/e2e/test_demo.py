"""The demonstration is run as a newcomer runs it; it needs curl and no internet."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.daemon import REPOSITORY
from tests.harness.processes import tree, wait_for

DEMO = REPOSITORY / "scripts" / "demo.py"


def environment(folder: Path, **more: str) -> dict[str, str]:
    return dict(os.environ) | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"} | more


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt-get install curl")
def test_it_shows_what_it_promises_and_leaves_nothing_behind(tmp_path: Path) -> None:
    proxies = {"http_proxy": "http://192.0.2.1:1", "https_proxy": "http://192.0.2.1:1", "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        env=environment(tmp_path, **proxies),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert re.findall(r'details="(\w+)"', done.stdout) == [
        "untrusted_root",
        "self_signed",
        "expired",
        "hostname_mismatch",
    ]
    assert re.findall(r"HTTP status +(\d+, \w+)", done.stdout) == [
        "200, passed", "502, blocked", "502, blocked", "502, blocked", "502, blocked", "200, passed",
    ]  # fmt: skip
    assert done.stdout.count("Hello from good.demo.test") == 1
    assert done.stdout.count("Hello from intranet.demo.test") == 1
    assert done.stdout.count("no request at all") == 4
    assert "Sallyport Intermediate CA" in done.stdout
    assert "\x1b" not in done.stdout
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt-get install curl")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_stopping_it_in_the_middle_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, str(DEMO)],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever runs the tests in the background has them ignore SIGINT, and what they start as well.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "2." in line:
                break
        below = tree(process.pid)[1:]
        assert len(below) >= 3
        os.killpg(process.pid, number)
        process.stdout.read()
        assert process.wait(60) == 130
    finally:
        process.kill()
        _, errors = process.communicate()
    assert "Traceback" not in errors
    assert "Stopped" in errors
    wait_for("its processes to end", lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in below))
    assert list(tmp_path.iterdir()) == []


def test_without_curl_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        env=environment(tmp_path, PATH=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "needs curl" in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
