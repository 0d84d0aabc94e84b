"""Every page in a browser, of an installation with something in it and of an empty one: nobody is kept out of any.

The pages are those that :mod:`tests.console.test_every_link` comes to, an order or a filter of a list aside. Without
anything in them they are judged as a whole; with something in them also in the dark, on a telephone, and by keyboard.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from starlette.testclient import TestClient

from tests.console.conftest import Console
from tests.console.fakes import Telling
from tests.console.test_every_link import starts, walk
from tests.control.conftest import PASSWORD
from tests.harness.console_content import fill, tell
from tests.harness.console_server import DESK, PHONE, browsing, serving, shots, visiting
from tests.harness.pki import NOW

pytestmark = pytest.mark.timeout(900)

EVERYTHING: dict[str, Any] = {"resultTypes": ["violations"]}
COLOURS: dict[str, Any] = {**EVERYTHING, "runOnly": ["color-contrast"]}
"""What a theme can change."""
NARROW: dict[str, Any] = {**EVERYTHING, "runOnly": ["target-size", "scrollable-region-focusable", "color-contrast"]}
"""What another width can change."""

WATCH = """
window.reached = new Set(); window.unseen = [];
document.addEventListener("focusin", ({ target }) => {
  window.reached.add(target);
  const style = getComputedStyle(target);
  const shown = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
  if (!shown) window.unseen.push(target.outerHTML.slice(0, 160));
});
"""
INTERACTIVE = """() => [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary, [tabindex='0']")]
  .filter(each => !each.disabled && each.type !== "hidden" && each.checkVisibility({ visibilityProperty: true })
    && !each.closest("dialog:not([open])"))"""
MISSED = f"""() => ({INTERACTIVE})().filter(each => !window.reached.has(each)
    && !(each.type === "radio" && [...window.reached].some(other => other.name === each.name)))
  .map(each => each.outerHTML.slice(0, 160))"""
BEYOND = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as running:
        yield running


@pytest.fixture
def telling() -> Telling:
    return Telling()


def judged(page: Page, options: dict[str, Any]) -> list[str]:
    """What axe-core finds."""
    found = Axe().run(page, options=options).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def by_keyboard(page: Page) -> list[str]:
    """What the tabulator key does not come to, and what does not show that it has the focus."""
    page.evaluate(WATCH)
    # A date is a field for each of its parts, and a button.
    for _ in range(page.evaluate(f"({INTERACTIVE})().length") + 4 * page.locator("input[type=date]").count() + 3):
        page.keyboard.press("Tab")
    missed = [f"not reached: {one}" for one in page.evaluate(MISSED)]
    page.evaluate("document.activeElement.blur()")  # what skips the navigation lies above it while it has the focus
    return missed + [f"focus not seen: {one}" for one in page.evaluate("window.unseen")]


def faults_of(page: Page, address: str, *, filled: bool) -> list[str]:
    """Everything that is wrong with one page."""
    page.set_viewport_size(DESK)  # type: ignore[arg-type] # it has its own class for the same
    page.emulate_media(color_scheme="light")
    page.goto(address, wait_until="load")
    found = judged(page, EVERYTHING)
    if filled:
        found += by_keyboard(page)
        page.emulate_media(color_scheme="dark")
        found += [f"dark: {one}" for one in judged(page, COLOURS)]
        page.emulate_media(color_scheme="light")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    if (beyond := page.evaluate(BEYOND)) > 0:
        found.append(f"{beyond} px beyond a telephone's width")
    if filled:
        found += [f"phone: {one}" for one in judged(page, NARROW)]
    shots(page, ("filled" if filled else "empty") + address.replace("/", "_").replace("?", "_"))
    return [f"{address}: {one}" for one in found]


def test_every_page_is_for_everybody(console: Console, telling: Telling, browser: Browser, tmp_path: Path) -> None:
    walking = console.signed_in("ann")
    seen = 0
    with serving(console.parts, tmp_path) as address, visiting(browser, address) as page:
        elsewhere: list[str] = []
        said: list[str] = []
        page.on("request", lambda sent: None if sent.url.startswith(address) else elsewhere.append(sent.url))
        page.on("console", lambda line: said.append(f"{page.url}: {line.text}") if line.type == "error" else None)
        faults = faults_of(page, "/sign-in", filled=True)
        page.goto("/sign-in")
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/t/default/")
        for filled in (False, True):
            if filled:
                fill(console.inst, NOW)
                tell(telling, console.inst, NOW)
            pages = walk(console, walking).pages if filled else shown(console, walking)
            for at in looked_at(pages):
                faults += faults_of(page, at, filled=filled)
                seen += 1
        assert not faults, "\n".join(faults)
        assert elsewhere == []
        assert said == []
    assert seen > 20


def shown(console: Console, client: TestClient) -> list[str]:
    """Pages that there are of nothing."""
    return [at for at in starts(console) if "<html" in (answer := client.get(at)).text and answer.status_code == 200]


def looked_at(pages: list[str]) -> list[str]:
    """A page once, however it is ordered; of a list of things one of each is as the others."""
    kept: dict[str, str] = {}
    for address in pages:
        kept.setdefault(urlsplit(address).path.replace("/t/default/", "/t/-/"), address)
    return [address for address in kept.values() if not address.startswith("/t/") or "/t/default/" in address]
