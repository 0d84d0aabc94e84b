"""Stylesheet, scripts and icon: from the package, each under an address that changes with its content."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(str(files("console.web").joinpath("static")))


class _Kept(StaticFiles):
    """Files that browsers may keep for good: another content has another address."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if response.status_code == 200:
            response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def mount(app: FastAPI) -> None:
    """Serve them."""
    app.mount("/static", _Kept(directory=FOLDER), name="static")


@cache
def address(name: str) -> str:
    """Where a file is served."""
    digest = hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def globals_() -> dict[str, Any]:
    """What templates call."""
    return {"static": address}
