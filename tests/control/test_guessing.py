from __future__ import annotations

from datetime import timedelta

import pytest

from control import guessing
from control.guessing import ACCOUNT, SOURCE, TooManyGuesses, source_of
from control.installation import Installation
from store.records import Guesses
from tests.control.conftest import account
from tests.harness.pki import DAY, NOW

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


@pytest.mark.parametrize(
    ("count", "wait"),
    [(0, 0), (4, 0), (5, 30), (6, 60), (7, 120), (8, 240), (9, 480), (10, 900), (11, 900), (99, 900)],
)
def test_the_wait_doubles_up_to_the_longest(count: int, wait: int) -> None:
    again = ACCOUNT.again_at(Guesses(count, NOW), NOW + SECOND)
    assert again == (NOW + wait * SECOND if wait else NOW + SECOND)


def test_a_hundred_in_a_row_lock_an_account_however_long_ago() -> None:
    assert ACCOUNT.again_at(Guesses(100, NOW), NOW + 1000 * DAY) is None
    assert ACCOUNT.again_at(Guesses(99, NOW), NOW + 1000 * DAY) == NOW + 15 * MINUTE


def test_what_came_from_an_address_is_forgotten_after_a_day_without() -> None:
    many = Guesses(1000, NOW)
    assert SOURCE.again_at(many, NOW + DAY - SECOND) == NOW + timedelta(hours=1)
    assert SOURCE.counting(many, NOW + DAY - SECOND) == 1000
    assert SOURCE.counting(many, NOW + DAY) == 0
    assert SOURCE.again_at(None, NOW) == NOW


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"), ("2001:db8:0:1::1", "2001:db8:0:1::/64"), ("fe80::1%eth0", "fe80::/64"),
        ("a socket", "a socket"), ("x" * 100, "x" * 64),
    ],
)  # fmt: skip
def test_of_ipv6_a_whole_network_is_one_source(address: str, counted: str) -> None:
    assert source_of(address) == counted


def test_guesses_from_one_address_at_many_names_are_slowed(inst: Installation) -> None:
    with inst.store.transaction() as c:
        for n in range(SOURCE.free):
            guessing.take(c, None, f"name{n}", "192.0.2.1", NOW)
        with pytest.raises(
            TooManyGuesses, match=r"^too many wrong guesses at or from this address; try again in 60 s$"
        ):
            guessing.take(c, None, "another", "192.0.2.1", NOW)
        guessing.take(c, None, "another", "192.0.2.2", NOW)
        guessing.take(c, None, "another", "192.0.2.1", NOW + MINUTE)
        with pytest.raises(TooManyGuesses) as caught:
            guessing.take(c, None, "another", "192.0.2.1", NOW + 2 * MINUTE)
        assert caught.value.again_at == NOW + 3 * MINUTE


def test_a_success_clears_the_account_and_gives_the_address_one_back(inst: Installation) -> None:
    ann = account(inst, "ann")
    with inst.store.transaction() as c:
        for _ in range(3):
            last = guessing.take(c, ann, "ann", "192.0.2.1", NOW)
        assert guessing.standing(c, ann, NOW).wrong == 3
        last.succeeded(c)
        assert guessing.standing(c, ann, NOW).wrong == 0
        counts = c.exec_driver_sql("SELECT kind, count FROM guesses").all()
        assert counts == [("source", 2)]


def test_a_refused_guess_counts_for_nothing(inst: Installation) -> None:
    ann = account(inst, "ann")
    with inst.store.transaction() as c:
        for n in range(5):
            guessing.take(c, ann, "ann", f"192.0.2.{n}", NOW)
        for _ in range(10):
            with pytest.raises(TooManyGuesses):
                guessing.take(c, ann, "ann", "192.0.2.9", NOW)
        assert guessing.standing(c, ann, NOW).wrong == 5
        assert guessing.take(c, None, "bob", "192.0.2.9", NOW).source == "192.0.2.9"


def test_what_a_name_was_that_nobody_has_is_not_stored(inst: Installation) -> None:
    with inst.store.transaction() as c:
        guessing.take(c, None, "my-password-in-the-wrong-field", "192.0.2.1", NOW)
        (subject,) = c.exec_driver_sql("SELECT subject FROM guesses WHERE kind = 'unknown'").scalars()
        assert "password" not in subject
        guessing.take(c, None, "later", "192.0.2.1", NOW + guessing.UNKNOWN_AGE + SECOND)
        assert subject not in c.exec_driver_sql("SELECT subject FROM guesses").scalars().all()
