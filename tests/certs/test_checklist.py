"""What came of each check: every defect has one, every finding belongs to one that failed, and none is forgotten."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import certs
from certs import failures, revocation, verify
from certs.checklist import ALL, Outcome, State, outcomes
from certs.checks import CHECKS, PathCheck
from certs.names import parse_host
from certs.openssl_errors import OPENSSL
from certs.second_opinion import SECOND
from certs.verdict import ORDER, Check, Defect, Verdict
from tests.harness.pki import Authority
from tests.scenarios import SCENARIOS, Scenario, Server, issuing
from tests.scenarios.judging import after_handshake, as_it_is

HERE = Path(__file__).parents[2]
PACKAGES = ("certs", "proxy", "cli", "control", "addons", "issuer")


def of(verdict: Verdict, check: Check) -> Outcome:
    (outcome,) = [outcome for outcome in outcomes(verdict) if outcome.check is check]
    return outcome


def holds(verdict: Verdict) -> None:
    """Each finding belongs to one check, which can find such a defect and is told as failed with it."""
    told = outcomes(verdict)
    assert tuple(outcome.check for outcome in told) == ALL
    shown = sorted(place for outcome in told for place in outcome.findings)
    assert shown == list(range(len(verdict.findings)))
    for outcome in told:
        assert (outcome.state is State.FAILED) == bool(outcome.findings)
        assert (outcome.state is State.NOT_MADE) == bool(outcome.why)
        for place in outcome.findings:
            assert verdict.findings[place].defect in outcome.check.defects


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_each_finding_of_a_scenario_belongs_to_a_check_that_failed(scenario: Scenario) -> None:
    holds(as_it_is(scenario.server))
    if not (scenario.server.unserved or scenario.server.not_in_memory):
        holds(after_handshake(scenario.server))


@pytest.mark.parametrize("defect", Defect)
def test_each_defect_has_a_check_that_is_there_for_it(defect: Defect) -> None:
    own = [check for check in ALL if defect in check.defects and check not in (OPENSSL, SECOND, failures.HANDSHAKE)]
    assert own


def test_they_are_in_the_order_of_the_defects_each_once_and_say_what_and_why() -> None:
    assert [ORDER[check.defects[0]] for check in ALL] == sorted(ORDER[check.defects[0]] for check in ALL)
    assert len({check.name for check in ALL}) == len(ALL) == len({check.says for check in ALL})
    assert all(check.clause and 10 < len(check.says) < 110 for check in ALL)


def test_every_check_that_a_module_declares_is_in_the_list() -> None:
    declared = set()
    for module in pkgutil.iter_modules(certs.__path__, "certs."):
        for value in vars(importlib.import_module(module.name)).values():
            declared |= (
                {value} if isinstance(value, Check) else {value.check} if isinstance(value, PathCheck) else set()
            )
    assert declared == set(ALL)


def test_no_finding_is_made_but_by_a_check() -> None:
    """Those of the path's checks are made by a helper, and get their check's name in one place.

    What a trial of a change only remembers of a server was found by a check once, and is shown to nobody.
    """
    made = [
        str(path.relative_to(HERE))
        for package in PACKAGES
        for path in (HERE / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding"
    ]
    assert sorted(made) == ["certs/checks.py", "certs/verdict.py", "control/trial.py"]
    assert "return Finding(" in inspect.getsource(Check.finding)


def test_of_a_good_server_all_pass_but_what_is_asked_of_others() -> None:
    public = Authority.root("Checked Public")
    verdict = as_it_is(Server(public.intermediate().leaf(), common=[public]))
    left = {outcome.check: outcome for outcome in outcomes(verdict) if outcome.state is not State.PASSED}
    assert left.keys() == {revocation.NOTHING_REVOKED, revocation.REVOCATION_KNOWN}
    assert all(outcome.state is State.NOT_MADE and "is off" in outcome.why for outcome in left.values())


def test_the_second_verifier_is_not_asked_about_ones_own_ca() -> None:
    verdict = as_it_is(Server(issuing().leaf()))
    assert verdict.ok
    assert "one of your own" in of(verdict, SECOND).why


def test_of_what_cannot_be_read_nothing_else_is_checked() -> None:
    verdict = verify.judge(verify.Handshake(()), parse_host("good.example"), Server(issuing().leaf()).trust, Server.now)
    holds(verdict)
    assert of(verdict, verify.SENT).state is of(verdict, verify.LOOKED_AT).state is State.FAILED
    for each in CHECKS:
        if each.check.name != "no_key_of_our_own":
            assert "cannot be looked at" in of(verdict, each.check).why


def test_a_handshake_that_fails_leaves_every_other_check_unmade() -> None:
    verdict = Verdict.of([failures.defect_of_failure(["wrong version number"])])
    holds(verdict)
    states = [outcome.state for outcome in outcomes(verdict)]
    assert (states.count(State.FAILED), states.count(State.PASSED)) == (1, 0)


def test_a_server_that_wants_a_client_certificate_is_judged_all_the_same() -> None:
    verdict = as_it_is(Server(issuing().leaf())).also(failures.wants_certificate())
    holds(verdict)
    assert of(verdict, failures.NO_CERTIFICATE_WANTED).state is State.FAILED
    assert of(verdict, failures.HANDSHAKE).state is State.PASSED
