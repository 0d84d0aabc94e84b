"""``/tenants/{tenant}/signing-cas``: the CAs that sign what clients are shown. Keys only ever come in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, SecretStr

from certs.bundle import Bundle
from certs.request import Subject
from console import signing
from console.api.models import Certificate, Finding, Judged, Model, Name, Paged
from console.api.once import Creating
from console.api.paging import Paging, paged
from console.api.tagged import tagged
from console.problems import FieldError, Problem
from console.signing import COLUMNS, Format
from console.uploads import File, SecretFile, documented, of_body
from console.visit import Changing, Viewing, Visit
from control import on_premises, signing_cas
from control.on_premises import Connection, Enrolment, key_at
from control.shown import bundles, kmip
from control.signing_cas import Part, Upload
from store.records import SigningCa as Record

router = APIRouter(prefix="/tenants/{tenant}/signing-cas", tags=["signing CAs"], route_class=Creating)
Status = Literal["active", "inactive", "requested", "revoked"]
Kind = Literal["built-in", "csr", "imported", "on-premises"]
Files = Annotated[list[File], Field(min_length=1, max_length=16)]
Passphrase = Annotated[SecretStr | None, Field(max_length=1024, description="of the key's file")]
Place = Annotated[str, Field(min_length=1, max_length=300, examples=["kms1.example:5696"])]
KeyName = Annotated[str, Field(min_length=1, max_length=255, examples=["proxy-ca"])]
Activate = Annotated[bool, Field(description="make it the active one at once")]


class KeyManager(Model):
    """Where the key of an on-premises CA is."""

    key_name: str
    primary: str
    alternate: str | None
    pss: Annotated[bool, Field(description="it signs by RSASSA-PSS")]


class Step(Model):
    """One thing that was looked at in a key manager."""

    host: Annotated[str, Field(examples=["kms1.example:5696"])]
    step: Annotated[str, Field(examples=["tls"])]
    meaning: str
    passed: bool
    text: str
    advice: Annotated[str | None, Field(description="what to do where it failed")]


class SigningCa(Model):
    """A CA that can sign leaves; ``certificates`` in order, the issuing one first and the root last."""

    name: Annotated[str, Field(examples=["built-in"])]
    kind: Kind
    status: Status
    created_at: datetime
    changed_at: datetime
    changed_by: str
    not_after: Annotated[str | None, Field(description="the first end of its certificates")]
    expiry: Annotated[str | None, Field(examples=["fine", "near_end", "expired", "not_yet_valid"])]
    key_problem: Annotated[str | None, Field(description="why its key cannot be used; null: it can")]
    request: Annotated[str | None, Field(description="the request that waits for its certificate (PKCS #10, PEM)")]
    certificates: list[Certificate]


class Details(SigningCa):
    """The same, with where its key is; null: here."""

    key_manager: KeyManager | None


class Saved(Details):
    """What was saved, and what was found in the files."""

    findings: list[Finding]


class Requested(Details):
    """A request that was made, and what should be known of its key."""

    remarks: list[str]


class Revoked(Details):
    """What was revoked, which CA took over, and where sealed copies of its key may still be."""

    successor: Annotated[str | None, Field(description="null: it was not the active one")]
    remains: list[str]


class Deleted(Model):
    """Where sealed copies of the keys of a deleted CA may still be."""

    remains: list[str]


class Validated(Judged):
    """What a validation found; nothing was saved. ``steps``: of a CA whose key is in a key manager."""

    steps: list[Step]


class New(Model):
    """A request to be made. With ``key_name`` and ``primary`` its key is one that stays in a key manager."""

    name: Name
    common_name: Annotated[str, Field(min_length=1, max_length=64, examples=["Example Gateway CA"])]
    organization: Annotated[str | None, Field(max_length=64)] = None
    organizational_unit: Annotated[str | None, Field(max_length=64)] = None
    email: Annotated[str | None, Field(max_length=255)] = None
    country: Annotated[str | None, Field(max_length=2, description="ISO 3166-1", examples=["CH"])] = None
    state: Annotated[str | None, Field(max_length=128)] = None
    city: Annotated[str | None, Field(max_length=128)] = None
    key_name: KeyName | None = None
    primary: Place | None = None
    alternate: Place | None = None
    pss: bool = False
    create_key: Annotated[bool, Field(description="have the key pair made in the key manager first")] = False
    key_size: Annotated[Literal[2048, 3072, 4096] | None, Field(description="of a new key, in bits")] = None
    public_key: Annotated[File | None, Field(description="where the key manager does not give it")] = None

    @property
    def subject(self) -> Subject:
        """Whom the certificate is to be for."""
        return Subject(
            self.common_name, self.organization, self.organizational_unit, self.email, self.country, self.state,
            self.city,
        )  # fmt: skip


class Import(Model):
    """A CA that was made elsewhere: its certificates and its key; or one PKCS #12 file in ``certificates``."""

    name: Name
    certificates: Files
    key: SecretFile | None = None
    passphrase: Passphrase = None
    activate: Activate = False

    @property
    def upload(self) -> Upload:
        """What is imported."""
        return _upload(self.certificates, self.key, self.passphrase)


