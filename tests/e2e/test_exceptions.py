"""Exceptions for hosts: what passes by one, and that a changed certificate and the end of an exception block again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import Result, curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx, OpensslServer, Site
from tests.harness.pki import DAY, NOW, Issued, self_signed
from tests.harness.processes import wait_for
from tests.harness.programs import need

PASSES_ON = """
    def request(flow):
        _, found, where = flow.request.path.partition("to=")
        if found:
            flow.request.host, _, port = where.partition(":")
            flow.request.port = int(port)
"""


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    old = ISSUING.leaf("old.example", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    sites = [
        Site("appliance.example", self_signed("appliance.example")),
        Site("further.example", self_signed("further.example")),
        Site("old.example", old),
        Site("inspected.example", ISSUING.leaf("inspected.example")),
    ]
    with Nginx(scratch / "excepted", sites) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def gate(scratch: Path, server: Nginx) -> Iterator[Daemon]:
    scripts = Scripts(scratch / "excepted-inspectors")
    scripts.add("passes-on", PASSES_ON, hosts=["inspected.example"], body="none")
    hosts = dict.fromkeys((*server.sites, "refuses.example"), "127.0.0.1")
    with Daemon(
        scratch / "excepted-daemon", hosts=hosts, common=PUBLIC,
        extra={"inspection": {"addons": scripts.addons}, "log": {"level": "debug"}},
    ) as running:  # fmt: skip
        yield running


EXCEPT = ("errors", "except", "--action", "allow", "--reason", "a test", "--json")


def except_(gate: Daemon, host: str, defect: str, *options: str) -> str:
    """Allow it; the exception's number."""
    made = gate.told(*EXCEPT, host, "--defect", defect, *options)
    return str(json.loads(made)["id"])


def pin(identity: Issued) -> str:
    return identity.certificate.fingerprint(SHA256()).hex()


