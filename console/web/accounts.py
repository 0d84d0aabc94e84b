"""Who may use console and API: accounts, their sessions and second factors."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Request, Response

from console import people, problems
from console.api.accounts import COLUMNS, Named
from console.api.logs import BIGGEST_ID
from console.parts import parts_of
from console.visit import Visit
from console.web.forms import Text, Texts, again
from console.web.listing import remember, view
from console.web.pages import Here, done, go, is_htmx, render
from control import accounts, due, second_factor, sessions, tenants
from control.authorisation import Action, Role
from control.due import GIVEN_LASTS
from control.errors import Refused
from control.guessing import Standing
from control.passwords import SHORTEST
from control.shown import accounts as shown
from store.records import Account

router = APIRouter()
ROLES = (
    (Role.ADMINISTRATOR, "Administrator: changes everything but tenants and accounts"),
    (Role.AUDITOR, "Auditor: sees everything, changes nothing"),
    (Role.OWNER, "Owner: the same as an administrator, and manages tenants and accounts"),
)
ALL, SOME = "all", "some"
CHANGED_FIRST = f"At the first sign-in another one is chosen; after {GIVEN_LASTS.days} days it lets nobody in."
"""What is said of a password that is given to somebody."""


def _sees(visit: Here) -> Visit:
    visit.need_somewhere(Action.VIEW_ACCOUNTS)
    return visit


def _manages(visit: Here) -> Visit:
    visit.need_somewhere(Action.MANAGE_ACCOUNTS)
    return visit


Seeing = Annotated[Visit, Depends(_sees)]
Managing = Annotated[Visit, Depends(_manages)]
Number = Annotated[int, Path(ge=1, le=BIGGEST_ID)]


@router.get("/accounts")
def listing(request: Request, visit: Seeing) -> Response:
    """Who has access."""
    standing = accounts.standings(visit.inst, visit.now)
    found = view(request, "accounts", people.seen_accounts(visit), COLUMNS, "name", ("role",))
    told = {one.name: standing.get(one.name, Standing()) for one in found.part.items}
    context = {
        "view": found,
        "standing": told,
        "state_of": _state,
        "tenants_of": shown.tenants,
        "until": due.given_until,
        "over": lambda one: due.given_over(one, visit.now),
        "roles": [role.value for role in Role],
        "may_manage": visit.who.role is Role.OWNER,
        "me": visit.who.account,
    }
    response = render(request, "accounts.html", context, visit=visit, here="accounts")
    remember(request, response, "accounts")
    return response


@router.get("/accounts:new")
def new(request: Request, visit: Managing) -> Response:
    """Ask for what an account is to be."""
    if not is_htmx(request):
        return go(request, "/accounts")
    return render(request, "account_new.html", _form(visit) | {"error": ""})


@router.post("/accounts")
def create(
    request: Request,
    visit: Managing,
    name: Text = "",
    role: Text = "",
    of: Text = ALL,
    tenant: Texts = [],  # noqa: B006 - FastAPI copies it
    password: Text = "",
) -> Response:
    """Make it; a password that is made here is shown once."""
    name = name.strip().lower()
    try:
        names = _tenants(of, tenant)
        people.need_for(visit, Action.MANAGE_ACCOUNTS, names)
        secret = people.given_or_made(password)
        hashing = parts_of(request).hashing
        accounts.create(visit.inst, name, secret.text, _role(role), names, visit.now, hashing)
    except problems.EXPECTED as error:
        context = _form(visit, role, of, tenant) | {"name": name}
        return again(request, error, "account_new.html", context)
    if not secret.made:
        return done(request, visit, _at(name), f"Account {name} is created. {CHANGED_FIRST}")
    return _shown_once(request, name, secret, "is created")


@router.get("/accounts/{name}")
def page(name: Named, request: Request, visit: Seeing) -> Response:
    """One account."""
    details = people.account(visit, name)
    mine = name == visit.who.account
    context = {
        "details": details,
        "one": details.account,
        "state": _state(details.account, details.standing),
        "tenants_text": shown.tenants(details.account),
        "until": due.given_until,
        "over": lambda one: due.given_over(one, visit.now),
        "manages": people.manages(visit, details.account),
        "mine": mine,
        "current": visit.signed_in.session.id if mine and visit.signed_in else None,
        "error": "",
        **_form(visit, details.account.role, *_of(details.account)),
        "name": name,
    }
    return render(request, "account.html", context, visit=visit, here="accounts")


@router.post("/accounts/{name}/change")
def change(
    name: Named,
    request: Request,
    visit: Managing,
    role: Text = "",
    of: Text = ALL,
    tenant: Texts = [],  # noqa: B006 - FastAPI copies it
    tenants: Text = "",
) -> Response:
    """Give it another role or other tenants. ``tenants``: several of them, from who takes a change back."""
    before = people.account(visit, name, Action.MANAGE_ACCOUNTS).account
    tenant = [*tenant, *tenants.split()]
    try:
        names = _tenants(of, tenant)
        people.need_for(visit, Action.MANAGE_ACCOUNTS, names)
        made = accounts.change(visit.inst, name, visit.now, _role(role), names, all_tenants=names is None)
    except problems.EXPECTED as error:
        return again(request, error, "account_change.html", _form(visit, role, of, tenant) | {"name": name})
    was, were = _of(before)
    fields = {"role": before.role, "of": was, "tenants": " ".join(were)}
    text = f"{name} is now {made.role} of {shown.tenants(made)}."
    return done(request, visit, _at(name), text, undo=f"{_at(name)}/change", fields=fields)


@router.post("/accounts/{name}/disable")
def disable(name: Named, request: Request, visit: Managing) -> Response:
    """Let nobody in with it."""
    people.account(visit, name, Action.MANAGE_ACCOUNTS)
    accounts.disable(visit.inst, name, visit.now)
    text = f"Account {name} is disabled, and so are its tokens. Its sessions have ended."
    return done(request, visit, _at(name), text, undo=f"{_at(name)}/enable")


@router.post("/accounts/{name}/enable")
def enable(name: Named, request: Request, visit: Managing) -> Response:
    """Let it in again, or unlock it."""
    people.account(visit, name, Action.MANAGE_ACCOUNTS)
    accounts.enable(visit.inst, name, visit.now)
    return done(request, visit, _at(name), f"Account {name} is enabled, and so are its tokens.")


@router.get("/accounts/{name}/password")
def ask_password(name: Named, request: Request, visit: Managing) -> Response:
    """Ask for another password."""
    people.others(visit, name)
    if not is_htmx(request):
        return go(request, _at(name))
    context = {"name": name, "error": "", "shortest": SHORTEST, "changed_first": CHANGED_FIRST}
    return render(request, "account_password.html", context)


@router.post("/accounts/{name}/password")
def set_password(name: Named, request: Request, visit: Managing, password: Text = "") -> Response:
    """Give it another password; one that is made here is shown once."""
    people.others(visit, name)
    secret = people.given_or_made(password)
    try:
        accounts.set_password(visit.inst, name, secret.text, visit.now, parts_of(request).hashing)
    except problems.EXPECTED as error:
        context = {"name": name, "shortest": SHORTEST, "changed_first": CHANGED_FIRST}
        return again(request, error, "account_password.html", context)
    if not secret.made:
        text = f"Account {name} has another password, and its sessions have ended. {CHANGED_FIRST}"
        return done(request, visit, _at(name), text)
    return _shown_once(request, name, secret, "has another password, and its sessions have ended")


@router.get("/accounts/{name}/second-factor")
def ask_second_factor(name: Named, request: Request, visit: Managing) -> Response:
    """Ask whether it is to go."""
    people.others(visit, name)
    return _asked(request, "account_second_factor.html", name, required=due.second_factor_required(visit.inst.settings))


@router.post("/accounts/{name}/second-factor")
def reset_second_factor(name: Named, request: Request, visit: Managing) -> Response:
    """Take it away, for who has lost it."""
    people.others(visit, name)
    second_factor.reset(visit.inst, name, visit.now)
    return done(request, visit, _at(name), f"Account {name} has no second factor. Its sessions have ended.")


@router.get("/accounts/{name}/delete")
def ask_delete(name: Named, request: Request, visit: Managing) -> Response:
    """Ask whether it is to go for good."""
    people.account(visit, name, Action.MANAGE_ACCOUNTS)
    return _asked(request, "account_delete.html", name)


@router.post("/accounts/{name}/delete")
def delete(name: Named, request: Request, visit: Managing) -> Response:
    """Delete it."""
    people.account(visit, name, Action.MANAGE_ACCOUNTS)
    accounts.delete(visit.inst, name, visit.now)
    return done(request, visit, "/accounts", f"Account {name} is deleted, and with it its sessions and tokens.")


@router.post("/accounts/{name}/sessions/{id}/revoke")
def revoke_session(name: Named, id: Number, request: Request, visit: Managing) -> Response:
    """End one of its sessions."""
    people.others(visit, name)
    sessions.revoke(visit.inst, name, id, visit.now)
    return done(request, visit, _at(name), f"One session of {name} has ended.")


@router.post("/accounts/{name}/sessions/revoke")
def revoke_sessions(name: Named, request: Request, visit: Managing) -> Response:
    """End its sessions."""
    people.others(visit, name)
    ended = sessions.revoke_all(visit.inst, name, visit.now)
    return done(request, visit, _at(name), f"{ended} session{'' if ended == 1 else 's'} of {name} ended.")


def _asked(request: Request, template: str, name: str, **more: Any) -> Response:
    return render(request, template, {"name": name, **more}) if is_htmx(request) else go(request, _at(name))


def _shown_once(request: Request, name: str, secret: people.Password, what: str) -> Response:
    context = {"name": name, "password": secret.text, "what": what, "at": _at(name), "changed_first": CHANGED_FIRST}
    return render(request, "account_password_once.html", context)


def _form(
    visit: Visit, role: str = Role.ADMINISTRATOR, of: str = "", chosen: list[str] | None = None
) -> dict[str, Any]:
    """What the form about an account offers to who manages accounts: his own tenants, or all."""
    for_all = visit.may(Action.MANAGE_ACCOUNTS, None)
    known = [one.name for one in tenants.listing(visit.inst) if visit.may(Action.MANAGE_ACCOUNTS, one.name)]
    return {
        "name": "",
        "roles": ROLES,
        "chosen_role": role,
        "of": of or (ALL if for_all else SOME),
        "chosen": chosen or [],
        "known": known,
        "for_all": for_all,
        "shortest": SHORTEST,
        "changed_first": CHANGED_FIRST,
    }


def _of(account: Account) -> tuple[str, list[str]]:
    return (ALL, []) if account.tenants is None else (SOME, list(account.tenants))


def _tenants(of: str, names: list[str]) -> list[str] | None:
    return None if of == ALL else names


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise Refused(f"there is no role {text[:40]!r}; choose one of {', '.join(Role)}") from None


def _state(account: Account, standing: Standing) -> tuple[str, str]:
    """The state in a word, and how it looks."""
    word = shown.status(account, standing)
    if word == "enabled" and standing.again_at is not None:
        return "waiting after wrong guesses", "warn"
    return word, {"enabled": "good", "locked": "bad"}.get(word, "")


def _at(name: str) -> str:
    return f"/accounts/{quote(name, safe='')}"
