"""What the API takes and gives, where several resources share it. Moments are RFC 3339, UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=100)]
"""What a person calls something; what it may be is checked where it is saved (:mod:`control.names`)."""


def aware(at: datetime) -> datetime:
    """The moment in UTC, which it is in without an offset, too. Raises ValueError for one that has none in UTC."""
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is too early or too late for a date in UTC") from None


Moment = Annotated[datetime, AfterValidator(aware)]
"""One that is given; without an offset it is UTC."""


class Model(BaseModel):
    """A member that is not known is refused: a slip of the pen must not pass for a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Finding(Model):
    """What was found in an upload."""

    level: Annotated[str, Field(description="error, warning or info", examples=["warning"])]
    code: Annotated[str, Field(examples=["expires_soon"])]
    message: Annotated[str, Field(examples=["It expires in 12 days."])]
    certificate: Annotated[int | None, Field(description="its place in the file, from 1; null: the whole file")] = None


class Certificate(Model):
    """A certificate, as far as it can be read."""

    subject: Annotated[str, Field(description="RFC 4514", examples=["CN=Example Root,O=Example Ltd"])]
    issuer: str
    common_name: str
    names: list[str]
    serial: Annotated[str, Field(description="hexadecimal")]
    not_before: str
    not_after: str
    key: Annotated[str, Field(examples=["RSA 2048", "EC secp256r1"])]
    signature: str
    signature_algorithm: str
    version: int
    ca: bool
    key_identifier: str | None
    authority_key_identifier: str | None
    extensions: list[Extension]
    sha1: str
    sha256: str
    pem: str


class Extension(Model):
    """An extension of a certificate, in words."""

    oid: str
    name: str
    critical: bool
    text: str


class Judged(Model):
    """What a validation found; nothing was saved."""

    ok: bool
    certificates: list[Certificate]
    findings: list[Finding]


class Problem(BaseModel):
    """RFC 9457. ``type`` is stable; ``detail`` is for people."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(examples=["urn:sallyport:problem:refused"])]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: Annotated[str, Field(description="the request's id, which the log has too")]
    errors: list[FieldError] = []
    findings: list[Finding] = []


class FieldError(BaseModel):
    """What is wrong with one member of the request."""

    pointer: Annotated[str, Field(examples=["#/name", "?limit"])]
    detail: str


class Paged[T](Model):
    """A part of a list, ``total`` of which match. ``next``: where the following part is; null: this is the last."""

    items: Sequence[T]
    total: Annotated[int, Field(ge=0)]
    next: str | None


def without[V](members: Mapping[str, V], *names: str) -> dict[str, V]:
    """An object without some of its members."""
    return {name: value for name, value in members.items() if name not in names}


type Json = dict[str, Any]
