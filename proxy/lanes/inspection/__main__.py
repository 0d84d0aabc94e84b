"""Load the inspectors as a worker would, and say what is wrong: ``python -m proxy.lanes.inspection``.

Reads the settings as JSON on standard input. A process of its own, since what scripts do when they are loaded is not to
happen in the one that starts the others. Exit status 2, and one line on standard error, for the first that is no use.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import warnings

from config.settings import Settings
from proxy.lanes.inspection.inspectors import Inspectors
from proxy.lanes.inspection.scripts import ScriptError
from proxy.log import Log


async def _load(settings: Settings) -> None:
    with open(os.devnull, "wb") as nowhere:  # noqa: ASYNC230 - nothing else runs here
        Inspectors(settings.inspection, Log(nowhere.fileno(), "error", "check", time.time)).load()


def main() -> int:
    """Entry point; returns the exit status."""
    warnings.simplefilter("ignore")
    settings = Settings.model_validate_json(sys.stdin.buffer.read())
    try:
        asyncio.run(_load(settings))
    except ScriptError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
