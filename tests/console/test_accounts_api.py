from __future__ import annotations

from datetime import timedelta

import pytest

from console.visit import CSRF_HEADER
from control import accounts, guessing, second_factor
from control.authorisation import Action, Role, Scope
from tests.console.conftest import Console
from tests.control.conftest import PASSWORD, account, code_of
from tests.harness.pki import NOW

API = "/api/v1"


def test_an_account_is_made_with_a_password_that_is_shown_once(console: Console) -> None:
    owner = console.signed_in("ann")
    made = owner.post(f"{API}/accounts", json={"name": "bob", "role": "auditor"})
    assert (made.status_code, made.headers["location"]) == (201, f"{API}/accounts/bob")
    password = made.json()["password"]
    assert len(password) == 29
    assert console.client().post("/sign-in", data={"name": "bob", "password": password}).status_code == 303
    assert password not in owner.get(f"{API}/accounts/bob").text
    given = owner.post(f"{API}/accounts", json={"name": "eve", "role": "owner", "password": PASSWORD})
    assert given.json()["password"] is None
    assert owner.post(f"{API}/accounts", json={"name": "eve", "role": "owner"}).status_code == 409
    for wrong in ({"name": "Not A Name"}, {"password": "short"}, {"tenants": ["nobody"]}, {"tenants": []}):
        answer = owner.post(f"{API}/accounts", json={"name": "zoe", "role": "owner", **wrong})
        assert answer.status_code in (404, 422), answer.text


def test_an_account_is_changed_disabled_enabled_and_deleted(console: Console) -> None:
    console.tenant("acme")
    owner = console.signed_in("ann")
    bob = console.signed_in("bob", Role.ADMINISTRATOR)
    path = f"{API}/accounts/bob"
    changed = owner.patch(path, json={"role": "auditor", "tenants": ["acme"]}).json()
    assert (changed["role"], changed["tenants"]) == ("auditor", ["acme"])
    assert owner.patch(path, json={"role": "owner"}).json()["tenants"] == ["acme"]
    assert owner.patch(path, json={"tenants": None}).json()["tenants"] is None
    assert owner.get(path).json()["sessions"][0]["origin"] == "testclient"
    assert owner.post(f"{path}:disable").json()["enabled"] is False
    assert bob.get(f"{API}/me").status_code == 401
    assert owner.post(f"{path}:enable").json()["enabled"] is True
    assert owner.delete(path).status_code == 204
    assert owner.get(path).status_code == 404
    last = owner.post(f"{API}/accounts/ann:disable")
    assert (last.status_code, "last enabled owner" in last.json()["detail"]) == (422, True)


def test_a_locked_account_is_seen_and_unlocked(console: Console) -> None:
    owner = console.signed_in("ann")
    bob = account(console.inst, "bob", Role.AUDITOR)
    with console.inst.store.transaction() as c:
        at = NOW - timedelta(days=200)
        for n in range(guessing.ACCOUNT.locked_at or 0):
            guessing.take(c, bob, "bob", f"2001:db8:{n:x}::1", at + n * timedelta(hours=1))
    told = {one["name"]: one for one in owner.get(f"{API}/accounts").json()["items"]}
    assert (told["bob"]["locked"], told["bob"]["wrong_guesses"], told["ann"]["locked"]) == (True, 100, False)
    refused = console.client().post("/sign-in", data={"name": "bob", "password": PASSWORD})
    assert refused.status_code == 429
    assert owner.post(f"{API}/accounts/bob:enable").json()["locked"] is False
    assert console.client().post("/sign-in", data={"name": "bob", "password": PASSWORD}).status_code == 303


def test_who_has_lost_his_second_factor_or_password_is_helped_by_an_owner(console: Console) -> None:
    owner = console.signed_in("ann")
    bob = console.signed_in("bob", Role.AUDITOR)
    enrolment = second_factor.begin(console.inst, "bob", NOW)
    second_factor.confirm(console.inst, "bob", code_of(enrolment.secret, NOW), NOW)
    assert owner.get(f"{API}/accounts/bob").json()["recovery_codes"] == 10
    assert owner.post(f"{API}/accounts/bob:reset-second-factor").json()["second_factor"] is False
    assert bob.get(f"{API}/me").status_code == 401
    password = owner.post(f"{API}/accounts/bob:set-password", json={}).json()["password"]
    assert console.client().post("/sign-in", data={"name": "bob", "password": password}).status_code == 303