class Connect(Model):
    """A CA whose key stays in a key manager. Ports are 5696 unless said otherwise."""

    name: Name
    intermediate: Annotated[File, Field(description="the issuing certificate, or with those above it")]
    chain: Annotated[tuple[File, ...], Field(max_length=16, description="those above it")] = ()
    key_name: KeyName
    primary: Place
    alternate: Annotated[Place | None, Field(description="who is asked where the primary does not answer")] = None
    pss: bool = False
    activate: Activate = False

    @property
    def connection(self) -> Connection:
        """Its certificates, and where its key is. Raises Refused."""
        key = key_at(self.key_name, self.primary, self.alternate, pss=self.pss)
        return Connection((self.intermediate, *self.chain), key)


class Complete(Model):
    """The signed chain of a request, in one file or several, in any order."""

    certificates: Files
    activate: Activate = False


class Validate(Model):
    """The members of complete (``name``, ``certificates``), import (``certificates``, ``key``) or connect."""

    name: Name | None = None
    certificates: Annotated[tuple[File, ...], Field(max_length=16)] = ()
    key: SecretFile | None = None
    passphrase: Passphrase = None
    intermediate: File | None = None
    chain: Annotated[tuple[File, ...], Field(max_length=16)] = ()
    key_name: KeyName | None = None
    primary: Place | None = None
    alternate: Place | None = None
    pss: bool = False
    activate: Activate = False


class Rename(Model):
    """Its new name."""

    name: Name


@router.get("", name="list_signing_cas", response_model=Paged[SigningCa])
def listing(
    tenant: str,
    request: Request,
    response: Response,
    visit: Viewing,
    asked: Paging,
    status: Annotated[Status | None, Query(description="only those")] = None,
    kind: Annotated[Kind | None, Query(description="only those")] = None,
) -> Any:
    """List the signing CAs.

    ``sort``: name, kind, status, common_name, expires, changed_at, changed_by, created_at or key_problem.
    """
    tagged(response, visit, tenant)
    found = [
        row for row in signing.rows(visit, tenant) if status in (None, row.status) and kind in (None, row.kind)
    ]  # fmt: skip
    return paged(request, response, found, COLUMNS, asked, lambda row: signing.as_object(row, visit.now), "name")


@router.post(":csr", name="request_signing_ca", status_code=HTTPStatus.CREATED, response_model=Requested,
             openapi_extra=documented(New))  # fmt: skip
def csr(tenant: str, response: Response, visit: Changing, new: Annotated[New, of_body(New)]) -> Any:
    """Make a key that never leaves, and a request for a CA certificate on it (PKCS #10).

    Have it signed by the CA above, and bring what you get with ``:complete``.
    """
    remarks: Sequence[str] = ()
    if (wanted := enrolment(new)) is None:
        made = signing_cas.request(visit.inst, tenant, new.name, new.subject, visit.now)
    else:
        made, remarks = signing_cas.request_on_premises(visit.inst, tenant, new.name, new.subject, wanted, visit.now)
    return _created(response, visit, tenant, made) | {"remarks": remarks}


