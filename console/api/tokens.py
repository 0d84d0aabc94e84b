"""``/tokens``: programs' way to the API, in the name of an account. To make or revoke one takes a session."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from console import people
from console.api.models import Model, Moment, Name, Paged
from console.api.once import Creating
from console.api.paging import Paging, paged
from console.tables import Column
from console.visit import Visit, somewhere
from control import api_tokens
from control.authorisation import Action, Scope
from control.shown import accounts as shown
from store.records import ApiToken

router = APIRouter(prefix="/tokens", tags=["accounts"], route_class=Creating)
Seeing = Annotated[Visit, somewhere(Action.VIEW_ACCOUNTS)]
Managing = Annotated[Visit, somewhere(Action.MANAGE_ACCOUNTS)]
COLUMNS: tuple[Column[ApiToken], ...] = (
    Column("name", "Name", lambda one: one.name),
    Column("account", "Account", lambda one: one.account),
    Column("scope", "Scope", lambda one: one.scope),
    Column("tenants", "Tenants", shown.token_tenants),
    Column("expires_at", "Expires", lambda one: one.expires_at, found=False),
    Column("used_at", "Last used", lambda one: one.used_at, found=False),
    Column("created_at", "Created", lambda one: one.created_at, shown=False, found=False),
    Column("created_by", "Created by", lambda one: one.created_by, shown=False),
)
Named = Annotated[str, Path(max_length=400)]


class Token(Model):
    """An API token, without what lets somebody in."""

    name: Annotated[str, Field(examples=["ci"])]
    account: str
    scope: Scope
    tenants: Annotated[list[str] | None, Field(description="null: all that its account has")]
    status: Literal["active", "expired"]
    created_at: datetime
    created_by: str
    expires_at: Annotated[datetime | None, Field(description="null: never")]
    used_at: datetime | None


class Made(Token):
    """A token that was just made: ``token`` is shown this once."""

    token: Annotated[str, Field(examples=["spt_…"])]


class NewOwn(Model):
    """A token to be made. Without ``expires_at`` it ends after 90 days; null: never."""

    name: Name
    scope: Scope = Scope.READ
    tenants: Annotated[list[str] | None, Field(max_length=1000, description="null: all that the account has")] = None
    expires_at: Moment | None = None


class New(NewOwn):
    """The same, in the name of that account."""

    account: Annotated[str, Field(min_length=1, max_length=64, examples=["ann"])]


@router.get("", name="list_tokens", response_model=Paged[Token])
def listing(
    request: Request,
    response: Response,
    visit: Seeing,
    asked: Paging,
    account: Annotated[str | None, Query(max_length=64, description="only that account's")] = None,
) -> Any:
    """List the tokens of the accounts that whoever asks may see."""
    found = [one for one in people.seen_tokens(visit) if account in (None, one.account)]
    return paged(request, response, found, COLUMNS, asked, lambda one: shown.token_as_object(one, visit.now), "name")


@router.post("", name="create_token", status_code=HTTPStatus.CREATED, response_model=Made)
def create(new: New, response: Response, visit: Managing) -> Any:
    """Make a token in the name of an account."""
    people.account(visit, new.account, Action.MANAGE_ACCOUNTS)
    return make(visit, new, new.account, response, "tokens")


@router.get("/{name:path}", name="show_token", response_model=Token)
def show(name: Named, visit: Seeing) -> Any:
    """Show a token."""
    return shown.token_as_object(people.token(visit, name), visit.now)


@router.delete("/{name:path}", name="revoke_token", status_code=HTTPStatus.NO_CONTENT)
def revoke(name: Named, visit: Managing) -> None:
    """Revoke a token: nobody gets in with it, from the next request on. There is no way back."""
    people.token(visit, name, Action.MANAGE_ACCOUNTS)
    api_tokens.revoke(visit.inst, name, visit.now)


def make(visit: Visit, new: NewOwn, account: str, response: Response, where: str) -> dict[str, Any]:
    """Make the token, and answer with its text."""
    end = new.expires_at if "expires_at" in new.model_fields_set else visit.now + api_tokens.LASTS
    made, text = api_tokens.create(visit.inst, new.name, account, visit.now, new.scope, new.tenants, end)
    response.headers["Location"] = f"/api/v1/{where}/{quote(made.name, safe='')}"
    return shown.token_as_object(made, visit.now) | {"token": text}
