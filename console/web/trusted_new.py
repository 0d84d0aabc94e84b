"""New trusted CAs: several files at once, each judged before anything is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.datastructures import UploadFile

from certs.bundle import Bundle
from console import problems
from console.trusted_cas import patterns, proposed_name
from console.trying import try_it
from console.visit import Visit
from console.web import trials
from console.web.pages import Changing, done, render, wrong
from console.web.trusted_cas import at
from control import trusted_cas
from control.errors import Outdated, Refused
from control.shown.text import clean
from control.trusted_cas import Upload

router = APIRouter(prefix="/t/{tenant}/certificates/trusted")
MOST_FILES = 50
LONGEST_FILE_NAME = 100
NOTHING = "Choose, drop or paste at least one file."


@dataclass(frozen=True, slots=True)
class Sent:
    """What the form has: files with their own names, and what was typed for them.

    ``names`` and ``hosts`` are by the files' SHA-256: files come and go, and with them their order in the form.
    """

    files: Sequence[tuple[str, bytes]] = field(default=(), repr=False)
    names: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    active: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """A file, and what there is to say of it. ``hosts``: as they were typed."""

    file: str
    digest: str
    upload: Upload
    hosts: str
    bundle: Bundle
    objections: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it can be saved."""
        return self.bundle.ok and not self.objections


async def _sent(request: Request) -> Sent:
    """The form: a dependency, since only what is asynchronous can read it. Raises HTTPException."""
    async with request.form(max_files=MOST_FILES, max_fields=4 * MOST_FILES) as form:
        files = [
            (clean(one.filename)[-LONGEST_FILE_NAME:], await one.read())
            for one in form.getlist("files")
            if isinstance(one, UploadFile) and one.filename
        ]
        texts = [[str(each) for each in form.getlist(name)] for name in ("of", "names", "hosts")]
        of, names, hosts = texts
        # A form with fewer of one than of another is none of ours.
        return Sent(
            files, dict(zip(of, names, strict=False)), dict(zip(of, hosts, strict=False)), active="active" in form
        )


Given = Annotated[Sent, Depends(_sent)]


@router.get("/new")
def page(tenant: str, request: Request, visit: Changing) -> Response:
    """Ask for the files."""
    context = _context(tenant, visit)
    return render(request, "trusted_new.html", context, visit=visit, tenant=tenant, here="certificates")


@router.post("/new/examine")
def examine(tenant: str, request: Request, visit: Changing, sent: Given) -> Response:
    """What is in the files, as soon as they are chosen."""
    return render(request, "trusted_new_found.html", _context(tenant, visit, _found(tenant, visit, sent)))


@router.post("/new/validate")
def validate(tenant: str, request: Request, visit: Changing, sent: Given) -> Response:
    """The same, and what the last day's servers would be judged like."""
    found = _found(tenant, visit, sent)
    if not found:
        return _refused(tenant, request, visit, found, NOTHING)
    told = None
    if all(one.ok for one in found):
        uploads = [one.upload for one in found]
        told = trials.told(try_it(visit, tenant, lambda inst: trusted_cas.add(inst, tenant, uploads, visit.now)))
    return render(request, "trusted_new_found.html", _context(tenant, visit, found, told=told))


@router.post("/new")
def add(tenant: str, request: Request, visit: Changing, sent: Given) -> Response:
    """Save all of them, or none."""
    found = _found(tenant, visit, sent)
    try:
        if not found:
            raise Refused(NOTHING)
        if not all(one.ok for one in found):
            raise Refused("Nothing was saved: see what is wrong below, and mend it or leave that file out.")
        saved = trusted_cas.add(visit.inst, tenant, [one.upload for one in found], visit.now)
    except Outdated:
        raise
    except problems.EXPECTED as error:
        return _refused(tenant, request, visit, found, wrong(error, request))
    names = [record.name for record, _ in saved]
    these = f"{clean(names[0])} is" if len(names) == 1 else f"{len(names)} trusted CAs are"
    told = f"{these} saved{', and counts' if len(names) == 1 else ', and count'} from the next connection on."
    if not sent.active:
        told = f"{these} saved, but not active yet."
    return done(request, visit, at(tenant), told, undo=at(tenant, "delete"), fields={"names": "\n".join(names)})


def _found(tenant: str, visit: Visit, sent: Sent) -> list[Found]:
    """Each file judged, with a name proposed where none was typed yet. The same file twice is one."""
    files = {sha256(data).hexdigest(): (name, data) for name, data in sent.files}
    uploads = [
        Upload(sent.names.get(digest, name).strip(), data, patterns(sent.hosts.get(digest, "")), sent.active)
        for digest, (name, data) in files.items()
    ]
    bundles = trusted_cas.validate(visit.inst, tenant, uploads, visit.now)
    named = [
        upload if digest in sent.names else replace(upload, name=proposed_name(bundle.chain, files[digest][0]))
        for digest, upload, bundle in zip(files, uploads, bundles, strict=True)
    ]
    objections = trusted_cas.objections(visit.inst, tenant, named)
    return [
        Found(files[digest][0], digest, upload, sent.hosts.get(digest, ""), bundle, said)
        for digest, upload, bundle, said in zip(files, named, bundles, objections, strict=True)
    ]


def _context(
    tenant: str, visit: Visit, found: Sequence[Found] = (), error: str = "", told: trials.Told | None = None
) -> dict[str, object]:
    ok = bool(found) and all(one.ok for one in found)
    return {
        "at": at(tenant), "now": visit.now, "found": found, "ok": ok, "error": error, "told": told,
        "most": trials.MOST_SHOWN,
    }  # fmt: skip


def _refused(tenant: str, request: Request, visit: Visit, found: Sequence[Found], error: str) -> Response:
    context = _context(tenant, visit, found, error)
    return render(request, "trusted_new_found.html", context, status=HTTPStatus.UNPROCESSABLE_ENTITY)
