"""Which connections are traced, and what becomes of spans that cannot be sent."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from config.settings import Tracing
from proxy import tracing as module
from proxy.lanes.exchange import Exchange
from proxy.log import Log, open_log_file
from proxy.session import Session
from proxy.tracing import MOST_REQUESTS, MOST_STAGES, MOST_WAITING, SAY_SECONDS, Trace, Tracer
from tests.harness.otlp import Collector
from tests.harness.processes import wait_for


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


def tracer(collector: Collector, folder: Path, sample: float = 1.0) -> Tracer:
    log = Log(open_log_file(str(folder / "log")), "info", "worker 1", lambda: 1.0)
    return Tracer(Tracing(endpoint=collector.url, sample=sample), "worker 1", log)


def session(**facts: Any) -> Session:
    made = SimpleNamespace(
        facts={"host": "a.example", **facts}, shown="192.0.2.1", id="00ff", started=10.0,
        listener=SimpleNamespace(name="explicit"),
        snapshot=SimpleNamespace(tenant="default"), worker=SimpleNamespace(wall=lambda: 1_800_000_010.0),
        loop=SimpleNamespace(time=lambda: 12.0),
    )  # fmt: skip
    return cast("Session", made)


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


@pytest.mark.parametrize(
    ("sample", "id", "traced"),
    [
        (1.0, "ffffffffffffffff", True),
        (0.0, "0000000000000000", False),
        (0.5, "7fffffff00000000", True),
        (0.5, "8000000000000000", False),
        (0.01, "028f5c2800000000", True),
        (0.01, "028f5c2900000000", False),
    ],
)
def test_the_id_says_which_connections_are_traced(
    tmp_path: Path, collector: Collector, sample: float, id: str, traced: bool
) -> None:
    made = tracer(collector, tmp_path, sample)
    assert (made.begin(id) is not None) is traced
    asyncio.run(made.stop())


def test_times_are_those_of_the_wall_clock(tmp_path: Path, collector: Collector) -> None:
    made, trace = tracer(collector, tmp_path), Trace()
    trace.stage("verdict", 10.5, 11.0, {"action": "allow", "defects": []})
    made.finish(trace, session(), "open", "client closed", True)
    asyncio.run(made.stop())
    (root,) = collector.roots()
    assert (root.start, root.end) == (1_800_000_008 * 10**9, 1_800_000_010 * 10**9)
    (stage,) = collector.below(root)
    assert (stage.start, stage.end) == (1_800_000_008 * 10**9 + 500_000_000, 1_800_000_009 * 10**9)
    assert told(tmp_path) == []


def test_a_long_connection_tells_of_so_many_requests_and_counts_the_others(
    tmp_path: Path, collector: Collector
) -> None:
    made, trace = tracer(collector, tmp_path), Trace()
    for _ in range(MOST_REQUESTS + 7):
        trace.request(Exchange("HTTP/2", "GET", "a.example", "/", ended=1_800_000_009.0))
    for _ in range(MOST_STAGES + 7):
        trace.stage("admission", 10.0, 10.1, {})
    made.finish(trace, session(), "open", "client closed", True)
    asyncio.run(made.stop())
    (root,) = collector.roots()
    assert len(root.events) == MOST_REQUESTS
    assert root.attributes["sallyport.requests_left_out"] == 7
    assert len(collector.below(root)) == MOST_STAGES


def test_spans_that_too_many_wait_before_are_left_out_and_counted(tmp_path: Path, collector: Collector) -> None:
    made = tracer(collector, tmp_path)
    inner, go_on = made._exporter._inner, threading.Event()

    def held(spans: Sequence[ReadableSpan]) -> SpanExportResult:
        go_on.wait(60)
        return inner.export(spans)

    made._exporter._inner = cast("SpanExporter", SimpleNamespace(export=held, shutdown=inner.shutdown))
    for _ in range(MOST_WAITING + 50):
        made.finish(Trace(), session(), "open", "client closed", True)
    assert made.left_out == 50
    made.say()
    made.say()
    assert [(line["event"], line["level"], line["spans"]) for line in told(tmp_path)] == [
        ("traces not sent", "warning", 50)
    ]
    go_on.set()
    wait_for("the others", lambda: len(collector.roots()) == MOST_WAITING, timeout=60)
    asyncio.run(made.stop())


def test_what_could_not_be_sent_is_said_once_a_minute(tmp_path: Path, collector: Collector) -> None:
    collector.status = 400
    made = tracer(collector, tmp_path)
    due: list[Callable[[], None]] = []

    def later(seconds: float, work: Callable[[], None]) -> None:
        assert seconds == SAY_SECONDS
        due.append(work)

    made.start(later)
    made.finish(Trace(), session(), "open", "client closed", True)
    wait_for("the attempt", lambda: made._exporter.failed)
    assert told(tmp_path) == []
    for _ in range(3):
        due.pop()()
    assert [(line["event"], line["spans"]) for line in told(tmp_path)] == [("traces not sent", 1)]
    assert "400" in told(tmp_path)[0]["reason"]
    asyncio.run(made.stop())


def test_a_proxy_of_the_environment_is_not_used(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setitem(os.environ, name, "http://127.0.0.1:9")
    made = tracer(collector, tmp_path)
    made.finish(Trace(), session(), "open", "client closed", True)
    asyncio.run(made.stop())
    assert len(collector.roots()) == 1


def test_a_collector_that_does_not_answer_keeps_no_process(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    collector.status = 503  # the SDK tries again, and again
    made = tracer(collector, tmp_path)
    made.finish(Trace(), session(), "open", "client closed", True)
    asyncio.run(asyncio.wait_for(made.stop(), 5))
