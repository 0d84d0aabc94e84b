"""What the OpenAPI document says beside the routes themselves: how to sign in, and every answer that there can be."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from console.api.models import Problem
from console.problems import MEDIA_TYPE
from console.visit import COOKIE, CSRF_HEADER

DESCRIPTION = f"""Everything that the console and the command line can do.

**Who asks**: `Authorization: Bearer spt_…` (an API token: `sallyport token create`), or the console's session; over a
session each change carries the session's CSRF token in `{CSRF_HEADER}`.

**Errors** are problem documents (RFC 9457, `{MEDIA_TYPE}`) with a stable `type`.

**Conflicts**: answers about a tenant's things carry an `ETag`; a change with `If-Match` is refused (412) where somebody
else has changed the same thing since.

**Creates** may carry an `Idempotency-Key`: sent again with the same key, they are done once and answered alike.

**Lists** are paged (`limit`, `offset`; `next` and `Link`), sorted (`sort=name`, `sort=-expires`) and searched (`q`).

No answer ever holds a private key of ours. What is made for somebody else is told once, in the answer to what makes it:
a proxy user's password, and the configuration of a WireGuard device, with that device's own key.
"""
_SAID = {
    400: "The request cannot be read",
    401: "Nobody who is known asks",
    403: "Who asks may not do that",
    404: "There is no such thing that he may see",
    405: "Another method was expected",
    409: "There is one already, or the same request is being answered",
    412: "Somebody else changed it after what If-Match says",
    413: "Too large",
    415: "Another media type was expected",
    422: "It is not as documented, or cannot be done",
    429: "Too many wrong guesses",
    500: "Our own fault",
    503: "The store is out of reach",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": said,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, said in _SAID.items()
}
"""Of every route of the API."""


def install(app: FastAPI) -> None:
    """Have the application serve the document with what only all routes together show."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # that is how FastAPI has it done


def _completed(schema: dict[str, Any]) -> dict[str, Any]:
    components = schema.setdefault("components", {})
    # Not as the model of each answer: FastAPI makes a validator of its own for every answer of every route.
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = components.setdefault("schemas", {})
    schemas |= problem.pop("$defs", {}) | {"Problem": problem}
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "an API token, spt_…"},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    }
    schema["security"] = [{"token": []}, {"session": []}]
    for path in schema.get("paths", {}).values():
        for operation in path.values():
            for status, answer in operation.get("responses", {}).items():
                # FastAPI documents each model as plain JSON, and an answer to bad input that is never given.
                if status[0] in "45":
                    answer["content"] = PROBLEMS[int(status)]["content"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(unused, None)
    return schema
