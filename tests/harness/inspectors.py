"""Inspector scripts for tests: written beside a daemon, each for a host of its own.

scripts = Scripts(tmp_path)
scripts.add("shouts", "def response(flow): ...", hosts=["shouts.example"])
Daemon(..., extra={"inspection": {"addons": scripts.addons}})
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any


class Scripts:
    """A folder of scripts, and what the configuration says of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "inspectors"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.addons: list[dict[str, Any]] = []

    def add(self, name: str, text: str, **settings: Any) -> Path:
        """Write a script. It is for ``NAME.example`` unless ``hosts`` says otherwise."""
        path = self.write(name, text)
        self.addons.append({"script": str(path), "hosts": [f"{name}.example"], **settings})
        return path

    def write(self, name: str, text: str) -> Path:
        """Write a script's file alone, as somebody who edits it."""
        path = self.folder / f"{name}.py"
        path.write_text(textwrap.dedent(text).lstrip())
        return path
