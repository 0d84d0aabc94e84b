"""The checks of a path: each is needed by some scenario, and none is left out."""

from __future__ import annotations

import pytest

from certs import checks
from tests.scenarios import SCENARIOS
from tests.scenarios.judging import as_it_is


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.check.name)
def test_no_check_can_be_taken_out_unnoticed(check: checks.PathCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", tuple(other for other in checks.CHECKS if other is not check))
    assert any(as_it_is(one.server).defects != one.as_it_is for one in SCENARIOS if one.as_it_is), (
        f"no scenario needs {check.check.name}"
    )


def test_every_function_that_checks_is_among_the_checks() -> None:
    forgotten = {
        name
        for name, value in vars(checks).items()
        if callable(value) and getattr(value, "__annotations__", {}).get("return") == "Iterator[Finding]"
    }
    assert not forgotten
    assert {name for name, value in vars(checks).items() if isinstance(value, checks.PathCheck)} == {
        check.check.name for check in checks.CHECKS
    }
