"""What a running daemon tells of its traffic: at once, to whom it may, and whatever thins its log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from cli.daemon_status import OfWorkers
from config.settings import Settings
from control import traces
from control.installation import Installation
from control.traffic import Event, Follower, News, Wanted
from control.traffic_figures import STEP, top_blocked, verdicts
from proxy.control import STATUS_SOCKETS
from proxy.status_client import StatusError, ask
from tests.e2e.conftest import PUBLIC
from tests.harness.command import REPOSITORY
from tests.harness.curl import curl
from tests.harness.daemon import COMMAND, Daemon, environment
from tests.harness.origins import Nginx
from tests.harness.processes import wait_for

SECRET = "xn--bcher-kva.example"
WRITTEN = 30.0
"""Seconds in which a worker has written down what it counted, generously."""


@pytest.fixture(scope="module")
def busy(scratch: Path, origin: Nginx) -> Iterator[Daemon]:
    """Three tenants and two workers. Its log has little: of requests one in ten, and of each event one a second."""
    hosts = dict.fromkeys(("good.example", "old.example", "private.example", "plain.example", SECRET), "127.0.0.1")
    log = {
        "level": "info", "sample_above": 1, "flood_above": 1, "never_log": [SECRET],
        "tenants": {"silent": {"requests": False, "client": "none"}},
    }  # fmt: skip
    listeners = (("explicit", "default"), ("second", "other"), ("third", "silent"))
    with Daemon(
        scratch / "busy", hosts=hosts, common=PUBLIC, listeners=listeners, workers=2, extra={"log": log}
    ) as running:
        yield running


def read(daemon: Daemon, tenant: str | None = "default", follower: Follower | None = None) -> News:
    workers = OfWorkers(daemon.state_dir)
    return asyncio.run((follower or Follower()).read(lambda since, most: workers.events(since, most, tenant)))


def seen(daemon: Daemon, wanted: Callable[[Event], bool], tenant: str | None = "default") -> list[Event]:
    """Those events, as soon as there is one: within a second, and the machine's own time beside it."""
    return wait_for("an event", lambda: [one for one in read(daemon, tenant).events if wanted(one)], timeout=10)


def installation(daemon: Daemon) -> Installation:
    settings = Settings.model_validate(
        {"state_dir": str(daemon.state_dir), "trust": {"common_store": str(daemon.folder / "common.pem")}}
    )
    inst = Installation.look(settings)
    assert inst is not None
    return inst


def test_a_host_that_is_blocked_and_one_that_passes_are_told_of_at_once(busy: Daemon, origin: Nginx) -> None:
    follower = Follower()
    read(busy, follower=follower)
    assert curl(busy, origin["private.example"].url("/x?secret=1")).status == 502
    assert curl(busy, origin["good.example"].url("/y?secret=1")).status == 404
    told: list[Event] = []

    def of(host: str) -> list[Event]:
        (id,) = {one.id for one in told if one.kind == "verdict" and one.host == host} or {""}
        return [one for one in told if one.id == id]

    def all_there() -> bool:
        told.extend(read(busy, follower=follower).events)
        return all("connection" in {one.kind for one in of(host)} for host in ("private.example", "good.example"))

    wait_for("both connections to have ended", all_there, timeout=10)
    blocked, passed = of("private.example"), of("good.example")
    assert [one.kind for one in blocked] == ["verdict", "refused", "leaf", "connection"]
    assert [one.kind for one in passed] == ["verdict", "request", "connection"]
    verdict, refused, _, ended = blocked
    assert (verdict.action, verdict.defects, verdict.blocked) == ("block", ("incomplete_chain",), True)
    assert verdict.trace is not None
    assert [one["defect"] for one in verdict.trace["findings"]] == ["incomplete_chain"]
    assert verdict.trace["chain"][0]["subject"] == "CN=private.example"
    assert (refused.status, refused.client, refused.port) == (502, "127.0.0.1", origin["private.example"].port)
    assert (ended.lane, ended.action) == ("answer", "block")
    good, request, _ = passed
    assert (good.action, good.defects, good.trace) == ("allow", (), None)
    assert (request.method, request.path, request.status, request.lane) == ("GET", "/y", 404, "fast")
    assert not any("secret" in str(one.fields) for one in told)
    # The log, at its level, has nothing of what was well.
    assert not busy.log("verdict", id=good.id)
    assert not busy.log("connection", id=good.id)


