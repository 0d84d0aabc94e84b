"""``/tenants/{tenant}/bypass-rules`` and ``…/pinning-proposals``: the hosts whose traffic is not decrypted."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from console.api.models import Model, Paged
from console.api.moments import Moment
from console.api.once import Creating
from console.api.paging import Paging, paged
from console.api.tagged import tagged
from console.tables import Column
from console.visit import Changing, Viewing
from control import bypass_rules, pinning
from control.bypass_rules import LONGEST_REASON
from control.pinning import Proposal as Found
from control.shown import bypass_rules as shown
from control.shown.bypass_rules import proposal_as_object

router = APIRouter(prefix="/tenants/{tenant}", tags=["bypass rules"], route_class=Creating)
type Told = dict[str, Any]
COLUMNS: tuple[Column[Told], ...] = (
    Column("pattern", "Pattern", lambda one: one["pattern"]),
    Column("status", "Status", lambda one: one["status"]),
    Column("reason", "Reason", lambda one: one["reason"]),
    Column("created_at", "Added", lambda one: one["created_at"], found=False),
    Column("created_by", "By", lambda one: one["created_by"]),
    Column("expires_at", "Expires", lambda one: one["expires_at"], found=False),
    Column("file", "List file", lambda one: one["file"]),
    Column("rules", "Rules", lambda one: one["rules"], found=False, numeric=True),
)
PROPOSALS: tuple[Column[Found], ...] = (
    Column("host", "Host", lambda one: one.host),
    Column("clients", "Clients", lambda one: len(one.clients), found=False, numeric=True),
    Column("refusals", "Refusals", lambda one: one.count, found=False, numeric=True),
    Column("first_at", "First", lambda one: one.first_at, found=False),
    Column("last_at", "Last", lambda one: one.last_at, found=False),
    Column("proposed", "Proposed", lambda one: one.proposed, found=False),
)


class Rule(Model):
    """A rule of the tenant's own (`pattern`), or a list file that counts for it (`file`), which is not changed here."""

    pattern: Annotated[str | None, Field(examples=[".bank.example", "192.0.2.0/24"])]
    status: Literal["active", "expired", "unusable"]
    reason: Annotated[str | None, Field(description="of a file that cannot be used: why not")]
    created_at: datetime | None
    created_by: str | None
    expires_at: datetime | None
    file: str | None
    rules: Annotated[int, Field(description="how many these are")]


class Rules(Model):
    """Rules that were made."""

    items: list[Rule]


class New(Model):
    """Rules to be made, all of them or none. One that has expired is replaced."""

    patterns: Annotated[
        list[Annotated[str, Field(max_length=1000)]],
        Field(min_length=1, max_length=1000, examples=[["updates.example", "192.0.2.0/24"]]),
    ]
    reason: Annotated[str | None, Field(max_length=LONGEST_REASON)] = None
    expires_at: Annotated[Moment | None, Field(description="from then on they no longer count")] = None


class Proposal(Model):
    """A host for which clients refuse our certificate while they take it for others: pinned, most likely."""

    host: str
    clients: Annotated[list[str], Field(description="as far as the log may tell of them")]
    refusals: int
    first_at: datetime
    last_at: datetime
    proposed: Annotated[bool, Field(description="enough clients refuse it, and no rule covers it")]
    rule: Annotated[str | None, Field(description="the tenant's own rule by which it is bypassed by now")]


class Accepted(Model):
    """How the rule of a proposal is to be."""

    reason: Annotated[
        str | None, Field(max_length=LONGEST_REASON, description="null: what clients did is the reason")
    ] = None
    expires_at: Moment | None = None


@router.get("/bypass-rules", name="list_bypass_rules", response_model=Paged[Rule])
def listing(
    tenant: str,
    request: Request,
    response: Response,
    visit: Viewing,
    asked: Paging,
    status: Annotated[Literal["active", "expired", "unusable"] | None, Query(description="only those")] = None,
) -> Any:
    """List the tenant's rules, and the list files that count for it. ``sort``: any member, as ``expires_at``."""
    tagged(response, visit, tenant)
    rules = [shown.as_object(one, visit.now) for one in bypass_rules.listing(visit.inst, tenant)]
    files = [shown.file_as_object(one) for one in bypass_rules.files(visit.inst, tenant)]
    found = [one for one in (*rules, *files) if status in (None, one["status"])]
    return paged(request, response, found, COLUMNS, asked, lambda one: one, "pattern")


@router.post("/bypass-rules", name="create_bypass_rules", status_code=HTTPStatus.CREATED, response_model=Rules)
def create(tenant: str, new: New, visit: Changing) -> Any:
    """Decrypt no more what the patterns cover, from the next connection on: all are added, or none."""
    made = bypass_rules.add(visit.inst, tenant, new.patterns, visit.now, new.reason, new.expires_at)
    return {"items": [shown.as_object(one, visit.now) for one in made]}


@router.delete("/bypass-rules/{pattern:path}", name="delete_bypass_rule", status_code=HTTPStatus.NO_CONTENT)
def delete(tenant: str, pattern: str, visit: Changing) -> None:
    """Remove a rule: what it covers is decrypted again, from the next connection on."""
    bypass_rules.remove(visit.inst, tenant, [pattern], visit.now)


@router.get("/pinning-proposals", name="list_pinning_proposals", response_model=Paged[Proposal])
def proposals(tenant: str, request: Request, response: Response, visit: Viewing, asked: Paging) -> Any:
    """List the hosts that clients refuse. ``sort``: host, clients, refusals, first_at, last_at or proposed."""
    found = pinning.proposals(visit.inst, tenant, visit.now)
    return paged(request, response, found, PROPOSALS, asked, proposal_as_object, "-clients")


@router.post(
    "/pinning-proposals/{host:path}:accept",
    name="accept_pinning_proposal",
    status_code=HTTPStatus.CREATED,
    response_model=Rule,
)
def accept(tenant: str, host: str, visit: Changing, given: Accepted | None = None) -> Any:
    """Make the rule for a host that clients refuse. What is known of it stays, should the rule end or be removed."""
    how = given or Accepted()
    made = pinning.accept(visit.inst, tenant, host, visit.now, how.reason, how.expires_at)
    return shown.as_object(made, visit.now)


@router.post(
    "/pinning-proposals/{host:path}:dismiss", name="dismiss_pinning_proposal", status_code=HTTPStatus.NO_CONTENT
)
def dismiss(tenant: str, host: str, visit: Changing) -> None:
    """Forget which clients refuse a host, as if none had."""
    if not pinning.dismiss(visit.inst, tenant, host, visit.now):
        raise pinning.unknown(host)