def probed(gate: Daemon, where: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(gate.cli("probe", "--json", where).stdout)
    return told


def blocked_for(result: Result, defect: str) -> bool:
    return (result.status, result.proxy_status) == (
        502, f'sallyport; error=tls_certificate_error; details="{defect}"',
    )  # fmt: skip


def now() -> datetime:
    """The time that the daemon has, too."""
    return datetime.fromtimestamp(time.time(), UTC)


def test_a_changed_certificate_is_blocked_again_where_the_exception_is_pinned(gate: Daemon, server: Nginx) -> None:
    site = server["appliance.example"]
    url, first = site.url(), site.identity
    assert first is not None
    assert blocked_for(curl(gate, url), "self_signed")
    by_certificate = except_(gate, site.name, "self_signed", "--fingerprint", pin(first))
    gate.within(3, lambda: curl(gate, url).status == 200)
    wait_for("the connection's end in the log", lambda: [
        line for line in gate.log("connection", host=site.name) if line.get("by") == [f"exception {by_certificate}"]
    ])  # fmt: skip

    renewed = self_signed(site.name, key=first.key)
    server.change(site.name, renewed)
    assert blocked_for(curl(gate, url), "self_signed")
    told = probed(gate, f"{site.name}:{site.port}")
    assert [one["by"] for one in told["reasons"]] == ["default"]
    assert [(str(one["id"]), one["why"]) for one in told["passed_over"]] == [
        (by_certificate, "it is pinned to another certificate or key")
    ]

    by_key = except_(gate, site.name, "self_signed", "--fingerprint", told["key_sha256"])
    gate.within(3, lambda: curl(gate, url).status == 200)
    server.change(site.name, self_signed(site.name, key=first.key))
    assert curl(gate, url).status == 200
    server.change(site.name, self_signed(site.name))
    assert blocked_for(curl(gate, url), "self_signed")
    server.change(site.name, first)
    assert curl(gate, url).status == 200
    for number in (by_certificate, by_key):
        gate.told("errors", "unexcept", number)
    gate.within(3, lambda: blocked_for(curl(gate, url), "self_signed"))


def test_a_further_server_of_the_inspection_lane_is_excepted_by_its_own_name(gate: Daemon, server: Nginx) -> None:
    site = server["further.example"]
    first = site.identity
    assert first is not None
    url = server["inspected.example"].url(f"/?to={site.name}:{site.port}")
    assert blocked_for(curl(gate, url), "self_signed")
    elsewhere = except_(gate, "inspected.example", "untrusted")
    number = except_(gate, "*.example", "untrusted", "--fingerprint", pin(first))
    result, _ = gate.within(3, lambda: r if (r := curl(gate, url)).status == 200 else None)
    assert result is not None
    assert result.text == "hello from further.example\n"
    assert curl(gate, site.url()).status == 200
    server.change(site.name, self_signed(site.name))
    assert blocked_for(curl(gate, url), "self_signed")
    for each in (number, elsewhere):
        gate.told("errors", "unexcept", each)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_an_exception_is_not_said_to_have_decided_where_the_server_refuses_the_client(
    gate: Daemon, tmp_path: Path, version: str
) -> None:
    """In TLS 1.3 it does so when the verdict is in, and the exception has let it pass."""
    options = (version, "-Verify", "1", "-verify_return_error")
    with OpensslServer(tmp_path, self_signed("refuses.example"), options=options) as server:
        before = len(gate.log("connection", host="refuses.example"))
        number = except_(gate, "refuses.example", "self_signed")
        gate.wait_log(
            "working set replaced",
            generation=json.loads(gate.told("tenant", "show", "default", "--json"))["generation"],
        )
        result = curl(gate, server.url("refuses.example"))
        assert result.proxy_status == 'sallyport; error=tls_protocol_error; details="protocol"'
        ended = wait_for("the end in the log", lambda: gate.log("connection", host="refuses.example")[before:])[0]
        assert (ended["defects"], ended["action"]) == (["protocol"], "block")
        assert ended.get("by") in (["default"], None)  # None: the lane had it already
        gate.told("errors", "unexcept", number)


def test_an_exception_that_expires_stops_by_itself_while_the_worker_runs(gate: Daemon, server: Nginx) -> None:
    site = server["old.example"]
    url = site.url()
    assert blocked_for(curl(gate, url), "expired")

    # Where the machine is so busy that it ends before it counts, another one that is longer.
    for seconds in (5, 20, 80):
        end = (now() + timedelta(seconds=seconds)).replace(microsecond=0)
        made = gate.cli(*EXCEPT, site.name, "--defect", "expired", "--expires", f"{end:%Y-%m-%dT%H:%M:%SZ}")
        if made.returncode != 0:
            assert "is over already" in made.stderr
            continue
        number = str(json.loads(made.stdout)["id"])
        while not (passed := curl(gate, url).status == 200) and now() < end:
            pass
        if passed:
            break
    else:
        pytest.fail("no exception came to count before its end")
    # Of that change, and of those that other tests have made just before.
    generation = json.loads(gate.told("tenant", "show", "default", "--json"))["generation"]
    gate.wait_log("working set replaced", generation=generation)
    replaced = len(gate.log("working set replaced"))
    gate.within(seconds + 20, lambda: blocked_for(curl(gate, url), "expired"))
    assert now() >= end

    def verdicts(by: str) -> list[tuple[str, str]]:
        told = [line for line in gate.log("verdict") if line["defects"] == ["expired"]]
        return [(line["action"], line["source"]) for line in told if line["by"] == [by]]

    wait_for("the last verdict in the log", lambda: ("block", "kept") in verdicts("default"))
    assert {action for action, _ in verdicts(f"exception {number}")} == {"allow"}
    assert len(gate.log("working set replaced")) == replaced
    listed = json.loads(gate.told("errors", "exceptions", "--json"))
    assert [one["expired"] for one in listed if str(one["id"]) == number] == [True]
    assert [one["why"] for one in probed(gate, f"{site.name}:{site.port}")["passed_over"]] == [
        f"it expired on {end:%Y-%m-%d at %H:%M:%S} UTC"
    ]
