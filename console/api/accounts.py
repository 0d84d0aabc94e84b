"""``/accounts``: who may use console and API. To change them takes a session: no API token may."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from console import people
from console.api.logs import BIGGEST_ID
from console.api.models import Model, Paged
from console.api.once import Creating
from console.api.paging import Paging, paged
from console.parts import parts_of
from console.tables import Column
from console.visit import Visit, somewhere
from control import accounts, second_factor, sessions
from control.authorisation import Action, Role
from control.guessing import Standing
from control.passwords import LONGEST
from control.shown import accounts as shown
from store.records import Account as Record

router = APIRouter(prefix="/accounts", tags=["accounts"], route_class=Creating)
Seeing = Annotated[Visit, somewhere(Action.VIEW_ACCOUNTS)]
Managing = Annotated[Visit, somewhere(Action.MANAGE_ACCOUNTS)]
COLUMNS: tuple[Column[Record], ...] = (
    Column("name", "Name", lambda one: one.name),
    Column("role", "Role", lambda one: one.role),
    Column("tenants", "Tenants", shown.tenants),
    Column("enabled", "State", lambda one: one.enabled, found=False),
    Column("second_factor", "Second factor", lambda one: one.second_factor, found=False),
    Column("password_given_at", "Password", lambda one: one.password_given_at, found=False),
    Column("signed_in_at", "Last sign-in", lambda one: one.signed_in_at, found=False),
    Column("created_at", "Created", lambda one: one.created_at, found=False),
)
Named = Annotated[str, Path(max_length=200, examples=["ann"])]
Tenants = Annotated[list[str] | None, Field(max_length=1000, description="null: all there are and will be")]
Secret = Annotated[str | None, Field(max_length=LONGEST, description="null: one is made, and answered this once")]


class Account(Model):
    """Somebody who may use console and API."""

    name: Annotated[str, Field(examples=["ann"])]
    role: Role
    tenants: Annotated[list[str] | None, Field(description="null: all there are and will be")]
    enabled: bool
    second_factor: bool
    password_given_at: Annotated[
        datetime | None, Field(description="when somebody else gave its password; null: it is the person's own")
    ]
    password_to_be_changed_by: Annotated[
        datetime | None, Field(description="when a password that was given stops letting anybody in")
    ]
    created_at: datetime
    changed_at: datetime
    changed_by: str
    signed_in_at: datetime | None
    wrong_guesses: Annotated[int, Field(description="in a row, since somebody was last in")]
    locked: Annotated[bool, Field(description="after too many wrong guesses, until it is enabled again")]


class Session(Model):
    """Somebody who is signed in. ``awaits_code``: not quite, the second factor is still to come."""

    id: int
    awaits_code: bool
    origin: Annotated[str, Field(examples=["192.0.2.7"])]
    created_at: datetime
    used_at: datetime
    expires_at: datetime


class Details(Account):
    """An account, and what belongs to it."""

    recovery_codes: Annotated[int, Field(description="those that are left")]
    sessions: list[Session]
    tokens: list[str]


class WithPassword(Details):
    """The same; ``password``: the one that was made, shown this once."""

    password: str | None


class New(Model):
    """An account to be made."""

    name: Annotated[str, Field(min_length=1, max_length=64, examples=["bob"])]
    role: Role
    tenants: Tenants = None
    password: Secret = None


class Change(Model):
    """What is to be changed; what is left out stays."""

    role: Role | None = None
    tenants: Tenants = None


class NewPassword(Model):
    """Another password."""

    password: Secret = None


@router.get("", name="list_accounts", response_model=Paged[Account])
def listing(
    request: Request,
    response: Response,
    visit: Seeing,
    asked: Paging,
    role: Annotated[Role | None, Query(description="only those")] = None,
) -> Any:
    """List the accounts that whoever asks may see."""
    found = [one for one in people.seen_accounts(visit) if role in (None, one.role)]
    standing = accounts.standings(visit.inst, visit.now)

    def told(one: Record) -> dict[str, Any]:
        how = standing.get(one.name, Standing())  # none: it was made in between
        return shown.as_object(one) | shown.standing_as_object(how)

    return paged(request, response, found, COLUMNS, asked, told, "name")


@router.post("", name="create_account", status_code=HTTPStatus.CREATED, response_model=WithPassword)
def create(new: New, request: Request, response: Response, visit: Managing) -> Any:
    """Create an account. Its password is good for 7 days, and to be changed at the first sign-in."""
    people.need_for(visit, Action.MANAGE_ACCOUNTS, new.tenants)
    password = people.given_or_made(new.password)
    hashing = parts_of(request).hashing
    made = accounts.create(visit.inst, new.name, password.text, new.role, new.tenants, visit.now, hashing)
    response.headers["Location"] = f"/api/v1/accounts/{quote(made.name, safe='')}"
    return _with(visit, made.name, password)


@router.post("/{name}:enable", name="enable_account", response_model=Details)
def enable(name: Named, visit: Managing) -> Any:
    """Let it in again, also where too many wrong guesses had locked it."""
    people.account(visit, name, Action.MANAGE_ACCOUNTS)
    accounts.enable(visit.inst, name, visit.now)
    return _details(visit, name)


@router.post("/{name}:disable", name="disable_account", response_model=Details)
def disable(name: Named, visit: Managing) -> Any:
    """Let nobody in with it: its sessions end, its tokens do not count."""
    people.account(visit, name, Action.MANAGE_ACCOUNTS)
    accounts.disable(visit.inst, name, visit.now)
    return _details(visit, name)


@router.post("/{name}:set-password", name="set_account_password", response_model=WithPassword)
def set_password(name: Named, new: NewPassword, request: Request, visit: Managing) -> Any:
    """Give it another password: its sessions end, and where it was locked it no longer is. Not for one's own.

    It is good for 7 days, and to be changed at the first sign-in.
    """
    people.others(visit, name)
    password = people.given_or_made(new.password)
    accounts.set_password(visit.inst, name, password.text, visit.now, parts_of(request).hashing)
    return _with(visit, name, password)


@router.post("/{name}:reset-second-factor", name="reset_account_second_factor", response_model=Details)
def reset_second_factor(name: Named, visit: Managing) -> Any:
    """Take its second factor away, for who has lost it: its sessions end. Not for one's own."""
    people.others(visit, name)
    second_factor.reset(visit.inst, name, visit.now)
    return _details(visit, name)


