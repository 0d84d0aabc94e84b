"""What a change would do to the last day's servers, as pages tell it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from certs.verdict import COVERED_BY_UNTRUSTED, UNTRUSTED, Action
from control.trial import Difference, Trial

MOST_SHOWN = 10
"""Servers of each kind that are named."""


@dataclass(frozen=True, slots=True)
class Told:
    """``blocked``: those that pass now and would not; ``passed``: the other way; ``otherwise``: still let pass."""

    trial: Trial
    blocked: tuple[Difference, ...]
    passed: tuple[Difference, ...]
    otherwise: tuple[Difference, ...]

    @property
    def kinds(self) -> tuple[tuple[str, str, tuple[Difference, ...]], ...]:
        """Each kind that there is: what would become of these, how bad that is, and which."""
        every = (
            ("blocked", "bad", self.blocked), ("let through", "warn", self.passed),
            ("let through in another way", "", self.otherwise),
        )  # fmt: skip
        return tuple(kind for kind in every if kind[2])

    def of(self, row: str) -> str:
        """What it would do to servers with the defect of that row, in a line; nothing where it would do nothing."""
        rows = set(COVERED_BY_UNTRUSTED) if row == UNTRUSTED else {row}
        parts = [
            f"{_count(mine)} would be {what}: {_first(mine)}"
            for what, _, found in self.kinds
            if (mine := [one for one in found if rows & {*one.before.defects, *one.after.defects}])
        ]
        return "; ".join(parts)


def told(trial: Trial) -> Told:
    """The same, by what would become of servers."""
    changed = [one for one in trial.differing if one.before.action is not one.after.action]
    return Told(
        trial,
        tuple(one for one in changed if one.after.action is Action.BLOCK),
        tuple(one for one in changed if one.before.action is Action.BLOCK),
        tuple(one for one in changed if Action.BLOCK not in (one.before.action, one.after.action)),
    )


def _count(found: list[Difference]) -> str:
    return "1 server" if len(found) == 1 else f"{len(found)} servers"


def _first(found: Iterable[Difference]) -> str:
    hosts = list(dict.fromkeys(one.host for one in found))
    more = f" and {len(hosts) - 3} more" if len(hosts) > 3 else ""
    return ", ".join(hosts[:3]) + more