def test_tenants_are_told_apart(busy: Daemon, origin: Nginx) -> None:
    assert curl(busy.listener("second"), origin["good.example"].url("/of-the-other")).status == 404
    (theirs,) = seen(busy, lambda one: one.path == "/of-the-other", "other")
    assert theirs.tenant == "other"
    assert {one.tenant for one in read(busy, "other").events} == {"other"}
    assert not [one for one in read(busy).events if one.path == "/of-the-other" or one.tenant != "default"]
    assert [one for one in read(busy, None).events if one.path == "/of-the-other"]
    assert read(busy, "unknown").events == ()


def test_of_a_host_of_which_nothing_is_logged_nothing_is_told(busy: Daemon, origin: Nginx) -> None:
    assert curl(busy, origin[SECRET].url()).status == 200
    assert curl(busy, f"https://{SECRET}:{origin['private.example'].port}/").status == 502
    assert curl(busy, origin["old.example"].url(f"/go/{SECRET}")).status == 404
    assert curl(busy, origin["old.example"].url("/behind-it")).status == 404
    seen(busy, lambda one: one.path == "/behind-it")
    assert SECRET not in json.dumps([dict(one.fields) for one in read(busy, None).events])


def test_of_a_tenant_whose_requests_are_not_told_it_is_told_what_was_blocked(busy: Daemon, origin: Nginx) -> None:
    assert curl(busy.listener("third"), origin["good.example"].url()).status == 200
    assert curl(busy.listener("third"), origin["private.example"].url()).status == 502
    seen(busy, lambda one: one.kind == "refused", "silent")
    told = read(busy, "silent").events
    assert {(one.host, one.client) for one in told} == {("private.example", None)}
    assert "request" not in {one.kind for one in told}


def test_sampling_does_not_thin_it(busy: Daemon, origin: Nginx) -> None:
    subprocess.run(
        ["curl", "-sS", "-x", f"http://{busy.proxy}", "--cacert", str(busy.root), "-o", "/dev/null",
         origin["old.example"].url("/many/[1-30]")],
        check=True, timeout=60,
    )  # fmt: skip

    def paths() -> set[str | None]:
        return {one.path for one in read(busy).events if "/many/" in (one.path or "")}

    wait_for("all requests", lambda: len(paths()) == 30, timeout=10)
    busy.wait_log("request")
    assert len([line for line in busy.log("request") if "/many/" in line["path"]]) < 30


def test_a_worker_that_died_is_noticed_and_its_events_begin_anew(busy: Daemon, origin: Nginx) -> None:
    follower = Follower()
    read(busy, follower=follower)
    before = busy.pids().workers
    os.kill(before[0], signal.SIGKILL)
    news: list[News] = []

    def begun_anew() -> bool:
        news.append(read(busy, follower=follower))
        return any(one.anew for one in news)

    wait_for("the new worker to tell", begun_anew, timeout=60)
    assert not any(one.missed for one in news)


@pytest.mark.parametrize(
    "bad",
    [
        {"most": 501}, {"most": -1}, {"most": "1"}, {"since": "1"}, {"since": True}, {"token": 1}, {"tenant": ""},
        {"tenant": ["default"]}, {"more": 1},
    ],
)  # fmt: skip
def test_a_question_that_is_none_is_refused(busy: Daemon, bad: dict[str, Any]) -> None:
    question = {"ask": "events", "since": None, "token": None, "most": 1, "tenant": None} | bad
    path = min((busy.state_dir / "run").glob(STATUS_SOCKETS))
    with pytest.raises(StatusError, match="not understood"):
        asyncio.run(ask(path, question))


def test_the_trace_of_a_verdict_has_both_chains(busy: Daemon, origin: Nginx) -> None:
    site = origin["private.example"]
    answer = curl(busy, site.url())
    assert answer.status == 502
    events = seen(busy, lambda one: one.kind == "leaf" and one.id in answer.text)
    id = events[0].id
    shown = json.loads(busy.told("traffic", "show", id, "--json"))
    assert (shown["host"], shown["port"], shown["action"]) == ("private.example", site.port, "block")
    assert site.identity is not None
    assert shown["server_chain"][0]["sha256"] == sha256(site.identity.raw).hexdigest()
    assert shown["server_chain"][-1]["findings"][0]["defect"] == "incomplete_chain"
    assert shown["our_chain"][0]["names"] == ["private.example"]
    assert shown["our_chain"][0]["sha256"] == events[0].fields["sha256"]
    text = busy.told("traffic", "trace", "private.example")
    for said in ("What the server showed", "CN=private.example", "✗ 1 incomplete_chain", "signing CA built-in",
                 "What was wrong", "Tenant default: block, by default."):  # fmt: skip
        assert said in text, text
    # Once the server is remembered, the certificates themselves are there.
    with installation(busy) as inst:

        def remembered() -> bool:
            found = traces.of_connection(inst, "default", id, read(busy).events, events[0].at)
            return found.server[0].certificate is not None

        wait_for("the server to be remembered", remembered, timeout=WRITTEN)
        found = traces.of_host(inst, "default", "private.example", read(busy).events, events[0].at)
        chains = (found.server, found.ours)
    for link in (link for chain in chains for link in chain):
        assert link.certificate is not None
        assert link.certificate.fingerprint(SHA256()).hex() == link.sha256


