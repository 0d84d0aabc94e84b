"""The pages of error settings, exceptions, bypass rules and ways in."""

from __future__ import annotations

import html
import re

from cryptography.hazmat.primitives.hashes import SHA256
from starlette.testclient import TestClient

from control import audit_log, bypass_rules, error_settings, host_exceptions, proxy_users, wireguard
from control.authorisation import Role
from control.error_settings import ROWS
from control.host_exceptions import Wanted
from tests.console.conftest import Console
from tests.console.test_settings_api import PRINTER, refuse, remember
from tests.harness.pki import DAY, NOW

ERRORS, EXCEPTIONS, BYPASS = "/t/default/errors", "/t/default/errors/exceptions", "/t/default/bypass"
USERS, PEERS = "/t/default/users", "/t/default/users/wireguard"
HTMX = {"HX-Request": "true"}


def flash_of(browser: TestClient, page: str) -> tuple[str, str, dict[str, str]]:
    """What the page says of what was done, where its undo is sent, and with what."""
    text = browser.get(page).text
    notice = re.search(r'<div class="notice done".*?</div></div>', text, re.DOTALL)
    assert notice is not None, text
    fields = dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', notice[0]))
    path = re.search(r'<form hx-post="([^"]*)"', notice[0])
    told = " ".join(re.findall(r"<p>(.*?)</p>", notice[0]))
    return html.unescape(told), path[1] if path else "", {key: html.unescape(one) for key, one in fields.items()}


def settings_of(console: Console) -> dict[str, str]:
    return {one.row: one.action.value for one in error_settings.show(console.inst, "default") if one.is_set}


def test_every_row_is_explained_with_what_can_be_set(console: Console) -> None:
    error_settings.set_action(console.inst, "default", "untrusted", "warn", NOW)
    page = console.signed_in("ann").get(ERRORS).text
    for row in ROWS:
        assert f'<select name="{row}"' in page
    own = page[page.index('<select name="own_ca"') :].partition("</select>")[0]
    assert re.findall(r'value="(\w*)"', own) == ["", "block"]
    assert "As untrusted: warn" in page
    assert "only block can be set" in page.casefold()
    assert "verification.revocation is off" in page


def test_what_a_change_would_do_is_told_before_it_is_saved(console: Console) -> None:
    remember(console, "printer.example", "other.example")
    browser = console.signed_in("ann")
    before = len(audit_log.newest(console.inst))
    changed = {"incomplete_chain": "allow", "was-incomplete_chain": "", "expired": "", "was-expired": ""}
    told = browser.post(f"{ERRORS}/trial", data=changed, headers=HTMX).text
    assert "Of 2 servers judged in the last 24 hours" in told
    assert "1 would be let through" in told
    assert "printer.example" in told
    assert "Save 1 change<" in told
    assert 'id="would-incomplete_chain" hx-swap-oob="true">1 server would be let through: printer.example</p>' in told
    assert "Save" not in browser.post(f"{ERRORS}/trial", data={"expired": "", "was-expired": ""}, headers=HTMX).text
    refused = browser.post(f"{ERRORS}/trial", data={"own_ca": "allow"}, headers=HTMX)
    assert (refused.status_code, "only block can be set" in refused.text) == (422, True)
    assert len(audit_log.newest(console.inst)) == before


def test_changes_are_saved_together_and_taken_back_together(console: Console) -> None:
    error_settings.set_action(console.inst, "default", "weak_key", "warn", NOW)
    browser = console.signed_in("ann")
    rows = {
        "expired": "allow",
        "was-expired": "",
        "weak_key": "",
        "was-weak_key": "warn",
        "revoked": "",
        "was-revoked": "",
    }
    answer = browser.post(ERRORS, data=rows, headers=HTMX)
    assert answer.headers["hx-redirect"] == ERRORS
    assert settings_of(console) == {"expired": "allow"}
    told, path, fields = flash_of(browser, ERRORS)
    assert told == "Weak key: its default counts again. Expired: allow."
    assert browser.post(path, data=fields, headers=HTMX).headers["hx-redirect"] == ERRORS
    assert settings_of(console) == {"weak_key": "warn"}


def test_what_others_have_changed_is_neither_overwritten_nor_undone(console: Console) -> None:
    browser = console.signed_in("ann")
    tag = re.search(r'If-Match&#34;: &#34;(.*?)&#34;|"If-Match": "(.*?)"}', browser.get(ERRORS).text)
    assert tag is not None
    seen = '"' + re.sub(r"\D", "", tag[0]).join(("g", "")) + '"'
    error_settings.set_action(console.inst, "default", "expired", "warn", NOW)
    rows = {"expired": "allow", "was-expired": "", "weak_key": "allow", "was-weak_key": ""}
    answer = browser.post(ERRORS, data=rows, headers={**HTMX, "If-Match": seen})
    assert (answer.status_code, answer.headers["hx-retarget"]) == (412, "#notices")
    assert settings_of(console) == {"expired": "warn"}
    # What was not touched on the page is left as the other one has made it.
    rows = {"expired": "", "was-expired": "", "weak_key": "allow", "was-weak_key": ""}
    assert browser.post(ERRORS, data=rows, headers={**HTMX, "If-Match": seen}).status_code == 200
    assert settings_of(console) == {"expired": "warn", "weak_key": "allow"}
    _, path, fields = flash_of(browser, ERRORS)
    error_settings.set_action(console.inst, "default", "weak_key", "bypass", NOW)
    assert browser.post(path, data=fields, headers=HTMX).status_code == 412
    assert settings_of(console)["weak_key"] == "bypass"


