"""What is sent to be trusted: one file within JSON, or several as a form's files."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Self

from fastapi import Depends, Request
from pydantic import BeforeValidator, Field, model_validator
from starlette.datastructures import FormData, UploadFile

from console.api.models import Model
from console.problems import FieldError, Problem
from console.trusted_cas import patterns
from console.uploads import FORM, JSON, kind_of, of_json
from control.names import LONGEST_NAME
from control.trusted_cas import MOST_HOSTS, Upload

MOST_FILES = 100
MEMBERS = ("file", "name", "hosts", "active")
Pattern = Annotated[str, Field(min_length=1, max_length=300)]
Hosts = Annotated[
    tuple[Pattern, ...],
    Field(
        max_length=MOST_HOSTS,
        description="patterns of the hosts that it may vouch for: example.com, *.example.com, .example.com; none: all",
        examples=[[".corp.example"]],
    ),
]


def _decoded(text: object) -> object:
    """The bytes; what is not even text is for the model to refuse."""
    if not isinstance(text, str):
        return text
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise ValueError("it is no Base64") from None


_BASE64 = BeforeValidator(_decoded)


class Judge(Model):
    """A file to be looked at: ``pem`` as text, or ``data`` in Base64 (PEM, DER or PKCS #7), of at most 1 MiB."""

    name: Annotated[str, Field(max_length=LONGEST_NAME, description="left out: one is proposed")] = ""
    pem: Annotated[str | None, Field(examples=["-----BEGIN CERTIFICATE-----\n…"])] = None
    data: Annotated[bytes | None, _BASE64, Field(description="Base64 (RFC 4648 section 4)")] = None
    hosts: Hosts = ()
    active: bool = True

    @model_validator(mode="after")
    def _one_file(self) -> Self:
        if (self.pem is None) is (self.data is None):
            raise ValueError("expected either pem or data")
        return self


class New(Judge):
    """A CA to be trusted."""

    name: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, examples=["Example Corporate Root"])]


_Binary = Annotated[str, Field(json_schema_extra={"format": "binary"})]


class Files(Model):
    """Several files at once: for each its ``name``; ``hosts`` and ``active`` for each, or once for all."""

    file: Annotated[tuple[_Binary, ...], Field(max_length=MOST_FILES)]
    name: Annotated[tuple[str, ...], Field(description="as many as files, in their order")] = ()
    hosts: Annotated[tuple[str, ...], Field(description="each several patterns, with spaces or commas between")] = ()
    active: tuple[bool, ...] = (True,)


@dataclass(frozen=True, slots=True)
class Given:
    """What was sent. ``several``: as a form, so that the answer is a list. ``files`` has the files' own names."""

    uploads: Sequence[Upload]
    files: Sequence[str | None]
    several: bool


def given_as(model: type[Judge]) -> Callable[[Request], Any]:
    """A dependency: what was sent. Raises Problem, and RequestValidationError."""

    async def given(request: Request) -> Given:
        if kind_of(request) == FORM:
            async with request.form(max_files=MOST_FILES, max_fields=3 * MOST_FILES) as form:
                return await _from_form(form, named=model is New)
        one = await of_json(model, request)
        data = one.data if one.data is not None else (one.pem or "").encode()
        return Given([Upload(one.name, data, one.hosts, one.active)], [None], several=False)

    return given


Judging = Annotated[Given, Depends(given_as(Judge))]
Adding = Annotated[Given, Depends(given_as(New))]


async def _from_form(form: FormData, *, named: bool) -> Given:
    if unknown := [name for name in form if name not in MEMBERS]:
        raise _wrong(unknown[0][:40], f"there is no such member; expected {', '.join(MEMBERS)}")
    files = form.getlist("file")
    if not files:
        raise _wrong("file", "expected at least one file")
    contents, names = [], []
    for place, file in enumerate(files):
        if not isinstance(file, UploadFile):
            raise _wrong(f"file/{place}", "expected a file, with a file name")
        contents.append(await file.read())
        names.append(file.filename or "")
    count = len(files)
    called = _texts(form, "name") or ([] if named else [""] * count)
    if len(called) != count:
        raise _wrong("name", f"expected as many names as files: {count}, not {len(called)}")
    hosts = _for_each("hosts", _texts(form, "hosts"), count, "")
    active = [_flag(text) for text in _for_each("active", _texts(form, "active"), count, "true")]
    uploads = [
        Upload(name, data, patterns(text), flag)
        for name, data, text, flag in zip(called, contents, hosts, active, strict=True)
    ]
    return Given(uploads, names, several=True)


def _texts(form: FormData, member: str) -> list[str]:
    found = form.getlist(member)
    if any(isinstance(each, UploadFile) for each in found):
        raise _wrong(member, "expected text, not a file")
    return [str(each) for each in found]


def _for_each(member: str, texts: Sequence[str], count: int, otherwise: str) -> Sequence[str]:
    if len(texts) <= 1:
        return [*(texts or [otherwise])] * count
    if len(texts) != count:
        raise _wrong(member, f"expected one for all files, or one for each: {count}, not {len(texts)}")
    return texts


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise _wrong("active", "expected true or false")
    return text == "true"


def _wrong(member: str, detail: str) -> Problem:
    pointer = f"#/{member}"
    errors = [FieldError(pointer, detail)]
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", f"{pointer}: {detail}", errors=errors)


def documented(model: type[Judge]) -> dict[str, Any]:
    """``openapi_extra`` of a route that takes either."""
    kinds = ((JSON, model), (FORM, Files))
    content = {kind: {"schema": each.model_json_schema(mode="validation")} for kind, each in kinds}
    return {"requestBody": {"required": True, "content": content}}
