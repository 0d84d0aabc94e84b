from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from argon2 import PasswordHasher

from control import accounts, audit_log, guessing, second_factor, sessions, sign_in, tenants, tokens
from control.actor import Actor
from control.authorisation import Principal, Role
from control.errors import Refused
from control.guessing import TooManyGuesses
from control.installation import Installation
from control.passwords import Hashing
from control.sign_in import Begun, WrongCredentials
from store import accounts as stored_accounts
from tests.control.conftest import CHEAP, PASSWORD, account, code_of
from tests.harness.pki import DAY, NOW

ADDRESS = "192.0.2.1"
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def sign(
    inst: Installation, name: str = "ann", password: str = PASSWORD, now: datetime = NOW, source: str = ADDRESS
) -> Begun:
    return sign_in.sign_in(inst, name, password, source, now, CHEAP)


def enrolled(inst: Installation, now: datetime = NOW) -> tuple[str, tuple[str, ...]]:
    """Account ann with a second factor: its secret, and the recovery codes."""
    account(inst, "ann")
    secret = second_factor.begin(inst, "ann", now).secret
    return secret, second_factor.confirm(inst, "ann", code_of(secret, now), now)


# password


def test_name_and_password_begin_a_session_which_is_logged(inst: Installation) -> None:
    made = account(inst, "ann", Role.AUDITOR, "default")
    begun = sign(inst.acting(Actor("nobody yet", "console from 192.0.2.1")), " ANN ")
    found = sessions.find(inst, begun.token, NOW)
    assert found is not None
    assert found.account.id == made.id
    assert found.principal == Principal("ann", Role.AUDITOR, frozenset({"default"}))
    assert (found.session.origin, found.session.awaits_code) == (ADDRESS, False)
    entry = audit_log.newest(inst)[0]
    assert (entry.actor, entry.origin, entry.action) == ("ann", "console from 192.0.2.1", "session.begin")
    assert accounts.show(inst, "ann", NOW).account.signed_in_at == NOW


def test_nothing_tells_a_name_that_nobody_has_from_a_wrong_password(inst: Installation) -> None:
    account(inst, "root")
    account(inst, "ann")
    account(inst, "gone")
    accounts.disable(inst, "gone", NOW)
    said: dict[str, list[str]] = {}
    for n, (name, password) in enumerate((("ann", "wrong"), ("bob", PASSWORD), ("gone", PASSWORD), ("no name", "x"))):
        now = NOW
        for attempt in range(103):
            with pytest.raises((WrongCredentials, TooManyGuesses)) as caught:
                sign(inst, name, password, now, f"10.{n}.{attempt}.1")
            said.setdefault(name, []).append(f"{type(caught.value).__name__}: {caught.value}")
            now += 20 * MINUTE
    assert said["ann"] == said["bob"] == said["gone"] == said["no name"]
    assert said["ann"][0] == "WrongCredentials: name or password is wrong"
    assert "this account is locked" in said["ann"][-1]
    actions = [json.loads(one.after or "") for one in audit_log.newest(inst, 100) if one.action == "admin.guessed"]
    assert [one["wrong_guesses"] for one in actions] == ["locked", "slowed"] * 2


def test_the_right_password_is_not_looked_at_while_an_account_has_to_wait(inst: Installation) -> None:
    account(inst, "ann")
    for n in range(guessing.ACCOUNT.free):
        with pytest.raises(WrongCredentials):
            sign(inst, password="wrong", source=f"192.0.2.{n}")
    with pytest.raises(TooManyGuesses) as caught:
        sign(inst, now=NOW + 29 * SECOND)
    assert caught.value.again_at == NOW + 30 * SECOND
    sign(inst, now=NOW + 30 * SECOND)
    assert accounts.show(inst, "ann", NOW).standing.wrong == 0


