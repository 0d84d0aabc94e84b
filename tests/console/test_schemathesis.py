from __future__ import annotations

import time
from http import HTTPStatus
from typing import NoReturn

import pytest

from console import people
from console.problems import Problem
from console.visit import Visit
from tests.console.conftest import Console
from tests.control.conftest import trust
from tests.harness.console_fuzz import Fuzzer
from tests.harness.leaves import record
from tests.harness.pki import Authority

EXAMPLES = 1
"""For each operation, as documented and as not."""
SECONDS = 10.0
"""How long operations are begun, in an order of chance; ``make api-fuzz`` gets round to all of them, with more."""


def furnish(console: Console) -> None:
    """Have something there that can be asked for."""
    console.tenant("acme")
    trust(console.inst, "acme", "x", Authority.root("x").pem())
    record(console.inst, "acme", "www.example.com")


def test_every_answer_is_as_documented_whatever_is_asked(console: Console) -> None:
    furnish(console)
    fuzzer = Fuzzer(console)
    assert list(fuzzer.run(EXAMPLES, until=time.monotonic() + SECONDS)) == []
    assert fuzzer.sent > 0


def test_an_answer_that_is_not_as_documented_is_found(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Visit) -> NoReturn:
        raise Problem(HTTPStatus.IM_A_TEAPOT, "teapot", "Short and stout.")

    monkeypatch.setattr(people, "seen_accounts", refuse)
    assert "Undocumented status code" in "".join(Fuzzer(console).run(1, "/v1/accounts"))
