"""What somebody has to do before anything else: a password of his own, and a second factor where one is required."""

from __future__ import annotations

from dataclasses import replace

import pytest

from config.settings import Settings
from control import accounts, api_tokens, due, first_owner, second_factor, sessions, sign_in
from control.due import GIVEN_LASTS, Due
from control.errors import Refused
from control.installation import Installation
from control.shown import accounts as shown
from control.sign_in import Begun, PasswordOver, WrongCredentials
from tests.control.conftest import CHEAP, PASSWORD, account, code_of, given
from tests.control.test_sign_in import ADDRESS, SECOND, sign
from tests.harness.pki import DAY, NOW

OWN = "tractor moon horse"


@pytest.fixture
def requiring(inst: Installation) -> Installation:
    """The installation, where everybody has to have a second factor."""
    console = inst.settings.console.model_copy(update={"second_factor": "required"})
    return replace(inst, settings=inst.settings.model_copy(update={"console": console}))


def due_of(inst: Installation, begun: Begun) -> Due | None:
    found = sessions.find(inst, begun.token, NOW)
    assert found is not None
    return found.due


def test_nothing_is_required_unless_the_settings_say_so() -> None:
    assert not due.second_factor_required(Settings())
    assert due.second_factor_required(Settings.model_validate({"console": {"second_factor": "required"}}))


# a password that somebody gave


def test_a_password_that_was_given_is_to_be_changed_and_then_is_ones_own(inst: Installation) -> None:
    made = given(inst, "ann")
    assert (made.password_given_at, due.given_until(made)) == (NOW, NOW + GIVEN_LASTS)
    begun, other = sign(inst), sign(inst)
    assert due_of(inst, begun) is Due.PASSWORD
    with pytest.raises(Refused, match="which somebody else knows"):
        accounts.change_password(inst, "ann", PASSWORD, NOW, CHEAP, begun.session.id)
    accounts.change_password(inst, "ann", OWN, NOW, CHEAP, begun.session.id)
    assert due_of(inst, begun) is None
    assert sessions.find(inst, other.token, NOW) is None
    accounts.set_password(inst, "ann", PASSWORD, NOW, CHEAP)
    assert due_of(inst, sign(inst)) is Due.PASSWORD


def test_a_password_that_was_given_and_not_changed_in_time_lets_nobody_in(inst: Installation) -> None:
    given(inst, "ann")
    later = NOW + GIVEN_LASTS
    early = sign(inst, now=later - SECOND)
    for name, password in (("ann", "wrong"), ("nobody", PASSWORD)):
        with pytest.raises(WrongCredentials, match="name or password is wrong"):
            sign(inst, name, password, now=later)
    with pytest.raises(PasswordOver, match="within 7 days; have an owner give you another"):
        sign(inst, now=later)
    assert accounts.show(inst, "ann", later).standing.wrong == 1, "what was right is no wrong guess"
    with pytest.raises(PasswordOver):  # nor is it changed in a session that began before
        sign_in.reauthenticate(inst, early.token, PASSWORD, ADDRESS, later, CHEAP)
    accounts.set_password(inst, "ann", PASSWORD, later, CHEAP)
    assert sign(inst, now=later + SECOND).account == "ann"


def test_a_password_of_ones_own_does_not_end(inst: Installation) -> None:
    token = first_owner.link(inst, NOW)
    assert token is not None
    made = first_owner.redeem(inst, token, "ann", PASSWORD, NOW, CHEAP)
    assert (made.password_given_at, shown.password(made, NOW)) == (None, "own")
    found = sessions.find(inst, sign(inst, now=NOW + 400 * DAY).token, NOW + 400 * DAY)
    assert found is not None
    assert found.due is None


def test_it_is_said_in_words_by_when_it_is_to_be_changed(inst: Installation) -> None:
    made = given(inst, "ann")
    until = NOW + GIVEN_LASTS
    first, last = f"{NOW:%Y-%m-%d %H:%M}", f"{until:%Y-%m-%d %H:%M}"
    assert shown.password(made, NOW) == f"given on {first}, to be changed by {last}"
    assert shown.password(made, until) == f"given on {first}, not changed by {last}: it lets nobody in"
    assert shown.password_in_short(made, NOW) == f"to be changed by {until:%Y-%m-%d}"
    assert shown.password_in_short(made, until) == "not changed in time"
    assert shown.as_object(made)["password_to_be_changed_by"] == until


# a second factor that is required


def test_where_it_is_required_a_session_without_a_second_factor_is_for_setting_one_up(
    inst: Installation, requiring: Installation
) -> None:
    account(inst, "ann")
    begun, other = sign(requiring), sign(requiring)
    assert (due_of(inst, begun), due_of(requiring, begun)) == (None, Due.SECOND_FACTOR)
    secret = second_factor.begin(requiring, "ann", NOW).secret
    sign_in.confirm_second_factor(requiring, "ann", code_of(secret, NOW), ADDRESS, NOW, but=begun.session.id)
    assert due_of(requiring, begun) is None
    # Somebody with the password alone must not be let in by what the other has set up.
    assert sessions.find(requiring, other.token, NOW) is None
    assert sign(requiring).session.awaits_code
    with pytest.raises(Refused, match="a second factor is required here"):
        second_factor.remove(requiring, "ann", NOW, begun.session.id)
    assert accounts.show(requiring, "ann", NOW).account.second_factor
    second_factor.reset(requiring, "ann", NOW)
    assert due_of(requiring, sign(requiring)) is Due.SECOND_FACTOR


def test_a_password_that_was_given_comes_before_the_second_factor(requiring: Installation) -> None:
    given(requiring, "ann")
    begun = sign(requiring)
    assert due_of(requiring, begun) is Due.PASSWORD
    accounts.change_password(requiring, "ann", OWN, NOW, CHEAP, begun.session.id)
    assert due_of(requiring, begun) is Due.SECOND_FACTOR


def test_a_token_is_a_credential_of_its_own(requiring: Installation) -> None:
    given(requiring, "ann")
    _, token = api_tokens.create(requiring, "ci", "ann", NOW)
    assert api_tokens.authenticate(requiring, token, NOW + GIVEN_LASTS) is not None
