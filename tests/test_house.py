"""What a newcomer meets first: the Makefile, the lock, the search for a Python, and programs that are missing."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.harness import programs

HERE = Path(__file__).parents[1]
LOCK = (HERE / "requirements.lock").read_text()
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]


def run(command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=HERE, env=environ, capture_output=True, text=True, timeout=60, check=False)


def script(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


class TestLock:
    def test_it_holds_every_dependency_with_a_hash_and_no_address(self) -> None:
        pinned = set(re.findall(r"^([a-z0-9.-]+)==", LOCK, re.MULTILINE))
        asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
        asked += PROJECT["optional-dependencies"]["tracing"]
        names = {re.split(r"[^A-Za-z0-9._-]", text)[0].lower().replace("_", "-").replace(".", "-") for text in asked}
        assert names <= pinned
        for entry in re.split(r"\n(?=\S)", LOCK.strip()):
            assert re.match(r"[a-z0-9.-]+==\S+ ", entry), entry.splitlines()[0]
            assert "--hash=sha256:" in entry
        assert "://" not in LOCK
        assert " @ " not in LOCK

    def test_the_override_took_effect(self) -> None:
        assert re.search(r"^mitmproxy==12\.3\.1 ", LOCK, re.MULTILINE)
        assert re.search(r"^certifi==2026\.10\.18 ", LOCK, re.MULTILINE)


class TestMakefile:
    def test_help_is_the_default_and_lists_every_target(self) -> None:
        answer = run(["make", "--no-print-directory"], PATH=os.environ["PATH"])
        listed = re.findall(r"^  make ([a-z-]+) +\S", answer.stdout, re.MULTILINE)
        assert listed == [
            "help",
            "run",
            "demo",
            "test",
            "long",
            "flood",
            "verdicts",
            "clients",
            "screenshots",
            "pages",
            "check",
            "fuzz",
            "api-fuzz",
            "bench",
            "bench-transparent",
            "soak",
            "abuse",
            "tenants",
            "kmip",
            "scan",
            "lint-container",
            "lock",
            "clean",
        ]

    def test_clean_never_touches_the_keys(self) -> None:
        answer = run(["make", "--dry-run", "clean"], PATH=os.environ["PATH"])
        assert "rm -rf .venv" in answer.stdout
        assert not re.search(r"\bvar\b", answer.stdout)


class TestFindPython:
    REAL = f'exec {shlex.quote(sys.executable)} "$@"'
    MINOR = sys.version_info.minor

    def find(self, tmp_path: Path, path: Path, **more: str) -> subprocess.CompletedProcess[str]:
        # /bin and /usr/bin may have a Python that fits: only what the script itself needs is on this PATH.
        tools = tmp_path / "tools"
        for name in ("sh", "ls", "sort", "cat"):
            script(tools, name, f'exec /bin/{name} "$@"')
        return run(["/bin/sh", "scripts/find-python"], PATH=f"{path}:{tools}", HOME=str(tmp_path / "home"), **more)

    def test_one_on_the_path_is_taken(self, tmp_path: Path) -> None:
        script(tmp_path / "bin", f"python3.{self.MINOR}", self.REAL)
        answer = self.find(tmp_path, tmp_path / "bin", SALLYPORT_PYTHON="")
        assert answer.returncode == 0, answer.stderr
        assert Path(answer.stdout.strip()).is_file()
        assert answer.stderr == ""

    def test_a_shim_that_does_not_run_is_passed_over_for_the_one_under_pyenv(self, tmp_path: Path) -> None:
        for minor in (12, 13, 14):
            script(tmp_path / "shims", f"python3.{minor}", "echo no version set >&2; exit 127")
        folder = tmp_path / "home" / ".pyenv" / "versions" / f"3.{self.MINOR}.9 with space" / "bin"
        script(folder, f"python3.{self.MINOR}", self.REAL)
        answer = self.find(tmp_path, tmp_path / "shims")
        assert answer.returncode == 0, answer.stderr
        assert Path(answer.stdout.strip()).is_file()

    def test_one_that_is_named_must_fit(self, tmp_path: Path) -> None:
        script(tmp_path / "bin", "old", "exit 1")
        answer = self.find(tmp_path, tmp_path / "bin", SALLYPORT_PYTHON=str(tmp_path / "bin" / "old"))
        assert answer.returncode == 1
        assert answer.stdout == ""
        assert "is no CPython 3.12 to 3.14 with venv and ensurepip" in answer.stderr


class TestPrograms:
    def test_one_that_is_there_is_found(self) -> None:
        assert programs.need("sh").endswith("/sh")

    def test_one_that_is_missing_skips_with_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CI", raising=False)
        monkeypatch.setattr(programs, "find", lambda _program: None)
        with pytest.raises(pytest.skip.Exception, match="nginx is missing; install nginx-light"):
            programs.need("nginx")

    def test_one_that_is_missing_fails_in_ci(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CI", "true")
        monkeypatch.setattr(programs, "find", lambda _program: None)
        with pytest.raises(pytest.fail.Exception, match="nginx is missing; install nginx-light"):
            programs.need("nginx")

    def test_the_packages_are_those_that_the_script_installs(self) -> None:
        text = (HERE / "scripts" / "test-packages").read_text()
        (pairs,) = re.findall(r'^programs="(.*)"$', text, re.MULTILINE)
        assert dict(pair.split(":") for pair in pairs.split()) == programs.PACKAGES
