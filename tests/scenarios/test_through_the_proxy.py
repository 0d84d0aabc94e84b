"""Each case through the running proxy, from a real server: 200, or 502 with the first defect, and all of them named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certs.verdict import Defect
from tests.harness.daemon import Daemon
from tests.harness.programs import need
from tests.scenarios import SCENARIOS, Scenario
from tests.scenarios.proxied import ask, prepared
from tests.scenarios.serving import Serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenarios")


@pytest.fixture(scope="module")
def serving(folder: Path) -> Iterator[Serving]:
    need("nginx")
    with Serving(folder, SCENARIOS) as running:
        yield running


@pytest.fixture(scope="module")
def daemon(folder: Path, serving: Serving) -> Iterator[Daemon]:
    with prepared(folder / "daemon", serving) as running:
        yield running


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if not one.hindrance], ids=lambda scenario: scenario.id)
def test_through_the_proxy_there_is(daemon: Daemon, serving: Serving, scenario: Scenario) -> None:
    before = len(serving.requests(scenario))
    answer = ask(daemon, serving, scenario)
    if scenario.good:
        assert (answer.status, answer.proxy_status) == (200, "")
        return
    first = scenario.defects[0]
    kind = "tls_protocol_error" if first is Defect.PROTOCOL else "tls_certificate_error"
    assert (answer.status, answer.proxy_status) == (502, f'sallyport; error={kind}; details="{first}"')
    assert answer.defects == scenario.defects
    assert len(serving.requests(scenario)) == before, "a request reached a server that was refused"
