"""The command in this process, on an installation in a scratch folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest

from cli.main import sallyport
from tests.harness.pki import Authority

Run = Callable[..., click.testing.Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sallyport.yaml"
    path.write_text(
        "state_dir: state\nlisteners: [{name: explicit, mode: explicit, bind: '127.0.0.1:0'}]\n"
        "metrics: {enabled: false}\nconsole: {enabled: false}\n"
    )
    return path


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("trusted-ca", "list")``: the result has exit_code, stdout and stderr. A traceback fails the test."""
    monkeypatch.delenv("SALLYPORT_CONFIG", raising=False)

    def run(*args: str, stdin: bytes | str | None = None, color: bool = False) -> click.testing.Result:
        runner = click.testing.CliRunner()
        command = ["--config", str(config), *args]
        return runner.invoke(sallyport, command, input=stdin, catch_exceptions=False, color=color)

    return run


@pytest.fixture(scope="session")
def company() -> tuple[Authority, Authority]:
    """A private root and its issuing CA."""
    root = Authority.root("Company Root")
    return root, root.intermediate("Company Issuing")


@pytest.fixture
def bundle(tmp_path: Path, company: tuple[Authority, Authority]) -> Path:
    """The file that the product asks for: the intermediate first, the root below."""
    root, issuing = company
    path = tmp_path / "company.pem"
    path.write_bytes(issuing.pem() + root.pem())
    return path
