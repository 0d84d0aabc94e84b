"""What comes with files, as JSON or as a form: read into a model, each file bounded, and none ever written to a disk.

In JSON a file is its PEM text, or its bytes in Base64 (RFC 4648 section 4). A form has files, or the same texts where
somebody has pasted one. What is wrong is told by field, and never with what was given: it may be a private key.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, get_origin

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends as Dependency
from pydantic import BaseModel, BeforeValidator, SecretBytes, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from certs.formats import LARGEST_FILE
from console.middleware import MOST_BODY
from console.problems import FieldError, Problem

MOST_FILES = 20
MOST_FIELDS = 40
LONGEST_FIELD = 1 << 20
JSON, FORM, TYPED = "application/json", "multipart/form-data", "application/x-www-form-urlencoded"

type Given = dict[str, Any]
"""What came, by the members' names. A form's have a list each."""


def _octets(value: object) -> bytes:
    """The bytes of a file, however it came."""
    if isinstance(value, str):
        value = _decoded(value)
    if isinstance(value, list):
        raise PydanticCustomError("file", "it is given more than once: as a file, or as its text, but not both")
    if not isinstance(value, bytes):
        raise PydanticCustomError("file", "expected a file: PEM, or its bytes in Base64")
    if not value:
        raise PydanticCustomError("file", "the file is empty")
    if len(value) > LARGEST_FILE:
        raise PydanticCustomError("file", f"the file has more than {LARGEST_FILE >> 20} MiB")
    return value


def _decoded(text: str) -> bytes:
    if "-----BEGIN " in text:
        return text.encode()
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise PydanticCustomError("file", "it is neither PEM nor Base64") from None


_SCHEMA = WithJsonSchema({"type": "string", "description": "PEM, or the file's bytes in Base64; in a form, a file"})
File = Annotated[bytes, BeforeValidator(_octets), _SCHEMA]
SecretFile = Annotated[SecretBytes, BeforeValidator(_octets), _SCHEMA]
"""One with a private key in it: it is in no repr."""


class _InMemory(MultiPartParser):
    """Keeps all parts in memory, since one may be a private key; how much comes is bounded before."""

    spool_max_size = MOST_BODY


async def given(request: Request) -> Given:
    """A dependency: what came with a form, each member with a list. Raises Problem."""
    if kind_of(request) == FORM:
        try:
            parser = _InMemory(
                request.headers, request.stream(), max_files=MOST_FILES, max_fields=MOST_FIELDS,
                max_part_size=LONGEST_FIELD,
            )  # fmt: skip
            form = await parser.parse()
        except MultiPartException as error:
            raise Problem(HTTPStatus.BAD_REQUEST, "invalid", f"The form cannot be read: {error.message}") from None
    else:
        form = await request.form(max_fields=MOST_FIELDS)
    found: Given = {}
    try:
        for name, value in form.multi_items():
            one = await value.read() if isinstance(value, UploadFile) else value
            # What was left empty was not given.
            if one if isinstance(one, bytes) else one.strip():
                found.setdefault(name, []).append(one)
    finally:
        await form.close()
    return found


def kind_of(request: Request) -> str:
    """The media type of the request's body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def read[M: BaseModel](model: type[M], given: Mapping[str, Any]) -> M:
    """A form as the model. Raises ValidationError; :func:`told` says what is wrong without what was given."""
    members: Given = {}
    for name, values in given.items():
        field = model.model_fields.get(name)
        several = field is not None and get_origin(field.annotation) in (list, tuple)
        # Twice where once is meant: the model refuses the list.
        members[name] = values if several or len(values) > 1 else values[0]
    return model.model_validate(members)


def told(error: ValidationError) -> list[dict[str, Any]]:
    """What is wrong with each field, without what was given."""
    return [
        {"loc": one["loc"], "msg": one["msg"], "type": one["type"]}
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def of_body[M: BaseModel](model: type[M]) -> Dependency:
    """A dependency: the request's body, JSON or a form, as the model. Raises Problem, RequestValidationError."""

    async def body(request: Request) -> M:
        if kind_of(request) not in (FORM, TYPED):
            return await of_json(model, request)
        try:
            return read(model, await given(request))
        except ValidationError as error:
            raise _refused(error) from None

    found: Dependency = Depends(body)
    return found


async def of_json[M: BaseModel](model: type[M], request: Request) -> M:
    """The request's body, which must be JSON, as the model. Raises Problem, RequestValidationError."""
    if kind_of(request) != JSON:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "invalid", f"Expected {JSON} or {FORM}.")
    try:
        return model.model_validate(json.loads(await request.body()))
    except ValidationError as error:
        raise _refused(error) from None
    except (ValueError, RecursionError):
        detail = "The body is no JSON."
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid", detail, errors=[FieldError("#", detail)]) from None


def _refused(error: ValidationError) -> RequestValidationError:
    return RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in told(error)])


def documented(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` of a route that takes the model, either way."""
    schema = model.model_json_schema()
    content = {kind: {"schema": schema} for kind in (JSON, FORM)}
    return {"requestBody": {"required": True, "content": content}}
