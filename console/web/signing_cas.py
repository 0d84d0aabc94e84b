"""Signing CAs: the table, one of them in full, and what can be done with those that are there."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Query, Request, Response

from console import downloads, problems, signing
from console.parts import parts_of
from console.problems import Problem
from console.signing import COLUMNS, KINDS, STATUSES, Format, Row
from console.visit import Visit
from console.web import purges
from console.web.listing import remember, view
from console.web.pages import Changing, Viewing, done, render, seen, wrong
from console.web.streams import stream
from control import signing_cas
from control.authorisation import Action
from control.errors import Refused
from control.shown.certificates import common_name
from control.shown.text import clean
from control.signing_cas import Part


async def _running(request: Request) -> str:
    """How many workers will have to let go of what they hold, in words."""
    count = len(await parts_of(request).daemon.health())
    if not count:
        return "No worker runs now; the daemon begins with it."
    return f"This node runs {count} worker{'s' if count > 1 else ''}; how far each is will be shown."


router = APIRouter(prefix="/t/{tenant}/certificates/signing")
_FORMATS = (
    ("pem", "PEM"),
    ("der", "DER"),
    ("p7b", "PKCS #7"),
    ("mobileconfig", "Apple profile"),
    ("android", "Android"),
)
_SEVERAL = (_FORMATS[0], _FORMATS[2])
Name = Annotated[str, Form(max_length=200)]
Names = Annotated[list[str], Form(max_length=100)]
Running = Annotated[str, Depends(_running)]
AskedNames = Annotated[list[str], Query(max_length=100)]


@router.get("")
def page(tenant: str, request: Request, visit: Viewing) -> Response:
    """The table."""
    tag = seen(visit, tenant)
    found = view(request, "signing", signing.rows(visit, tenant), COLUMNS, "name", ("status", "kind"))
    context = {
        "view": found, "now": visit.now, "etag": tag, "statuses": STATUSES, "kinds": KINDS,
        "purge": purges.asked(request),
    }  # fmt: skip
    answer = render(request, "signing_cas.html", context, visit=visit, tenant=tenant, here="certificates")
    remember(request, answer, "signing")
    return answer


@router.get("/show")
def show(tenant: str, name: str, request: Request, visit: Viewing) -> Response:
    """All of one, for the panel."""
    tag = seen(visit, tenant)
    record = signing_cas.show(visit.inst, tenant, name)
    row = signing.row_of(visit, tenant, record)
    context = {
        "row": row, "now": visit.now, "etag": tag, "key_manager": signing.key_manager(visit, tenant, record),
        "told": signing.as_object(row, visit.now), "may_change": visit.may(Action.CHANGE, tenant),
        "rooted": row.rooted, "downloads": _downloads(row),
    }  # fmt: skip
    return render(request, "signing_ca_panel.html", context, tenant=tenant)


@router.get("/download")
def download(
    tenant: str, visit: Viewing, name: str | None = None, part: Part = "root", format: Format = "pem"
) -> Response:
    """A file of certificates; without a name, of the active one."""
    return signing.certificates(visit, tenant, name, part, format)


@router.get("/chains")
def chains(tenant: str, visit: Viewing, names: AskedNames) -> Response:
    """The chains of several in one file, each certificate once."""
    found: dict[bytes, Any] = {}
    for name in names:
        for certificate in signing.row_of(visit, tenant, signing_cas.show(visit.inst, tenant, name)).chain:
            found.setdefault(certificate.tbs_certificate_bytes + certificate.signature, certificate)
    if not found:
        raise Refused("none of these has a certificate yet")
    return downloads.attachment(list(found.values()), "pem", f"{tenant}-signing-cas")


@router.get("/request")
def request_(tenant: str, name: str, visit: Viewing) -> Response:
    """The request of one that waits for its certificate."""
    return signing.request(visit, tenant, name)


# --- changes ---


@router.get("/rename")
def ask_rename(tenant: str, name: str, request: Request, visit: Changing) -> Response:
    """Ask for another name."""
    return _dialog(request, visit, tenant, "rename", [name])


@router.post("/rename")
def rename(tenant: str, request: Request, visit: Changing, name: Name, new: Name = "") -> Response:
    """Give it another name; that can be undone."""
    try:
        signing_cas.rename(visit.inst, tenant, name, new.strip(), visit.now)
    except problems.EXPECTED as error:
        return _dialog(request, visit, tenant, "rename", [name], error=error, new=new)
    fields, said = {"name": new.strip(), "new": name}, f"{clean(name)} is now called {clean(new.strip())}."
    return done(request, visit, address(tenant), said, undo=f"{address(tenant)}/rename", fields=fields)


@router.get("/activate")
def ask_activate(tenant: str, name: str, request: Request, visit: Changing, running: Running) -> Response:
    """Say what will happen."""
    return _dialog(request, visit, tenant, "activate", [name], running=running)


@router.post("/activate")
def activate(tenant: str, request: Request, visit: Changing, name: Name) -> Response:
    """Sign with it from now on."""
    try:
        signing_cas.activate(visit.inst, tenant, name, visit.now)
    except problems.EXPECTED as error:
        return _dialog(request, visit, tenant, "activate", [name], error=error)
    return activated(request, visit, tenant, f"{clean(name)} is active: it signs what clients are shown from now on.")


@router.get("/revoke")
def ask_revoke(tenant: str, request: Request, visit: Changing, names: AskedNames, running: Running) -> Response:
    """Say what will happen."""
    return _dialog(request, visit, tenant, "revoke", names, running=running)


@router.post("/revoke")
def revoke(tenant: str, request: Request, visit: Changing, names: Names) -> Response:
    """Destroy their keys, one after the other, up to the first that is refused."""
    said: list[str] = []
    successor = False
    try:
        for name in names:
            ended = signing_cas.revoke(visit.inst, tenant, name, visit.now)
            said.append(f"{clean(name)} is revoked.")
            if ended.successor is not None:
                successor = True
                said.append(f"{clean(ended.successor.name)} is active in its place; devices need its root.")
            said += _remains(ended.remains)
    except problems.EXPECTED as error:
        return _dialog(request, visit, tenant, "revoke", names, error=error, done_before=said)
    if successor:
        return activated(request, visit, tenant, "\n".join(said))
    return done(request, visit, address(tenant), "\n".join(said))


@router.get("/delete")
def ask_delete(tenant: str, request: Request, visit: Changing, names: AskedNames) -> Response:
    """Say what will happen."""
    return _dialog(request, visit, tenant, "delete", names)


@router.post("/delete")
def delete(tenant: str, request: Request, visit: Changing, names: Names) -> Response:
    """Take them away, one after the other, up to the first that is refused."""
    said: list[str] = []
    try:
        for name in names:
            remains = signing_cas.delete(visit.inst, tenant, name, visit.now)
            said += [f"{clean(name)} is deleted.", *_remains(remains)]
    except problems.EXPECTED as error:
        return _dialog(request, visit, tenant, "delete", names, error=error, done_before=said)
    return done(request, visit, address(tenant), "\n".join(said))


@router.get("/purge")
async def purge(tenant: str, request: Request, visit: Viewing) -> Response:
    """Which workers have dropped what was made with the CA before, as they do."""
    generation = purges.asked(request)
    if generation is None:
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid", "The address lacks the generation.")
    return stream(request, visit, purges.followed(request, visit, tenant, generation))


def activated(request: Request, visit: Visit, tenant: str, said: str) -> Response:
    """To the table, which then follows the purge."""
    entry = purges.activation(visit, tenant)
    query = "" if entry is None else f"?purge={entry.generation}"
    return done(request, visit, f"{address(tenant)}{query}", said)


def address(tenant: str) -> str:
    """Where the table is."""
    return f"/t/{quote(tenant, safe='')}/certificates/signing"


def _dialog(
    request: Request,
    visit: Visit,
    tenant: str,
    what: str,
    names: list[str],
    *,
    error: Exception | None = None,
    done_before: Sequence[str] = (),
    new: str | None = None,
    running: str = "",
) -> Response:
    tag = seen(visit, tenant)
    rows = {row.name: row for row in signing.rows(visit, tenant)}
    chosen = [rows[name] for name in names if name in rows]
    if not chosen and error is None:
        raise problems.missing("None of these signing CAs is there any more; load the page again.")
    active = next(row for row in rows.values() if row.status == "active")
    context = {
        "what": what, "rows": chosen, "active": active, "etag": tag, "new": new,
        "error": "\n".join((*done_before, wrong(error, request))) if error is not None else "",
        "running": running, "drain": parts_of(request).inst.settings.limits.drain_timeout,
        "root_name": common_name(chosen[0].chain[-1]) if chosen and chosen[0].chain else "",
        "same_root": bool(chosen) and chosen[0].chain[-1:] == active.chain[-1:],
    }  # fmt: skip
    status = HTTPStatus.OK if error is None else problems.of(error, visit.now).status
    return render(request, "signing_ca_dialog.html", context, tenant=tenant, status=status)


def _downloads(row: Row) -> list[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """Each part that it has, with the formats that can hold it."""
    found: list[tuple[str, str, tuple[tuple[str, str], ...]]] = []
    between = len(row.chain) - row.rooted
    if row.rooted:
        found.append(("root", "Root, for devices", _FORMATS))
    if between:
        found.append(("intermediate", "Intermediates", _FORMATS[:3] if between == 1 else _SEVERAL))
    return [*found, ("chain", "Whole chain", _FORMATS[:3] if len(row.chain) == 1 else _SEVERAL)]


def _remains(remains: tuple[str, ...]) -> list[str]:
    return [f"Sealed copies of its key may still be in {', '.join(remains)}."] if remains else []
