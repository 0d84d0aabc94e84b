"""How near its end a certificate or a chain is, at a moment that the test gives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certs.expiry import Expiry, Validity, first_to_end
from tests.harness.pki import DAY, HOUR, Authority, Issued

NOW = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def ca(begins: timedelta, ends: timedelta, name: str = "CA") -> Issued:
    """A CA that is valid from and to these moments, counted from now."""
    return Authority.root(name, not_before=NOW + begins, not_after=NOW + ends)


@pytest.mark.parametrize(
    ("begins", "ends", "state", "words"),
    [
        (-90 * DAY, 90 * DAY, Expiry.FINE, "90 days left"),
        (-90 * DAY, 10 * DAY, Expiry.FINE, "10 days left"),  # a tenth is left, not less
        (-90 * DAY, 10 * DAY - SECOND, Expiry.NEAR_END, "9 days left"),
        (-9 * HOUR, 2 * HOUR, Expiry.FINE, "less than a day left"),  # of a short life, much is left
        (-3600 * DAY, 365 * DAY, Expiry.NEAR_END, "365 days left"),
        (-90 * DAY, 36 * HOUR, Expiry.NEAR_END, "1 day left"),
        (-90 * DAY, 0 * DAY, Expiry.NEAR_END, "less than a day left"),  # the last second belongs to it
        (-90 * DAY, -SECOND, Expiry.EXPIRED, "expired less than a day ago"),
        (-90 * DAY, -3 * DAY, Expiry.EXPIRED, "expired 3 days ago"),
        (0 * DAY, 90 * DAY, Expiry.FINE, "90 days left"),  # and so does the first
        (SECOND, 90 * DAY, Expiry.NOT_YET_VALID, "begins in less than a day"),
        (2 * DAY, 90 * DAY, Expiry.NOT_YET_VALID, "begins in 2 days"),
    ],
)
def test_a_certificate_is_in_a_state_and_the_time_is_said_in_words(
    begins: timedelta, ends: timedelta, state: Expiry, words: str
) -> None:
    validity = Validity.of([ca(begins, ends).certificate])
    assert (validity.expiry(NOW), validity.in_words(NOW)) == (state, words)


@pytest.mark.parametrize(
    ("chain", "state", "words"),
    [
        # The root ends first: nothing below it verifies any longer.
        ([(-9 * DAY, 90 * DAY), (-900 * DAY, 5 * DAY)], Expiry.NEAR_END, "5 days left"),
        ([(-9 * DAY, 90 * DAY), (-900 * DAY, -DAY)], Expiry.EXPIRED, "expired 1 day ago"),
        # A root near its end that outlives what is below it by far is no reason to hurry.
        ([(-DAY, 90 * DAY), (-3600 * DAY, 300 * DAY)], Expiry.FINE, "90 days left"),
        # Of two that end together, either may be near its end.
        ([(-DAY, 9 * DAY), (-900 * DAY, 9 * DAY)], Expiry.NEAR_END, "9 days left"),
        ([(-90 * DAY, 900 * DAY), (DAY, 3600 * DAY)], Expiry.NOT_YET_VALID, "begins in 1 day"),
        # What has expired counts, whatever else has yet to begin.
        ([(-90 * DAY, -DAY), (DAY, 3600 * DAY)], Expiry.EXPIRED, "expired 1 day ago"),
    ],
)
def test_a_chain_is_good_for_as_long_as_all_of_it_is(
    chain: list[tuple[timedelta, timedelta]], state: Expiry, words: str
) -> None:
    certificates = [ca(*span).certificate for span in chain]
    for order in (certificates, certificates[::-1]):
        validity = Validity.of(order)
        assert (validity.expiry(NOW), validity.in_words(NOW)) == (state, words)


def test_the_first_to_end_is_named() -> None:
    issuing, root = ca(-DAY, 90 * DAY, "Issuing").certificate, ca(-DAY, 5 * DAY, "Root").certificate
    assert first_to_end([issuing, root]) is root


def test_of_nothing_nothing_is_said() -> None:
    with pytest.raises(ValueError, match="empty"):
        Validity.of([])
