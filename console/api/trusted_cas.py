"""``/tenants/{tenant}/trusted-cas``: the private CAs that a tenant trusts beside the common store."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from certs.download import media_type
from console.api.models import Certificate, Finding, Model, Paged
from console.api.once import Creating
from console.api.paging import Paging, paged
from console.api.tagged import tagged
from console.api.trials import TRIED, DryRun, Trial, tried
from console.api.trusted_uploads import Adding, Hosts, Judge, Judging, New, documented
from console.downloads import attachment
from console.trusted_cas import COLUMNS, proposed_name, row, rows
from console.visit import Changing, Viewing, Visit
from control import trusted_cas
from control.installation import Installation
from control.names import LONGEST_NAME
from control.shown import bundles
from control.shown import trusted_cas as shown
from control.trusted_cas import Wanted

router = APIRouter(prefix="/tenants/{tenant}/trusted-cas", tags=["trusted CAs"], route_class=Creating)
Status = Literal["active", "inactive"]
Expiry = Literal["fine", "near_end", "expired", "not_yet_valid"]
FORMATS = ("pem", "der", "p7b")
Format = Literal["pem", "der", "p7b"]


class TrustedCa(Model):
    """A private CA; ``certificates`` in order, the anchor last."""

    name: Annotated[str, Field(examples=["Example Corporate Root"])]
    status: Status
    hosts: Annotated[list[str], Field(description="patterns of the hosts that it may vouch for; *: all")]
    created_at: datetime
    changed_at: datetime
    changed_by: str
    not_after: Annotated[str | None, Field(description="the anchor's end")]
    expiry: Annotated[Expiry | None, Field(description="near_end: less than a tenth of its life is left")]
    certificates: list[Certificate]


class Used(TrustedCa):
    """The same, with what the last day's traffic says of it."""

    used_by_hosts: Annotated[int | None, Field(description="in the last 24 hours; null: not remembered")]
    first_hosts: list[str] | None


class Added(TrustedCa):
    """A CA that was added, and what is to be known of its file."""

    findings: list[Finding]


class AllAdded(Model):
    """The CAs of several files, in their order."""

    items: list[Added]


class JudgedFile(Model):
    """What a file holds. ``objections``: what is wrong with its name (else the proposed one) and its hosts."""

    file: Annotated[str | None, Field(description="its own name, as it was sent")]
    ok: Annotated[bool, Field(description="whether it could be added")]
    proposed_name: Annotated[str, Field(description="its anchor's common name")]
    objections: list[str]
    certificates: list[Certificate]
    findings: list[Finding]


class JudgedFiles(Model):
    """What a validation found; nothing was saved."""

    ok: bool
    files: list[JudgedFile]


class Changes(Model):
    """What is to become of it; what is left out stays as it is."""

    name: Annotated[str | None, Field(min_length=1, max_length=LONGEST_NAME)] = None
    status: Status | None = None
    hosts: Hosts | None = None


@router.get("", name="list_trusted_cas", response_model=Paged[Used])
def listing(
    tenant: str,
    request: Request,
    response: Response,
    visit: Viewing,
    asked: Paging,
    status: Annotated[Status | None, Query(description="only those")] = None,
    expiry: Annotated[Expiry | None, Query(description="only those")] = None,
) -> Any:
    """List the trusted CAs.

    ``sort``: name, status, common_name, expires, changed_at, hosts, used_by, sha256, changed_by or created_at.
    """
    tagged(response, visit, tenant)
    found = [
        one
        for one in rows(visit.inst, tenant, visit.now)
        if status in (None, shown.status(one.record)) and expiry in (None, one.expiry)
    ]
    return paged(request, response, found, COLUMNS, asked, lambda one: one.as_object(), "name")


@router.post(
    "",
    name="add_trusted_cas",
    status_code=HTTPStatus.CREATED,
    response_model=Added | AllAdded,
    responses=TRIED,
    openapi_extra=documented(New),
)
def add(tenant: str, response: Response, visit: Changing, given: Adding, dry_run: DryRun = False) -> Any:
    """Trust the CA in a file, or those in several: all of them, or none.

    JSON is answered with one, a form with a list.
    """

    def change(inst: Installation) -> list[dict[str, Any]]:
        added = trusted_cas.add(inst, tenant, given.uploads, visit.now)
        return [shown.as_object(record, visit.now) | {"findings": bundles.findings(one)} for record, one in added]

    if dry_run:
        return tried(visit, tenant, change)
    told = change(visit.inst)
    tagged(response, visit, tenant)
    if given.several:
        return {"items": told}
    response.headers["Location"] = f"/api/v1/tenants/{quote(tenant)}/trusted-cas/{quote(told[0]['name'], safe='')}"
    return told[0]


