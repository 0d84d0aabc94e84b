"""The verdict by our own checks alone: no objection of OpenSSL's is passed in."""

from __future__ import annotations

import pytest

from certs import checks
from certs.names import parse_host
from certs.verdict import Verdict
from certs.verify import Handshake, judge
from tests.certs.scenarios import SCENARIOS, Scenario, Server


def verdict(server: Server) -> Verdict:
    presented = tuple(issued.certificate for issued in server.sent)
    return judge(Handshake(presented), parse_host(server.host), server.trust, server.now, server.own_keys)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_our_checks_alone_find(scenario: Scenario) -> None:
    assert verdict(scenario.make()).defects == scenario.defects


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_no_check_can_be_taken_out_unnoticed(check: checks.Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", tuple(other for other in checks.CHECKS if other is not check))
    assert any(verdict(scenario.make()).defects != scenario.defects for scenario in SCENARIOS if scenario.defects), (
        f"no scenario needs {check.__name__}"
    )


def test_every_function_that_checks_is_among_the_checks() -> None:
    defined = {
        name
        for name, value in vars(checks).items()
        if callable(value) and getattr(value, "__annotations__", {}).get("return") == "Iterator[Finding]"
    }
    assert defined == {check.__name__ for check in checks.CHECKS}
