"""What is logged and counted where somebody goes beyond a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.settings import Limits
from proxy.lanes.exchange import OverLimit
from proxy.log import WARNING

if TYPE_CHECKING:
    from proxy.session import Session


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits, and who is told of somebody that goes beyond them."""

    limits: Limits
    told: Callable[[OverLimit], None]


def over_limit(session: Session, host: str, error: OverLimit) -> None:
    """One line and one count for the connection, which ends."""
    side = "client" if error.client else "server"
    session.log(WARNING, "over a limit", host=host, kind=error.kind, side=side, reason=str(error))
    session.worker.abused(error.kind)