# Before the routes with a name, which may hold any character. An action is the last colon's.
@router.post(":validate", name="validate_trusted_cas", response_model=JudgedFiles, openapi_extra=documented(Judge))
def validate(tenant: str, visit: Changing, given: Judging) -> Any:
    """Say what is in each file, and whether it could be added. Saves nothing."""
    found = trusted_cas.validate(visit.inst, tenant, given.uploads, visit.now)
    proposed = [proposed_name(bundle.chain, file or "") for file, bundle in zip(given.files, found, strict=True)]
    named = [replace(upload, name=upload.name or name) for upload, name in zip(given.uploads, proposed, strict=True)]
    objections = trusted_cas.objections(visit.inst, tenant, named)
    files = [
        bundles.judged(bundle)
        | {"file": file, "ok": bundle.ok and not said, "proposed_name": name, "objections": list(said)}
        for file, name, bundle, said in zip(given.files, proposed, found, objections, strict=True)
    ]
    return {"ok": all(one["ok"] for one in files), "files": files}


@router.post("/{name:path}:activate", name="activate_trusted_ca", response_model=Used | Trial)
def activate(tenant: str, name: str, response: Response, visit: Changing, dry_run: DryRun = False) -> Any:
    """Trust it, from the next connection on."""
    return _change(visit, tenant, name, Wanted(active=True), response, dry_run)


@router.post("/{name:path}:deactivate", name="deactivate_trusted_ca", response_model=Used | Trial)
def deactivate(tenant: str, name: str, response: Response, visit: Changing, dry_run: DryRun = False) -> Any:
    """Keep it, but do not trust it from the next connection on."""
    return _change(visit, tenant, name, Wanted(active=False), response, dry_run)


@router.get(
    "/{name:path}",
    name="show_trusted_ca",
    response_model=Used,
    responses={200: {"content": {media_type(form): {} for form in FORMATS}}},
)
def show(
    tenant: str,
    name: str,
    response: Response,
    visit: Viewing,
    format: Annotated[
        Format | None, Query(description="as a file to keep: pem and p7b have all certificates, der the anchor alone")
    ] = None,
) -> Any:
    """Show a trusted CA, or download its certificates."""
    if format is not None:
        chain = trusted_cas.certificates(visit.inst, tenant, name)
        return attachment(chain[-1:] if format == "der" else chain, format, name)
    return _shown(visit, tenant, name, response)


@router.patch("/{name:path}", name="change_trusted_ca", response_model=Used | Trial)
def change(
    tenant: str, name: str, changes: Changes, response: Response, visit: Changing, dry_run: DryRun = False
) -> Any:
    """Give it another name, other hosts, another status: all of it, or nothing."""
    active = None if changes.status is None else changes.status == "active"
    return _change(visit, tenant, name, Wanted(changes.name, active, changes.hosts), response, dry_run)


@router.delete(
    "/{name:path}",
    name="delete_trusted_ca",
    status_code=HTTPStatus.NO_CONTENT,
    response_model=None,
    responses=TRIED,
)
def delete(tenant: str, name: str, visit: Changing, dry_run: DryRun = False) -> Response:
    """Trust it no longer."""
    if dry_run:
        return tried(visit, tenant, lambda inst: trusted_cas.delete(inst, tenant, name, visit.now))
    trusted_cas.delete(visit.inst, tenant, name, visit.now)
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _change(visit: Visit, tenant: str, name: str, wanted: Wanted, response: Response, dry_run: bool) -> Any:
    def change(inst: Installation) -> str:
        return trusted_cas.change(inst, tenant, name, wanted, visit.now).name

    return tried(visit, tenant, change) if dry_run else _shown(visit, tenant, change(visit.inst), response)


def _shown(visit: Visit, tenant: str, name: str, response: Response) -> dict[str, Any]:
    tagged(response, visit, tenant)
    return row(visit.inst, tenant, name, visit.now).as_object()
