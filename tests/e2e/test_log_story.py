"""At level debug one connection's whole story is told under its id: in both lanes, blocked, and in plain HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx

MARKS = """
import logging

def response(flow):
    logging.info("seen a response")
    flow.response.headers["x-seen"] = "yes"
    if "fails" in flow.request.path:
        raise ValueError("as it was asked to")
"""


@pytest.fixture(scope="module")
def talkative(scratch: Path, origin: Nginx) -> Iterator[Daemon]:
    """A daemon at level debug, with an inspector for one host."""
    scripts = Scripts(scratch)
    scripts.add("marks", MARKS, hosts=["old.example"])
    hosts = dict.fromkeys(
        ("good.example", "old.example", "private.example", "plain.example", "xn--bcher-kva.example"), "127.0.0.1"
    )
    extra = {"inspection": {"addons": scripts.addons}, "log": {"level": "debug"}}
    with Daemon(scratch / "talkative", hosts=hosts, common=PUBLIC, extra=extra) as running:
        yield running


def story(daemon: Daemon, event: str, **fields: object) -> list[dict[str, Any]]:
    """All lines of the connection that this is a line of, once its end is among them."""
    (line,) = daemon.wait_log(event, **fields)
    daemon.wait_log("connection", id=line["id"])
    return sorted(daemon.log(id=line["id"]), key=lambda line: float(line["time"]))


def names(lines: list[dict[str, Any]], *, issuer: bool = False) -> list[str]:
    return [line["event"] for line in lines if (line["from"] == "issuer") == issuer]


def only(lines: list[dict[str, Any]], event: str) -> dict[str, Any]:
    (found,) = [line for line in lines if line["event"] == event]
    return found


def test_the_fast_lanes_story_from_accept_to_close(talkative: Daemon, origin: Nginx) -> None:
    site = origin["good.example"]
    for source, verdict in (("issuer", "judged"), ("cache", "kept")):
        assert curl(talkative, site.url(f"/{source}?secret=1"), "--http1.1").status == 404
        lines = story(talkative, "request", path=f"/{source}")
        assert names(lines) == [
            "accepted", "admission", "server handshake", "verdict", "leaf", "client handshake", "lane", "request",
            "connection",
        ]  # fmt: skip
        assert {(line["tenant"], line["client"]) for line in lines if line["from"] != "issuer"} == {
            ("default", "127.0.0.1")
        }
        admission = only(lines, "admission")
        assert (admission["listener"], admission["host"], admission["port"]) == ("explicit", "good.example", site.port)
        assert (admission["egress"], admission["addresses"]) == ("permitted", ["127.0.0.1"])
        assert only(lines, "server handshake")["tls"] == "TLSv1.3"
        assert only(lines, "verdict")["source"] == verdict
        told = only(lines, "verdict")
        assert (told["defects"], told["action"], told["level"]) == ([], "allow", "debug")
        assert (told["host"], told["port"], told["anchor"]) == ("good.example", site.port, "common store")
        assert [(one["subject"], one["from"]) for one in told["chain"]] == [
            ("CN=good.example", "sent by the server"), ("CN=Public Issuing", "sent by the server"),
            ("CN=Public Root", "common store"),
        ]  # fmt: skip
        assert told["tls"] == "TLSv1.3"
        assert only(lines, "leaf")["level"] == "debug"
        assert only(lines, "leaf")["source"] == source
        lane = only(lines, "lane")
        assert (lane["lane"], lane["alpn"], lane["client_tls"]) == ("fast", "http/1.1", "TLSv1.3")
        for stage in ("admission", "server handshake", "verdict", "leaf", "client handshake"):
            assert 0 <= only(lines, stage)["ms"] < 10_000
        minted = [line for line in lines if line["event"] == "leaf_issued"]
        if source == "issuer":
            assert [(line["host"], line["source"]) for line in minted] == [("good.example", "minted")]
            assert minted[0]["serial"] == only(lines, "leaf")["serial"]
        else:
            assert minted == []
    assert "secret" not in talkative.stderr_text()


def test_the_inspection_lanes_story_with_what_an_inspector_says(talkative: Daemon, origin: Nginx) -> None:
    result = curl(talkative, origin["old.example"].url("/seen"), "--http1.1")
    assert result.headers["x-seen"] == "yes"
    lines = story(talkative, "request", path="/seen")
    told = names(lines)
    # What mitmproxy itself remarks on is the lane's own affair.
    assert [name for name in told if name != "inspection"] == [
        "accepted", "admission", "server handshake", "verdict", "leaf", "client handshake", "lane", "inspector says",
        "request", "connection",
    ]  # fmt: skip
    assert only(lines, "lane")["lane"] == "inspection"
    assert only(lines, "inspector says")["message"] == "seen a response"
    assert only(lines, "leaf")["host"] == "old.example"


def test_an_inspector_that_fails_is_told_of_under_the_connections_id(talkative: Daemon, origin: Nginx) -> None:
    result = curl(talkative, origin["old.example"].url("/fails"), "--http1.1")
    failed = talkative.wait_log("inspector failed")[-1]
    assert failed["id"] == talkative.wait_log("request", path="/fails")[-1]["id"]
    assert failed["id"] in result.text


def test_a_blocked_connections_story_ends_with_our_own_answer(talkative: Daemon, origin: Nginx) -> None:
    result = curl(talkative, origin["private.example"].url(), "--http1.1")
    assert result.status == 502
    lines = story(talkative, "refused", host="private.example")
    assert names(lines) == [
        "accepted", "admission", "server handshake", "verdict", "refused", "leaf", "lane", "client handshake",
        "connection",
    ]  # fmt: skip
    assert (only(lines, "verdict")["action"], only(lines, "verdict")["by"]) == ("block", ["default"])
    told, leaf = only(lines, "verdict"), only(lines, "leaf")
    assert (told["level"], leaf["level"]) == ("info", "info")
    assert told["defects"] == only(lines, "refused")["defects"]
    assert only(lines, "refused")["by"] == ["default"]
    assert [(one["defect"], one["certificate"]) for one in told["findings"]] == [("incomplete_chain", 1)]
    first = told["chain"][0]
    assert (first["subject"], first["issuer"]) == ("CN=private.example", "CN=Private Issuing")
    site = origin["private.example"].identity
    assert site is not None
    assert first["sha256"] == sha256(site.raw).hexdigest()
    assert "anchor" not in told
    assert (leaf["signing_ca"], "untrusted" in leaf) == ("built-in", False)
    assert leaf["sha256"] != first["sha256"]
    assert only(lines, "lane")["lane"] == "answer"
    assert lines[0]["id"] in result.text
    assert names(lines, issuer=True) == ["leaf_issued"]


def test_a_plain_requests_story(talkative: Daemon, origin: Nginx) -> None:
    # Where a tenant has inspectors for any host, they have its plain requests too.
    assert curl(talkative, origin["plain.example"].url().replace("https", "http")).status == 200
    lines = story(talkative, "admission", host="plain.example")
    told = [name for name in names(lines) if name != "inspection"]
    assert told == ["accepted", "lane", "admission", "request", "connection"]


def test_every_line_of_a_connection_has_its_id(talkative: Daemon, origin: Nginx) -> None:
    assert curl(talkative, origin["xn--bcher-kva.example"].url("/every")).status == 404
    talkative.wait_log("request", path="/every")
    of_processes = {
        "started", "stopping", "worker stopped", "ready", "ended", "inspector reloaded", "limits", "running as root",
        "memory_not_locked",
    }  # fmt: skip
    without = {line["event"] for line in talkative.log() if "id" not in line}
    assert without <= of_processes | {"inspector says"}  # mitmproxy says a thing or two at its start
