from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import cli.main
from cli.main import COMMANDS, sallyport
from tests.cli.conftest import Run

HEAVY = ("sqlalchemy", "cryptography", "pydantic", "OpenSSL", "yaml")


def in_process(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with this repository's packages, in a process of its own."""
    root = Path(cli.main.__file__).parents[1]
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)


def command_line(*args: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    root = Path(cli.main.__file__).parents[1]
    own = {name: value for name, value in os.environ.items() if not name.startswith("SALLYPORT_")}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *args],
        cwd=cwd or root,
        env=own | {"PYTHONPATH": str(root)} | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_help_names_every_command_with_its_line(run: Run) -> None:
    told = run("--help")
    assert told.exit_code == 0
    for name, text in COMMANDS.items():
        assert name in told.stdout
        assert text.split()[0] in told.stdout


def test_every_command_of_the_help_can_be_loaded() -> None:
    with click.Context(sallyport) as context:
        for name in COMMANDS:
            command = sallyport.get_command(context, name)
            assert command is not None
            assert command.name == name


def test_the_help_waits_for_none_of_the_parts_below() -> None:
    code = (
        "import sys; from cli.main import sallyport\n"
        "try: sallyport(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.argv[1:] if name in sys.modules], file=sys.stderr)"
    )
    done = in_process(code, *HEAVY)
    assert done.stderr.strip() == "[]"
    assert "Usage: " in done.stdout


@pytest.mark.parametrize("args", [("frobnicate",), ("trusted-ca", "frobnicate", "a"), ("--frobnicate",), ("probe",)])
def test_wrong_usage_is_two(run: Run, args: tuple[str, ...]) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert "Error: " in done.stderr
    assert done.stdout == ""


def test_the_version_is_told(run: Run) -> None:
    done = run("--version")
    assert done.exit_code == 0
    assert done.stdout.startswith("sallyport ")


def test_a_configuration_that_is_not_there_is_two_and_one_line(tmp_path: Path) -> None:
    done = command_line("--config", str(tmp_path / "none.yaml"), "tenant", "list")
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {tmp_path / 'none.yaml'}: no such file")
    assert done.stderr.count("\n") == 1


def test_the_configuration_is_found_by_option_then_variable_then_folder(tmp_path: Path) -> None:
    for name in ("option", "variable", "sallyport"):
        (tmp_path / f"{name}.yaml").write_text(f"state_dir: {name}\n")
    variable = {"SALLYPORT_CONFIG": str(tmp_path / "variable.yaml")}

    def state_dir(*args: str, **env: str) -> str:
        done = command_line(*args, "check-config", cwd=tmp_path, **env)
        assert done.returncode == 0, done.stderr
        return next(line for line in done.stdout.splitlines() if line.startswith("state_dir:"))

    assert state_dir("--config", "option.yaml", **variable) == f"state_dir: {tmp_path / 'option'}"
    assert state_dir(**variable) == f"state_dir: {tmp_path / 'variable'}"
    assert state_dir() == f"state_dir: {tmp_path / 'sallyport'}"


def test_a_fault_of_ours_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(cli.main, "sallyport", broken)
    monkeypatch.delenv("SALLYPORT_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main.main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "ZeroDivisionError: by zero" in told
    assert told.count("\n") == 1
    monkeypatch.setenv("SALLYPORT_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main.main()


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    root = Path(cli.main.__file__).parents[1]
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m cli.main check-config | head -c 1 >/dev/null"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "fault" not in done.stderr
