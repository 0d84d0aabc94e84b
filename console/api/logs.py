"""Parts of logs, the newest first. What comes next is told by the number of the last one: new entries shift nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from pydantic import Field

from console.api.models import Model, Moment

LIMIT, MOST = 100, 1000
BIGGEST_ID = (1 << 63) - 1


Limit = Annotated[int, Query(ge=1, le=MOST)]
Before = Annotated[
    int | None, Query(ge=1, le=BIGGEST_ID, description="only entries with a smaller id: what comes next")
]
Since = Annotated[Moment | None, Query()]
Until = Since
Part = Annotated[str, Query(max_length=128)]


class Log[T](Model):
    """A part of a log, the newest first. ``next``: where the following part is; null: this is the last."""

    items: Sequence[T]
    next: Annotated[str | None, Field(examples=["/api/v1/audit-log?before=1200"])]


class Numbered(Protocol):
    """What a log has."""

    @property
    def id(self) -> int:
        """Its number, which grows."""
        ...


def logged[T: Numbered](
    request: Request, response: Response, find: Callable[[int], Sequence[T]], limit: int, told: Callable[[T], Any]
) -> dict[str, Any]:
    """The part that was asked for. ``find`` is asked for one more, which tells whether others follow."""
    found = find(limit + 1)
    following = None
    if len(found) > limit:
        query = {**request.query_params, "before": found[limit - 1].id, "limit": limit}
        following = f"{request.url.path}?{urlencode(query)}"
        response.headers["Link"] = f'<{following}>; rel="next"'
    return {"items": [told(one) for one in found[:limit]], "next": following}
