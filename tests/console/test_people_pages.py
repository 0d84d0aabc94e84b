from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from starlette.testclient import TestClient

from console.visit import COOKIE, CSRF_HEADER
from control import accounts, audit_log, second_factor, tenants
from control.authorisation import Role, Scope
from tests.console.conftest import Console
from tests.control.conftest import PASSWORD, account, code_of
from tests.harness.pki import NOW

HTMX = {"HX-Request": "true"}
ANOTHER = "seven green umbrellas"


def sent(browser: TestClient, path: str, **fields: Any) -> Any:
    """A form, as htmx sends it."""
    return browser.post(path, data=fields, headers=HTMX)


def shown_once(text: str) -> str:
    found = re.search(r'<code id="once">([^<]+)</code>', text)
    assert found is not None, text
    return unescape(found[1])


# accounts


def test_an_account_is_made_and_its_password_shown_once(console: Console) -> None:
    console.tenant("acme")
    owner = console.signed_in("ann")
    assert "Create the account" in owner.get("/accounts:new", headers=HTMX).text
    made = sent(owner, "/accounts", name="Bob", role="auditor", of="some", tenant=["acme"])
    password = shown_once(made.text)
    assert console.client().post("/sign-in", data={"name": "bob", "password": password}).status_code == 303
    for path in ("/accounts", "/accounts/bob", "/audit"):
        page = owner.get(path).text
        assert "bob" in page
        assert password not in page
    given = sent(owner, "/accounts", name="eve", role="owner", of="all", password=PASSWORD)
    assert given.headers["hx-redirect"] == "/accounts/eve"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "bob", "of": "some"}, "for no tenant at all"),
        ({"name": "not a name"}, "cannot name an account"),
        ({"name": "ann"}, "there is an account ann already"),
        ({"name": "bob", "password": "tooshort"}, "too short"),
        ({"name": "bob", "role": "king"}, "there is no role"),
    ],
)
def test_a_form_says_what_is_wrong_and_keeps_what_was_typed_but_no_password(
    console: Console, fields: dict[str, str], said: str
) -> None:
    owner = console.signed_in("ann")
    answer = sent(owner, "/accounts", **{"role": "auditor", "of": "all", **fields})
    assert answer.status_code == 422
    assert said in unescape(answer.text)
    assert f'value="{fields["name"]}"' in answer.text
    assert "tooshort" not in answer.text


def test_what_can_be_undone_is_done_and_offers_it(console: Console) -> None:
    console.tenant("acme")
    owner = console.signed_in("ann")
    account(console.inst, "bob", Role.ADMINISTRATOR, "acme", "default")
    assert sent(owner, "/accounts/bob/change", role="auditor", of="all").status_code == 200
    page = owner.get("/accounts/bob").text
    assert "bob is now auditor of all tenants." in page
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
    assert sent(owner, "/accounts/bob/change", **fields).status_code == 200
    assert (found := accounts.show(console.inst, "bob", NOW).account).role == "administrator"
    assert found.tenants == ("acme", "default")
    sent(owner, "/accounts/bob/disable")
    assert 'hx-post="/accounts/bob/enable"' in owner.get("/accounts/bob").text
    sent(owner, "/accounts/bob/enable")
    assert accounts.show(console.inst, "bob", NOW).account.enabled
    last = sent(owner, "/accounts/ann/disable")
    assert (last.status_code, "last enabled owner" in last.text) == (422, True)


def test_sessions_passwords_and_second_factors_of_others(console: Console) -> None:
    owner = console.signed_in("ann")
    bob = console.signed_in("bob", Role.AUDITOR)
    (session,) = accounts.show(console.inst, "bob", NOW).sessions
    assert f"/accounts/bob/sessions/{session.id}/revoke" in owner.get("/accounts/bob").text
    sent(owner, f"/accounts/bob/sessions/{session.id}/revoke")
    assert bob.get("/me").status_code == 303
    password = shown_once(sent(owner, "/accounts/bob/password").text)
    assert console.client().post("/sign-in", data={"name": "bob", "password": password}).status_code == 303
    assert sent(owner, "/accounts/bob/password", password=ANOTHER).headers["hx-redirect"] == "/accounts/bob"
    enrolment = second_factor.begin(console.inst, "bob", NOW)
    second_factor.confirm(console.inst, "bob", code_of(enrolment.secret, NOW), NOW)
    assert "10 recovery codes left" in owner.get("/accounts/bob").text
    sent(owner, "/accounts/bob/second-factor")
    assert not accounts.show(console.inst, "bob", NOW).account.second_factor
    assert "This cannot be undone" in owner.get("/accounts/bob/delete", headers=HTMX).text
    assert sent(owner, "/accounts/bob/delete").headers["hx-redirect"] == "/accounts"
    assert owner.get("/accounts/bob").status_code == 404


