"""The application: what is put together here answers every request of API and pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fastapi import FastAPI

from console.daemon import Daemon
from control.installation import Installation


@dataclass(frozen=True, slots=True)
class Parts:
    """What requests are answered from. ``clock`` tells the time, aware."""

    inst: Installation
    clock: Callable[[], datetime]
    daemon: Daemon


def create(parts: Parts) -> FastAPI:
    """The application."""
    app = FastAPI(openapi_url="/api/openapi.json", docs_url=None, redoc_url=None)
    app.state.parts = parts
    return app
