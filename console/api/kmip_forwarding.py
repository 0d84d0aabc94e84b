"""``/tenants/{tenant}/kmip-forwarding``: who the tenant is to its key managers, and whether they would sign."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field, SecretStr

from certs.request import Subject
from console.api.models import Certificate, Model, Name
from console.api.once import Creating
from console.api.signing_cas import Passphrase, Step
from console.api.tagged import tagged
from console.uploads import File, SecretFile, documented, of_body
from console.visit import Changing, Viewing, Visit
from control import kmip_forwarding, on_premises
from control.kmip_forwarding import Credentials
from control.shown import kmip as shown
from store.records import KmipForwarding

router = APIRouter(prefix="/tenants/{tenant}/kmip-forwarding", tags=["KMIP forwarding"], route_class=Creating)
NOTHING: dict[str, Any] = {
    "username": None, "changed_at": None, "changed_by": None, "not_after": None, "expiry": None,
    "client_certificates": [], "server_ca": [], "request": None,
}  # fmt: skip


class Forwarding(Model):
    """Who the tenant is to its key managers; nothing of it is secret. Empty where nobody has said so yet."""

    username: Annotated[str | None, Field(description="a user beside the certificate")]
    changed_at: datetime | None
    changed_by: str | None
    not_after: Annotated[str | None, Field(description="the first end of our certificates")]
    expiry: str | None
    client_certificates: list[Certificate]
    server_ca: list[Certificate]
    request: Annotated[str | None, Field(description="waits for its certificate (PKCS #10, PEM)")]
    source_address: Annotated[
        str | None, Field(description="kmip.source_address: connections come from it; null: the system's choice")
    ]


class Set(Model):
    """Who the tenant is from now on. Without ``client_key`` the certificate is that of the request made here."""

    client_certificate: Annotated[File, Field(description="ours, and those above it")]
    server_ca: Annotated[File, Field(description="issues the key manager's certificate")]
    client_key: SecretFile | None = None
    passphrase: Passphrase = None
    username: Annotated[str | None, Field(min_length=1, max_length=255)] = None
    password: Annotated[SecretStr | None, Field(min_length=1, max_length=1024)] = None

    @property
    def credentials(self) -> Credentials:
        """What the use case takes."""
        return Credentials(
            client_certificate=self.client_certificate,
            server_ca=self.server_ca,
            key=None if self.client_key is None else self.client_key.get_secret_value(),
            passphrase=None if self.passphrase is None else self.passphrase.get_secret_value().encode(),
            username=self.username,
            password=None if self.password is None else self.password.get_secret_value(),
        )


class New(Model):
    """A request for a client's certificate, to be made."""

    common_name: Annotated[str, Field(min_length=1, max_length=64, description="CipherTrust takes the user from it")]
    organization: Annotated[str | None, Field(max_length=64)] = None
    organizational_unit: Annotated[str | None, Field(max_length=64)] = None

    @property
    def subject(self) -> Subject:
        """Whom the certificate is to be for."""
        return Subject(self.common_name, self.organization, self.organizational_unit)


class Test(Model):
    """Whose key manager is asked."""

    signing_ca: Name


class Tested(Model):
    """The steps, of each host up to the first that failed."""

    ok: bool
    steps: list[Step]


@router.get("", name="show_kmip_forwarding", response_model=Forwarding)
def show(tenant: str, response: Response, visit: Viewing) -> Any:
    """Show who the tenant is to its key managers."""
    tagged(response, visit, tenant)
    return as_object(visit, kmip_forwarding.show(visit.inst, tenant))


@router.put("", name="set_kmip_forwarding", response_model=Forwarding, openapi_extra=documented(Set))
def set_(tenant: str, response: Response, visit: Changing, given: Annotated[Set, of_body(Set)]) -> Any:
    """Say who the tenant is to its key managers, and who they must be. The key is sealed at once."""
    made = kmip_forwarding.set_(visit.inst, tenant, given.credentials, visit.now)
    tagged(response, visit, tenant)
    return as_object(visit, made)


@router.post(":csr", name="request_kmip_client_certificate", status_code=HTTPStatus.CREATED, response_model=Forwarding)
def csr(tenant: str, response: Response, visit: Changing, new: New) -> Any:
    """Make a client key that never leaves, and a request for its certificate. What is used now stays until it comes."""
    kmip_forwarding.request(visit.inst, tenant, new.subject, visit.now)
    tagged(response, visit, tenant)
    return as_object(visit, kmip_forwarding.show(visit.inst, tenant))


@router.post(":test", name="test_key_manager", response_model=Tested)
def test(tenant: str, visit: Changing, given: Test) -> Any:
    """Try step by step whether the key manager of a signing CA would sign."""
    steps = shown.steps_as_objects(on_premises.examine_saved(visit.inst, tenant, given.signing_ca))
    return {"ok": all(one["passed"] for one in steps), "steps": steps}


def as_object(visit: Visit, record: KmipForwarding | None) -> dict[str, Any]:
    """It for JSON, with where connections come from."""
    source = visit.inst.settings.kmip.source_address
    found = NOTHING if record is None else shown.as_object(record, visit.now)
    return found | {"source_address": None if source is None else str(source)}
