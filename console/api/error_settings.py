"""``/tenants/{tenant}/error-settings``: what is done about each defect of a server's certificate."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from console.api.models import Model
from console.api.tagged import tagged
from console.api.trials import TRIED, DryRun, Trial, tried
from console.visit import Changing, Viewing, Visit
from control import error_settings
from control.error_settings import ROWS
from control.errors import Missing
from control.installation import Installation
from control.shown import error_settings as shown

router = APIRouter(prefix="/tenants/{tenant}/error-settings", tags=["error settings"])


class Row(Model):
    """A defect, or `untrusted`, the master setting for self_signed, untrusted_root and incomplete_chain."""

    row: Annotated[str, Field(examples=["expired"])]
    action: Annotated[str, Field(description="the one that counts, set or not", examples=["block"])]
    set: Annotated[bool, Field(description="whether it is set here; else its default counts")]
    from_: Annotated[str | None, Field(alias="from", description="the row that it is taken from where it is not set")]
    available: Annotated[list[str], Field(description="what can be set, the strictest first")]


class Rows(Model):
    """Every row: the defects in their order, then `untrusted`."""

    rows: list[Row]


class Change(Model):
    """Rows and their actions; null takes a row away, so that its default counts."""

    rows: Annotated[
        dict[Annotated[str, Field(max_length=40)], Annotated[str, Field(max_length=40)] | None],
        Field(max_length=len(ROWS), examples=[{"expired": "warn", "weak_key": None}]),
    ]


@router.get("", name="show_error_settings", response_model=Rows)
def show(tenant: str, response: Response, visit: Viewing) -> Any:
    """Show every row with the action that counts, and where that comes from."""
    tagged(response, visit, tenant)
    return _told(visit, tenant)


@router.patch("", name="change_error_settings", response_model=Rows | Trial)
def change(tenant: str, given: Change, response: Response, visit: Changing, dry_run: DryRun = False) -> Any:
    """Set rows or take them away, all of them or none. Others stay as they are."""
    return _changed(visit, tenant, given.rows, response, dry_run)


@router.put("", name="replace_error_settings", response_model=Rows | Trial)
def replace(tenant: str, given: Change, response: Response, visit: Changing, dry_run: DryRun = False) -> Any:
    """Set these rows and take all others away, in one step."""
    return _changed(visit, tenant, {**dict.fromkeys(ROWS), **given.rows}, response, dry_run)


@router.delete("/{row}", name="unset_error_setting", status_code=HTTPStatus.NO_CONTENT, responses=TRIED)
def unset(tenant: str, row: str, visit: Changing, dry_run: DryRun = False) -> Response:
    """Take a row away, so that its default counts."""

    def unset_it(inst: Installation) -> None:
        if not error_settings.unset(inst, tenant, row, visit.now):
            raise Missing(f"row {row} is not set; its default counts already")

    if dry_run:
        return tried(visit, tenant, unset_it)
    unset_it(visit.inst)
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _changed(visit: Visit, tenant: str, rows: dict[str, str | None], response: Response, dry_run: bool) -> Any:
    def change_them(inst: Installation) -> None:
        error_settings.change(inst, tenant, rows, visit.now)

    if dry_run:
        return tried(visit, tenant, change_them)
    change_them(visit.inst)
    tagged(response, visit, tenant)
    return _told(visit, tenant)


def _told(visit: Visit, tenant: str) -> dict[str, Any]:
    rows = error_settings.show(visit.inst, tenant)
    return {"rows": [shown.as_object(one) | {"available": error_settings.available(one.row)[0]} for one in rows]}