def test_an_outdated_hash_is_made_anew(inst: Installation) -> None:
    made = account(inst, "ann")
    stronger = Hashing(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    sign_in.sign_in(inst, "ann", PASSWORD, ADDRESS, NOW, stronger)
    with inst.store.reading() as c:
        assert not stronger.outdated(stored_accounts.password_hash(c, made.id))
    sign(inst)


def test_a_password_that_is_changed_while_it_is_looked_at_lets_nobody_in(inst: Installation) -> None:
    account(inst, "ann")

    class Slow(Hashing):
        def verify(self, hash: str | None, password: str) -> bool:
            accounts.set_password(inst, "ann", "another one of mine", NOW, CHEAP)
            return CHEAP.verify(hash, password)

    with pytest.raises(WrongCredentials):
        sign_in.sign_in(inst, "ann", PASSWORD, ADDRESS, NOW, Slow(PasswordHasher(1, 8, 1)))
    assert sessions.listing(inst, "ann", NOW) == []


# second factor


def test_with_a_second_factor_the_password_alone_opens_nothing(inst: Installation) -> None:
    secret, _ = enrolled(inst)
    begun = sign(inst)
    assert begun.session.awaits_code
    assert sessions.find(inst, begun.token, NOW) is None
    with pytest.raises(Refused, match="sign in again"):
        sessions.rotate(inst, begun.token, NOW)
    with pytest.raises(Refused, match="sign in again"):
        sign_in.reauthenticate(inst, begun.token, PASSWORD, ADDRESS, NOW, CHEAP)
    later = NOW + 30 * SECOND
    done = sign_in.enter_code(inst, begun.token, code_of(secret, later), ADDRESS, later)
    assert done.token != begun.token
    assert sessions.find(inst, done.token, later) is not None
    with pytest.raises(Refused, match="sign in again"):
        sign_in.enter_code(inst, begun.token, code_of(secret, later), ADDRESS, later)
    assert len(sessions.listing(inst, "ann", later)) == 1


def test_a_code_is_taken_once_and_none_before_it(inst: Installation) -> None:
    secret, _ = enrolled(inst)  # which used the code of NOW
    later = NOW + 30 * SECOND
    for at in (NOW, NOW - 30 * SECOND):
        with pytest.raises(WrongCredentials, match="or was used before"):
            sign_in.enter_code(inst, sign(inst).token, code_of(secret, at), ADDRESS, NOW)
    sign_in.enter_code(inst, sign(inst).token, code_of(secret, later), ADDRESS, NOW)  # of a clock that is ahead
    with pytest.raises(WrongCredentials):
        sign_in.enter_code(inst, sign(inst, now=later).token, code_of(secret, later), ADDRESS, later)


@pytest.mark.parametrize(("off", "right"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_off_by_one_time_step(inst: Installation, off: int, right: bool) -> None:
    secret, _ = enrolled(inst)
    now = NOW + DAY
    code = code_of(secret, now + off * 30 * SECOND)
    begun = sign(inst, now=now)
    if right:
        assert sign_in.enter_code(inst, begun.token, f" {code[:3]} {code[3:]}", ADDRESS, now).session
    else:
        with pytest.raises(WrongCredentials):
            sign_in.enter_code(inst, begun.token, code, ADDRESS, now)


def test_a_recovery_code_is_taken_once_however_it_is_typed(inst: Installation) -> None:
    _, codes = enrolled(inst)
    assert len(set(codes)) == second_factor.RECOVERY_CODES
    sign_in.enter_code(inst, sign(inst).token, codes[0].upper().replace("-", " "), ADDRESS, NOW)
    assert accounts.show(inst, "ann", NOW).recovery_codes == 9
    entry = next(one for one in audit_log.newest(inst) if one.action == "admin.use_recovery_code")
    assert (entry.actor, entry.after) == ("ann", '{"recovery_codes": 9}')
    with pytest.raises(WrongCredentials):
        sign_in.enter_code(inst, sign(inst).token, codes[0], ADDRESS, NOW)
    sign_in.enter_code(inst, sign(inst).token, codes[1], ADDRESS, NOW)


@pytest.mark.parametrize("code", ["", "00000", "\uff11\uff12\uff13\uff14\uff15\uff16", "\ud800", "x" * 10_000, "-"])
def test_what_is_no_code_is_wrong(inst: Installation, code: str) -> None:
    enrolled(inst)
    with pytest.raises(WrongCredentials):
        sign_in.enter_code(inst, sign(inst).token, code, ADDRESS, NOW)


def test_guessing_codes_is_slowed_though_the_password_is_known(inst: Installation) -> None:
    enrolled(inst)
    for n in range(guessing.ACCOUNT.free):
        begun = sign(inst, source=f"192.0.2.{n}")
        with pytest.raises(WrongCredentials):
            sign_in.enter_code(inst, begun.token, "abcdef", f"192.0.2.{n}", NOW)
    with pytest.raises(TooManyGuesses):
        sign(inst)
    with pytest.raises(TooManyGuesses):
        sign_in.enter_code(inst, begun.token, "abcdef", ADDRESS, NOW)


def test_the_second_factor_has_to_come_in_time(inst: Installation) -> None:
    secret, _ = enrolled(inst)
    begun = sign(inst)
    late = NOW + sessions.AWAITS
    with pytest.raises(Refused, match="sign in again"):
        sign_in.enter_code(inst, begun.token, code_of(secret, late), ADDRESS, late)


def test_a_new_secret_counts_once_it_is_confirmed(inst: Installation) -> None:
    old, codes = enrolled(inst)
    new = second_factor.begin(inst, "ann", NOW)
    assert new.uri.startswith("otpauth://totp/Sallyport:ann?")
    assert f"secret={new.secret}" in new.uri
    now = NOW + DAY
    with pytest.raises(Refused, match="the code is wrong"):
        second_factor.confirm(inst, "ann", code_of(old, now), now)
    sign_in.enter_code(inst, sign(inst, now=now).token, code_of(old, now), ADDRESS, now)
    second_factor.confirm(inst, "ann", code_of(new.secret, now), now)
    with pytest.raises(Refused, match="begin again"):
        second_factor.confirm(inst, "ann", code_of(new.secret, now), now)
    now += MINUTE
    for stale in (code_of(old, now), codes[0]):
        with pytest.raises(WrongCredentials):
            sign_in.enter_code(inst, sign(inst, now=now).token, stale, ADDRESS, now)
    sign_in.enter_code(inst, sign(inst, now=now).token, code_of(new.secret, now), ADDRESS, now)


def test_codes_that_confirm_a_secret_are_guesses_like_others(inst: Installation) -> None:
    account(inst, "ann")
    secret = second_factor.begin(inst, "ann", NOW).secret
    right = code_of(secret, NOW)
    wrong = "000000" if right != "000000" else "000001"
    for _ in range(guessing.ACCOUNT.free):
        with pytest.raises(Refused, match="the code is wrong"):
            sign_in.confirm_second_factor(inst, "ann", wrong, ADDRESS, NOW)
    with pytest.raises(TooManyGuesses):
        sign_in.confirm_second_factor(inst, "ann", right, ADDRESS, NOW)
    later = NOW + 30 * SECOND
    assert len(sign_in.confirm_second_factor(inst, "ann", code_of(secret, later), ADDRESS, later)) == 10


def test_another_password_leaves_the_second_factor(inst: Installation) -> None:
    enrolled(inst)
    accounts.set_password(inst, "ann", "another one of mine", NOW, CHEAP)
    assert sign_in.sign_in(inst, "ann", "another one of mine", ADDRESS, NOW, CHEAP).session.awaits_code


def test_a_second_factor_that_is_reset_is_asked_for_no_more_and_sessions_end(inst: Installation) -> None:
    enrolled(inst)
    waiting = sign(inst)
    made = second_factor.reset(inst, "ann", NOW)
    assert not made.second_factor
    assert sessions.listing(inst, "ann", NOW) == []
    with pytest.raises(Refused, match="sign in again"):
        sign_in.enter_code(inst, waiting.token, "000000", ADDRESS, NOW)
    assert not sign(inst).session.awaits_code


def test_a_sealed_secret_opens_for_its_account_alone(inst: Installation) -> None:
    enrolled(inst)
    account(inst, "eve")
    with inst.store.transaction() as c:
        c.exec_driver_sql(
            "UPDATE accounts SET sealed_totp = (SELECT sealed_totp FROM accounts WHERE name = 'ann') WHERE name = 'eve'"
        )
    begun = sign(inst, "eve")
    with pytest.raises(Refused, match="second factor of account eve cannot be opened"):
        sign_in.enter_code(inst, begun.token, "123456", ADDRESS, NOW)


# sessions


def test_a_session_ends_idle_and_after_its_time(inst: Installation) -> None:
    account(inst, "ann")
    token = sign(inst).token
    assert sessions.find(inst, token, NOW + sessions.IDLE - SECOND) is not None
    now = NOW
    while now < NOW + sessions.LASTS:
        assert sessions.find(inst, token, now) is not None
        now += 25 * MINUTE
    assert sessions.find(inst, token, NOW + sessions.LASTS) is None
    assert sessions.find(inst, token, NOW + sessions.LASTS - MINUTE) is not None
    idle = sign(inst).token
    assert sessions.find(inst, idle, NOW + sessions.IDLE) is None


def test_a_rotated_session_is_known_by_its_new_token_alone(inst: Installation) -> None:
    account(inst, "ann")
    begun = sign(inst)
    fresh = sessions.rotate(inst, begun.token, NOW)
    assert sessions.find(inst, begun.token, NOW) is None
    found = sessions.find(inst, fresh, NOW)
    assert found is not None
    assert found.session.id == begun.session.id
    with pytest.raises(Refused):
        sessions.rotate(inst, begun.token, NOW)


def test_each_session_has_a_csrf_token_of_its_own(inst: Installation) -> None:
    account(inst, "ann")
    one, two = sign(inst).token, sign(inst).token
    found = sessions.find(inst, one, NOW)
    assert found is not None
    assert sessions.is_csrf(one, found.csrf)
    assert found.csrf not in repr(found)
    for wrong in (sessions.csrf(two), one, "", "é", "\ud800"):
        assert not sessions.is_csrf(one, wrong)


def test_sessions_are_listed_and_revoked_one_or_all(inst: Installation) -> None:
    account(inst, "ann")
    account(inst, "bob")
    begun = [sign(inst, now=NOW + n * MINUTE) for n in range(4)]
    other = sign(inst, "bob")
    now = NOW + 5 * MINUTE
    assert [one.id for one in sessions.listing(inst, "ann", now)] == [one.session.id for one in begun[::-1]]
    sessions.revoke(inst, "ann", begun[0].session.id, now)
    for strange in (begun[0].session.id, other.session.id):
        with pytest.raises(Refused, match="has no session"):
            sessions.revoke(inst, "ann", strange, now)
    assert sessions.revoke_all(inst, "ann", now, but=begun[2].session.id) == 2
    assert [sessions.find(inst, one.token, now) is not None for one in begun] == [False, False, True, False]
    sessions.sign_out(inst, begun[2].token, now)
    sessions.sign_out(inst, begun[2].token, now)
    assert sessions.listing(inst, "ann", now) == []
    assert sessions.find(inst, other.token, now) is not None
    actions = [one.action for one in audit_log.newest(inst, 3)]
    assert actions == ["session.end", "session.revoke_all", "session.revoke"]


def test_an_account_has_only_so_many_sessions(inst: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST", 2)
    account(inst, "ann")
    begun = [sign(inst, now=NOW + n * SECOND) for n in range(4)]
    now = NOW + MINUTE
    assert [sessions.find(inst, one.token, now) is not None for one in begun] == [False, False, True, True]


def test_who_knows_a_password_alone_throws_nobody_out(inst: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST", 2)
    secret, _ = enrolled(inst)
    now = NOW + 30 * SECOND
    mine = sign_in.enter_code(inst, sign(inst, now=now).token, code_of(secret, now), ADDRESS, now)
    begun = [sign(inst, now=now + n * SECOND) for n in range(1, 5)]
    later = now + MINUTE
    assert sessions.find(inst, mine.token, later) is not None
    with inst.reading_all() as c:
        awaiting = [sessions.awaiting(c, one.token, later) is not None for one in begun]
    assert awaiting == [False, False, True, True]


@pytest.mark.parametrize("token", ["", "sps_", "sps_" + "x" * 43, "spt_" + "x" * 43, "\ud800", "sps_\ud800"])
def test_what_is_no_token_is_nobodys(inst: Installation, token: str) -> None:
    assert sessions.find(inst, token, NOW) is None


def test_what_a_session_may_follows_its_account(inst: Installation) -> None:
    account(inst, "root")
    account(inst, "ann")
    tenants.create(inst, "acme", NOW)
    token = sign(inst).token
    accounts.change(inst, "ann", NOW, Role.AUDITOR, ["acme"])
    found = sessions.find(inst, token, NOW)
    assert found is not None
    assert found.principal == Principal("ann", Role.AUDITOR, frozenset({"acme"}))


def test_who_is_in_is_asked_for_his_password_again(inst: Installation) -> None:
    account(inst, "ann")
    token = sign(inst).token
    sign_in.reauthenticate(inst, token, PASSWORD, ADDRESS, NOW, CHEAP)
    assert accounts.show(inst, "ann", NOW).standing.wrong == 0
    for _ in range(guessing.ACCOUNT.free):
        with pytest.raises(WrongCredentials, match="the password is wrong"):
            sign_in.reauthenticate(inst, token, "wrong", ADDRESS, NOW, CHEAP)
    with pytest.raises(TooManyGuesses):
        sign_in.reauthenticate(inst, token, PASSWORD, ADDRESS, NOW, CHEAP)


def test_tokens_have_256_random_bits_and_say_what_they_are() -> None:
    made = {tokens.new(prefix) for prefix in (tokens.SESSION, tokens.API_TOKEN, tokens.SETUP_LINK) for _ in range(9)}
    assert len(made) == 27
    assert {len(one) for one in made} == {4 + 43}
    assert {one[:4] for one in made} == {"sps_", "spt_", "spl_"}
    assert len({tokens.readable() for _ in range(99)}) == 99