def test_ones_own_password_and_second_factor_are_not_changed_without_the_password(console: Console) -> None:
    owner = console.signed_in("ann")
    for action, body in (("set-password", {"password": PASSWORD}), ("reset-second-factor", None)):
        answer = owner.post(f"{API}/accounts/ann:{action}", json=body)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:sallyport:problem:refused")
    assert accounts.show(console.inst, "ann", NOW).account.changed_by == "sallyport"


def test_an_owner_of_some_tenants_manages_the_accounts_of_these_alone(console: Console) -> None:
    for name in ("acme", "beta"):
        console.tenant(name)
    for name, of in (("all", ()), ("both", ("acme", "beta")), ("theirs", ("acme",)), ("others", ("beta",))):
        account(console.inst, name, Role.OWNER, *of)
    owner = console.signed_in("bob", Role.OWNER, "acme")
    names = [one["name"] for one in owner.get(f"{API}/accounts").json()["items"]]
    assert names == ["bob", "theirs"]
    for name in ("all", "both", "others", "nobody"):
        assert owner.get(f"{API}/accounts/{name}").status_code == 404
        assert owner.delete(f"{API}/accounts/{name}").status_code == 404
        assert owner.post(f"{API}/tokens", json={"name": "t", "account": name}).status_code == 404
    made = {"name": "zoe", "role": "owner"}
    assert owner.post(f"{API}/accounts", json=made).status_code == 403
    assert owner.post(f"{API}/accounts", json={**made, "tenants": ["acme", "beta"]}).status_code == 404
    assert owner.patch(f"{API}/accounts/theirs", json={"tenants": None}).status_code == 403
    assert owner.patch(f"{API}/accounts/theirs", json={"tenants": ["beta"]}).status_code == 404
    assert owner.post(f"{API}/accounts", json={**made, "tenants": ["acme"]}).status_code == 201


@pytest.mark.parametrize("scope", Scope)
def test_no_token_manages_accounts_or_tokens(console: Console, scope: Scope) -> None:
    program = console.with_token("ann", scope)
    assert program.get(f"{API}/accounts").status_code == 200
    for method, path in (
        ("POST", "/accounts"),
        ("DELETE", "/accounts/ann"),
        ("POST", "/accounts/ann:disable"),
        ("POST", "/tokens"),
        ("POST", "/me/tokens"),
        ("GET", "/me/sessions"),
    ):
        answer = program.request(method, API + path, json={} if method == "POST" else None)
        assert answer.status_code == 403, (method, path, answer.text)


def test_a_token_is_made_shown_once_used_and_revoked(console: Console) -> None:
    owner = console.signed_in("ann")
    account(console.inst, "bob", Role.ADMINISTRATOR)
    name = "ci / <b>x</b>"
    made = owner.post(f"{API}/tokens", json={"name": name, "account": "bob", "scope": "write"})
    assert made.status_code == 201, made.text
    assert made.json()["expires_at"] == (NOW + timedelta(days=90)).isoformat().replace("+00:00", "Z")
    program = console.client()
    program.headers["Authorization"] = f"Bearer {made.json()['token']}"
    assert program.get(f"{API}/me").json()["account"] == "bob"
    assert made.json()["token"] not in owner.get(f"{API}/tokens").text
    assert owner.get(made.headers["location"]).json()["name"] == name
    never = owner.post(f"{API}/tokens", json={"name": "for ever", "account": "bob", "expires_at": None})
    assert never.json()["expires_at"] is None
    past = {"name": "past", "account": "bob", "expires_at": "2020-01-01T00:00:00"}
    assert owner.post(f"{API}/tokens", json=past).status_code == 422
    assert owner.delete(made.headers["location"]).status_code == 204
    assert program.get(f"{API}/me").status_code == 401