def test_an_exception_is_offered_the_certificate_that_was_seen_tried_made_and_undone(console: Console) -> None:
    remember(console, "printer.example")
    browser = console.signed_in("ann")
    sha256 = PRINTER.certificate.fingerprint(SHA256()).hex()
    offered = browser.get(f"{EXCEPTIONS}/seen", params={"host": "printer.example"}, headers=HTMX).text
    assert f'value="{sha256}"' in offered
    hostile = browser.get(f"{EXCEPTIONS}/seen", params={"host": "<b>\u202e"}, headers=HTMX).text
    assert "<b>" not in hostile
    given = {"host": "printer.example", "defect": "untrusted", "action": "allow", "fingerprint": sha256}
    tried = browser.post(f"{EXCEPTIONS}/trial", data=given, headers=HTMX).text
    assert "1 would be let through" in tried
    assert host_exceptions.listing(console.inst, "default", NOW) == []
    full = {**given, "reason": "<i>its maker</i>", "expires": f"{NOW + 10 * DAY:%Y-%m-%d}"}
    wrong = browser.post(EXCEPTIONS, data={**full, "fingerprint": "12"}, headers=HTMX)
    assert (wrong.status_code, "is no SHA-256 fingerprint" in wrong.text) == (422, True)
    assert "&lt;i&gt;its maker" in wrong.text
    assert browser.post(EXCEPTIONS, data=full, headers=HTMX).status_code == 200
    _, path, fields = flash_of(browser, EXCEPTIONS)
    page = browser.get(EXCEPTIONS).text
    assert "&lt;i&gt;its maker&lt;/i&gt;" in page
    assert f"{sha256[:12]}…" in page
    assert browser.post(path, data=fields, headers=HTMX).status_code == 200
    assert host_exceptions.listing(console.inst, "default", NOW) == []


def test_an_exception_that_was_removed_comes_back_as_it_was_and_one_that_expired_does_not(console: Console) -> None:
    browser = console.signed_in("ann")
    kept, short = (
        host_exceptions.add(console.inst, "default", Wanted(host, "expired", "allow", "x", "ab" * 32, end), NOW)
        for host, end in (("a.example", None), ("b.example", f"{NOW + DAY:%Y-%m-%d}"))
    )
    console.clock.advance(days=3)
    browser = console.signed_in("bob")
    page = browser.get(EXCEPTIONS).text
    assert page.index("expired</span>") > 0
    browser.post(f"{EXCEPTIONS}/{kept.id}/remove", headers=HTMX)
    _, path, fields = flash_of(browser, EXCEPTIONS)
    browser.post(path, data=fields, headers=HTMX)
    there = {one.exception.pattern: one.exception for one in host_exceptions.listing(console.inst, "default", NOW)}
    assert (there["a.example"].fingerprint, there["a.example"].reason) == (bytes.fromhex("ab" * 32), "x")
    browser.get(EXCEPTIONS)
    browser.post(f"{EXCEPTIONS}/{short.id}/remove", headers=HTMX)
    assert flash_of(browser, EXCEPTIONS)[1] == ""


def test_bypass_rules_are_added_by_the_line_and_removed_with_a_way_back(console: Console) -> None:
    browser = console.signed_in("ann")
    end = NOW + 10 * DAY
    lines = {"patterns": ".bank.example\r\n\r\n 192.0.2.0/24 \n", "reason": "council", "expires": f"{end:%Y-%m-%d}"}
    wrong = browser.post(BYPASS, data={**lines, "patterns": "a.example\nb c"}, headers=HTMX)
    assert (wrong.status_code, "a.example\nb c</textarea>" in wrong.text) == (422, True)
    assert "is no date" in browser.post(BYPASS, data={**lines, "expires": "soon"}, headers=HTMX).text
    assert browser.post(BYPASS, data=lines, headers=HTMX).headers["hx-redirect"] == BYPASS
    rules = bypass_rules.listing(console.inst, "default")
    assert [one.pattern for one in rules] == [".bank.example", "192.0.2.0/24"]
    assert f"{rules[0].expires_at:%Y-%m-%d %H:%M}" == f"{end:%Y-%m-%d} 23:59"
    _, path, fields = flash_of(browser, BYPASS)
    browser.post(f"{BYPASS}/remove", data={"patterns": ".bank.example"}, headers=HTMX)
    again = flash_of(browser, BYPASS)
    browser.post(again[1], data=again[2], headers=HTMX)
    restored = bypass_rules.listing(console.inst, "default")
    assert [(one.pattern, one.reason, one.expires_at) for one in restored] == [
        (one.pattern, one.reason, one.expires_at) for one in rules
    ]
    browser.post(path, data=fields, headers=HTMX)
    assert bypass_rules.listing(console.inst, "default") == []


