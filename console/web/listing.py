"""Tables of pages: what of a list is shown, by which columns (remembered in a cookie), and the links that change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from fastapi import Request, Response

from console.tables import Asked, Column, Part, select

LIMIT = 100
REMEMBERED_SECONDS = 365 * 86400
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class View[T]:
    """A table. ``name`` is what its columns are remembered by."""

    name: str
    part: Part[T]
    columns: Sequence[Column[T]]
    shown: Sequence[Column[T]]
    query: Mapping[str, str]
    default_sort: str

    @property
    def asked(self) -> Asked:
        """What was asked for."""
        return self.part.asked

    @property
    def narrowed(self) -> bool:
        """Whether some are left out by a search or a filter."""
        return bool(self.asked.q or any(self.asked.filters.values()))

    @property
    def first(self) -> int:
        """The place of the first row, from 1."""
        return self.asked.offset + 1

    @property
    def last(self) -> int:
        """The place of the last row."""
        return self.asked.offset + len(self.part.items)

    @property
    def previous(self) -> str | None:
        """Where the part before is."""
        return self._link(offset=str(max(0, self.asked.offset - LIMIT))) if self.asked.offset else None

    @property
    def following(self) -> str | None:
        """Where the part behind is."""
        return self._link(offset=str(self.last)) if self.part.more else None

    def sorted_by(self, column: Column[T]) -> Literal["ascending", "descending"] | None:
        """Which way it is sorted by the column."""
        sort = self.asked.sort or self.default_sort
        if sort.removeprefix("-") != column.key:
            return None
        return "descending" if sort.startswith("-") else "ascending"

    def sort_link(self, column: Column[T]) -> str:
        """Sorts by the column, or the other way round."""
        turned = "-" if self.sorted_by(column) == "ascending" else ""
        return self._link(sort=f"{turned}{column.key}", offset="")

    def _link(self, **changed: str) -> str:
        query = {key: value for key, value in {**self.query, **changed}.items() if value}
        return f"?{urlencode(query)}"


def view[T](
    request: Request,
    name: str,
    rows: Iterable[T],
    columns: Sequence[Column[T]],
    default_sort: str,
    filters: Sequence[str] = (),
) -> View[T]:
    """The table that a request asks for. What it asks that cannot be is as if it had not been asked."""
    given = {key: value[:_LONGEST] for key, value in request.query_params.items()}
    known = {column.key for column in columns}
    sort = given.get("sort", "")
    asked = Asked(
        q=given.get("q", ""),
        sort=sort if sort.removeprefix("-") in known else "",
        limit=LIMIT,
        offset=int(given["offset"]) if given.get("offset", "").isascii() and given.get("offset", "").isdigit() else 0,
        filters={key: given.get(key, "") for key in filters},
    )
    chosen = _chosen(request, name, known)
    shown = [column for column in columns if (column.key in chosen if chosen else column.shown)]
    kept = {key: value for key, value in given.items() if key in {"q", "sort", *filters}}
    return View(name, select(rows, columns, asked, default_sort), columns, shown, kept, default_sort)


def remember(request: Request, response: Response, name: str) -> None:
    """Where columns were chosen with this request, remember them."""
    if request.query_params.get("columns") == "set":
        chosen = ".".join(each[:40] for each in request.query_params.getlist("column")[:40] if each.isidentifier())
        response.set_cookie(
            f"columns-{name}", chosen, max_age=REMEMBERED_SECONDS, secure=True, httponly=True, samesite="lax"
        )


def _chosen(request: Request, name: str, known: set[str]) -> set[str]:
    if request.query_params.get("columns") == "set":
        return known & set(request.query_params.getlist("column"))
    return known & set(request.cookies.get(f"columns-{name}", "").split("."))
