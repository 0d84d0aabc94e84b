"""Error settings, exceptions, bypass rules and ways in, in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from control import bypass_rules, error_settings, host_exceptions
from control.host_exceptions import Wanted
from tests.console.conftest import Console
from tests.console.test_settings_api import refuse, remember
from tests.control.conftest import PASSWORD, account
from tests.harness.console_server import browsing, seen, serving, visiting
from tests.harness.pki import DAY, NOW


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as running:
        yield running


def enter(page: Page, address: str) -> None:
    page.goto(f"/sign-in?next={address}")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("h1")).to_be_visible()


def test_settings_are_tried_saved_and_taken_back_and_a_host_is_excepted(
    console: Console, browser: Browser, tmp_path: Path
) -> None:
    account(console.inst, "ann")
    remember(console, "printer.example", "scanner.example")
    error_settings.set_action(console.inst, "default", "untrusted", "warn", NOW)
    host_exceptions.add(
        console.inst, "default", Wanted("*.lab.example", "expired", "allow", "moves in March", "ab" * 32), NOW
    )  # fmt: skip
    with serving(console.parts, tmp_path) as address, visiting(browser, address) as page:
        enter(page, "/t/default/errors")
        seen(page, "errors")
        page.get_by_role("combobox", name="Incomplete chain").select_option("block")
        expect(page.locator("#bar")).to_contain_text("1 would be blocked")
        expect(page.locator("#would-incomplete_chain")).to_contain_text("printer.example")
        page.locator("#bar summary").click()
        seen(page, "errors-changed")
        page.get_by_role("button", name="Save 1 change").click()
        expect(page.locator("#notices")).to_contain_text("Incomplete chain: block.")
        seen(page, "errors-saved")
        page.get_by_role("button", name="Undo").click()
        expect(page.locator("#notices")).to_contain_text("Taken back.")
        expect(page.get_by_role("combobox", name="Incomplete chain")).to_have_value("")

        page.get_by_role("link", name="Exceptions for hosts").click()
        page.get_by_text("Add an exception").click()
        page.get_by_role("textbox", name="Host").fill("printer.example")
        page.get_by_role("textbox", name="Reason").fill("Its maker offers no other certificate.")
        page.get_by_role("button", name="Use this certificate").click()
        expect(page.locator("#f-fingerprint")).not_to_have_value("")
        expect(page.locator("#exception-trial")).to_contain_text("1 would be let through")
        seen(page, "exceptions-form")
        page.get_by_role("button", name="Add the exception").click()
        expect(page.get_by_role("rowheader", name="printer.example")).to_be_visible()
        seen(page, "exceptions")
        page.get_by_role("button", name="Remove the exception for *.lab.example").click()
        expect(page.locator("#notices")).to_contain_text("is removed")
        page.get_by_role("button", name="Undo").last.click()
        expect(page.get_by_role("rowheader", name="*.lab.example")).to_be_visible()


def test_hosts_are_bypassed_and_users_and_devices_let_in(console: Console, browser: Browser, tmp_path: Path) -> None:
    account(console.inst, "ann")
    refuse(console, "app.example", 3)
    refuse(console, "video.example", 1)
    bypass_rules.add(console.inst, "default", [".bank.example"], NOW, "council", NOW + 90 * DAY)
    bypass_rules.add(console.inst, "default", ["192.0.2.0/24"], NOW)
    with serving(console.parts, tmp_path) as address, visiting(browser, address) as page:
        enter(page, "/t/default/bypass")
        page.get_by_text("Add rules").click()
        seen(page, "bypass")
        page.get_by_label("Hosts and networks").fill("sealed.example")
        page.context.clear_cookies()  # as if the session had ended
        page.get_by_role("button", name="Add the rules").click()
        again = page.locator("#dialog")
        expect(again.get_by_label("Name")).to_have_value("ann")
        expect(again.get_by_label("Password")).to_be_focused()
        seen(page, "signed-in-again")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        expect(again).to_be_hidden()
        page.get_by_role("button", name="Add the rules").click()
        expect(page.get_by_role("rowheader", name="sealed.example")).to_be_visible()
        page.get_by_role("button", name="Bypass app.example").click()
        expect(page.get_by_role("rowheader", name="app.example").first).to_be_visible()
        expect(page.get_by_text("bypassed by app.example")).to_be_visible()
        page.get_by_role("button", name="Dismiss video.example").click()
        expect(page.get_by_role("heading", name="Dismiss video.example?")).to_be_visible()
        seen(page, "bypass-dismiss")
        page.locator("#dialog").get_by_role("button", name="Dismiss").click()
        expect(page.get_by_role("rowheader", name="video.example")).to_have_count(0)

        page.goto("/t/default/users")
        seen(page, "users-empty")
        page.get_by_label("Name").fill("build-server")
        page.get_by_role("button", name="Add the user").click()
        expect(page.get_by_role("heading", name="The password of build-server")).to_be_visible()
        seen(page, "users-told")
        page.get_by_role("button", name="Done").click()
        expect(page.get_by_role("rowheader", name="build-server")).to_be_visible()
        seen(page, "users")
        expect(page.get_by_role("textbox", name="Name")).to_have_value("")
        page.get_by_role("button", name="New password for build-server").click()
        expect(page.get_by_label("Password").last).to_be_focused()
        page.get_by_role("button", name="Cancel").click()

        page.get_by_role("link", name="WireGuard").click()
        page.get_by_label("Name").fill("ann's phone")
        page.get_by_label("Reaches us at").fill("gate.example")
        page.get_by_role("button", name="Add the device").click()
        expect(page.get_by_role("img", name="The configuration as a QR code")).to_be_visible()
        seen(page, "peers-told")
        page.get_by_role("button", name="Done").click()
        expect(page.get_by_role("rowheader", name="ann's phone")).to_be_visible()
        seen(page, "peers")