def test_a_create_that_is_sent_again_shows_the_same_token(console: Console) -> None:
    owner = console.signed_in("ann")
    key = {"Idempotency-Key": "k"}
    first, again = (owner.post(f"{API}/me/tokens", json={"name": "ci"}, headers=key) for _ in range(2))
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"


def test_everybody_sees_to_his_own_sessions_and_tokens(console: Console) -> None:
    console.tenant("acme")
    auditor = console.signed_in("bob", Role.AUDITOR, "acme")
    elsewhere = console.signed_in("bob")
    other, own = sorted(auditor.get(f"{API}/me/sessions").json(), key=lambda one: bool(one["current"]))
    assert (own["current"], other["current"]) == (True, False)
    end = f"{API}/me/sessions/{other['id']}:revoke"
    for wrong in ({}, {"password": "wrong"}):
        answer = auditor.post(end, json=wrong)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:sallyport:problem:wrong-credentials")
    assert elsewhere.get(f"{API}/me").status_code == 200
    assert auditor.post(end, json={"password": PASSWORD}).status_code == 204
    assert elsewhere.get(f"{API}/me").status_code == 401
    assert auditor.post(f"{API}/me/tokens", json={"name": "w", "scope": "write"}).status_code == 422
    made = auditor.post(f"{API}/me/tokens", json={"name": "r"})
    assert made.json()["scope"] == "read"
    console.signed_in("ann").post(f"{API}/me/tokens", json={"name": "ann's"})
    assert [one["name"] for one in auditor.get(f"{API}/me/tokens").json()] == ["r"]
    assert auditor.delete(f"{API}/me/tokens/ann's").status_code == 404
    assert auditor.delete(made.headers["location"]).status_code == 204


def test_ones_other_sessions_end_with_the_password_and_this_one_without(console: Console) -> None:
    owner, elsewhere = console.signed_in("ann"), console.signed_in("ann")
    end = f"{API}/me/sessions:revoke"
    for _ in range(guessing.ACCOUNT.free):
        assert owner.post(end, json={"password": "wrong"}).status_code == 403
    assert owner.post(end, json={"password": PASSWORD}).status_code == 429
    assert elsewhere.get(f"{API}/me").status_code == 200
    console.clock.advance(seconds=31)
    assert owner.post(end, json={"password": PASSWORD}).status_code == 204
    assert elsewhere.get(f"{API}/me").status_code == 401
    (own,) = owner.get(f"{API}/me/sessions").json()
    # Nor does who manages accounts get around it with his own.
    path = f"{API}/accounts/ann"
    for answer in (owner.post(f"{path}:revoke-sessions"), owner.delete(f"{path}/sessions/{own['id']}")):
        assert (answer.status_code, "Your account" in answer.json()["detail"]) == (422, True)
    assert owner.post(f"{API}/me/sessions/{own['id']}:revoke", json={}).status_code == 204
    assert owner.get(f"{API}/me").status_code == 401


def test_one_is_told_who_one_is_and_what_one_may(console: Console) -> None:
    console.tenant("acme")
    auditor = console.signed_in("bob", Role.AUDITOR, "acme")
    me = auditor.get(f"{API}/me").json()
    assert (me["account"], me["role"], me["token"], me["actions"]) == ("bob", "auditor", None, [Action.OWN_ACCOUNT])
    assert me["tenants"] == [{"name": "acme", "actions": ["view", "view_accounts", "own_account"]}]
    program = console.with_token("ann", Scope.READ)
    me = program.get(f"{API}/me").json()
    assert (me["scope"], me["actions"]) == ("read", ["view", "view_accounts"])


def test_a_change_over_a_session_needs_its_csrf_token(console: Console) -> None:
    owner = console.signed_in("ann")
    del owner.headers[CSRF_HEADER]
    assert owner.post(f"{API}/me/tokens", json={"name": "ci"}).json()["type"] == "urn:sallyport:problem:csrf"
