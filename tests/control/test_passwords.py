from __future__ import annotations

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.profiles import RFC_9106_LOW_MEMORY

from config.settings import Settings
from control import passwords
from control.common_passwords import PUBLISHED_FILE
from control.errors import Refused
from control.passwords import SHORTEST, Hashing, check_new, prepared
from tests.control.conftest import CHEAP


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery stapler", "xkcd-936-tr0ub4dor", "x8Jq!2mZp0Lw", "482910485739", "Grüße aus Köln",
        "パスワードは長いほうがいい",
        "a" * 3 + "horse tractor moon", "🐎🔋📎✅ horses!", "x" * 500 + "y" * 500 + "horse",
    ],
)  # fmt: skip
def test_length_is_all_that_is_asked_for(password: str) -> None:
    assert check_new(password, "ann", Settings()) == prepared(password)


@pytest.mark.parametrize(
    "password",
    [
        "Password1234", "password2026!", "passwordpassword", "aaaaaaaaaaaa", "abcabcabcabc", "123456789012",
        "210987654321", "qwertyuiopas", "1qaz2wsx3edc", "Sallyport-2026", "administrator1",
        "correct horse battery staple",
        "changeme!changeme!", "Annabelle-1234", "annabelle2026annabelle", "welcome.123456", "qwerty123456",
    ],
)  # fmt: skip
def test_what_is_guessed_first_is_refused(password: str) -> None:
    with pytest.raises(Refused, match="among the first that are guessed") as caught:
        check_new(password, "annabelle@bank.example", Settings())
    assert password not in str(caught.value)


COMMONEST = PUBLISHED_FILE.read_text().splitlines()
"""Case aside, the commonest first."""


def test_more_than_3000_of_the_commonest_that_are_long_enough_are_refused_in_any_case() -> None:
    assert len({each for each in COMMONEST if len(each) >= SHORTEST}) == len(COMMONEST) == 5074
    for password in COMMONEST:
        for typed in (password, password.upper()):
            with pytest.raises(Refused, match="among the first that are guessed"):
                check_new(typed, "ann", Settings())


@pytest.mark.parametrize(
    "password",
    [
        "unbelievable", "LeaveMeAlone", "123456789987654321", "ghjcnjgfhjkm", "sonyericsson", "qazwsxedcrfv",
        "philadelphia", "Peanutbutter", "onedirection", "123qweasdzxc",
    ],
)  # fmt: skip
def test_what_many_have_had_is_refused_though_no_rule_finds_it(password: str) -> None:
    with pytest.raises(Refused, match="among the first that are guessed") as caught:
        check_new(password, "ann", Settings())
    assert password not in str(caught.value)


def test_too_short_and_too_long_are_refused_at_the_edge() -> None:
    edge = "horse tractor moon " * 60
    for good in (edge[:12], edge[:1024]):
        check_new(good, "ann", Settings())
    for bad, why in ((edge[:11], "too short"), ("", "too short"), (edge[:1025], "too long"), ("ﷺ" * 1000, "too long")):
        with pytest.raises(Refused, match=why):
            check_new(bad, "ann", Settings())


@pytest.mark.parametrize("bad", ["\x00", "\n", "\ud800", "\u202e", "\u0378", "\ue000"])
def test_what_cannot_be_typed_everywhere_is_refused(bad: str) -> None:
    with pytest.raises(Refused, match="cannot be typed the same everywhere"):
        check_new(f"horse {bad} tractor moon", "ann", Settings())


def test_the_same_password_from_another_keyboard_is_the_same() -> None:
    hash = CHEAP.hash(check_new("Grüße, ﬁne horses", "ann", Settings()))
    for typed in ("Gru\u0308ße, fine horses", "Grüße,\u00a0ﬁne\u2003horses", "Grüße, ﬁne\u1680horses"):
        assert CHEAP.verify(hash, typed)
    for typed in ("GRÜSSE, FINE HORSES", "Grüße, fine horses ", "", "\x00", "x" * 5000):
        assert not CHEAP.verify(hash, typed)


def test_the_parameters_are_those_that_the_library_recommends_today() -> None:
    parameters = extract_parameters(passwords.STANDARD.hash("horse tractor moon"))
    assert (parameters.type.name, parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (
        "ID", RFC_9106_LOW_MEMORY.memory_cost, RFC_9106_LOW_MEMORY.time_cost, RFC_9106_LOW_MEMORY.parallelism,
    )  # fmt: skip


def test_nobodys_password_is_looked_at_as_long_and_never_right(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    verify = PasswordHasher.verify

    def counting(self: PasswordHasher, hash: str, password: str) -> object:
        looked_at.append(hash.rpartition("$")[0].rpartition("$")[0])
        return verify(self, hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", counting)
    hash = CHEAP.hash("horse tractor moon")
    assert CHEAP.verify(hash, "horse tractor moon")
    assert not CHEAP.verify(None, "horse tractor moon")
    assert not CHEAP.verify(None, "nobody's password")
    assert not CHEAP.verify(hash, "\x00")
    assert len(looked_at) == 4
    assert len(set(looked_at)) == 1  # the same parameters each time


def test_an_older_hash_verifies_and_is_outdated() -> None:
    stronger = Hashing(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    hash = CHEAP.hash("horse tractor moon")
    assert stronger.verify(hash, "horse tractor moon")
    assert stronger.outdated(hash)
    assert not CHEAP.outdated(hash)


def test_a_damaged_hash_is_told_and_lets_nobody_in() -> None:
    with pytest.raises(Refused, match="stored password is damaged"):
        CHEAP.verify("$argon2id$nonsense", "horse tractor moon")