def test_an_auditor_sees_accounts_and_has_nothing_to_press(console: Console) -> None:
    auditor = console.signed_in("bob", Role.AUDITOR)
    page = auditor.get("/accounts/bob").text
    assert "hx-post" not in page.split('id="notices"')[1]
    assert "New account" not in auditor.get("/accounts").text
    administrator = console.signed_in("eve", Role.ADMINISTRATOR)
    assert administrator.get("/accounts").status_code == 403
    assert 'href="/accounts"' not in administrator.get("/me").text


# tokens


def test_a_token_is_made_shown_once_and_revoked(console: Console) -> None:
    owner = console.signed_in("ann")
    name = "ci <b>& co"
    made = sent(owner, "/tokens", name=name, account="ann", scope="read", ends="7")
    text = shown_once(made.text)
    program = console.client()
    program.headers["Authorization"] = f"Bearer {text}"
    assert program.get("/api/v1/me").json()["scope"] == "read"
    page = owner.get("/tokens").text
    assert "ci &lt;b&gt;&amp; co" in page
    assert text not in page
    assert "ci &lt;b&gt;" in owner.get("/tokens:revoke", params={"name": name}, headers=HTMX).text
    assert sent(owner, "/tokens:revoke", name=name).headers["hx-redirect"] == "/tokens"
    assert program.get("/api/v1/me").status_code == 401
    for fields, said in (
        ({"ends": "date", "date": "soon"}, "is no date"),
        ({"ends": "date", "date": "2020-01-01"}, "is past"),
        ({"account": "nobody"}, "There is no account"),
    ):
        answer = sent(owner, "/tokens", **{"name": "x", "account": "ann", "scope": "read", "ends": "7", **fields})
        assert (answer.status_code, said in answer.text) == (422, True), answer.text


def test_ones_own_tokens_are_ones_own(console: Console) -> None:
    auditor = console.signed_in("bob", Role.AUDITOR)
    assert 'name="scope" value="read"' in auditor.get("/me/tokens/new", headers=HTMX).text
    text = shown_once(sent(auditor, "/me/tokens", name="mine", scope="read", ends="never").text)
    assert text.startswith("spt_")
    assert "mine" in auditor.get("/me").text
    console.with_token("ann")
    assert sent(auditor, "/me/tokens/revoke", name="ann-1-write").status_code == 404
    assert sent(auditor, "/me/tokens/revoke", name="mine").headers["hx-redirect"] == "/me"


# one's own account


def test_ones_password_is_changed_with_the_old_one_and_the_session_gets_another_token(console: Console) -> None:
    browser, elsewhere = console.signed_in("ann"), console.signed_in("ann")
    before = browser.cookies[COOKIE]
    fields = {"current": PASSWORD, "password": ANOTHER, "repeated": ANOTHER}
    for wrong, said in (
        ({"current": "wrong"}, "the password is wrong"),
        ({"repeated": "x"}, "differ"),
        ({"password": "short", "repeated": "short"}, "too short"),
    ):
        answer = sent(browser, "/me/password", **{**fields, **wrong})
        assert (answer.status_code, said in answer.text) == (422, True), answer.text
        assert ANOTHER not in answer.text
    assert sent(browser, "/me/password", **fields).headers["hx-redirect"] == "/me"
    assert browser.cookies[COOKIE] != before
    assert "Your password is changed" in browser.get("/me").text
    assert elsewhere.get("/me").status_code == 303
    replayed = console.client()
    replayed.cookies.set(COOKIE, before)
    assert replayed.get("/me").status_code == 303
    assert console.client().post("/sign-in", data={"name": "ann", "password": ANOTHER}).status_code == 303