def test_a_proposal_is_accepted_with_a_way_back_or_dismissed(console: Console) -> None:
    refuse(console, "app.example", 3)
    browser = console.signed_in("ann")
    assert "proposed</span>" in browser.get(BYPASS).text
    browser.post(f"{BYPASS}/proposals/accept", data={"host": "app.example"}, headers=HTMX)
    _, path, fields = flash_of(browser, BYPASS)
    assert "bypassed by app.example" in browser.get(BYPASS).text
    browser.post(path, data=fields, headers=HTMX)
    assert bypass_rules.listing(console.inst, "default") == []
    asked = browser.get(f"{BYPASS}/proposals/dismiss", params={"host": "app.example"}, headers=HTMX)
    assert "It is forgotten which clients refuse" in asked.text
    assert browser.post(f"{BYPASS}/proposals/dismiss", data={"host": "app.example"}, headers=HTMX).status_code == 200
    assert browser.post(f"{BYPASS}/proposals/dismiss", data={"host": "app.example"}, headers=HTMX).status_code == 404
    assert "app.example</th>" not in browser.get(BYPASS).text


def test_a_password_that_was_made_is_shown_once(console: Console) -> None:
    browser = console.signed_in("ann")
    made = browser.post(USERS, data={"name": "build"}, headers=HTMX)
    assert made.headers["hx-retarget"] == "#dialog"
    secret = re.search(r'id="secret">([\w-]{24})<', made.text)
    assert secret is not None
    assert 'id="users" hx-swap-oob="true"' in made.text
    assert secret[1] not in browser.get(USERS).text
    wrong = browser.post(USERS, data={"name": "eve", "password": "hunter2"}, headers=HTMX)
    assert (wrong.status_code, "too short" in wrong.text, "hunter2" in wrong.text) == (422, True, False)
    given = browser.post(USERS, data={"name": "bob", "password": "a password of his own"}, headers=HTMX)
    assert given.headers["hx-redirect"] == USERS
    again = browser.post(f"{USERS}/password", data={"name": "build"}, headers=HTMX)
    assert secret[1] not in again.text
    assert "Delete build?" in browser.get(f"{USERS}/delete", params={"name": "build"}, headers=HTMX).text
    assert browser.post(f"{USERS}/delete", data={"name": "build"}, headers=HTMX).status_code == 200
    assert [one.name for one in proxy_users.listing(console.inst, "default")] == ["bob"]


def test_a_device_is_shown_its_configuration_once(console: Console) -> None:
    browser = console.signed_in("ann")
    nowhere = browser.post(PEERS, data={"name": "phone"}, headers=HTMX)
    assert (nowhere.status_code, "nothing says by which address" in nowhere.text) == (422, True)
    made = browser.post(PEERS, data={"name": "phone", "endpoint": "gate.example"}, headers=HTMX)
    key = re.search(r"PrivateKey = (\S+)", made.text)
    assert key is not None
    assert 'src="data:image/svg+xml;base64,' in made.text
    server = wireguard.server_key(console.inst, "default")
    assert server is not None
    assert f"<code>{html.escape(wireguard.text(server))}</code>" in html.unescape(made.text)
    page = browser.get(PEERS).text
    assert "phone</th>" in page
    assert key[1] not in page
    assert browser.post(f"{PEERS}/remove", data={"name": "phone"}, headers=HTMX).status_code == 200
    assert wireguard.peers(console.inst, "default") == []


def test_an_auditor_looks_and_another_tenants_administrator_does_not(console: Console) -> None:
    console.tenant("acme")
    refuse(console, "app.example", 3)
    host_exceptions.add(console.inst, "default", Wanted("a.example", "expired", "allow", "x"), NOW)
    auditor = console.signed_in("aud", Role.AUDITOR)
    foreign = console.signed_in("adm", Role.ADMINISTRATOR, "acme")
    before = len(audit_log.newest(console.inst))
    for path in (ERRORS, EXCEPTIONS, BYPASS, USERS, PEERS):
        page = auditor.get(path)
        assert page.status_code == 200
        main = page.text.partition('<main id="main"')[2]
        assert "hx-post" not in main, path
        assert foreign.get(path).status_code == 404
    for path in (
        ERRORS, f"{ERRORS}/trial", EXCEPTIONS, f"{EXCEPTIONS}/trial", f"{EXCEPTIONS}/1/remove", BYPASS,
        f"{BYPASS}/remove", f"{BYPASS}/proposals/accept", f"{BYPASS}/proposals/dismiss", USERS, f"{USERS}/password",
        f"{USERS}/delete", PEERS, f"{PEERS}/remove",
    ):  # fmt: skip
        assert auditor.post(path, headers=HTMX).status_code == 403, path
        assert foreign.post(path, headers=HTMX).status_code == 404, path
    assert len(audit_log.newest(console.inst)) == before
