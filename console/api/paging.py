"""A part of a list, as the API gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response

from console.tables import Asked, Column, select

LIMIT, MOST = 100, 1000


def _asked(
    q: Annotated[str, Query(max_length=200, description="words that all must be found")] = "",
    sort: Annotated[str, Query(max_length=50, description="a column; with - in front the other way round")] = "",
    limit: Annotated[int, Query(ge=1, le=MOST)] = LIMIT,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
) -> Asked:
    return Asked(q, sort, limit, offset)


Paging = Annotated[Asked, Depends(_asked)]


def paged[T](
    request: Request,
    response: Response,
    rows: Iterable[T],
    columns: Sequence[Column[T]],
    asked: Asked,
    told: Callable[[T], dict[str, Any]],
    default_sort: str = "",
) -> dict[str, Any]:
    """The part that was asked for, each of it as ``told`` has it; the following part is in ``Link`` too (RFC 8288)."""
    part = select(rows, columns, asked, default_sort)
    following = None
    if part.more:
        query = {**request.query_params, "offset": asked.offset + len(part.items), "limit": asked.limit}
        following = f"{request.url.path}?{urlencode(query)}"
        response.headers["Link"] = f'<{following}>; rel="next"'
    return {"items": [told(row) for row in part.items], "total": part.total, "next": following}
