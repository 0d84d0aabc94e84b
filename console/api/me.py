"""``/me``: who asks, and what he may; his own sessions and tokens."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import Field

from console import people
from console.api.accounts import Session
from console.api.logs import BIGGEST_ID
from console.api.models import Model
from console.api.once import Creating
from console.api.tokens import Made, NewOwn, Token, make
from console.visit import Known, Visit, for_all
from control import accounts, api_tokens, sessions, tenants
from control.authorisation import Action, Role, Scope
from control.shown import accounts as shown

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


@router.delete("/sessions/{id}", name="revoke_my_session", status_code=HTTPStatus.NO_CONTENT)
def revoke_session(id: Annotated[int, Path(ge=1, le=BIGGEST_ID)], visit: Own) -> None:
    """End one of one's own sessions."""
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
