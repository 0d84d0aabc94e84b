"""`make verdicts`: ask curl and Chromium about every scenario, and write the table of docs/verdicts.md.

Nothing is written where one of them says what is not recorded: first the case has to say so, and why.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.scenarios import SCENARIOS
from tests.scenarios.other_clients import ask_chromium, ask_curl, curl_version
from tests.scenarios.serving import Serving
from tests.scenarios.table import DOCUMENT, RECORDED_WITH, before, differences, section


def main() -> int:
    """Ask, and write; 1 where something is not as recorded."""
    warnings.simplefilter("ignore")  # of what is broken on purpose
    with tempfile.TemporaryDirectory(prefix="verdicts-") as scratch:
        folder = Path(scratch)
        with Serving(folder, SCENARIOS) as serving:
            curl = ask_curl(folder / "curl", serving, serving.scenarios)
            version, chromium = ask_chromium(folder / "chromium", serving, serving.scenarios)
    print(f"asked: {curl_version()}, {version}; recorded: {RECORDED_WITH}")
    if wrong := list(differences({id: (curl[id], chromium[id]) for id in curl})):
        print("Not as recorded; say so in the case, and why:", *wrong, sep="\n  ")
        return 1
    DOCUMENT.write_text(before() + section())
    print(f"all {len(curl)} are as recorded, and {DOCUMENT.name} has the table")
    return 0


if __name__ == "__main__":
    sys.exit(main())
