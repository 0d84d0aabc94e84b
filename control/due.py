"""What somebody who has signed in has to do before anything else: change a password that somebody else gave him, and
set a second factor up where one is required. Until then the session is good for nothing but that.

It is asked of the account at each request, and kept in no session.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from config.settings import Settings
from store.records import Account

GIVEN_LASTS = timedelta(days=7)
"""So long a password is good that somebody else gave, who knows it (ASVS 6.4.1)."""


class Due(StrEnum):
    """What is to be done first."""

    PASSWORD = "password"  # noqa: S105 - what is to be changed, and none itself
    SECOND_FACTOR = "second_factor"


def of(account: Account, settings: Settings) -> Due | None:
    """What whoever has signed in with the account has to do first; None: nothing, the session is good for all."""
    if account.password_given_at is not None:
        return Due.PASSWORD
    if second_factor_required(settings) and not account.second_factor:
        return Due.SECOND_FACTOR
    return None


def second_factor_required(settings: Settings) -> bool:
    """Whether everybody who signs in has to have one."""
    return settings.console.second_factor == "required"


def given_until(account: Account) -> datetime | None:
    """By when a password that somebody else gave is to be changed; None: it is the person's own."""
    return None if account.password_given_at is None else account.password_given_at + GIVEN_LASTS


def given_over(account: Account, now: datetime) -> bool:
    """Whether a password that somebody else gave was not changed in time, and lets nobody in any more."""
    until = given_until(account)
    return until is not None and until <= now
