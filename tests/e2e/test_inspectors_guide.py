"""The guide's first inspector works as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.e2e.conftest import PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "inspectors.md"


def first_block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_first_inspector_works_as_printed(tmp_path: Path, origin: Nginx) -> None:
    script = first_block("python")
    assert len([line for line in script.splitlines() if line.strip()]) <= 10
    folder = tmp_path / "daemon"
    folder.mkdir()
    (folder / "first.py").write_text(script)
    settings = yaml.safe_load(first_block("yaml"))
    with Daemon(folder, hosts={"good.example": "127.0.0.1"}, common=PUBLIC, extra=settings) as daemon:
        assert daemon.cli("check-config").returncode == 0
        for version in ("--http1.1", "--http2"):
            page = curl(daemon, origin["good.example"].url(), version)
            assert page.text == "hello from good.example\n"
            assert page.headers["x-inspected"] == f"{len(page.body)} bytes"
