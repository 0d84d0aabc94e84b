"""The token bucket, on a clock of the test's."""

from __future__ import annotations

from kms.bucket import Bucket


def test_a_bucket_holds_one_second_of_tokens() -> None:
    now = 100.0
    bucket = Bucket(10, lambda: now)
    assert [bucket.take() for _ in range(11)] == [True] * 10 + [False]
    now += 0.25
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now += 3600
    assert sum(bucket.take() for _ in range(100)) == 10


def test_whoever_waits_gets_a_token_in_turn_and_nobody_waits_longer_than_they_will() -> None:
    now = 100.0
    bucket = Bucket(10, lambda: now, burst=2)
    assert [round(wait, 6) for wait in map(bucket.reserve, [1.0] * 5) if wait is not None] == [0, 0, 0.1, 0.2, 0.3]
    assert bucket.reserve(0.35) is None, "the next would be there after 0.4 s"
    assert not bucket.take()
    now += 0.4
    assert bucket.take(), "all that were promised are there, and one more"
    assert not bucket.take()


def test_what_is_given_back_is_there_for_the_next() -> None:
    bucket = Bucket(1, lambda: 0.0, burst=1)
    assert bucket.reserve(0) == 0
    bucket.give_back()
    assert bucket.take()


def test_it_is_half_full_while_a_burst_could_still_come() -> None:
    now = 0.0
    bucket = Bucket(100, lambda: now, burst=10)
    assert [bucket.half_full and bucket.take() for _ in range(8)] == [True] * 6 + [False] * 2
    now += 0.01
    assert bucket.half_full
    one = Bucket(1, lambda: now, burst=1)
    assert one.half_full
    assert one.take()
    assert not one.half_full
