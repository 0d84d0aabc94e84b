"""Moments that requests have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise ValueError("it is too far away") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""RFC 3339, with its zone; in UTC from here on, whole seconds."""
