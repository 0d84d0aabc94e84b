"""`make screenshots`: the pictures of docs/console.md, of an installation made for them.

Each is 1280 pixels wide, and refused where it is larger than a document should load.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from playwright.sync_api import Page

from config.settings import Settings
from console.parts import Parts
from control.installation import Installation
from tests.console.fakes import Telling
from tests.control.conftest import CHEAP, PASSWORD, account
from tests.harness.console_content import fill, tell
from tests.harness.console_server import browsing, serving, visiting

IMAGES = Path(__file__).parents[1] / "docs" / "images"
LARGEST = 120 << 10
SIZE = {"width": 1280, "height": 560}
PAGES = {
    "overview": "/t/default/",
    "traffic": "/t/default/traffic",
    "trusted-cas": "/t/default/certificates/trusted",
    "signing-cas": "/t/default/certificates/signing",
    "error-settings": "/t/default/errors",
    "bypass-rules": "/t/default/bypass",
}


def main() -> int:
    """Make them; 1 where one is too large."""
    now = datetime.now(UTC)  # noqa: TID251 - pictures are of today
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screenshots-") as scratch:
        folder = Path(scratch)
        with Installation.open(Settings(state_dir=folder / "state"), now) as inst:
            daemon = Telling()
            account(inst, "ann")
            fill(inst, now)
            tell(daemon, inst, now)
            parts = Parts(inst, lambda: now, daemon, CHEAP)
            with (
                serving(parts, folder) as address,
                browsing() as browser,
                visiting(browser, address, viewport=SIZE) as page,
            ):
                _sign_in(page)
                sizes = {name: _picture(page, name, at) for name, at in PAGES.items()}
    print(*(f"console-{name}.png: {size / 1024:.0f} KiB" for name, size in sizes.items()), sep="\n")
    if too_large := [name for name, size in sizes.items() if size > LARGEST]:
        print(f"Larger than {LARGEST >> 10} KiB: {', '.join(too_large)}; show less of the page.")
        return 1
    return 0


def _sign_in(page: Page) -> None:
    page.goto("/sign-in")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()


def _picture(page: Page, name: str, at: str) -> int:
    page.goto(at, wait_until="load")
    path = IMAGES / f"console-{name}.png"
    page.screenshot(path=str(path))
    return path.stat().st_size


if __name__ == "__main__":
    sys.exit(main())
