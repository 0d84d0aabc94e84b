"""Every route of the console, and requests for it: for tests that walk all there is, or will be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi.dependencies.models import Dependant
from fastapi.params import File, Form
from fastapi.routing import APIRoute, iter_route_contexts

from console.app import routed

API = "/api/"
SAFE = frozenset({"GET", "HEAD"})
FRAMEWORKS = frozenset({"/api/openapi.json", "/static"})
"""What the framework serves by itself: the same for everybody."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a route, with what a request for it may look like."""

    method: str
    path: str
    query: Mapping[str, str]
    form: Mapping[str, str]
    files: tuple[str, ...]
    body: Any
    """JSON; None: it takes none."""

    @property
    def safe(self) -> bool:
        """Whether it changes nothing."""
        return self.method in SAFE

    @property
    def api(self) -> bool:
        """Whether it is for programs."""
        return self.path.startswith(API)

    def at(self, **given: str) -> str:
        """Its address. What is not given is called ``x``, or has the number 1."""
        path = self.path
        for piece in path.split("{")[1:]:
            parameter = piece.split("}")[0]
            name = parameter.split(":")[0]
            value = given.get(name, "1" if name == "id" else "x")
            path = path.replace(f"{{{parameter}}}", quote(value, safe=""))
        return path

    def sent(self) -> dict[str, Any]:
        """What goes with a request, beside its address: as documented."""
        found: dict[str, Any] = {"params": dict(self.query)}
        if self.body is not None:
            found["json"] = self.body
        if self.form or self.files:
            found["data"] = dict(self.form)
        if self.files:
            found["files"] = [(name, ("file.pem", b"nothing", "text/plain")) for name in self.files]
        return found


def operations() -> Iterator[Operation]:
    """Everything that can be asked of the application."""
    app = routed()
    document = app.openapi()
    for found in iter_route_contexts(app.routes):
        path = found.path or ""
        if not isinstance(found.original_route, APIRoute):
            assert path in FRAMEWORKS, f"{path} is no route as the others are; say here for whom it is"
            continue
        within = list(_all(found.dependant))
        query = {each.alias: "x" for one in within for each in one.query_params if each.field_info.is_required()}
        fields = [each for one in within for each in one.body_params if isinstance(each.field_info, Form)]
        files = tuple(each.alias for each in fields if isinstance(each.field_info, File))
        form = {each.alias: "x" for each in fields if not isinstance(each.field_info, File)}
        for method in sorted((found.methods or set()) - {"HEAD", "OPTIONS"}):
            told = document["paths"].get(_in_document(path), {}).get(method.lower(), {})
            yield Operation(method, path, query, form, files, _body(document, told))


def _all(dependant: Dependant) -> Iterator[Dependant]:
    """What a route depends on, itself included."""
    yield dependant
    for each in dependant.dependencies:
        yield from _all(each)


def _in_document(path: str) -> str:
    return path.replace(":path}", "}")


def _body(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Any:
    """A body as the document has it, with what is required and no more."""
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    return None if schema is None else _example(document, schema)


def _example(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    if "$ref" in schema:
        target: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return _example(document, target)
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return _example(document, schema[key][0])
    if "const" in schema:
        return schema["const"]
    match schema.get("type"):
        case "object":
            required = schema.get("required", ())
            return {name: _example(document, schema["properties"][name]) for name in required}
        case "array":
            return [_example(document, schema["items"])] if schema.get("minItems") else []
        case "string":
            return "x" * max(1, schema.get("minLength", 1))
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case _:
            return None
