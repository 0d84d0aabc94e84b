"""What came of trying a change on the last day's servers (:mod:`control.trial`)."""

from __future__ import annotations

from typing import Any

from control.trial import Outcome, Trial


def as_object(trial: Trial) -> dict[str, Any]:
    """What came of it, for JSON."""
    return {
        "dry_run": True,
        "servers": trial.servers,
        "differing": [
            {
                "host": one.host, "port": one.port, "last_at": one.last_at, "before": _outcome(one.before),
                "after": _outcome(one.after),
            }
            for one in trial.differing
        ],
        "not_tried": [
            {"host": one.host, "port": one.port, "last_at": one.last_at, "reason": one.why} for one in trial.untried
        ],
        "remarks": trial.remarks,
    }  # fmt: skip


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {"defects": outcome.defects, "action": outcome.action}
