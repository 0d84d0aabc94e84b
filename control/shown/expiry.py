"""When a CA ends, as it is shown: the date, and beside it what matters where it matters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cryptography import x509

from certs.expiry import Expiry, Validity
from control.shown.text import day, stamp


def shown(chain: Sequence[x509.Certificate], now: datetime) -> str:
    """The day on which the first of these ends, for people: ``2026-12-01``, ``2026-12-01 (5 days left)``.

    Nothing stands in brackets where all is fine; without a certificate it is empty.
    """
    if not chain:
        return ""
    validity = Validity.of(chain)
    fine = validity.expiry(now) is Expiry.FINE
    return day(validity.ends) if fine else f"{day(validity.ends)} ({validity.in_words(now)})"


def as_object(chain: Sequence[x509.Certificate], now: datetime) -> dict[str, Any]:
    """The same for JSON; null without a certificate."""
    if not chain:
        return {"not_after": None, "expiry": None}
    validity = Validity.of(chain)
    return {"not_after": stamp(validity.ends), "expiry": validity.expiry(now).value}
