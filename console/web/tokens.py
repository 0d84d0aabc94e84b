"""API tokens: programs' way in, in the name of an account. And what both the page of all tokens and one's own share."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from console import people, problems
from console.api.tokens import COLUMNS
from console.visit import Visit
from console.web.accounts import Managing, Seeing
from console.web.forms import Text, Texts, again
from console.web.listing import remember, view
from console.web.pages import done, go, is_htmx, render
from control import api_tokens
from control.authorisation import Action, Role, Scope
from control.ends import end_of
from control.errors import Refused
from control.shown import accounts as shown

router = APIRouter()
ENDS = (
    ("90", "In 90 days"),
    ("7", "In a week"),
    ("30", "In 30 days"),
    ("365", "In a year"),
    ("never", "Never"),
    ("date", "On a date"),
)
TokenName = Annotated[str, Query(max_length=400)]


@router.get("/tokens")
def listing(request: Request, visit: Seeing) -> Response:
    """Which tokens there are."""
    found = view(request, "tokens", people.seen_tokens(visit), COLUMNS, "name", ("scope",))
    context = {
        "view": found,
        "status_of": lambda one: shown.token_status(one, visit.now),
        "tenants_of": shown.token_tenants,
        "may_manage": visit.who.role is Role.OWNER,
    }
    response = render(request, "tokens.html", context, visit=visit, here="accounts")
    remember(request, response, "tokens")
    return response


@router.get("/tokens:new")
def new(request: Request, visit: Managing) -> Response:
    """Ask for what a token is to be."""
    if not is_htmx(request):
        return go(request, "/tokens")
    return render(request, "token_new.html", _form(visit) | {"error": ""})


@router.post("/tokens")
def create(
    request: Request,
    visit: Managing,
    name: Text = "",
    account: Text = "",
    scope: Text = "",
    tenant: Texts = [],  # noqa: B006 - FastAPI copies it
    ends: Text = "90",
    date: Text = "",
) -> Response:
    """Make it, and show its text once."""
    try:
        people.account(visit, account, Action.MANAGE_ACCOUNTS)
    except problems.Problem as problem:
        return again(
            request, Refused(problem.detail), "token_new.html", _form(visit, name, account, scope, tenant, ends, date)
        )
    context = _form(visit, name, account, scope, tenant, ends, date)
    return make(request, visit, account, context, "token_new.html", "/tokens")


@router.get("/tokens:revoke")
def ask_revoke(request: Request, visit: Managing, name: TokenName = "") -> Response:
    """Ask whether it is to go for good."""
    found = people.token(visit, name, Action.MANAGE_ACCOUNTS)
    if not is_htmx(request):
        return go(request, "/tokens")
    return render(request, "token_revoke.html", {"one": found, "action": "/tokens:revoke"})


@router.post("/tokens:revoke")
def revoke(request: Request, visit: Managing, name: Text = "") -> Response:
    """Revoke it."""
    people.token(visit, name, Action.MANAGE_ACCOUNTS)
    api_tokens.revoke(visit.inst, name, visit.now)
    return done(request, visit, "/tokens", f"Token {name} is revoked, from the next request on.")


def make(request: Request, visit: Visit, account: str, context: dict[str, Any], template: str, back: str) -> Response:
    """Make a token of what the form says, and show its text once."""
    try:
        end = _end(context["ends"], context["date"], visit.now)
        scope = _scope(context["scope"])
        name, names = context["name"].strip(), context["chosen"] or None
        made, text = api_tokens.create(visit.inst, name, account, visit.now, scope, names, end)
    except problems.EXPECTED as error:
        return again(request, error, template, context)
    return render(request, "token_once.html", {"one": made, "text": text, "back": back})


def fields(
    name: str = "",
    scope: str = Scope.READ,
    chosen: list[str] | None = None,
    ends: str = "90",
    date: str = "",
) -> dict[str, Any]:
    """What both forms for a new token have in them."""
    return {
        "name": name,
        "scope": scope,
        "scopes": ((Scope.READ, "Read"), (Scope.WRITE, "Read and write")),
        "chosen": chosen or [],
        "ends": ends,
        "all_ends": ENDS,
        "date": date,
    }


def _form(visit: Visit, name: str = "", account: str = "", *more: Any) -> dict[str, Any]:
    names = [one.name for one in people.seen_accounts(visit) if people.manages(visit, one)]
    known = [one.name for one in visit.inst.tenants() if visit.may(Action.MANAGE_ACCOUNTS, one.name)]
    return {
        "account": account or visit.who.account,
        "account_choices": [(one, one) for one in names],
        "known": known,
        **fields(name, *more),
    }


def _scope(text: str) -> Scope:
    try:
        return Scope(text)
    except ValueError:
        raise Refused(f"there is no scope {text[:40]!r}; choose one of {', '.join(Scope)}") from None


def _end(ends: str, date: str, now: datetime) -> datetime | None:
    """When the token is to end: never, in so many days, or as that day ends (UTC)."""
    if ends == "never":
        return None
    if ends == "date":
        return end_of(date)
    if ends not in {key for key, _ in ENDS}:
        raise Refused(f"{ends[:40]!r} is no end of a token; choose one of those in the list")
    return now + timedelta(days=int(ends))
