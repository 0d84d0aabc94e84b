"""An installation that the product made, to be copied: the first start of a daemon on an empty folder does for a third
of a second what most tests are not about, migrations and a CA.

All copies have the same master key, signing CA and name.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.harness import command


def copy_to(state_dir: Path, environment: Mapping[str, str]) -> None:
    """Put an installation, with the tenant ``default``, into a folder that is not there yet."""
    shutil.copytree(_made(tuple(environment.items())), state_dir)


@cache
def _made(environment: tuple[tuple[str, str], ...]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sallyport-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config = folder / "sallyport.yaml"
    config.write_text("state_dir: state\n")
    done = command.run(["--config", str(config), "tenant", "list"], environment=dict(environment))
    assert done.returncode == 0, done.stderr
    return folder / "state"
