"""How a signing CA comes to be, in forms: by a request that another CA signs, by an import, by a key manager.

What is wrong is shown beside the form, which stays as it is with its files; what is right leads on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError

from certs.bundle import Bundle
from console import problems
from console.api.signing_cas import Complete, Connect, Import, New, enrolment
from console.parts import parts_of
from console.uploads import Given, given, read, told
from console.visit import Visit
from console.web.pages import Changing, done, render, seen, templates_of, wrong
from console.web.signing_cas import activated, address
from console.web.streams import Tell, prepare, prepared
from control import kmip_forwarding, on_premises, signing_cas
from control.errors import Outdated, Refused
from control.on_premises import Examined
from control.shown import kmip
from control.shown import signing_cas as shown
from control.shown.text import clean
from store.records import SigningCa

router = APIRouter(prefix="/t/{tenant}/certificates/signing")
Typed = Annotated[Given, Depends(given)]


@router.get("/new")
def ask_new(tenant: str, request: Request, visit: Changing) -> Response:
    """A form for a request."""
    return _page(request, visit, tenant, "signing_ca_new.html")


@router.post("/new")
def new(tenant: str, request: Request, visit: Changing, typed: Typed) -> Response:
    """Make the key and the request, and go on to where its certificate is brought."""

    def make() -> Response:
        asked = read(New, typed)
        remarks: Sequence[str] = ()
        if (wanted := enrolment(asked)) is None:
            signing_cas.request(visit.inst, tenant, asked.name, asked.subject, visit.now)
        else:
            _, remarks = signing_cas.request_on_premises(
                visit.inst, tenant, asked.name, asked.subject, wanted, visit.now
            )
        said = [f"The key of {clean(asked.name)} is made, and its request waits to be signed.", *remarks]
        return done(request, visit, f"{address(tenant)}/complete?name={quote(asked.name, safe='')}", "\n".join(said))

    return tried(request, tenant, make)


@router.get("/complete")
def ask_complete(tenant: str, name: str, request: Request, visit: Changing) -> Response:
    """The request, and a form for what was signed."""
    ca = signing_cas.show(visit.inst, tenant, name)
    if ca.status != "requested":
        raise Refused(f"signing CA {name} waits for no certificate: it is {ca.status}")
    context = {"ca": ca, "pem": shown.request_pem(ca).decode()}
    return _page(request, visit, tenant, "signing_ca_complete.html", **context)


@router.post("/complete/validate")
def validate_complete(tenant: str, name: str, request: Request, visit: Changing, typed: Typed) -> Response:
    """Show what the files hold."""

    def look() -> Response:
        asked = read(Complete, typed)
        bundle = signing_cas.validate_completion(visit.inst, tenant, name, asked.certificates, visit.now)
        if signing_cas.show(visit.inst, tenant, name).kind != "on_premises":
            return _judged(request, visit, tenant, bundle)
        return _begun(
            request, visit, tenant,
            lambda each: Examined(bundle, tuple(on_premises.examine_saved(visit.inst, tenant, name, each))),
        )  # fmt: skip

    return tried(request, tenant, look)


@router.post("/complete")
def complete(tenant: str, name: str, request: Request, visit: Changing, typed: Typed) -> Response:
    """Save the signed chain."""

    def save() -> Response:
        asked = read(Complete, typed)
        files, active = asked.certificates, asked.activate
        ca, bundle = signing_cas.complete(visit.inst, tenant, name, files, visit.now, active)
        return _saved(request, visit, tenant, ca, bundle)

    return tried(request, tenant, save)


@router.get("/import")
def ask_import(tenant: str, request: Request, visit: Changing) -> Response:
    """A form for a CA that was made elsewhere."""
    return _page(request, visit, tenant, "signing_ca_import.html")


@router.post("/import/validate")
def validate_import(tenant: str, request: Request, visit: Changing, typed: Typed) -> Response:
    """Show what the files hold."""

    def look() -> Response:
        asked = read(Import, {"name": ["any"], **typed})
        bundle = signing_cas.validate_import(visit.inst, tenant, asked.upload, visit.now)
        return _judged(request, visit, tenant, bundle)

    return tried(request, tenant, look)


@router.post("/import")
def import_(tenant: str, request: Request, visit: Changing, typed: Typed) -> Response:
    """Save it; its key is sealed at once."""

    def save() -> Response:
        asked = read(Import, typed)
        ca, bundle = signing_cas.import_(visit.inst, tenant, asked.name, asked.upload, visit.now, asked.activate)
        return _saved(request, visit, tenant, ca, bundle)

    return tried(request, tenant, save)


@router.get("/connect")
def ask_connect(tenant: str, request: Request, visit: Changing) -> Response:
    """A form for a CA whose key stays in a key manager."""
    context = {"forwarding": bool(_forwarding(visit, tenant)), "port": on_premises.DEFAULT_PORT}
    return _page(request, visit, tenant, "signing_ca_connect.html", **context)


@router.post("/connect/validate")
def validate_connect(tenant: str, request: Request, visit: Changing, typed: Typed) -> Response:
    """Show what the files hold, and go through the steps while that is looked at."""

    def look() -> Response:
        wanted = read(Connect, {"name": ["any"], **typed}).connection
        return _begun(
            request, visit, tenant, lambda each: on_premises.examine(visit.inst, tenant, wanted, visit.now, each)
        )

    return tried(request, tenant, look)


@router.post("/connect")
def connect(tenant: str, request: Request, visit: Changing, typed: Typed) -> Response:
    """Save it, where all of its hosts sign a trial now."""

    def save() -> Response:
        asked = read(Connect, typed)
        ca, bundle = signing_cas.connect(visit.inst, tenant, asked.name, asked.connection, visit.now, asked.activate)
        return _saved(request, visit, tenant, ca, bundle)

    return tried(request, tenant, save)


@router.get("/steps/{name}")
async def steps(tenant: str, name: str, request: Request, visit: Changing) -> Response:
    """Go through what was prepared, and tell each step."""
    return prepared(request, visit, name)


# --- what they share, with the page of key managers too ---


def tried(request: Request, tenant: str, make: Callable[[], Response]) -> Response:
    """What is made, or what is wrong with what was typed."""
    fields: Sequence[tuple[str, str]] = ()
    findings: Any = ()
    try:
        return make()
    except ValidationError as error:
        text = "This cannot be used yet:"
        fields = [(str(one["loc"][0]) if one["loc"] else "", str(one["msg"])) for one in told(error)]
    except Outdated:
        raise  # a notice says so, above the form
    except problems.EXPECTED as error:
        text = wrong(error, request)
        findings = getattr(error, "findings", ())
    except problems.Problem as error:
        text = error.detail
    context = {"text": text, "fields": fields, "findings": findings}
    return render(request, "signing_ca_wrong.html", context, tenant=tenant, status=HTTPStatus.UNPROCESSABLE_ENTITY)


def _page(request: Request, visit: Visit, tenant: str, template: str, **more: Any) -> Response:
    context = {"etag": seen(visit, tenant), "now": visit.now, **more}
    return render(request, template, context, visit=visit, tenant=tenant, here="certificates")


def _judged(request: Request, visit: Visit, tenant: str, bundle: Bundle) -> Response:
    context = {"bundle": bundle, "problems": (), "now": visit.now}
    return render(request, "signing_ca_judged.html", context, tenant=tenant)


def _begun(request: Request, visit: Visit, tenant: str, examine: Callable[[on_premises.Tell], Examined]) -> Response:
    """Where the steps will be shown, which are gone through once the page asks for them."""
    template = templates_of(parts_of(request)).get_template("signing_ca_judged.html")

    def work(tell: Tell) -> None:
        try:
            found = examine(step_teller(request, tell))
        except problems.EXPECTED as error:
            tell("outcome", failed(request, error))
            return
        wrong = [f"{endpoint}: {one.text}" for endpoint, one in found.steps if not one.passed]
        tell("outcome", template.render(bundle=found.bundle, problems=wrong, now=visit.now))

    return begun(request, visit, tenant, work)


def step_teller(request: Request, tell: Tell) -> on_premises.Tell:
    """Tells each step as a line of the list."""
    template = templates_of(parts_of(request)).get_template("kmip_step.html")
    return lambda endpoint, found: tell("step", template.render(step=kmip.step_as_object(endpoint, found)))


def failed(request: Request, error: Exception) -> str:
    """What is said of an error, as HTML."""
    template = templates_of(parts_of(request)).get_template("signing_ca_wrong.html")
    text = problems.of(error, parts_of(request).clock()).detail
    return template.render(text=text, fields=(), findings=getattr(error, "findings", ()))


def begun(request: Request, visit: Visit, tenant: str, work: Callable[[Tell], None]) -> Response:
    """Where the steps of some work will be shown."""
    context = {
        "address": f"{address(tenant)}/steps/{prepare(request, visit, work)}",
        "seconds": f"{visit.inst.settings.kmip.timeout:g}",
    }
    return render(request, "kmip_steps.html", context, tenant=tenant)


def _saved(request: Request, visit: Visit, tenant: str, ca: SigningCa, bundle: Bundle) -> Response:
    notes = [finding.message for finding in bundle.findings if finding.level != "error"]
    if ca.status == "active":
        said = f"{clean(ca.name)} is saved and active: it signs what clients are shown from now on."
        return activated(request, visit, tenant, "\n".join((said, *notes)))
    said = f"{clean(ca.name)} is saved. It signs once it is activated."
    return done(request, visit, address(tenant), "\n".join((said, *notes)))


def _forwarding(visit: Visit, tenant: str) -> tuple[bytes, ...]:
    found = kmip_forwarding.show(visit.inst, tenant)
    return () if found is None else found.chain
