from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness import command
from tests.harness.command import REPOSITORY
from tests.harness.daemon import environment
from tests.harness.pki import Authority


def as_python_starts_it(line: list[str], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *line],
        cwd=REPOSITORY, env=environment(), input=stdin or "", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        ["--help"],
        ["no-such-command"],
        ["--config", "nowhere.yaml", "check-config"],
        ["check-config", "--json"],
        ["--config", "nowhere.yaml", "serve"],
    ],
    ids=["help", "misuse", "refused", "document", "not served"],
)
def test_a_command_says_and_returns_what_it_does_as_a_process_of_its_own(line: list[str]) -> None:
    forked, started = command.run(line, environment=environment()), as_python_starts_it(line)
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


def test_it_reads_its_standard_input_and_sees_its_environment_alone(tmp_path: Path) -> None:
    config = tmp_path / "sallyport.yaml"
    config.write_text("state_dir: state\n")
    root = Authority.root("Company").pem().decode()
    chosen = environment() | {"SALLYPORT_CONFIG": str(config)}
    added = command.run(["trusted-ca", "add", "company", "-"], environment=chosen, stdin=root)
    assert added.returncode == 0, added.stderr
    assert (tmp_path / "state" / "sallyport.db").is_file()
    assert "company" in command.run(["trusted-ca", "list"], environment=chosen).stdout
    other = tmp_path / "other.yaml"
    other.write_text("state_dir: elsewhere\n")
    chosen = environment() | {"SALLYPORT_CONFIG": str(other)}
    assert "company" not in command.run(["trusted-ca", "list"], environment=chosen).stdout


def test_several_run_at_once() -> None:
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda _: command.run(["--version"], environment=environment()), range(16)))
    assert len({one.stdout for one in done}) == 1
    assert {one.returncode for one in done} == {0}


def test_one_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    config = tmp_path / "sallyport.yaml"
    config.write_text("state_dir: state\negress: {allow: [127.0.0.0/8]}\n")
    assert command.run(["--config", str(config), "tenant", "list"], environment=environment()).returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and nobody there says anything
        line = ["--config", str(config), "probe", f"127.0.0.1:{silent.getsockname()[1]}"]
        started = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired):
            command.run(line, environment=environment(), timeout=0.5)
        assert time.monotonic() - started < 30
    assert command.run(["--version"], environment=environment()).returncode == 0


def test_one_that_goes_on_beside_the_test_is_seen_to_run_and_to_end(tmp_path: Path) -> None:
    private = tmp_path / "fifo"
    os.mkfifo(private)  # nobody writes: the command waits for a configuration
    with (tmp_path / "output").open("w+b") as output, open(os.devnull, "rb") as nothing:
        line = ["--config", str(private), "check-config"]
        process = command.start(line, environment=environment(), stdin=nothing, stdout=output, stderr=output)
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
        assert process.poll() == -signal.SIGKILL
        process.send_signal(signal.SIGTERM)  # it is gone, and its number may be another's
