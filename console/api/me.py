"""``/me``: who asks, and what he may; his own sessions and tokens."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field

from console import people, problems
from console.api.accounts import Session
from console.api.logs import BIGGEST_ID
from console.api.models import Model
from console.api.once import Creating
from console.api.tokens import Made, NewOwn, Token, make
from console.parts import parts_of
from console.visit import Known, Visit, for_all
from control import accounts, api_tokens, sessions, sign_in, tenants
from control.authorisation import Action, Role, Scope
from control.shown import accounts as shown
from control.sign_in import WrongCredentials

router = APIRouter(prefix="/me", tags=["accounts"], route_class=Creating)
Own = Annotated[Visit, for_all(Action.OWN_ACCOUNT)]


class Allowed(Model):
    """What he may do with a tenant."""

    name: str
    actions: list[Action]


class Me(Model):
    """Who asks, and what he may."""

    account: Annotated[str, Field(examples=["ann"])]
    role: Role
    token: Annotated[str | None, Field(description="the API token's name; null: a session asks")]
    scope: Annotated[Scope | None, Field(description="the API token's")]
    second_factor: bool
    actions: Annotated[list[Action], Field(description="with the installation as a whole")]
    tenants: list[Allowed]


class OwnSession(Session):
    """The same; ``current``: the one that asks."""

    current: bool


class Again(Model):
    """One's current password: what is asked for makes sure that it is still the same person."""

    password: Annotated[str, Field(max_length=4096)] = ""


@router.get("", name="show_me", response_model=Me)
def show(visit: Known) -> Any:
    """Say who asks, and what he may."""
    who = visit.who
    return {
        "account": who.account,
        "role": who.role,
        "token": who.token,
        "scope": who.scope,
        "second_factor": accounts.show(visit.inst, who.account, visit.now).account.second_factor,
        "actions": [action for action in Action if visit.may(action, None)],
        "tenants": [
            {"name": one.name, "actions": [action for action in Action if visit.may(action, one.name)]}
            for one in tenants.listing(visit.inst)
            if visit.sees(one.name)
        ],
    }


@router.get("/sessions", name="list_my_sessions", response_model=list[OwnSession])
def my_sessions(visit: Own) -> Any:
    """List one's own sessions, the one used last first."""
    current = visit.signed_in.session.id if visit.signed_in else None
    found = sessions.listing(visit.inst, visit.who.account, visit.now)
    return [shown.session_as_object(one) | {"current": one.id == current} for one in found]


@router.post("/sessions:revoke", name="revoke_my_other_sessions", status_code=HTTPStatus.NO_CONTENT)
def revoke_others(given: Again, request: Request, visit: Own) -> None:
    """End one's other sessions."""
    own = _reauthenticated(request, visit, given.password)
    sessions.revoke_all(visit.inst, visit.who.account, visit.now, own)


@router.post("/sessions/{id}:revoke", name="revoke_my_session", status_code=HTTPStatus.NO_CONTENT)
def revoke_session(id: Annotated[int, Path(ge=1, le=BIGGEST_ID)], given: Again, request: Request, visit: Own) -> None:
    """End one of one's own sessions; the one that asks without a password."""
    if visit.signed_in is None or id != visit.signed_in.session.id:
        _reauthenticated(request, visit, given.password)
    sessions.revoke(visit.inst, visit.who.account, id, visit.now)


@router.get("/tokens", name="list_my_tokens", response_model=list[Token])
def my_tokens(visit: Own) -> Any:
    """List one's own tokens."""
    return [shown.token_as_object(one, visit.now) for one in api_tokens.listing(visit.inst, visit.who.account)]


@router.post("/tokens", name="create_my_token", status_code=HTTPStatus.CREATED, response_model=Made)
def create_token(new: NewOwn, response: Response, visit: Own) -> Any:
    """Make a token in one's own name."""
    return make(visit, new, visit.who.account, response, "me/tokens")


@router.delete("/tokens/{name:path}", name="revoke_my_token", status_code=HTTPStatus.NO_CONTENT)
def revoke_token(name: Annotated[str, Path(max_length=400)], visit: Own) -> None:
    """Revoke one of one's own tokens. There is no way back."""
    people.own_token(visit, name)
    api_tokens.revoke(visit.inst, name, visit.now)


def _reauthenticated(request: Request, visit: Visit, password: str) -> int:
    """The session that asks, where it is still the same person. Raises Problem, and Refused."""
    if visit.signed_in is None or visit.token is None:
        raise problems.unauthorized()
    try:
        sign_in.reauthenticate(visit.inst, visit.token, password, visit.source, visit.now, parts_of(request).hashing)
    except WrongCredentials as error:  # the session goes on, so it is no 401
        raise problems.Problem(HTTPStatus.FORBIDDEN, "wrong-credentials", str(error)) from None
    return visit.signed_in.session.id