@router.post("/{name}:revoke-sessions", name="revoke_account_sessions", response_model=Details)
def revoke_sessions(name: Named, visit: Managing) -> Any:
    """End its sessions. Not for one's own: see /me/sessions."""
    people.others(visit, name)
    sessions.revoke_all(visit.inst, name, visit.now)
    return _details(visit, name)


@router.delete("/{name}/sessions/{id}", name="revoke_account_session", status_code=HTTPStatus.NO_CONTENT)
def revoke_session(name: Named, id: Annotated[int, Path(ge=1, le=BIGGEST_ID)], visit: Managing) -> None:
    """End one of its sessions. Not for one's own: see /me/sessions."""
    people.others(visit, name)
    sessions.revoke(visit.inst, name, id, visit.now)


@router.get("/{name}", name="show_account", response_model=Details)
def show(name: Named, visit: Seeing) -> Any:
    """Show an account, its sessions and the names of its tokens."""
    return shown.details_as_object(people.account(visit, name))


@router.patch("/{name}", name="change_account", response_model=Details)
def change(name: Named, new: Change, visit: Managing) -> Any:
    """Give it another role, or have it be for other tenants; it counts from its next request on."""
    people.account(visit, name, Action.MANAGE_ACCOUNTS)
    given = "tenants" in new.model_fields_set
    if given:
        people.need_for(visit, Action.MANAGE_ACCOUNTS, new.tenants)
    all_tenants = given and new.tenants is None
    accounts.change(visit.inst, name, visit.now, new.role, new.tenants, all_tenants=all_tenants)
    return _details(visit, name)


@router.delete("/{name}", name="delete_account", status_code=HTTPStatus.NO_CONTENT)
def delete(name: Named, visit: Managing) -> None:
    """Delete it with its sessions and tokens. There is no way back."""
    people.account(visit, name, Action.MANAGE_ACCOUNTS)
    accounts.delete(visit.inst, name, visit.now)


def _details(visit: Visit, name: str) -> dict[str, Any]:
    return shown.details_as_object(accounts.show(visit.inst, name, visit.now))


def _with(visit: Visit, name: str, password: people.Password) -> dict[str, Any]:
    return _details(visit, name) | {"password": password.text if password.made else None}
