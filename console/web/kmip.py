"""On-premises infrastructure: who the tenant is to its key managers, how they are, and whether they would sign."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Request, Response

from certs.download import media_type
from certs.expiry import Validity
from console import problems, signing
from console.api.kmip_forwarding import New, Set
from console.parts import parts_of
from console.uploads import Given, given, read
from console.web.pages import Changing, Viewing, done, render, seen, templates_of
from console.web.signing_ca_forms import begun, failed, step_teller, tried
from console.web.streams import Tell
from control import kmip_forwarding, on_premises, signing_cas
from control.errors import Refused
from control.shown import kmip as shown
from control.shown.certificates import common_name, load

router = APIRouter(prefix="/t/{tenant}/kmip")
Typed = Annotated[Given, Depends(given)]


@router.get("")
def page(tenant: str, request: Request, visit: Viewing) -> Response:
    """All of it."""
    tag, found = seen(visit, tenant), kmip_forwarding.show(visit.inst, tenant)
    client, servers = ((), ()) if found is None else (tuple(load(found.chain)), tuple(load(found.server_ca)))
    settings = visit.inst.settings.kmip
    validity = Validity.of(client) if client else None
    kept = [ca for ca in signing_cas.listing(visit.inst, tenant) if ca.kind == "on_premises" and ca.status != "revoked"]
    context: dict[str, Any] = {
        "etag": tag, "now": visit.now, "forwarding": found, "client": client, "servers": servers,
        "client_name": common_name(client[0]) if client else "",
        "server_names": [common_name(one) for one in servers],
        "ends": validity and validity.ends,
        "expiry": validity and validity.expiry(visit.now).value,
        "source": settings.source_address and str(settings.source_address),
        "private": settings.allow_private_addresses, "seconds": f"{settings.timeout:g}",
        "cas": [(ca, signing.key_manager(visit, tenant, ca)) for ca in kept],
        "request_pem": shown.request_pem(found.request).decode() if found is not None and found.request else None,
    }  # fmt: skip
    return render(request, "kmip.html", context, visit=visit, tenant=tenant, here="kmip")


@router.post("")
def set_(tenant: str, request: Request, visit: Changing, typed: Typed) -> Response:
    """Say who the tenant is from now on."""

    def save() -> Response:
        made = kmip_forwarding.set_(visit.inst, tenant, read(Set, typed).credentials, visit.now)
        name = common_name(load(made.chain)[0])
        return done(request, visit, _address(tenant), f"This tenant is {name} to its key managers from now on.")

    return tried(request, tenant, save)


@router.post("/request")
def ask(tenant: str, request: Request, visit: Changing, typed: Typed) -> Response:
    """Make a key that never leaves, and a request for a client's certificate."""

    def make() -> Response:
        asked = read(New, typed)
        kmip_forwarding.request(visit.inst, tenant, asked.subject, visit.now)
        said = "The key is made, and its request waits to be signed by the key manager's CA."
        return done(request, visit, _address(tenant), said)

    return tried(request, tenant, make)


@router.get("/request")
def download(tenant: str, visit: Viewing) -> Response:
    """The request that waits."""
    found = kmip_forwarding.show(visit.inst, tenant)
    if found is None or found.request is None:
        raise Refused("no request waits for its certificate; make one first")
    return signing.attachment(shown.request_pem(found.request), f"{tenant}-kmip-client", ".csr", media_type("pem"))


@router.post("/test")
def test(tenant: str, request: Request, visit: Changing, name: Annotated[str, Form(max_length=200)]) -> Response:
    """Where the steps for a signing CA will be shown."""

    def work(tell: Tell) -> None:
        try:
            steps = on_premises.examine_saved(visit.inst, tenant, name, step_teller(request, tell))
        except problems.EXPECTED as error:
            tell("outcome", failed(request, error))
            return
        wrong = sum(not found.passed for _, found in steps)
        hosts = len({str(endpoint) for endpoint, _ in steps})
        tell("outcome", _tested(request, hosts, wrong))

    return begun(request, visit, tenant, work)


@router.get("/health")
async def health(tenant: str, request: Request, visit: Viewing) -> Response:
    """How the hosts of the active CA's key manager are, as the issuer tells."""
    told = await parts_of(request).daemon.key_managers([tenant])
    context = {"health": told.found.get(tenant), "unknown": told.unknown}
    return render(request, "kmip_health.html", context, tenant=tenant)


def _tested(request: Request, hosts: int, wrong: int) -> str:
    """What a test came to, as HTML."""
    template = templates_of(parts_of(request)).get_template("kmip_tested.html")
    return template.render(hosts=hosts, wrong=wrong)


def _address(tenant: str) -> str:
    return f"/t/{quote(tenant, safe='')}/kmip"
