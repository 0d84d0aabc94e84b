"""What was changed: an entry for programs, and what is different after it for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from store.records import AuditEntry


def as_object(one: AuditEntry) -> dict[str, Any]:
    """The entry for JSON, with what was before and after."""
    return {
        "id": one.id,
        "at": one.at,
        "tenant": one.tenant,
        "actor": one.actor,
        "origin": one.origin,
        "action": one.action,
        "subject": one.subject,
        "before": json.loads(one.before) if one.before else None,
        "after": json.loads(one.after) if one.after else None,
    }


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing about the subject, before and after; None: there was no such thing."""

    member: str
    before: str | None
    after: str | None

    @property
    def same(self) -> bool:
        """Whether it stayed what it was."""
        return self.before == self.after


def differences(one: AuditEntry) -> list[Difference]:
    """What the change was, thing by thing: what is different first."""
    before, after = dict(_things(one.before)), dict(_things(one.after))
    found = [Difference(name, before.get(name), after.get(name)) for name in {**before, **after}]
    return sorted(found, key=lambda each: each.same)


def _things(text: str | None) -> Iterator[tuple[str, str]]:
    if text is None:
        return
    told = json.loads(text)
    if not isinstance(told, dict):
        yield "", _in_words(told)
        return
    for name, value in told.items():
        if isinstance(value, dict):
            yield from ((f"{name}: {key}", _in_words(each)) for key, each in value.items())
        else:
            yield name, _in_words(value)


def _in_words(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_in_words(each) for each in value) or "none"
        case dict():
            return json.dumps(value, ensure_ascii=False, sort_keys=True)
        case _:
            return str(value)