def test_too_many_wrong_passwords_are_told_when_the_next_is_taken(console: Console) -> None:
    browser = console.signed_in("ann")
    for _ in range(5):
        assert sent(browser, "/me/second-factor", current="wrong").status_code == 422
    answer = sent(browser, "/me/second-factor", current=PASSWORD)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
    assert "try again in 30 s" in answer.text


def test_a_second_factor_is_set_up_confirmed_and_removed(console: Console) -> None:
    browser, elsewhere = console.signed_in("ann"), console.signed_in("ann")
    assert "You are an owner without a second factor" in browser.get("/me").text
    shown = sent(browser, "/me/second-factor", current=PASSWORD).text
    assert "<svg" in shown
    assert "style=" not in shown
    secret = re.search(r'<code id="secret">([A-Z2-7 ]+)</code>', shown)
    assert secret is not None
    code = code_of(secret[1].replace(" ", ""), console.clock.now)
    wrong = sent(browser, "/me/second-factor/confirm", code="000000" if code != "000000" else "000001")
    assert (wrong.status_code, "the code is wrong" in wrong.text) == (422, True)
    before = browser.cookies[COOKIE]
    done = sent(browser, "/me/second-factor/confirm", code=code)
    codes = re.findall(r"[a-z2-7]{5}(?:-[a-z2-7]{5}){4}", done.text)
    assert len(codes) == 10
    assert browser.cookies[COOKIE] != before
    browser.headers[CSRF_HEADER] = json.loads(done.headers["hx-trigger"])["signed-in"]["csrf"]
    page = browser.get("/me").text
    assert "owner without a second factor" not in page
    assert codes[0] not in page
    again = console.client()
    assert again.post("/sign-in", data={"name": "ann", "password": PASSWORD}).status_code == 200
    assert again.post("/sign-in/code", data={"code": codes[0]}).status_code == 303
    assert sent(browser, "/me/second-factor/remove", current="wrong").status_code == 422
    assert sent(browser, "/me/second-factor/remove", current=PASSWORD).headers["hx-redirect"] == "/me"
    assert browser.get("/me").status_code == 200
    assert elsewhere.get("/me").status_code == 303


def test_ones_sessions_are_marked_and_revoked(console: Console) -> None:
    browser, other = console.signed_in("ann"), console.signed_in("ann")
    assert browser.get("/me").text.count("this one") == 1
    third = console.signed_in("ann")
    ids = sorted(one.id for one in accounts.show(console.inst, "ann", NOW).sessions)
    end = f"/me/sessions/{ids[1]}/revoke"
    for path in ("/me/sessions/revoke", end):
        assert f'hx-post="{path}"' in browser.get(path, headers=HTMX).text
        wrong = sent(browser, path, current="wrong")
        assert (wrong.status_code, "the password is wrong" in wrong.text) == (422, True)
    assert other.get("/me").status_code == 200
    assert sent(browser, end, current=PASSWORD).headers["hx-redirect"] == "/me"
    assert (other.get("/me").status_code, third.get("/me").status_code) == (303, 200)
    for path in ("/accounts/ann/sessions/revoke", f"/accounts/ann/sessions/{ids[2]}/revoke"):
        assert sent(browser, path).status_code == 422
    assert "/accounts/ann/sessions" not in browser.get("/accounts/ann").text
    assert sent(browser, "/me/sessions/revoke", current=PASSWORD).headers["hx-redirect"] == "/me"
    assert third.get("/me").status_code == 303
    (own,) = accounts.show(console.inst, "ann", NOW).sessions
    assert sent(browser, f"/me/sessions/{own.id}/revoke").headers["hx-redirect"] == "/sign-in"
    assert browser.get("/me").status_code == 303


# tenants


def test_a_tenant_is_made_shown_and_deleted_by_who_types_its_name(console: Console) -> None:
    owner = console.signed_in("ann")
    assert sent(owner, "/tenants", name="acme").headers["hx-redirect"] == "/tenants/acme"
    page = owner.get("/tenants/acme").text
    assert "built-in" in page
    assert "none in this configuration" in page
    assert sent(owner, "/tenants", name="acme").status_code == 422
    assert "is destroyed" in owner.get("/tenants/acme/delete", headers=HTMX).text
    wrong = sent(owner, "/tenants/acme/delete", typed="acm")
    assert (wrong.status_code, "type acme" in wrong.text) == (422, True)
    assert sent(owner, "/tenants/acme/delete", typed="acme").headers["hx-redirect"] == "/tenants"
    assert owner.get("/tenants/acme").status_code == 404
    used = sent(owner, "/tenants/default/delete", typed="default")
    assert (used.status_code, "is used by listener" in used.text) == (422, True)


