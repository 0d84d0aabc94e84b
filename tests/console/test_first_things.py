"""Somebody who has something to do before anything else: a password of his own, a second factor."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from console.visit import COOKIE, CSRF_HEADER
from control import accounts, api_tokens, first_owner
from control.authorisation import Role
from control.due import GIVEN_LASTS
from tests.console.conftest import REQUIRING, Console, csrf_of
from tests.console.test_people_pages import ANOTHER, sent, shown_once
from tests.control.conftest import PASSWORD, account, code_of, given
from tests.harness.pki import NOW

FIRST = "/me/first"


def signs_in(console: Console, name: str, password: str) -> TestClient:
    """A browser in which somebody has just signed in, and which was led where it has to go."""
    client = console.client()
    answer = client.post("/sign-in", data={"name": name, "password": password, "next": "/me"})
    assert answer.status_code == 303, answer.text
    client.headers[CSRF_HEADER] = csrf_of(client)
    return client


def set_up(console: Console, browser: TestClient) -> Any:
    """A second factor; the answer with the recovery codes."""
    shown = sent(browser, "/me/second-factor", current=PASSWORD).text
    secret = re.search(r'<code id="secret">([A-Z2-7 ]+)</code>', shown)
    assert secret is not None, shown
    done = sent(browser, "/me/second-factor/confirm", code=code_of(secret[1].replace(" ", ""), console.clock.now))
    assert done.status_code == 200, done.text
    browser.headers[CSRF_HEADER] = json.loads(done.headers["hx-trigger"])["signed-in"]["csrf"]
    return done


def test_who_got_a_password_chooses_another_before_anything_else(console: Console) -> None:
    owner = console.signed_in("ann")
    password = shown_once(sent(owner, "/accounts", name="bob", role="auditor", of="all").text)
    assert "to be changed" in owner.get("/accounts").text
    assert "ends <time" in owner.get("/accounts/bob").text
    told = owner.get("/api/v1/accounts/bob").json()
    assert told["password_to_be_changed_by"] > told["password_given_at"]
    bob = signs_in(console, "bob", password)
    assert bob.get("/").headers["location"] == FIRST
    page = bob.get(FIRST).text
    assert "Choose your own password" in page
    assert "/t/default" not in page, "nothing of the installation is shown"
    assert sent(bob, "/me/tokens", name="mine", scope="read", ends="7").headers["hx-redirect"] == FIRST
    refused = bob.get("/api/v1/me")
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:sallyport:problem:due")
    assert "is to be changed before anything else" in refused.json()["detail"]
    fields = {"current": password, "password": ANOTHER, "repeated": ANOTHER}
    same = sent(bob, "/me/password", **{**fields, "password": password, "repeated": password})
    assert (same.status_code, "which somebody else knows" in same.text) == (422, True)
    before = bob.cookies[COOKIE]
    assert sent(bob, "/me/password", **fields).headers["hx-redirect"] == "/"
    assert bob.cookies[COOKIE] != before
    assert bob.get(FIRST).headers["location"] == "/"
    assert "Your password is changed" in bob.get("/me").text
    assert bob.get("/api/v1/me").status_code == 200
    assert owner.get("/api/v1/accounts/bob").json()["password_given_at"] is None
    stolen = console.client()
    stolen.cookies.set(COOKIE, before)
    assert stolen.get("/me").headers["location"].startswith("/sign-in")


def test_a_password_that_was_not_changed_in_time_is_told_to_who_has_it_alone(console: Console) -> None:
    owner = console.signed_in("ann")
    given(console.inst, "bob", Role.AUDITOR)
    console.clock.now = NOW + GIVEN_LASTS
    answers = {
        password: console.client().post("/sign-in", data={"name": "bob", "password": password})
        for password in (PASSWORD, "wrong")
    }
    nobody = console.client().post("/sign-in", data={"name": "nobody", "password": "wrong"})
    assert [one.status_code for one in answers.values()] == [422, 401]
    assert "have an owner give you another" in answers[PASSWORD].text
    assert answers["wrong"].text == nobody.text.replace('value="nobody"', 'value="bob"')
    owner = console.signed_in("ann")
    assert "not changed in time" in owner.get("/accounts/bob").text
    another = owner.post("/api/v1/accounts/bob:set-password", json={}).json()["password"]
    assert "Choose your own password" in signs_in(console, "bob", another).get(FIRST).text


@pytest.mark.parametrize("section", [REQUIRING])
def test_where_it_is_required_a_second_factor_is_set_up_before_anything_else(console: Console) -> None:
    account(console.inst, "ann")
    browser, elsewhere = signs_in(console, "ann", PASSWORD), signs_in(console, "ann", PASSWORD)
    assert "Set a second factor up" in browser.get(FIRST).text
    refused = browser.get("/api/v1/tenants")
    assert (refused.status_code, refused.json()["due"]) == (403, "second_factor")
    wrong = sent(browser, "/me/second-factor", current="wrong")
    assert (wrong.status_code, "the password is wrong" in wrong.text) == (422, True)
    before = browser.cookies[COOKIE]
    done = set_up(console, browser)
    assert 'href="/"' in done.text
    assert browser.cookies[COOKIE] != before
    assert browser.get("/api/v1/tenants").status_code == 200
    assert elsewhere.get("/me").headers["location"].startswith("/sign-in")
    page = browser.get("/me").text
    assert "Everybody here has to have one" in page
    assert "/me/second-factor/remove" not in page
    removed = sent(browser, "/me/second-factor/remove", current=PASSWORD)
    assert (removed.status_code, "a second factor is required here" in removed.text) == (422, True)
    # An owner takes another's away; he sets another one up when he signs in next.
    account(console.inst, "bob", Role.AUDITOR)
    bob = signs_in(console, "bob", PASSWORD)
    set_up(console, bob)
    assert bob.get("/me").status_code == 200
    asked = browser.get("/accounts/bob/second-factor", headers={"HX-Request": "true"})
    assert "has to at the next sign-in" in asked.text
    sent(browser, "/accounts/bob/second-factor")
    assert "Set a second factor up" in signs_in(console, "bob", PASSWORD).get(FIRST).text


@pytest.mark.parametrize("section", [REQUIRING])
def test_the_first_owner_goes_on_to_the_second_factor_and_a_token_needs_none(console: Console) -> None:
    token = first_owner.link(console.inst, NOW)
    browser = console.client()
    fields = {"name": "ann", "password": PASSWORD, "repeated": PASSWORD}
    assert browser.post(f"/setup/{token}", data=fields).status_code == 303
    assert browser.get("/").headers["location"] == FIRST
    assert "Set a second factor up" in browser.get(FIRST).text
    assert accounts.show(console.inst, "ann", NOW).account.password_given_at is None
    _, text = api_tokens.create(console.inst, "ci", "ann", NOW)
    program = console.client()
    program.headers["Authorization"] = f"Bearer {text}"
    assert program.get("/api/v1/tenants").status_code == 200
