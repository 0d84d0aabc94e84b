"""Certificates, Trusted CA: the table, one in full, and what can be done with one or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request, Response

from certs.download import DownloadError
from console import problems
from console.downloads import attachment
from console.parts import parts_of
from console.trusted_cas import COLUMNS, patterns, row, rows
from console.trying import try_it
from console.visit import Visit
from console.web import trials
from console.web.deleted import deleted_of
from console.web.listing import remember, view
from console.web.pages import Changing, Viewing, done, go, render, seen, wrong
from control import trusted_cas
from control.errors import Outdated, Refused
from control.installation import Installation
from control.names import LONGEST_NAME
from control.shown import trusted_cas as shown
from control.shown.certificates import load
from control.shown.text import clean

router = APIRouter(prefix="/t/{tenant}/certificates")
MOST_NAMES = 1000
"""Trusted CAs that one request is about."""
LONGEST_HOSTS = 30_000
"""Characters of host patterns."""
STATES = ("active", "inactive")
Name = Annotated[str, Query(max_length=LONGEST_NAME)]
NameField = Annotated[str, Form(max_length=LONGEST_NAME)]
Names = Annotated[list[Annotated[str, Form(max_length=MOST_NAMES * (LONGEST_NAME + 2))]], Form(max_length=MOST_NAMES)]
Cell = Annotated[int, Query(ge=0, lt=10_000)]
"""The row in the table, by which the elements in it are told apart."""
CellField = Annotated[int, Form(ge=0, lt=10_000)]
Hosts = Annotated[str, Form(max_length=LONGEST_HOSTS)]
Verb = Literal["activate", "deactivate", "delete"]


def at(tenant: str, *more: str) -> str:
    """The address of the table, or of what is below it."""
    return "/".join((f"/t/{quote(tenant, safe='')}/certificates/trusted", *more))


@router.get("")
def start(tenant: str, request: Request, visit: Viewing) -> Response:
    """Go to the first tab."""
    return go(request, at(tenant))


@router.get("/trusted")
def page(tenant: str, request: Request, visit: Viewing) -> Response:
    """The table."""
    tag = seen(visit, tenant)
    found = rows(visit.inst, tenant, visit.now)
    table = view(request, "trusted-cas", found, COLUMNS, "name", ("status",))
    context = {"view": table, "seen": tag, "states": STATES, "at": at(tenant)}
    response = render(request, "trusted_cas.html", context, visit=visit, tenant=tenant, here="certificates")
    remember(request, response, table.name)
    return response


@router.get("/trusted/show")
def show(tenant: str, request: Request, visit: Viewing, name: Name) -> Response:
    """One in full, for the panel."""
    tag = seen(visit, tenant)
    found = row(visit.inst, tenant, name, visit.now)
    context = {
        "one": found, "chain": load(found.record.chain), "now": visit.now, "seen": tag, "at": at(tenant),
        "used_by": shown.used_by_in_words(found.used_by), "most_hosts": shown.FIRST_HOSTS,
    }  # fmt: skip
    return render(request, "trusted_ca.html", context, visit=visit, tenant=tenant)


@router.get("/trusted/download")
def download(
    tenant: str,
    visit: Viewing,
    names: Annotated[list[str], Query(max_length=MOST_NAMES)],
    format: Annotated[Literal["pem", "der", "p7b"], Query()] = "pem",
) -> Response:
    """The certificates of one or several as a file: each once, in the order of the names."""
    if not names:
        raise Refused("choose at least one trusted CA to download")
    chains = [trusted_cas.certificates(visit.inst, tenant, name) for name in dict.fromkeys(names)]
    chosen = dict.fromkeys(one for chain in chains for one in (chain[-1:] if format == "der" else chain))
    try:
        return attachment(tuple(chosen), format, names[0] if len(chains) == 1 else f"{tenant} trusted CAs")
    except DownloadError as error:
        raise Refused(str(error)) from None


@router.get("/trusted/rename")
def ask_name(tenant: str, request: Request, visit: Changing, name: Name, cell: Cell = 0) -> Response:
    """Ask for another name, in its place in the table."""
    trusted_cas.show(visit.inst, tenant, name)
    return _name_cell(request, tenant, name, cell, new=name)


@router.get("/trusted/name")
def name_again(tenant: str, request: Request, visit: Viewing, name: Name, cell: Cell = 0) -> Response:
    """Its name, in its place in the table."""
    trusted_cas.show(visit.inst, tenant, name)
    return _name_cell(request, tenant, name, cell)


@router.post("/trusted/rename")
def rename(
    tenant: str, request: Request, visit: Changing, name: NameField, new: NameField = "", cell: CellField = 0
) -> Response:
    """Give it another name."""
    new = new.strip()
    try:
        trusted_cas.rename(visit.inst, tenant, name, new, visit.now)
    except Outdated:
        raise  # a notice above the page, which stays as it is
    except problems.EXPECTED as error:
        return _name_cell(request, tenant, name, cell, new=new, error=wrong(error, request))
    if new == name:
        return _name_cell(request, tenant, name, cell)
    back = {"name": new, "new": name}
    return done(
        request, visit, at(tenant), f"{clean(name)} is now {clean(new)}.", undo=at(tenant, "rename"), fields=back
    )


@router.post("/trusted/activate")
def activate(tenant: str, request: Request, visit: Changing, names: Names) -> Response:
    """Trust them, from the next connection on."""
    return _switch(tenant, request, visit, names, active=True)


@router.post("/trusted/deactivate")
def deactivate(tenant: str, request: Request, visit: Changing, names: Names) -> Response:
    """Keep them, but do not trust them from the next connection on."""
    return _switch(tenant, request, visit, names, active=False)


@router.post("/trusted/delete")
def delete(tenant: str, request: Request, visit: Changing, names: Names) -> Response:
    """Trust them no longer. They can come back for a while."""
    gone = trusted_cas.delete_all(visit.inst, tenant, _each(names), visit.now)
    key = deleted_of(parts_of(request)).keep(tenant, gone)
    told = f"{_these(gone)} deleted, and vouches for no server" if len(gone) == 1 else f"{_these(gone)} deleted"
    told += " from the next connection on."
    if key is None:
        return done(request, visit, at(tenant), told)
    return done(request, visit, at(tenant), told, undo=at(tenant, "restore"), fields={"key": key})


@router.post("/trusted/restore")
def restore(tenant: str, request: Request, visit: Changing, key: NameField) -> Response:
    """Bring back what was deleted, as it was."""
    deleted = deleted_of(parts_of(request))
    back = trusted_cas.restore(visit.inst, tenant, deleted.find(tenant, key), visit.now)
    deleted.forget(key)
    return done(request, visit, at(tenant), f"{_these(back)} back as before.")


@router.post("/trusted/hosts")
def limit(tenant: str, request: Request, visit: Changing, name: NameField, hosts: Hosts = "") -> Response:
    """Let it vouch for these hosts alone, or for all."""
    before = trusted_cas.show(visit.inst, tenant, name)
    try:
        after = trusted_cas.limit(visit.inst, tenant, name, patterns(hosts), visit.now)
    except Outdated:
        raise  # a notice above the page, which stays as it is
    except problems.EXPECTED as error:
        return _told(request, error=wrong(error, request))
    told = f"{clean(name)} counts for {shown.hosts_of(after)}, from the next connection on."
    back = {"name": name, "hosts": "\n".join(before.hosts)}
    return done(request, visit, at(tenant), told, undo=at(tenant, "hosts"), fields=back)


@router.post("/trusted/hosts/try")
def try_hosts(tenant: str, request: Request, visit: Changing, name: NameField, hosts: Hosts = "") -> Response:
    """What that would do to the last day's servers."""
    try:
        trial = try_it(
            visit, tenant, lambda inst: trusted_cas.limit(inst, tenant, name, patterns(hosts), visit.now)
        )  # fmt: skip
    except Outdated:
        raise  # a notice above the page, which stays as it is
    except problems.EXPECTED as error:
        return _told(request, error=wrong(error, request))
    return _told(request, told=trials.told(trial))


