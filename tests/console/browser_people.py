from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from control import accounts, api_tokens, guessing, sessions
from control import sign_in as control_sign_in
from control.authorisation import Role
from tests.console.conftest import REQUIRING, Console
from tests.control.conftest import CHEAP, PASSWORD, account, code_of, given
from tests.harness.console_server import PHONE, browsing, seen, serving, visiting
from tests.harness.pki import NOW

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as running:
        yield running


def sign_in(page: Page, password: str = PASSWORD) -> None:
    page.goto("/sign-in")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_accounts_tokens_tenants_and_the_log(console: Console, browser: Browser, tmp_path: Path) -> None:
    for name in ("acme", "beta"):
        console.tenant(name)
    account(console.inst, "ann")
    account(console.inst, "bob", Role.ADMINISTRATOR, "acme", "beta")
    given(console.inst, "erin", Role.AUDITOR)
    given(console.inst, "fred", Role.AUDITOR, NOW - timedelta(days=9))
    locked = account(console.inst, "carol.long-name+of-somebody@example.com", Role.AUDITOR, "acme")
    accounts.change(console.inst, "bob", NOW, Role.AUDITOR)
    api_tokens.create(console.inst, "deploy <pipeline>", "bob", NOW, expires_at=NOW + timedelta(days=3))
    with console.inst.store.transaction() as c:
        for n in range(guessing.ACCOUNT.locked_at or 0):
            guessing.take(c, locked, locked.name, f"2001:db8:{n:x}::1", NOW - timedelta(hours=200 - n))
    with serving(console.parts, tmp_path) as address, visiting(browser, address) as page:
        sign_in(page)
        page.goto("/accounts")
        expect(page.get_by_text("locked")).to_be_visible()
        seen(page, "accounts")
        page.get_by_role("button", name="New account").click()
        panel = page.locator("#panel")
        panel.get_by_label("Name").fill("ann")
        panel.get_by_role("button", name="Create the account").click()
        expect(panel.get_by_role("alert")).to_contain_text("there is an account ann already")
        seen(page, "account-new")
        panel.get_by_label("Name").fill("dora")
        panel.get_by_label("Only these").check()
        panel.get_by_label("acme").check()
        panel.get_by_role("button", name="Create the account").click()
        expect(panel.get_by_text("It is shown this once")).to_be_visible()
        seen(page, "account-password")
        panel.get_by_role("link", name="Done").click()
        page.get_by_label("Role").select_option("auditor")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("dora is now auditor of acme.")).to_be_visible()
        seen(page, "account")
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_text("dora is now administrator of acme.")).to_be_visible()
        page.get_by_role("button", name="Delete").click()
        expect(page.locator("#dialog")).to_contain_text("This cannot be undone")
        seen(page, "account-delete")
        page.locator("#dialog").get_by_role("button", name="Delete").click()
        expect(page.get_by_text("Account dora is deleted")).to_be_visible()
        page.get_by_role("link", name="API tokens").click()
        seen(page, "tokens")
        page.get_by_role("button", name="New token").click()
        panel.get_by_label("Name", exact=True).fill("backup")
        expect(panel.get_by_label("Scope")).to_be_visible()
        seen(page, "token-new")
        panel.get_by_role("button", name="Create the token").click()
        expect(panel.get_by_text("spt_", exact=False).first).to_be_visible()
        seen(page, "token-once")
        page.goto("/tenants")
        seen(page, "tenants")
        page.get_by_role("link", name="beta").last.click()
        seen(page, "tenant")
        page.get_by_role("button", name="Delete").click()
        page.get_by_label("Type its name to go on").fill("bet")
        page.get_by_role("button", name="Delete the tenant").click()
        expect(page.locator("#dialog").get_by_role("alert")).to_contain_text("type beta")
        seen(page, "tenant-delete")
        page.get_by_label("Type its name to go on").fill("beta")
        page.get_by_role("button", name="Delete the tenant").click()
        expect(page.get_by_text("Tenant beta is deleted")).to_be_visible()
        page.goto("/audit")
        page.get_by_text("admin: change bob").first.click()
        seen(page, "audit")
        with page.expect_download() as download:
            page.get_by_role("link", name="CSV").click()
        assert download.value.suggested_filename.endswith(".csv")


