"""Traces arrive at a collector, with each stage of a connection and nothing that the log may not have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx
from tests.harness.otlp import Collector, Span
from tests.harness.processes import wait_for

MARKS = """
def response(flow):
    flow.response.headers["x-traceparent"] = flow.request.headers.get("traceparent", "none")
"""
STAGES = ["admission", "server handshake", "verdict", "leaf", "client handshake"]
HOSTS = ("good.example", "old.example", "private.example", "plain.example", "xn--bcher-kva.example")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(scratch: Path, origin: Nginx, collector: Collector) -> Iterator[Daemon]:
    scripts = Scripts(scratch / "traced-scripts")
    scripts.add("marks", MARKS, hosts=["old.example"])
    extra = {
        "inspection": {"addons": scripts.addons},
        "tracing": {"endpoint": collector.url, "sample": 1},
        "log": {"never_log": ["xn--bcher-kva.example"], "tenants": {"closed": {"client": "none", "path": "none"}}},
    }
    listeners = (("explicit", "default"), ("closed", "closed"))
    with Daemon(
        scratch / "traced", hosts=dict.fromkeys(HOSTS, "127.0.0.1"), common=PUBLIC, listeners=listeners, extra=extra
    ) as running:
        yield running


def trace_of(daemon: Daemon, collector: Collector, path: str) -> Span:
    (line,) = daemon.wait_log("request", path=path)
    (root,) = wait_for("the trace", lambda: collector.roots(sallyport_id=line["id"]))
    return root


@pytest.mark.parametrize(
    ("host", "lane", "version"), [("good.example", "fast", "--http2"), ("old.example", "inspection", "--http1.1")]
)
def test_a_connection_is_a_span_with_one_for_each_stage(
    traced: Daemon, collector: Collector, origin: Nginx, host: str, lane: str, version: str
) -> None:
    result = curl(traced, origin[host].url(f"/{lane}?token=t0ken"), version, "-H", f"traceparent: {PARENT}")
    assert result.status == 404
    if lane == "inspection":
        assert result.headers["x-traceparent"] == PARENT  # as the client sent it
    root = trace_of(traced, collector, f"/{lane}")
    assert root.name == "connection"
    assert not root.error
    assert root.resource["service.name"] == "sallyport"
    attributes = root.attributes
    assert (attributes["sallyport.lane"], attributes["sallyport.tenant"]) == (lane, "default")
    assert (attributes["server.address"], attributes["server.port"]) == (host, origin[host].port)
    assert attributes["client.address"] == "127.0.0.1"
    below = collector.below(root)
    assert [span.name for span in below] == STAGES
    for span in below:
        assert span.trace == root.trace
        assert root.start <= span.start <= span.end <= root.end
    assert below[2].attributes["sallyport.action"] == "allow"
    ((name, at, request),) = root.events
    assert name == "request"
    assert root.start <= at <= root.end
    assert (request["url.path"], request["http.response.status_code"]) == (f"/{lane}", 404)
    assert b"t0ken" not in collector.raw


def test_a_blocked_connection_is_an_error_that_says_why(traced: Daemon, collector: Collector, origin: Nginx) -> None:
    result = curl(traced, origin["private.example"].url(), "--http1.1")
    assert result.status == 502
    (refused,) = traced.wait_log("refused", host="private.example")
    (root,) = wait_for("the trace", lambda: collector.roots(sallyport_id=refused["id"]))
    assert root.error
    assert root.attributes["error.type"] == "tls_certificate_error"
    assert root.attributes["sallyport.lane"] == "answer"
    assert [span.name for span in collector.below(root)] == STAGES
    assert collector.below(root)[2].attributes["sallyport.defects"] == refused["defects"]


def test_what_the_log_may_not_have_is_in_no_trace(traced: Daemon, collector: Collector, origin: Nginx) -> None:
    assert curl(traced, origin["xn--bcher-kva.example"].url("/hidden")).status == 404
    assert curl(traced.listener("closed"), origin["good.example"].url("/closed-path")).status == 404
    (root,) = wait_for("the trace", lambda: collector.roots(sallyport_tenant="closed"))
    assert "client.address" not in root.attributes
    ((_, _, request),) = root.events
    assert request["http.response.status_code"] == 404
    assert "url.path" not in request
    assert curl(traced, origin["good.example"].url("/behind")).status == 404
    trace_of(traced, collector, "/behind")
    for secret in (b"bcher", b"hidden", b"closed-path"):
        assert secret not in collector.raw


def test_a_collector_that_is_gone_holds_up_nothing(scratch: Path, origin: Nginx) -> None:
    extra = {"tracing": {"endpoint": "http://127.0.0.1:9/v1/traces", "sample": 1}}
    with Daemon(scratch / "untraced", hosts=dict.fromkeys(HOSTS, "127.0.0.1"), common=PUBLIC, extra=extra) as daemon:
        assert curl(daemon, origin["good.example"].url()).status == 200
    told = daemon.log("traces not sent")
    assert sum(line["spans"] for line in told) == 1 + len(STAGES)
    assert all(line["reason"] for line in told)


def test_nothing_of_it_is_loaded_where_no_traces_are_wanted() -> None:
    import subprocess

    program = "import sys, proxy.worker; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