def test_figures_are_written_for_each_tenant(busy: Daemon, origin: Nginx) -> None:
    for name in ("private.example", "plain.example", "good.example"):
        curl(busy.listener("second"), f"https://{name}:{origin['private.example'].port}/")
    curl(busy.listener("second"), f"https://{SECRET}:{origin['private.example'].port}/")
    at = seen(busy, lambda one: one.kind == "refused", "other")[0].at
    with installation(busy) as inst:

        def blocked() -> dict[str, int]:
            return {one.host: one.count for one in top_blocked(inst, "other", at - 6 * STEP, 10)}

        expected = dict.fromkeys(("private.example", "plain.example", "good.example"), 1)
        wait_for("the counts", lambda: blocked() == expected, timeout=WRITTEN)
        spans = verdicts(inst, "other", at - STEP, at + STEP, STEP)
    assert sum(count for span in spans for (_, action), count in span.counts.items() if action == "block") == 3
    told = json.loads(busy.told("traffic", "figures", "--hours", "2", "--json", tenant="other"))
    assert {one["host"]: one["count"] for one in told["blocked_hosts"]} == expected
    text = busy.told("traffic", "figures", "--hours", "2", tenant="other")
    assert "hostname_mismatch" in text or "incomplete_chain" in text
    assert SECRET not in text


class TestCommand:
    def test_it_shows_what_is_wanted(self, busy: Daemon, origin: Nginx) -> None:
        assert curl(busy, origin["private.example"].url()).status == 502
        assert curl(busy, origin["good.example"].url("/shown")).status == 404
        seen(busy, lambda one: one.path == "/shown")
        text = busy.told("traffic")
        assert "GET /shown 404" in text
        lines = busy.told("traffic", "--blocked", "--host", ".example", "--client", "127.0.0.0/8").splitlines()
        assert lines
        assert all("private.example" in line for line in lines if "good" not in line)
        told = [json.loads(line) for line in busy.told(
            "traffic", "--json", "--defect", "incomplete_chain", "--action", "block", "--most", "2"
        ).splitlines()]  # fmt: skip
        assert len(told) == 2
        assert all("incomplete_chain" in one["defects"] and one["worker"] in (1, 2) for one in told)
        wanted = Wanted.of(host="private.example", blocked=True)
        assert wanted.has(seen(busy, wanted.has)[0])

    def test_following_it_goes_on_until_it_is_ended(self, busy: Daemon, origin: Nginx) -> None:
        following = subprocess.Popen(
            [*COMMAND, "--config", str(busy.config), "traffic", "--follow", "--json", "--host", "good.example"],
            cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert following.stdout is not None
        try:
            # It shows what there was before, and then what comes.
            for number in range(1000):
                assert curl(busy, origin["good.example"].url(f"/followed/{number}")).status == 404
                line = following.stdout.readline()
                if "/followed/" in line:
                    break
            else:
                pytest.fail("it showed nothing of what came")
        finally:
            following.send_signal(signal.SIGINT)
            following.stdout.close()
            assert following.wait(30) == 0

    def test_what_cannot_be_is_said(self, busy: Daemon, tmp_path: Path) -> None:
        for args, status, what in (
            (("traffic", "--host", "a.*.example"), 2, "write *.example.com"),
            (("traffic", "--defect", "ugly"), 2, "ugly: no defect; one of malformed, "),
            (("traffic", "--client", "x"), 2, "write 192.0.2.7 or 192.0.2.0/24"),
            (("traffic", "show", "nothing"), 1, "no event of a connection nothing of tenant default"),
            (("traffic", "trace", "nowhere.example"), 1, "nothing is known of nowhere.example"),
            (("traffic", "figures", "--step", "15"), 1, "give a multiple of 0:10:00"),
        ):
            done = busy.cli(*args)
            assert done.returncode == status, done.stderr
            assert what in done.stderr
        done = busy.cli("traffic", tenant="nobody")
        assert done.returncode == 1
        assert "no listener serves tenant 'nobody'; tenants that are served: default, other, silent" in done.stderr
        done = Daemon(tmp_path).cli("traffic")
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: no worker answers in {tmp_path / 'state' / 'run'}; start the daemon")
