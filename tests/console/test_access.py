from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from urllib.parse import parse_qs, urlsplit

import pytest

from console import idempotency, middleware
from console.idempotency import Answer, Answers
from console.problems import Problem
from console.visit import COOKIE, CSRF_HEADER
from control import accounts, first_owner
from control.authorisation import Principal, Role, Scope
from tests.console.conftest import Console
from tests.control.conftest import PASSWORD

SECURITY = ("content-security-policy", "strict-transport-security", "x-content-type-options", "referrer-policy")


def test_the_set_up_link_makes_the_first_owner_once(console: Console) -> None:
    token = first_owner.link(console.inst, console.clock.now)
    browser = console.client()
    assert browser.get(f"/setup/{token}").status_code == 200
    given = {"name": "ann", "password": PASSWORD, "repeated": PASSWORD}
    assert browser.post(f"/setup/{token}", data={**given, "repeated": "another"}).status_code == 422
    answer = browser.post(f"/setup/{token}", data=given)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert browser.get("/").headers["location"] == "/t/default/"
    assert browser.get("/t/default/").status_code == 200
    other = console.client()
    assert other.get(f"/setup/{token}").status_code == 410
    assert other.post(f"/setup/{token}", data={**given, "name": "eve"}).status_code == 422


def test_the_cookie_is_of_this_host_alone_and_ends_with_the_session(console: Console) -> None:
    browser = console.signed_in("ann")
    again = console.client()
    answer = again.post("/sign-in", data={"name": "ann", "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=sps_")
    for attribute in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert attribute in cookie
    assert "Domain" not in cookie
    token = browser.cookies[COOKIE]
    assert browser.post("/sign-out").status_code == 303
    replayed = console.client()
    replayed.cookies.set(COOKIE, token)
    assert replayed.get("/t/default/").headers["location"].startswith("/sign-in?next=")
    assert replayed.get("/api/v1/tenants").status_code == 401


def test_a_session_that_somebody_brings_is_not_the_one_that_he_gets(console: Console) -> None:
    console.signed_in("ann")
    browser = console.client()
    browser.cookies.set(COOKIE, "sps_chosen-by-somebody-else")
    answer = browser.post("/sign-in", data={"name": "ann", "password": PASSWORD})
    assert answer.status_code == 303
    assert "chosen" not in answer.headers["set-cookie"]


def test_signing_in_ends_the_session_that_the_browser_had(console: Console) -> None:
    browser, other = console.signed_in("ann"), console.signed_in("ann")
    had = console.client()
    had.cookies.set(COOKIE, browser.cookies[COOKIE])
    assert had.get("/api/v1/me").status_code == 200
    wrong = browser.post("/sign-in", data={"name": "ann", "password": "not the right one"})
    assert (wrong.status_code, had.get("/api/v1/me").status_code) == (401, 200)
    assert browser.post("/sign-in", data={"name": "ann", "password": PASSWORD}).status_code == 303
    assert (had.get("/api/v1/me").status_code, other.get("/api/v1/me").status_code) == (401, 200)


def test_back_to_a_name_that_is_not_ascii(console: Console) -> None:
    console.signed_in("ann")
    path = "/t/%D0%96%3F%0D%0Ax/"
    away = console.client().get(path).headers["location"]
    next = parse_qs(urlsplit(away).query)["next"][0]
    assert next == path
    given = {"name": "ann", "password": PASSWORD}
    for asked, expected in ((next, path), ("/t/\u0436", "/t/%D0%B6"), ("/\uff0f\uff0fx", "/%EF%BC%8F%EF%BC%8Fx")):
        answer = console.client().post("/sign-in", data={**given, "next": asked})
        assert (answer.status_code, answer.headers["location"]) == (303, expected)


@pytest.mark.parametrize("token", [None, "", "0" * 64])
def test_a_change_over_a_session_needs_its_csrf_token(console: Console, token: str | None) -> None:
    browser = console.signed_in("ann")
    del browser.headers[CSRF_HEADER]
    headers = {} if token is None else {CSRF_HEADER: token}
    answer = browser.post("/api/v1/tenants", json={"name": "acme"}, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:sallyport:problem:csrf")
    assert browser.post("/sign-out", headers=headers).status_code == 403


def test_another_site_signs_nobody_in(console: Console) -> None:
    console.signed_in("ann")
    given = {"name": "ann", "password": PASSWORD}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert console.client().post("/sign-in", data=given, headers=headers).status_code == 403
    assert (
        console.client().post("/sign-in", data=given, headers={"Origin": "https://console.example"}).status_code == 303
    )


@pytest.mark.parametrize(
    "next", ["https://evil.example/", "//evil.example", "/\\evil.example", "/\t/evil.example", "x"]
)
def test_after_signing_in_one_is_sent_nowhere_else(console: Console, next: str) -> None:
    console.signed_in("ann")
    answer = console.client().post("/sign-in", data={"name": "ann", "password": PASSWORD, "next": next})
    assert answer.headers["location"] == "/"


def test_an_api_token_is_for_the_api_and_needs_no_csrf_token(console: Console) -> None:
    program = console.with_token("ann")
    answer = program.post("/api/v1/tenants", json={"name": "acme"})
    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/v1/tenants/acme"
    assert program.get("/t/default/").status_code == 303
    reader = console.with_token("ann", Scope.READ)
    assert reader.post("/api/v1/tenants", json={"name": "beta"}).status_code == 403


def test_who_must_not_see_a_tenant_cannot_tell_whether_there_is_one(console: Console) -> None:
    console.tenant("acme")
    other = console.signed_in("bob", Role.ADMINISTRATOR, "default")
    assert [one["name"] for one in other.get("/api/v1/tenants").json()["items"]] == ["default"]
    told = {}
    for name in ("acme", "nobody"):
        answer = other.get(f"/api/v1/tenants/{name}/trusted-cas")
        assert answer.status_code == 404
        told[name] = answer.json()["detail"].replace(name, "")
    assert told["acme"] == told["nobody"]


def test_every_answer_tells_browsers_to_be_careful(console: Console) -> None:
    browser = console.signed_in("ann")
    for path in ("/t/default/", "/nowhere", "/api/v1/tenants", "/api/v1/nowhere", "/static/nothing", "/sign-in"):
        answer = browser.get(path)
        assert [name for name in SECURITY if name not in answer.headers] == [], path
        assert answer.headers["cache-control"] == "no-store"
        assert "unsafe" not in answer.headers["content-security-policy"]
    for page in ("/t/default/", "/sign-in"):
        assert "<script>" not in browser.get(page).text
        assert "style=" not in browser.get(page).text


def test_a_body_that_is_too_large_is_refused_before_it_is_read(console: Console) -> None:
    program = console.with_token("ann")
    answer = program.post("/api/v1/tenants", content=b"x" * (9 << 20), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:sallyport:problem:too-large")
    pieces = (b"x" * (1 << 20) for _ in range(9))  # nobody says how many
    answer = program.post("/api/v1/tenants", content=pieces, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:sallyport:problem:too-large")


def test_large_bodies_are_bounded_together_and_small_ones_get_by(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    console.signed_in("ann")
    stranger, kind = console.client(), {"Content-Type": "application/x-www-form-urlencoded"}
    monkeypatch.setattr(middleware, "MOST_AT_ONCE", 100 << 10)
    for _ in range(3):  # what was counted is given back
        assert stranger.post("/sign-in", content=b"x" * (150 << 10), headers=kind).status_code != 503
    answer = stranger.post("/sign-in", content=b"x" * (200 << 10), headers=kind)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    monkeypatch.setattr(middleware, "MOST_AT_ONCE", 0)
    assert stranger.post("/sign-in", data={"name": "ann", "password": PASSWORD}).status_code == 303


def test_a_create_with_a_key_is_done_once(console: Console) -> None:
    program = console.with_token("ann")
    first, again = (
        program.post("/api/v1/tenants", json={"name": "acme"}, headers={"Idempotency-Key": "1"}) for _ in range(2)
    )
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    other = program.post("/api/v1/tenants", json={"name": "beta"}, headers={"Idempotency-Key": "1"})
    assert (other.status_code, other.json()["type"]) == (422, "urn:sallyport:problem:key-reused")
    assert program.post("/api/v1/tenants", json={"name": "acme"}).status_code == 409


def test_what_was_answered_is_for_who_may_the_same(console: Console) -> None:
    for name in ("acme", "beta"):
        console.tenant(name)
    browser = console.signed_in("bob", Role.ADMINISTRATOR, "acme")
    given = {"json": {"name": "laptop"}, "headers": {"Idempotency-Key": "1"}}
    first = browser.post("/api/v1/tenants/acme/proxy-users", **given)
    assert first.status_code == 201, first.text
    assert browser.post("/api/v1/tenants/acme/proxy-users", **given).json() == first.json()
    accounts.change(console.inst, "bob", console.clock.now, None, ["beta"])
    assert browser.post("/api/v1/tenants/acme/proxy-users", **given).status_code == 404


def test_answers_that_are_kept_are_bounded_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "KEPT_BYTES", 32 << 10)
    answers, who = Answers(), Principal("ann", Role.OWNER, None)

    def asked(key: str, body: bytes) -> Answer | None:
        if (kept := answers.begin(who, key, "POST", "/", b"")) is None:
            answers.end(who, key, Answer(201, (), body))
        return kept

    assert [asked("first", b"x" * 1000), asked("huge", b"x" * 4096)] == [None, None]
    assert asked("first", b"") == Answer(201, (), b"x" * 1000)
    assert asked("huge", b"") is None
    for n in range(20):
        assert asked(str(n), b"x" * 1000) is None
    assert asked("first", b"") is None
    assert asked("19", b"") is not None
    answers.begin(who, "open", "POST", "/", b"")
    with pytest.raises(Problem, match="still being answered"):
        answers.begin(who, "open", "POST", "/", b"")


def test_a_session_that_ended_in_the_middle_is_begun_again_on_top_of_the_page(console: Console) -> None:
    browser = console.signed_in("ann")
    console.clock.advance(minutes=31)
    answer = browser.post("/sign-out", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["x-sign-in"], answer.text) == (401, "again", "")
    given = {"name": "ann", "password": PASSWORD}
    answer = browser.post("/sign-in", data=given, headers={"HX-Request": "true"})
    assert answer.status_code == 200
    token = answer.headers["hx-trigger"].split('"')[-2]
    assert (
        browser.post("/sign-out", headers={CSRF_HEADER: token, "HX-Request": "true"}).headers["hx-redirect"]
        == "/sign-in"
    )


def test_while_the_store_is_out_of_reach_pages_are_as_they_were(console: Console) -> None:
    browser, other = console.signed_in("ann"), console.signed_in("bob")
    assert "out of reach" not in browser.get("/t/default/").text
    with closing(sqlite3.connect(console.inst.store.path)) as damaging:
        damaging.execute("DROP TABLE sessions")
    answer = browser.get("/t/default/")
    assert (answer.status_code, "out of reach" in answer.text, "Overview" in answer.text) == (200, True, True)
    assert "no-store" in answer.headers["cache-control"]
    for client, path in ((other, "/t/default/"), (browser, "/t/default/?q=1"), (console.client(), "/t/default/")):
        answer = client.get(path)
        assert answer.status_code in (303, 503), path
        assert "Overview" not in answer.text
    answer = browser.post("/sign-out")
    assert answer.status_code == 503
    assert str(console.inst.state_dir) not in answer.text
    answer = browser.get("/api/v1/tenants")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:sallyport:problem:unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert str(console.inst.state_dir) not in answer.text


def test_what_a_stranger_sends_is_not_looked_at(console: Console) -> None:
    for headers in ({}, {"Idempotency-Key": "1"}):
        answer = console.client().post(
            "/api/v1/tenants", content=b"{", headers={"Content-Type": "application/json", **headers}
        )
        assert answer.status_code == 401


def test_password_fields_mask_what_is_typed_and_let_password_managers_work(console: Console) -> None:
    browser = console.signed_in("ann")
    pages = [console.client().get("/sign-in").text, browser.get("/me").text]
    fields = [
        one for page in pages for one in re.findall(r"<input[^>]*>", page) if re.search('name="(pass|curr|rep)', one)
    ]
    assert len(fields) >= 4
    for one in fields:
        assert 'type="password"' in one
        assert re.search('autocomplete="(current|new)-password"', one)
    assert "onpaste" not in "".join(pages)
    assert 'hx-post="/sign-out"' in pages[1]


def test_a_tokens_scope_and_an_accounts_role_are_not_changed_by_sending_them_along(console: Console) -> None:
    browser = console.signed_in("bob", Role.ADMINISTRATOR, "default")
    sent = {"name": "mine", "scope": "read", "account": "ann", "tenants": None}
    answer = browser.post("/api/v1/me/tokens", json=sent)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:sallyport:problem:invalid")
    assert [one["pointer"] for one in answer.json()["errors"]] == ["#/account"]
    assert browser.post("/api/v1/me/tokens", json={"name": "mine", "scope": "read"}).status_code == 201
