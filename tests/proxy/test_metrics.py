"""What is counted, under which names, and that it costs a connection next to nothing."""

from __future__ import annotations

import timeit

import pytest

from proxy.metrics import MOST_PENDING, Metrics, NullSink

MOST_MICROSECONDS = 20.0


def test_each_count_is_kept_under_its_name_and_labels() -> None:
    metrics = Metrics()
    metrics.connection("default", "explicit", "fast")
    metrics.connection("default", "explicit", "fast")
    metrics.verdict("default", "expired", "block")
    metrics.refused("limit:client")
    metrics.abuse("h2_resets")
    metrics.restarted("worker 1")
    metrics.inspector_failed("mine.py", "timeout")
    metrics.up += 10
    assert metrics.totals() == {
        ("connections", "default", "explicit", "fast"): 2,
        ("verdicts", "default", "expired", "block"): 1,
        ("refused", "limit:client"): 1,
        ("abuse", "h2_resets"): 1,
        ("process_restarts", "worker 1"): 1,
        ("inspector_failures", "mine.py", "timeout"): 1,
        ("bytes", "to_server"): 10,
        ("bytes", "to_client"): 0,
        ("leaf_cache_hits",): 0,
        ("leaves_asked",): 0,
        ("log_lines_dropped",): 0,
        ("faults",): 0,
    }


@pytest.mark.parametrize(
    ("status", "of"), [(0, "none"), (99, "none"), (101, "1xx"), (200, "2xx"), (404, "4xx"), (599, "5xx"), (600, "none")]
)
def test_a_status_that_a_server_made_up_is_no_label(status: int, of: str) -> None:
    metrics = Metrics()
    metrics.request("default", "fast", status)
    assert metrics.counts["requests", "default", "fast", of] == 1


def test_times_that_nobody_takes_up_do_not_gather_without_end() -> None:
    metrics = Metrics()
    for _ in range(MOST_PENDING + 10):
        metrics.handshake("client", 0.1)
        metrics.purged(0.1)
    assert len(metrics.times) == MOST_PENDING
    NullSink().flush(metrics)
    assert metrics.times == []


def test_what_a_connection_counts_costs_it_few_microseconds() -> None:
    metrics = Metrics()

    def connection() -> None:
        metrics.handshake("server", 0.01)
        metrics.verdict("default", "none", "allow")
        metrics.leaf_hits += 1
        metrics.handshake("client", 0.01)
        metrics.connection("default", "explicit", "fast")
        metrics.up += 100
        metrics.down += 1000
        metrics.request("default", "fast", 200)
        if len(metrics.times) > 10_000:
            metrics.times.clear()

    best = min(timeit.repeat(connection, number=2_000, repeat=20)) / 2_000 * 1e6
    assert best < MOST_MICROSECONDS, f"{best:.1f} µs"