def test_ones_own_account_on_a_phone_and_the_second_factor(console: Console, browser: Browser, tmp_path: Path) -> None:
    account(console.inst, "ann")
    with serving(console.parts, tmp_path) as address, visiting(browser, address, viewport=PHONE) as page:
        sign_in(page)
        page.goto("/me")
        expect(page.get_by_text("You are an owner without a second factor.")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        seen(page, "me")
        page.locator("#factor-current").fill("not it at all")
        page.get_by_role("button", name="Set it up").click()
        expect(page.get_by_role("alert")).to_contain_text("the password is wrong")
        page.locator("#factor-current").fill(PASSWORD)
        page.get_by_role("button", name="Set it up").click()
        secret = page.locator("#secret").inner_text()
        seen(page, "second-factor")
        page.locator("#factor-code").fill(code_of(re.sub(r"\s", "", secret), console.clock.now))
        page.get_by_role("button", name="Confirm").click()
        expect(page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
        expect(page.get_by_text("You are an owner without a second factor.")).to_have_count(0)
        expect(page.locator("#secret")).to_have_count(0)
        seen(page, "recovery-codes")
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        assert len(download.value.path().read_text("utf-8").split()) == 10
        page.get_by_role("link", name="I have them").click()
        page.get_by_role("button", name="Remove it").click()
        expect(page.locator("#remove-current")).to_be_visible()
        seen(page, "second-factor-remove")
        page.locator("#remove-current").fill(PASSWORD)
        page.locator("#dialog").get_by_role("button", name="Remove it").click()
        expect(page.get_by_text("Your second factor is removed.")).to_be_visible()
        page.get_by_label("Your current password").last.fill(PASSWORD)
        page.get_by_label("The new one", exact=True).fill("seven green umbrellas")
        page.get_by_label("The new one again").fill("seven green umbrellas")
        page.get_by_role("button", name="Change the password").click()
        expect(page.get_by_text("Your password is changed.")).to_be_visible()
        other = sign_in_elsewhere(console, "seven green umbrellas")
        page.reload()
        page.get_by_role("button", name="Revoke all others").click()
        dialog = page.locator("#dialog")
        dialog.get_by_label("Your current password").fill("not it at all")
        dialog.get_by_role("button", name="End them").click()
        expect(dialog.get_by_role("alert")).to_contain_text("the password is wrong")
        seen(page, "sessions-revoke")
        dialog.get_by_label("Your current password").fill("seven green umbrellas")
        dialog.get_by_role("button", name="End them").click()
        expect(page.get_by_text("1 other session of yours ended.")).to_be_visible()
        assert sessions.find(console.inst, other, console.clock.now) is None


@pytest.mark.parametrize("section", [REQUIRING])
def test_a_password_that_was_given_and_a_second_factor_come_first(
    console: Console, browser: Browser, tmp_path: Path
) -> None:
    given(console.inst, "ann")
    with serving(console.parts, tmp_path) as address, visiting(browser, address) as page:
        sign_in(page)
        expect(page.get_by_role("heading", name="Choose your own password")).to_be_visible()
        page.goto("/accounts")
        expect(page.get_by_role("heading", name="Choose your own password")).to_be_visible()
        seen(page, "first-password")
        page.get_by_label("Your current password").fill(PASSWORD)
        for label in ("The new one", "The new one again"):
            page.get_by_label(label, exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Change the password").click()
        expect(page.get_by_role("alert")).to_contain_text("which somebody else knows")
        page.get_by_label("Your current password").fill(PASSWORD)
        for label in ("The new one", "The new one again"):
            page.get_by_label(label, exact=True).fill("seven green umbrellas")
        page.get_by_role("button", name="Change the password").click()
        expect(page.get_by_role("heading", name="Set a second factor up")).to_be_visible()
        expect(page.get_by_text("Your password is changed.")).to_be_visible()
        seen(page, "first-factor")
        page.get_by_label("Your current password").fill("seven green umbrellas")
        page.get_by_role("button", name="Set it up").click()
        secret = page.locator("#secret").inner_text()
        seen(page, "first-factor-secret")
        page.locator("#factor-code").fill(code_of(re.sub(r"\s", "", secret), console.clock.now))
        page.get_by_role("button", name="Confirm").click()
        expect(page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
        seen(page, "first-recovery-codes")
        page.get_by_role("link", name="I have them").click()
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        page.goto("/me")
        expect(page.get_by_text("Everybody here has to have one.")).to_be_visible()
        seen(page, "me-required")


def sign_in_elsewhere(console: Console, password: str) -> str:
    """Another session of ann's: its token."""
    return control_sign_in.sign_in(console.inst, "ann", password, "192.0.2.7", console.clock.now, CHEAP).token