@router.post(":import", name="import_signing_ca", status_code=HTTPStatus.CREATED, response_model=Saved,
             openapi_extra=documented(Import))  # fmt: skip
def import_(tenant: str, response: Response, visit: Changing, given: Annotated[Import, of_body(Import)]) -> Any:
    """Save a CA that was made elsewhere, with its private key, which is sealed at once."""
    ca, bundle = signing_cas.import_(visit.inst, tenant, given.name, given.upload, visit.now, given.activate)
    return _created(response, visit, tenant, ca) | {"findings": bundles.findings(bundle)}


@router.post(":connect", name="connect_signing_ca", status_code=HTTPStatus.CREATED, response_model=Saved,
             openapi_extra=documented(Connect))  # fmt: skip
def connect(tenant: str, response: Response, visit: Changing, given: Annotated[Connect, of_body(Connect)]) -> Any:
    """Save a CA whose private key stays in a key manager (KMIP). It must sign a trial before anything is saved."""
    ca, bundle = signing_cas.connect(visit.inst, tenant, given.name, given.connection, visit.now, given.activate)
    return _created(response, visit, tenant, ca) | {"findings": bundles.findings(bundle)}


@router.post(":validate", name="validate_signing_ca", response_model=Validated, openapi_extra=documented(Validate))
def validate(tenant: str, visit: Changing, given: Annotated[Validate, of_body(Validate)]) -> Any:
    """Say what complete, import or connect would find. Saves nothing."""
    if given.intermediate is not None and not given.certificates:
        if given.key_name is None or given.primary is None:
            raise _wrong("#/key_name", "a connection has intermediate, key_name and primary")
        key = key_at(given.key_name, given.primary, given.alternate, pss=given.pss)
        wanted = Connection((given.intermediate, *given.chain), key)
        return _examined(on_premises.examine(visit.inst, tenant, wanted, visit.now))
    if given.certificates and given.key is None and given.name is not None and _waits(visit, tenant, given.name):
        bundle = signing_cas.validate_completion(visit.inst, tenant, given.name, given.certificates, visit.now)
        held = signing_cas.show(visit.inst, tenant, given.name).kind == "on_premises"
        steps = on_premises.examine_saved(visit.inst, tenant, given.name) if held else ()
        return _examined(on_premises.Examined(bundle, tuple(steps)))
    if given.certificates:
        upload = _upload(given.certificates, given.key, given.passphrase)
        return _examined(on_premises.Examined(signing_cas.validate_import(visit.inst, tenant, upload, visit.now), ()))
    raise _wrong("#/certificates", "expected certificates, or intermediate with key_name and primary")


@router.get("/certificates", name="download_active_signing_ca", response_class=Response)
def active_certificates(tenant: str, visit: Viewing, part: Part = "root", format: Format = "pem") -> Response:
    """Certificates of the active signing CA, as a file."""
    return signing.certificates(visit, tenant, None, part, format)


@router.get("/{name:path}/certificates", name="download_signing_ca", response_class=Response)
def certificates(tenant: str, name: str, visit: Viewing, part: Part = "root", format: Format = "pem") -> Response:
    """Certificates of a signing CA, as a file."""
    return signing.certificates(visit, tenant, name, part, format)


@router.get("/{name:path}/request", name="download_signing_ca_request", response_class=Response)
def request(tenant: str, name: str, visit: Viewing) -> Response:
    """The request of a signing CA that waits for its certificate (PKCS #10, PEM)."""
    return signing.request(visit, tenant, name)


@router.post("/{name:path}:complete", name="complete_signing_ca", response_model=Saved,
             openapi_extra=documented(Complete))  # fmt: skip
def complete(
    tenant: str, name: str, response: Response, visit: Changing, given: Annotated[Complete, of_body(Complete)]
) -> Any:
    """Save the signed chain of a request."""
    ca, bundle = signing_cas.complete(visit.inst, tenant, name, given.certificates, visit.now, given.activate)
    return _details(response, visit, tenant, ca) | {"findings": bundles.findings(bundle)}