@router.post("/trusted/try")
def try_verb(
    tenant: str, request: Request, visit: Changing, names: Names, verb: Annotated[Verb, Form()]
) -> Response:  # fmt: skip
    """What one of the actions would do to the last day's servers, as a question before it is done."""
    chosen = _each(names)
    changes: dict[Verb, Callable[[Installation], object]] = {
        "activate": lambda inst: trusted_cas.switch_all(inst, tenant, chosen, True, visit.now),
        "deactivate": lambda inst: trusted_cas.switch_all(inst, tenant, chosen, False, visit.now),
        "delete": lambda inst: trusted_cas.delete_all(inst, tenant, chosen, visit.now),
    }
    told = trials.told(try_it(visit, tenant, changes[verb]))
    context = {
        "told": told, "most": trials.MOST_SHOWN, "names": chosen, "verb": verb, "at": at(tenant),
        "seen": request.headers.get("if-match", "*"),
    }  # fmt: skip
    return render(request, "trusted_cas_tried.html", context)


def _switch(tenant: str, request: Request, visit: Visit, names: Sequence[str], *, active: bool) -> Response:
    changed = trusted_cas.switch_all(visit.inst, tenant, _each(names), active, visit.now)
    if not changed:
        was = "active" if active else "inactive"
        return done(request, visit, at(tenant), f"Nothing was changed: all of it was {was} already.", level="note")
    undo, fields = at(tenant, "deactivate" if active else "activate"), {"names": "\n".join(one.name for one in changed)}
    told = f"{_these(changed)} {'active' if active else 'inactive'} from the next connection on."
    return done(request, visit, at(tenant), told, undo=undo, fields=fields)


def _each(names: Sequence[str]) -> list[str]:
    """The names: a field each, or lines of one. A name has no line's end in it."""
    found = [name.removesuffix("\r") for lines in names for name in lines.split("\n")]
    if not 1 <= len(found) <= MOST_NAMES:
        raise Refused(f"expected 1 to {MOST_NAMES} trusted CAs, not {len(found)}")
    return found


def _these(cas: Sequence[Any]) -> str:
    return f"{clean(cas[0].name)} is" if len(cas) == 1 else f"{len(cas)} trusted CAs are"


def _told(request: Request, told: trials.Told | None = None, error: str = "") -> Response:
    status = HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK
    context = {"told": told, "most": trials.MOST_SHOWN, "error": error}
    return render(request, "trusted_ca_told.html", context, status=status)


def _name_cell(
    request: Request, tenant: str, name: str, cell: int, new: str | None = None, error: str = ""
) -> Response:  # fmt: skip
    """``new``: what is in the field for another name; None: there is no field, but the name."""
    context = {"name": name, "new": new, "error": error, "at": at(tenant), "cell": cell}
    status = HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK
    return render(request, "trusted_ca_name.html", context, status=status)
