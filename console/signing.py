"""Signing CAs as lists show them, and files of their certificates: for the API and the pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from cryptography import x509
from fastapi import Response

from certs.download import FORMATS, DownloadError, encode, extension, media_type
from certs.expiry import Validity
from console.downloads import disposition
from console.problems import sentence
from console.tables import Column
from console.visit import Visit
from control import on_premises, signing_cas
from control.errors import Refused
from control.shown import signing_cas as shown
from control.shown.certificates import common_name, load
from control.signing_cas import Part
from store.records import SigningCa

Format = Literal["pem", "der", "p7b", "mobileconfig", "android"]
assert get_args(Format) == FORMATS  # noqa: S101 - the same list, for types
STATUSES = ("active", "inactive", "requested", "revoked")
KINDS = ("built-in", "csr", "imported", "on-premises")


@dataclass(frozen=True, slots=True)
class Row:
    """A signing CA, and why its key cannot be used where it cannot."""

    record: SigningCa
    key_problem: str | None
    chain: tuple[x509.Certificate, ...]

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.name

    @property
    def status(self) -> str:
        """active, inactive, requested or revoked."""
        return self.record.status

    @property
    def kind(self) -> str:
        """As people write it."""
        return shown.kind(self.record)

    @property
    def common_name(self) -> str:
        """Of the certificate that issues; empty where there is none yet."""
        return common_name(self.chain[0]) if self.chain else ""

    @property
    def ends(self) -> datetime | None:
        """When the first certificate of the chain ends."""
        return Validity.of(self.chain).ends if self.chain else None

    def expiry(self, now: datetime) -> str:
        """Where in its time that is, as :class:`certs.expiry.Expiry` has it; empty without a certificate."""
        return Validity.of(self.chain).expiry(now).value if self.chain else ""

    @property
    def rooted(self) -> bool:
        """Whether its chain ends in a root."""
        return bool(self.chain) and self.chain[-1].subject == self.chain[-1].issuer


COLUMNS: tuple[Column[Row], ...] = (
    Column("name", "Name", lambda one: one.name),
    Column("kind", "Kind", lambda one: one.kind),
    Column("status", "Status", lambda one: one.status),
    Column("common_name", "Common name", lambda one: one.common_name),
    Column("expires", "Expires", lambda one: one.ends, found=False),
    Column("changed_at", "Last modified", lambda one: one.record.changed_at, found=False),
    Column("key_problem", "Key", lambda one: one.key_problem, shown=True),
    Column("created_at", "Created", lambda one: one.record.created_at, shown=False, found=False),
    Column("changed_by", "Modified by", lambda one: one.record.changed_by, shown=False),
)


def rows(visit: Visit, tenant: str) -> list[Row]:
    """All of the tenant's. Raises Refused."""
    return [row_of(visit, tenant, record) for record in signing_cas.listing(visit.inst, tenant)]


def row_of(visit: Visit, tenant: str, record: SigningCa) -> Row:
    """One of them."""
    problem = signing_cas.key_problem(visit.inst, tenant, record.name)
    return Row(record, None if problem is None else sentence(problem), tuple(load(record.chain)))


def as_object(row: Row, now: datetime) -> dict[str, Any]:
    """It for JSON, as the command line lists it."""
    return shown.as_object(row.record, now) | {"key_problem": row.key_problem}


def key_manager(visit: Visit, tenant: str, record: SigningCa) -> dict[str, Any] | None:
    """Where its key is; None: here."""
    return shown.key_as_object(on_premises.key_of(visit.inst, tenant, record.name))


def certificates(visit: Visit, tenant: str, name: str | None, part: Part, form: Format) -> Response:
    """A file of certificates of a signing CA; None: of the active one. Raises Refused."""
    chosen = signing_cas.part(visit.inst, tenant, name, part)
    try:
        encoded = encode(chosen, form, name or tenant)
    except DownloadError as error:
        raise Refused(str(error)) from None
    return attachment(encoded, f"{name or tenant}-{part}", extension(form), media_type(form))


def request(visit: Visit, tenant: str, name: str) -> Response:
    """The request of a signing CA that waits for its certificate, PEM. Raises Refused."""
    record = signing_cas.show(visit.inst, tenant, name)
    if record.status != "requested":
        raise Refused(f"signing CA {name} waits for no certificate: it is {record.status}")
    return attachment(shown.request_pem(record), name, ".csr", media_type("pem"))


def attachment(data: bytes, name: str, ending: str, media_type: str) -> Response:
    """A file to be kept."""
    return Response(data, media_type=media_type, headers={"Content-Disposition": disposition(name, ending)})
