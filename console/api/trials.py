"""``dry_run``: what a change would do to the servers that were judged within the last day; nothing is saved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import Query
from fastapi.responses import JSONResponse
from pydantic import Field

from console.api.models import Model
from console.trying import try_it
from console.visit import Visit
from control.installation import Installation
from control.shown import trials as shown

DryRun = Annotated[
    bool, Query(description="save nothing: answer what it would do to the servers of the last 24 hours (a Trial)")
]


class Outcome(Model):
    """What is wrong with a server, and what is done."""

    defects: list[str]
    action: Annotated[str, Field(examples=["block"])]


class Difference(Model):
    """A server that would be judged otherwise."""

    host: str
    port: int
    last_at: Annotated[datetime, Field(description="when it was last visited, to ten minutes")]
    before: Outcome
    after: Outcome


class NotTried(Model):
    """A server on which it could not be tried."""

    host: str
    port: int
    last_at: datetime
    reason: str


class Trial(Model):
    """What a change would do; nothing was saved."""

    dry_run: Literal[True]
    servers: Annotated[int, Field(description="on so many it was tried")]
    differing: list[Difference]
    not_tried: list[NotTried]
    remarks: Annotated[list[str], Field(description="what it cannot tell")]


TRIED: dict[int | str, dict[str, Any]] = {200: {"model": Trial, "description": "With `dry_run`: what it would do"}}
"""For routes whose own answer has another status."""


def tried(visit: Visit, tenant: str, change: Callable[[Installation], object]) -> JSONResponse:
    """The answer where the change is only to be tried. Raises what the change raises."""
    found = Trial.model_validate(shown.as_object(try_it(visit, tenant, change)))
    return JSONResponse(found.model_dump(mode="json"), HTTPStatus.OK)
