from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from control import trusted_cas
from tests.console.conftest import Console
from tests.console.test_trusted_cas_api import remembered
from tests.control.conftest import PASSWORD, account, trust
from tests.harness.console_server import browsing, seen, serving, visiting
from tests.harness.pki import DAY, NOW, Authority

AT = "/t/default/certificates/trusted"
ROOT = Authority.root("Example Corporate Root")
CHAIN = ROOT.intermediate("Example Issuing").pem() + ROOT.pem()
LAB = Authority.root("Example Lab Root")
OLD = Authority.root("Example Old Root", not_before=NOW - 99 * DAY, not_after=NOW - DAY)


expect.set_options(timeout=30_000)  # where several test at once, a page takes its time


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as running:
        yield running


def signed_in(page: Page, then: str) -> None:
    page.goto(f"/sign-in?next={then}")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_cas_are_added_from_files_and_from_what_is_pasted(console: Console, browser: Browser, tmp_path: Path) -> None:
    account(console.inst, "ann")
    remembered(console, "intranet.example", ROOT, "untrusted_root")
    with serving(console.parts, tmp_path) as address, visiting(browser, address) as page:
        signed_in(page, AT)
        expect(page.get_by_role("heading", name="No private CA is trusted yet")).to_be_visible()
        seen(page, "empty")
        page.get_by_role("main").get_by_role("link", name="New Trusted Cert").first.click()
        given = [tmp_path / "chain.pem", tmp_path / "old.pem"]
        for file, data in zip(given, (CHAIN, OLD.pem()), strict=True):
            file.write_bytes(data)
        page.get_by_label("Certificate files").set_input_files(given)
        expect(page.get_by_text("cannot be saved")).to_be_visible()
        expect(page.get_by_role("button", name="Save all 2")).to_be_disabled()
        seen(page, "new-refused")
        page.get_by_label("Name").first.fill("Corporate")
        page.get_by_role("button", name="Leave out old.pem").click()
        expect(page.get_by_text("cannot be saved")).to_have_count(0)
        page.get_by_text("Paste it instead").click()
        page.get_by_label("Certificates as PEM").fill(LAB.pem().decode())
        page.get_by_role("button", name="Add what is pasted").click()
        expect(page.get_by_label("Name").nth(1)).to_have_value("Example Lab Root")
        expect(page.get_by_label("Name").first).to_have_value("Corporate")
        page.get_by_role("button", name="Validate").click()
        expect(page.get_by_role("heading", name="What it would do")).to_be_visible()
        seen(page, "new-validated")
        page.get_by_role("button", name="Save all 2").click()
        expect(page.get_by_text("2 trusted CAs are saved")).to_be_visible()
        assert [one.name for one in trusted_cas.listing(console.inst, "default")] == ["Corporate", "Example Lab Root"]


def test_the_table_and_what_is_done_in_it(console: Console, browser: Browser, tmp_path: Path) -> None:
    account(console.inst, "ann")
    trust(console.inst, "default", "Corporate", CHAIN, ".corp.example", "intranet.example")
    trust(console.inst, "default", "Lab", LAB.pem(), active=False)
    soon = Authority.root("Example Partner Root", not_before=NOW - 99 * DAY, not_after=NOW + 3 * DAY)
    trust(console.inst, "default", "Partner", soon.pem())
    remembered(console, "intranet.example", ROOT)
    with serving(console.parts, tmp_path) as address, visiting(browser, address) as page:
        signed_in(page, AT)
        expect(page.get_by_role("row", name="Partner")).to_be_visible()
        seen(page, "table")
        page.get_by_role("button", name="Corporate", exact=True).click()
        expect(page.get_by_role("heading", name="Chain")).to_be_visible()
        page.get_by_role("textbox", name="Hosts").fill("other.example")
        page.get_by_role("button", name="Try on the last day's traffic").click()
        expect(page.get_by_text("1 would be blocked")).to_be_visible()
        seen(page, "panel")
        page.get_by_role("textbox", name="Hosts").fill("a..b")
        page.get_by_role("button", name="Save hosts").click()
        expect(page.get_by_text("no host pattern")).to_be_visible()
        page.get_by_role("button", name="Close").click()

        page.get_by_label("Choose Lab").press("Enter")
        expect(page.get_by_label("Choose Lab")).to_be_focused()  # it sends no form
        page.get_by_label("More for Lab").click()
        page.get_by_role("button", name="Rename").click()
        expect(page.get_by_role("button", name="Rename")).to_be_hidden()
        field = page.get_by_label("New name of Lab")
        expect(field).to_be_focused()
        field.fill("Corporate")
        field.press("Enter")
        expect(page.get_by_text("choose another name")).to_be_visible()
        seen(page, "rename")
        field.fill("Laboratory")
        field.press("Enter")
        expect(page.get_by_text("Lab is now Laboratory.")).to_be_visible()

        page.get_by_label("Choose all").check()
        seen(page, "several")
        page.get_by_label("Choose Laboratory").uncheck()
        page.get_by_role("button", name="What if they were inactive?").click()
        expect(page.get_by_text("1 would be blocked")).to_be_visible()
        seen(page, "tried")
        page.get_by_role("dialog").get_by_role("button", name="Deactivate").click()
        expect(page.get_by_text("2 trusted CAs are inactive")).to_be_visible()
        page.get_by_label("Choose all").check()
        page.get_by_role("button", name="Delete").first.click()
        expect(page.get_by_text("No private CA is trusted yet")).to_be_visible()
        page.get_by_role("button", name="Undo").first.click()
        expect(page.get_by_text("3 trusted CAs are back as before.")).to_be_visible()
        assert len(trusted_cas.listing(console.inst, "default")) == 3
        page.get_by_label("Choose all").check()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download P7B").click()
        assert download.value.suggested_filename == "default trusted CAs.p7b"
