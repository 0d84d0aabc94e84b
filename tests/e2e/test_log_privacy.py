"""What clients ask for is told as their tenant's settings say, and of some hosts nothing at all."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import PUBLIC
from tests.harness.curl import command, curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx

TALKS = """
import logging

def request(flow):
    logging.warning("asked for %s", flow.request.pretty_url)
    if "fails" in flow.request.path:
        raise ValueError("no " + flow.request.host)
"""
HIDDEN = ("good.example", "private.example", "plain.example", "xn--bcher-kva.example")
HOSTS = (*HIDDEN, "old.example")
SENT = ("-A", "agent/1", "-e", "https://from.example/p?q=1", "-H", "Authorization: Basic c2VjcmV0", "-b", "sid=s3cret")


@pytest.fixture(scope="module")
def discreet(scratch: Path, origin: Nginx) -> Iterator[Daemon]:
    """At level debug; nothing is to be said of some hosts, although an inspector would like to."""
    scripts = Scripts(scratch / "discreet-scripts")
    scripts.add("talks", TALKS, hosts=["xn--bcher-kva.example"])
    extra = {
        "inspection": {"addons": scripts.addons},
        "log": {"level": "debug", "never_log": ["good.example", "private.example", "plain.example", "bücher.example"]},
    }
    with Daemon(
        scratch / "discreet", hosts=dict.fromkeys(HOSTS, "127.0.0.1"), common=PUBLIC, extra=extra, workers=1
    ) as running:
        yield running


@pytest.fixture(scope="module")
def tenants(scratch: Path, origin: Nginx) -> Iterator[Daemon]:
    """Three tenants: one as in the packaged configuration, one that is told much of, one little."""
    log = {
        "tenants": {
            "open": {
                "query": "full",
                "request_headers": ["User-Agent", "Referer"],
                "response_headers": ["Content-Type"],
                "client": "network",
            },
            "closed": {"path": "none", "client": "none"},
            "silent": {"requests": False},
        }
    }
    listeners = (("explicit", "default"), ("open", "open"), ("closed", "closed"), ("silent", "silent"))
    with Daemon(
        scratch / "tenants",
        hosts=dict.fromkeys(HOSTS, "127.0.0.1"),
        common=PUBLIC,
        listeners=listeners,
        extra={"log": log},
    ) as running:
        yield running


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_each_tenants_requests_are_told_as_it_is_set(tenants: Daemon, origin: Nginx, version: str) -> None:
    site, path = origin["good.example"], f"/told{version}"
    for name in ("explicit", "open", "closed", "silent"):
        assert curl(tenants.listener(name), site.url(f"{path}?token=t0ken"), version, *SENT).status == 404
    protocol = "HTTP/2" if version == "--http2" else "HTTP/1.1"
    (plainly,) = tenants.wait_log("request", tenant="default", path=path)
    assert not {"query", "request_headers", "response_headers"} & plainly.keys()
    assert plainly["client"] == "127.0.0.1"
    (much,) = tenants.wait_log("request", tenant="open", path=path)
    assert much["query"] == "token=t0ken"
    assert much["request_headers"] == {"user-agent": "agent/1", "referer": "https://from.example/p?q=1"}
    assert much["response_headers"] == {"content-type": "text/html"}
    assert much["client"] == "127.0.0.0/24"
    little = tenants.wait_log("request", tenant="closed", protocol=protocol)[-1]
    assert not {"path", "query", "client"} & little.keys()
    assert little["status"] == 404
    assert tenants.log("request", tenant="silent") == []
    text = tenants.stderr_text()
    assert "c2VjcmV0" not in text
    assert "s3cret" not in text
    assert text.count("t0ken") == len(tenants.log("request", tenant="open"))


def test_of_some_hosts_nothing_is_said_whatever_happens(discreet: Daemon, origin: Nginx) -> None:
    seen = origin["old.example"]
    # Passed, blocked, plain, in the inspection lane, with an inspector that talks and fails, and without a name.
    assert curl(discreet, origin["good.example"].url("/")).status == 200
    assert curl(discreet, origin["good.example"].url("/"), "--http1.1").status == 200
    assert curl(discreet, origin["private.example"].url()).status == 502
    assert curl(discreet, origin["plain.example"].url().replace("https", "http")).status == 200
    assert curl(discreet, origin["xn--bcher-kva.example"].url()).status == 200
    assert curl(discreet, origin["xn--bcher-kva.example"].url("/fails")).status == 502
    # One that does not trust the root, and one that asks on a connection to another host, by name and in a URL.
    subprocess.run(
        ["curl", "-sS", "-x", f"http://{discreet.proxy}", origin["good.example"].url()],
        capture_output=True, check=False, timeout=30,
    )  # fmt: skip
    assert curl(discreet, seen.url(), "--http1.1", "-H", "Host: good.example").status == 421
    assert curl(discreet, seen.url("/go/https%3A%2F%2Fgood.example"), "--http1.1").status == 404
    # And one whose server shows the certificate of such a host.
    assert curl(discreet, f"https://old.example:{origin['private.example'].port}/").status == 502
    # All of them were logged before this one.
    assert curl(discreet, seen.url("/last"), "--http1.1").status == 404
    (last,) = discreet.wait_log("request", path="/last")
    discreet.wait_log("connection", id=last["id"])
    text = discreet.stderr_text().lower()
    for host in (*HIDDEN, "bücher", "b\\u00fccher"):
        assert host not in text, host
    assert discreet.log("request", host=f"old.example:{seen.port}")
    # The leaf's record is no line of the log.
    assert discreet.log("leaf_issued", host="old.example")


def test_a_refused_request_behind_one_that_is_never_logged_is_logged(discreet: Daemon, origin: Nginx) -> None:
    """On one plain connection, a host of which nothing is said hides no other."""
    first = origin["plain.example"].url().replace("https", "http")
    done = subprocess.run(
        [*command(discreet, first), "-o", "/dev/null", "http://nowhere.example:81/"],
        capture_output=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert discreet.wait_log("refused", host="nowhere.example", timeout=30)
