"""When a leaf that is kept may be shown once more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from issuer.reuse import best, keep_until, renew_at, usable

NOW = datetime(2030, 1, 15, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Leaf:
    issued_at: datetime
    not_after: datetime


def leaf(age: timedelta, life: timedelta) -> Leaf:
    return Leaf(NOW - age, NOW - age + life)


@pytest.mark.parametrize(
    ("age", "life", "limit", "expected"),
    [
        pytest.param(HOUR, 7 * DAY, 7 * DAY, True, id="a fresh one of full length"),
        pytest.param(4 * DAY, 7 * DAY, 7 * DAY, True, id="shorter than a new one would be, but before two thirds"),
        pytest.param(5 * DAY, 7 * DAY, 7 * DAY, False, id="past two thirds, and a longer one can be had"),
        pytest.param(5 * DAY, 7 * DAY, 2 * DAY, True, id="past two thirds, but a new one would end with it"),
        pytest.param(
            5 * DAY, 7 * DAY, 2 * DAY + SECOND, True, id="past two thirds, a new one would last a second more"
        ),
        pytest.param(5 * DAY, 7 * DAY, 2 * DAY + 3 * SECOND, False, id="past two thirds, a new one would last longer"),
        pytest.param(HOUR, 7 * DAY, DAY, False, id="the server's own dates are bad now: a week is too long"),
        pytest.param(HOUR, DAY, DAY, True, id="made short, wanted short"),
        pytest.param(HOUR, DAY, 7 * DAY, True, id="made short, wanted long, and fresh"),
        pytest.param(17 * HOUR, DAY, 7 * DAY, False, id="made short, wanted long, past two thirds"),
        pytest.param(HOUR, 2 * DAY, 2 * DAY - HOUR - SECOND, False, id="it would outlive the server's by a second"),
        pytest.param(HOUR, 2 * DAY, 2 * DAY - HOUR, True, id="it ends with the server's"),
        pytest.param(2 * HOUR, 2 * HOUR, 7 * DAY, False, id="it ends now"),
        pytest.param(3 * HOUR, 2 * HOUR, 7 * DAY, False, id="it is over"),
        pytest.param(SECOND, MINUTE, 7 * DAY, False, id="under a minute is left and a longer one can be had"),
        pytest.param(HOUR, HOUR + 30 * SECOND, 30 * SECOND, True, id="under a minute is left, as of the server's own"),
    ],
)
def test_a_kept_leaf_will_do(age: timedelta, life: timedelta, limit: timedelta, expected: bool) -> None:
    assert usable(leaf(age, life), NOW + limit, NOW) is expected


def test_the_longest_of_those_that_will_do_is_taken() -> None:
    short, long, too_long = leaf(HOUR, DAY), leaf(HOUR, 3 * DAY), leaf(HOUR, 7 * DAY)
    assert best([short, too_long, long], NOW + 4 * DAY, NOW) is long
    assert best([short, too_long, long], NOW + DAY, NOW) is short
    assert best([too_long], NOW + DAY, NOW) is None


def test_a_worker_asks_again_after_two_thirds() -> None:
    fresh = leaf(HOUR, 6 * DAY)
    assert renew_at(fresh) == NOW - HOUR + 4 * DAY
    assert keep_until(fresh, NOW) == renew_at(fresh)


def test_a_worker_need_not_ask_for_each_connection_when_no_longer_leaf_can_be_had() -> None:
    assert keep_until(leaf(5 * DAY, 6 * DAY), NOW) == NOW + 10 * MINUTE
    assert keep_until(leaf(6 * DAY, 6 * DAY + 3 * MINUTE), NOW) == NOW + 3 * MINUTE