@router.post("/{name:path}:activate", name="activate_signing_ca", response_model=Details)
def activate(tenant: str, name: str, response: Response, visit: Changing) -> Any:
    """Sign with it from now on; a running daemon purges within a second what was made with the other."""
    return _details(response, visit, tenant, signing_cas.activate(visit.inst, tenant, name, visit.now))


@router.post("/{name:path}:revoke", name="revoke_signing_ca", response_model=Revoked)
def revoke(tenant: str, name: str, response: Response, visit: Changing) -> Any:
    """Destroy its key, for good. Where it was the active one, the built-in CA takes over."""
    done = signing_cas.revoke(visit.inst, tenant, name, visit.now)
    successor = None if done.successor is None else done.successor.name
    return _details(response, visit, tenant, done.ca) | {"successor": successor, "remains": done.remains}


@router.get("/{name:path}", name="show_signing_ca", response_model=Details)
def show(tenant: str, name: str, response: Response, visit: Viewing) -> Any:
    """Show a signing CA."""
    return _details(response, visit, tenant, signing_cas.show(visit.inst, tenant, name))


@router.patch("/{name:path}", name="rename_signing_ca", response_model=Details)
def rename(tenant: str, name: str, response: Response, visit: Changing, given: Rename) -> Any:
    """Give it another name."""
    return _details(response, visit, tenant, signing_cas.rename(visit.inst, tenant, name, given.name, visit.now))


@router.delete("/{name:path}", name="delete_signing_ca", response_model=Deleted)
def delete(tenant: str, name: str, visit: Changing) -> Any:
    """Take it away with its keys; never the active one, nor the built-in one that is to take over."""
    return {"remains": signing_cas.delete(visit.inst, tenant, name, visit.now)}


def _details(response: Response, visit: Visit, tenant: str, record: Record) -> dict[str, Any]:
    tagged(response, visit, tenant)
    row = signing.row_of(visit, tenant, record)
    return signing.as_object(row, visit.now) | {"key_manager": signing.key_manager(visit, tenant, record)}


def _created(response: Response, visit: Visit, tenant: str, record: Record) -> dict[str, Any]:
    response.headers["Location"] = f"/api/v1/tenants/{tenant}/signing-cas/{quote(record.name, safe='')}"
    return _details(response, visit, tenant, record)


def _examined(found: on_premises.Examined) -> dict[str, Any]:
    judged: Bundle = found.bundle
    return bundles.judged(judged) | {"ok": not found.problems, "steps": kmip.steps_as_objects(found.steps)}


def _waits(visit: Visit, tenant: str, name: str) -> bool:
    """Whether there is a request of that name; an import's name is that of nothing yet."""
    return any(ca.name == name and ca.status == "requested" for ca in signing_cas.listing(visit.inst, tenant))


def _upload(files: Sequence[bytes], key: Any, passphrase: SecretStr | None) -> Upload:
    opened = None if passphrase is None else passphrase.get_secret_value().encode()
    return Upload(tuple(files), None if key is None else key.get_secret_value(), opened)


def enrolment(new: New) -> Enrolment | None:
    """The key in a key manager that the request is to be on; None: one that is made here. Raises Problem, Refused."""
    if new.key_name is None and new.primary is None:
        if new.alternate or new.pss or new.create_key or new.key_size or new.public_key:
            raise _wrong("#/key_name", "what says of a key in a key manager needs key_name and primary")
        return None
    if new.key_name is None or new.primary is None:
        raise _wrong("#/key_name", "key_name and primary are needed together")
    if new.key_size is not None and not new.create_key:
        raise _wrong("#/key_size", "key_size is of a new key; it goes with create_key")
    if new.create_key and new.public_key is not None:
        raise _wrong("#/public_key", "public_key is of a key that exists; it does not go with create_key")
    key = key_at(new.key_name, new.primary, new.alternate, pss=new.pss)
    return Enrolment(key, new.create_key, new.key_size, new.public_key)


def _wrong(pointer: str, detail: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail, errors=[FieldError(pointer, detail)])
