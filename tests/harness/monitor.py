"""What a daemon tells of itself over HTTP: counts, readiness."""

from __future__ import annotations

import http.client
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from tests.harness.daemon import Daemon

type Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def get(address: str, path: str, accept: str = "*/*", method: str = "GET") -> tuple[int, str, str]:
    """Status, content type and body."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        connection.request(method, path, headers={"Accept": accept})
        response = connection.getresponse()
        return response.status, response.headers.get("Content-Type", ""), response.read().decode()
    finally:
        connection.close()


def scrape(daemon: Daemon) -> Samples:
    """Every sample, without the prefix of its name."""
    status, _, text = get(daemon.monitor, "/metrics")
    assert status == 200, text
    return {
        (sample.name.removeprefix("sallyport_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, /, **labels: str) -> float:
    """One sample; 0 where there is none."""
    return samples.get((name, frozenset(labels.items())), 0.0)


def readiness(daemon: Daemon) -> tuple[int, list[str]]:
    """The status of /readyz, and its lines."""
    status, _, text = get(daemon.monitor, "/readyz")
    return status, text.splitlines()
