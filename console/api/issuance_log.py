"""``/issuance-log``: every leaf that a signing CA has signed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from cryptography import x509
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field

from certs.bundle import to_pem
from console import people
from console.api.logs import BIGGEST_ID, LIMIT, Before, Limit, Log, Part, Since, Until, logged
from console.api.models import Model
from console.visit import Known, Viewing, Visit
from control import issuance_log
from control.issuance_log import Wanted
from control.shown import issuance_log as shown

router = APIRouter(tags=["logs"])
OfTenant = Annotated[str | None, Query(max_length=128, description="of that tenant alone")]


class Leaf(Model):
    """A certificate that was shown to clients in a server's place."""

    id: int
    tenant: str
    signing_ca: str
    host: Annotated[str, Field(examples=["www.example.com"])]
    serial: Annotated[str, Field(description="hexadecimal")]
    issued_at: datetime
    not_before: datetime
    not_after: datetime
    sha256: Annotated[str, Field(description="the certificate's fingerprint")]


class Whole(Leaf):
    """The same, with the certificate."""

    pem: str


def _asked(
    host: Part = "",
    signing_ca: Part = "",
    serial: Part = "",
    since: Since = None,
    until: Until = None,
    before: Before = None,
) -> Wanted:
    """What is asked of the log, of no tenant yet."""
    return Wanted((), host.lower(), signing_ca, serial.lower(), since, until, before)


Asked = Annotated[Wanted, Depends(_asked)]


@router.get("/issuance-log", name="list_leaves", response_model=Log[Leaf])
def everywhere(
    request: Request, response: Response, visit: Known, asked: Asked, tenant: OfTenant = None, limit: Limit = LIMIT
) -> Any:
    """List the leaves of every tenant that whoever asks may see. ``host``: a part of its name."""
    ids = people.logs(visit).ids if tenant is None else _one(visit, tenant)
    return _listed(request, response, visit, replace(asked, tenant_ids=ids), limit)


@router.get("/tenants/{tenant}/issuance-log", name="list_tenant_leaves", response_model=Log[Leaf])
def of_tenant(
    tenant: str, request: Request, response: Response, visit: Viewing, asked: Asked, limit: Limit = LIMIT
) -> Any:
    """List a tenant's leaves."""
    return _listed(request, response, visit, replace(asked, tenant_ids=people.logs(visit, tenant).ids), limit)


def _listed(request: Request, response: Response, visit: Visit, wanted: Wanted, limit: int) -> dict[str, Any]:
    return logged(request, response, lambda most: issuance_log.find(visit.inst, wanted, most), limit, shown.as_object)


@router.get("/tenants/{tenant}/issuance-log/{id}", name="show_leaf", response_model=Whole)
def show(tenant: str, id: Annotated[int, Path(ge=1, le=BIGGEST_ID)], visit: Viewing) -> Any:
    """Show a leaf, with its certificate."""
    one = issuance_log.show(visit.inst, tenant, id)
    return shown.as_object(one) | {"pem": to_pem([x509.load_der_x509_certificate(one.certificate)])}


def _one(visit: Visit, tenant: str) -> tuple[int, ...]:
    """That tenant, where it is there for whoever asks; a log without an entry where it is not."""
    return tuple(one.id for one in visit.inst.tenants() if one.name == tenant and visit.sees(tenant))
