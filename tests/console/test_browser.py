from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from control import first_owner
from tests.console.conftest import Console
from tests.control.conftest import PASSWORD
from tests.harness.console_server import accessible, browsing, serving, shots, visiting


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as running:
        yield running


def test_from_the_one_time_link_to_the_first_page(console: Console, browser: Browser, tmp_path: Path) -> None:
    token = first_owner.link(console.inst, console.clock.now)
    with serving(console.parts, tmp_path) as address, visiting(browser, address) as page:
        page.goto(f"/setup/{token}")
        shots(page, "setup")
        assert accessible(page) == []
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("The same again").fill(PASSWORD)
        page.get_by_role("button", name="Create the account").click()
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        shots(page, "overview")
        assert accessible(page) == []
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        shots(page, "sign-in")
        assert accessible(page) == []