def test_who_is_for_some_tenants_sees_these_and_makes_none(console: Console) -> None:
    console.tenant("acme")
    owner = console.signed_in("bob", Role.OWNER, "acme")
    page = owner.get("/tenants").text
    assert "acme" in page
    assert "default" not in page
    assert "New tenant" not in page
    assert sent(owner, "/tenants", name="beta").status_code == 403
    assert sent(owner, "/tenants/default/delete", typed="default").status_code == 404


# the audit log


def test_the_audit_log_shows_what_was_different(console: Console) -> None:
    owner = console.signed_in("ann")
    account(console.inst, "bob", Role.ADMINISTRATOR)
    accounts.change(console.inst, "bob", NOW, Role.AUDITOR)
    page = owner.get("/audit", params={"action": "admin.change"}).text
    assert "<del>administrator</del>" in page
    assert "<ins>auditor</ins>" in page
    assert "selected>admin: change" in page
    assert "No change is like that" in owner.get("/audit", params={"subject": "nobody", "since": "x"}).text
    later = (NOW + timedelta(days=1)).date().isoformat()
    assert "No change is like that" in owner.get("/audit", params={"since": later}).text
    assert "bob" in owner.get("/audit", params={"until": NOW.date().isoformat()}).text
    assert owner.get("/audit", params={"until": "9999-12-31", "before": "9" * 40}).status_code == 200


def test_the_audit_log_of_a_tenant_has_no_other(console: Console) -> None:
    for name in ("acme", "beta"):
        console.tenant(name)
    auditor = console.signed_in("bob", Role.AUDITOR, "acme")
    for path in ("/audit", "/t/acme/audit", "/audit/export?format=json"):
        page = auditor.get(path).text
        assert "acme" in page
        assert "beta" not in page
    assert auditor.get("/t/beta/audit").status_code == 404
    assert auditor.get("/t/beta/audit/export").status_code == 404


def test_exported_cells_are_no_formulas_and_parts_follow_one_another(console: Console) -> None:
    owner = console.signed_in("ann")
    for n in range(101):
        sent(owner, "/me/tokens", name=f"=HYPERLINK({n})", scope="read", ends="7")
    answer = owner.get("/audit/export", params={"action": "token.create"})
    assert answer.headers["content-disposition"] == f'attachment; filename="audit-log-{NOW:%Y-%m-%d}.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 101
    assert {row["subject"][:11] for row in rows} == {"'=HYPERLINK"}
    assert all(cell[:1] not in ("=", "+", "-", "@", "\t", "\r") for row in rows for cell in row.values())
    told = owner.get("/audit/export", params={"format": "json", "subject": "(100)"}).json()
    assert [one["after"]["name"] for one in told] == ["=HYPERLINK(100)"]
    page = owner.get("/audit", params={"action": "token"}).text
    assert page.count("<details><summary>token: create") == 100
    older = re.search(r'href="(/audit\?[^"]*before=\d+)"', page)
    assert older is not None
    rest = owner.get(unescape(older[1])).text
    assert rest.count("<details><summary>token: create") == 1
    assert "=HYPERLINK(0)" in rest


def test_names_that_steer_what_is_around_them_are_shown_escaped(console: Console) -> None:
    owner = console.signed_in("ann")
    tenants.create(console.inst, "acme", NOW)
    with console.inst.store.transaction() as c:
        c.exec_driver_sql("UPDATE audit_log SET subject = '<script>\u202ex' WHERE tenant = 'acme'")
    page = owner.get("/t/acme/audit").text
    assert "&lt;script&gt;\\u202ex" in page
    assert "<script>\u202e" not in page
    assert audit_log.newest(console.inst, 1, "acme")


def test_a_program_with_a_token_is_sent_away_from_every_page(console: Console) -> None:
    program = console.with_token("ann", Scope.WRITE)
    for path in ("/accounts", "/tokens", "/tenants", "/audit"):
        assert program.get(path).headers["location"].startswith("/sign-in")
