"""Who may do what, asked of every route that there is, as somebody of every kind.

Routes of tenants are covered by themselves: to look takes ``view``, anything else ``change``. Any other route is named
in :data:`NEEDS`, and a test fails for one that is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from starlette.testclient import TestClient

from control.authorisation import Action, Principal, Role, Scope, may, may_somewhere
from control.due import Due
from store import audit_log, changes
from tests.console.conftest import REQUIRING, Console
from tests.control.conftest import account, given, trust
from tests.harness.console_routes import Operation, operations
from tests.harness.pki import Authority

TENANT, INSTALLATION, SOMEWHERE, ANYBODY, PUBLIC = "tenant", "installation", "somewhere", "anybody", "public"


@dataclass(frozen=True)
class Need:
    """What it takes: an action with the path's tenant, with the installation, or with anything at all.

    ANYBODY: to be known. PUBLIC: not even that.
    """

    of: str
    action: Action = Action.VIEW


KNOWN, STRANGER, OWN = Need(ANYBODY), Need(PUBLIC), Need(INSTALLATION, Action.OWN_ACCOUNT)
SEE, MANAGE = Need(SOMEWHERE, Action.VIEW_ACCOUNTS), Need(SOMEWHERE, Action.MANAGE_ACCOUNTS)
LOOK, CHANGE = Need(TENANT, Action.VIEW), Need(TENANT, Action.CHANGE)
TENANTS, ITS_TENANT = Need(INSTALLATION, Action.MANAGE_TENANTS), Need(TENANT, Action.MANAGE_TENANTS)

OF_TENANTS = ("/api/v1/tenants/{tenant}/", "/t/{tenant}/")
NEEDS: dict[str, tuple[Need, Need]] = {
    # To look, and to change. A path holds for all below it that are not named.
    "/": (KNOWN, KNOWN),
    "/setup/{token}": (STRANGER, STRANGER),
    "/sign-in": (STRANGER, STRANGER),
    "/proxy.pac": (STRANGER, STRANGER),
    "/sign-out": (OWN, OWN),
    "/me": (OWN, OWN),
    "/api/v1/me": (OWN, OWN),
    "GET /api/v1/me": (KNOWN, KNOWN),
    "/accounts": (SEE, MANAGE),
    "GET /accounts:new": (MANAGE, MANAGE),
    "GET /accounts/{name}/password": (MANAGE, MANAGE),
    "GET /accounts/{name}/second-factor": (MANAGE, MANAGE),
    "GET /accounts/{name}/delete": (MANAGE, MANAGE),
    "/api/v1/accounts": (SEE, MANAGE),
    "/tokens": (SEE, MANAGE),
    "GET /tokens:new": (MANAGE, MANAGE),
    "/tokens:revoke": (MANAGE, MANAGE),
    "/api/v1/tokens": (SEE, MANAGE),
    "/tenants": (KNOWN, TENANTS),
    "GET /tenants:new": (TENANTS, TENANTS),
    "/tenants/{tenant}": (LOOK, ITS_TENANT),
    "GET /tenants/{tenant}/delete": (ITS_TENANT, ITS_TENANT),
    "/api/v1/tenants": (KNOWN, TENANTS),
    "/api/v1/tenants/{tenant}": (LOOK, ITS_TENANT),
    "GET /t/{tenant}/certificates/trusted/new": (CHANGE, CHANGE),
    "GET /t/{tenant}/certificates/trusted/rename": (CHANGE, CHANGE),
    "/audit": (KNOWN, KNOWN),
    "/api/v1/audit-log": (KNOWN, KNOWN),
    "/api/v1/issuance-log": (KNOWN, KNOWN),
    "/api/v1/nodes": (KNOWN, KNOWN),
    "/api/v1/events": (KNOWN, KNOWN),
}
ENDLESS = ("/events", "/progress", "/stream")
"""How addresses end whose answers do not: only whether one is refused is looked at."""


def need_of(one: Operation) -> Need | None:
    """What it takes; None: nobody has said so."""
    place = 0 if one.safe else 1
    if (exact := NEEDS.get(f"{one.method} {one.path}")) is not None:
        return exact[place]
    if one.path.startswith(OF_TENANTS) and f"{one.path}" not in NEEDS:
        return (LOOK, CHANGE)[place]
    at = one.path
    while at:
        if at in NEEDS and (at != "/" or one.path == "/"):
            return NEEDS[at][place]
        at = at[: max(at.rfind("/"), at.rfind(":"))] if len(at) > 1 else ""
    return None


WHO: dict[str, tuple[Role, tuple[str, ...], Scope | None] | None] = {
    "the owner of all": (Role.OWNER, (), None),
    "an administrator of all": (Role.ADMINISTRATOR, (), None),
    "an administrator of acme": (Role.ADMINISTRATOR, ("acme",), None),
    "an auditor of all": (Role.AUDITOR, (), None),
    "an auditor of acme": (Role.AUDITOR, ("acme",), None),
    "a token to read": (Role.OWNER, (), Scope.READ),
    "a token to write": (Role.OWNER, (), Scope.WRITE),
    "nobody": None,
}


def allowed(who: Principal | None, need: Need, tenant: str) -> bool:
    if need.of == PUBLIC:
        return True
    if who is None:
        return False
    if need.of == ANYBODY:
        return True
    if need.of == SOMEWHERE:
        return may_somewhere(who, need.action)
    return may(who, need.action, tenant if need.of == TENANT else None)


@pytest.mark.parametrize("kind", WHO)
def test_everybody_may_what_he_may_and_nothing_else(console: Console, kind: str) -> None:
    for name in ("acme", "beta"):
        console.tenant(name)
        trust(console.inst, name, "x", Authority.root(name).pem())
    console.signed_in("x")
    principal, client = somebody(console, kind)
    faults = []
    for one in operations():
        if (need := need_of(one)) is None:
            faults.append(f"{one.method} {one.path}: nobody has said in NEEDS what it takes")
            continue
        for tenant in ("acme", "beta") if "{tenant}" in one.path else ("acme",):
            open = one.api or usable(principal) or need.of == PUBLIC
            check = _allowed if open and allowed(principal, need, tenant) else _refused
            faults += [
                f"{kind}: {one.method} {one.at(tenant=tenant)}: {fault}"
                for fault in check(console, client, one, tenant, principal)
            ]
    assert not faults, "\n".join(faults)


FIRST = "/me/first"
TO_DO = {
    Due.PASSWORD: {"/me/password"},
    Due.SECOND_FACTOR: {"/me/second-factor", "/me/second-factor/confirm"},
}
"""What may be sent by who has that to do first, beside signing out."""


@pytest.mark.parametrize("due", Due)
@pytest.mark.parametrize("section", [REQUIRING])
def test_who_has_something_to_do_first_may_do_that_and_nothing_else(console: Console, due: Due) -> None:
    console.tenant("acme")
    account(console.inst, "x") if due is Due.SECOND_FACTOR else given(console.inst, "x")
    console.made["x"] = 1
    client, faults = console.signed_in("x"), []
    may = {("GET", FIRST), *(("POST", path) for path in TO_DO[due])}
    before, open = state(console), set()
    for one in operations():
        need = need_of(one)
        if (need is not None and need.of == PUBLIC) or one.path == "/sign-out":
            continue
        answer = client.request(one.method, one.at(tenant="acme"), **one.sent())
        if (one.method, one.path) in may:
            open.add((one.method, one.path))
            held = answer.status_code in (200, 422) and "hx-redirect" not in answer.headers
        elif one.api:
            held = (answer.status_code, answer.json().get("due")) == (403, due.value)
        else:
            held = (answer.status_code, answer.headers.get("location")) == (303, FIRST)
        if not held:
            faults.append(f"{one.method} {one.path}: answered {answer.status_code} {answer.text[:200]}")
    assert not faults, "\n".join(faults)
    assert open == may
    assert state(console) == before
    assert client.post("/sign-out").headers["location"] == "/sign-in"
    assert client.get(FIRST).headers["location"].startswith("/sign-in")


def usable(who: Principal | None) -> bool:
    """Whether pages are for him: a token is for the API."""
    return who is None or who.scope is None


def somebody(console: Console, kind: str) -> tuple[Principal | None, TestClient]:
    told = WHO[kind]
    if told is None:
        return None, console.client()
    role, of, scope = told
    name = "somebody"
    client = console.signed_in(name, role, *of) if scope is None else console.with_token(name, scope, role, *of)
    return Principal(name, role, frozenset(of) or None, scope, None if scope is None else "t"), client


def _allowed(console: Console, client: TestClient, one: Operation, tenant: str, who: Principal | None) -> list[str]:
    """He may: looked at is what changes nothing, since what he may change would be gone for the next one."""
    if not one.safe or one.path.endswith(ENDLESS):
        return []
    answer = client.request(one.method, one.at(tenant=tenant), **one.sent())
    if (
        answer.status_code == 403
        and who is not None
        and one.path.startswith("/t/")
        and not may(who, Action.CHANGE, tenant)
    ):
        return []  # the form for a change, which he may not make
    sent_away = answer.headers.get("location", "").startswith("/sign-in") and who is not None and one.path != "/sign-in"
    return [f"answered {answer.status_code}"] if answer.status_code in (401, 403) or sent_away else _fault(answer)


def _refused(console: Console, client: TestClient, one: Operation, tenant: str, who: Principal | None) -> list[str]:
    """He may not: told so before anything of the body is looked at, and nothing is changed."""
    found, before = [], state(console)
    wrong: dict[str, Any] = (
        {"json": {"nonsense": 1}} if one.body is not None and who is not None and who.role is Role.AUDITOR else {}
    )
    for sent in (one.sent(), *((wrong,) if wrong else ())):
        answer = client.request(one.method, one.at(tenant=tenant), **sent)
        if (said := _wrong(answer, one, tenant, who)) is not None:
            found.append(said)
    if state(console) != before:
        found.append("something was changed")
    return found


def _wrong(answer: Any, one: Operation, tenant: str, who: Principal | None) -> str | None:
    if who is None or (not one.api and who.scope is not None):
        to_sign_in = answer.status_code == 303 and answer.headers["location"].startswith("/sign-in")
        expected = answer.status_code == 401 or (to_sign_in and not one.api)
    elif "{tenant}" in one.path and who.tenants is not None and tenant not in who.tenants:
        expected = answer.status_code == 404
    else:
        expected = answer.status_code in (403, 404)
    return None if expected else f"answered {answer.status_code} {answer.headers.get('location', '')}"


def _fault(answer: Any) -> list[str]:
    return [f"answered {answer.status_code}: {answer.text[:200]}"] if answer.status_code >= 500 else []


def state(console: Console) -> tuple[int, int]:
    """The last entry of the audit log, and the last change."""
    with console.inst.store.reading() as c:
        entries = audit_log.newest(c, 1)
        return entries[0].id if entries else 0, changes.latest(c)


def test_whatever_is_named_is_there(console: Console) -> None:
    paths = {one.path for one in operations()}
    for name in NEEDS:
        path = name.rpartition(" ")[2]
        assert any(each == path or each.startswith((f"{path}/", f"{path}:")) for each in paths), name
