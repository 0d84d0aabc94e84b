"""Lists as people and programs ask for them: searched, filtered, sorted, a part at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any

from console.problems import FieldError, Problem

type Value = str | int | float | bool | datetime | None


@dataclass(frozen=True, slots=True)
class Column[T]:
    """A column of a list of ``T``. ``value`` is what is sorted by; ``shown``: whether a table has it unasked.

    ``found``: whether a search looks into it.
    """

    key: str
    label: str
    value: Callable[[T], Value]
    shown: bool = True
    found: bool = True
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a list. ``sort``: a column's key, with ``-`` in front the other way. ``filters``: by column."""

    q: str = ""
    sort: str = ""
    limit: int = 100
    offset: int = 0
    filters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part[T]:
    """The part that was asked for, of ``total`` that match, in ``of`` all in all."""

    items: Sequence[T]
    total: int
    of: int
    asked: Asked

    @property
    def more(self) -> bool:
        """Whether others follow."""
        return self.asked.offset + len(self.items) < self.total


def select[T](rows: Iterable[T], columns: Sequence[Column[T]], asked: Asked, default_sort: str = "") -> Part[T]:
    """What of the rows is asked for. Raises Problem for a column that there is not."""
    by_key = {column.key: column for column in columns}
    everything = list(rows)
    found = [row for row in everything if _matches(row, columns, by_key, asked)]
    sort = asked.sort or default_sort
    if sort:
        key = sort.removeprefix("-")
        if key not in by_key:
            detail = f"there is no column {key[:40]!r} to sort by; expected one of {', '.join(by_key)}"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail, errors=[FieldError("?sort", detail)])
        found.sort(key=lambda row: _order(by_key[key].value(row)), reverse=sort.startswith("-"))
    return Part(found[asked.offset : asked.offset + asked.limit], len(found), len(everything), asked)


def _matches[T](row: T, columns: Sequence[Column[T]], by_key: Mapping[str, Column[T]], asked: Asked) -> bool:
    for key, wanted in asked.filters.items():
        column = by_key.get(key)
        if column is not None and wanted and _text(column.value(row)) != wanted.casefold():
            return False
    words = asked.q.casefold().split()
    if not words:
        return True
    texts = [_text(column.value(row)) for column in columns if column.found]
    return all(any(word in text for text in texts) for word in words)


def _text(value: Value) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value if value is not None else "").casefold()


def _order(value: Value) -> tuple[Any, ...]:
    """Nothing comes last, numbers and moments by size, texts as people sort them."""
    match value:
        case None:
            return (2,)
        case datetime():
            return (0, value.timestamp())
        case bool() | int() | float():
            return (0, value)
        case _:
            return (1, value.casefold(), value)
