"""What ships for Prometheus and Grafana, and the table of metrics, name what there is, and all of it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from issuer.metric_files import PREFIX, Measure
from issuer.metrics import KMIP_ERRORS, LEAVES_MINTED, SIGN_SECONDS
from proxy.metrics import SUPERVISOR_COUNTERS, WORKER_COUNTERS, WORKER_HISTOGRAMS
from proxy.monitor_metrics import GAUGES
from tests.harness.programs import need

REPOSITORY = Path(__file__).resolve().parents[1]
ALERTS = REPOSITORY / "deploy" / "alerts.yaml"
DASHBOARD = REPOSITORY / "deploy" / "grafana-dashboard.json"
COUNTERS = (*WORKER_COUNTERS, *SUPERVISOR_COUNTERS, LEAVES_MINTED, KMIP_ERRORS)
HISTOGRAMS = (*WORKER_HISTOGRAMS, SIGN_SECONDS)
SHOWN = {
    **{f"{measure.name}_total": ("counter", measure) for measure in COUNTERS},
    **{measure.name: ("histogram", measure) for measure in HISTOGRAMS},
    **{measure.name: ("gauge", measure) for measure in GAUGES},
}
SAMPLES = {f"{PREFIX}_{name}" for name, (kind, _) in SHOWN.items() if kind != "histogram"} | {
    f"{measure.full_name}_{end}" for measure in HISTOGRAMS for end in ("bucket", "sum", "count")
}


def queries_of_alerts() -> list[str]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def queries_of_dashboard() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("queries", [queries_of_alerts, queries_of_dashboard])
def test_every_metric_that_a_query_names_is_there_with_its_labels(queries: object) -> None:
    assert callable(queries)
    found = queries()
    assert len(found) > 10
    for query in found:
        names = re.findall(rf"{PREFIX}_\w+", query)
        assert names or "up{" in query, query
        for name in names:
            assert name in SAMPLES, f"{name} in {query}"
        labels = {label for name in names for label in measure_of(name).labels} | {"instance", "le", "job"}
        used = set(re.findall(r"(\w+)\s*=~?", re.sub(r"<=|>=|==", "", query)))
        used |= {one.strip() for by in re.findall(r"by \(([^)]*)\)", query) for one in by.split(",")}
        assert used <= labels, f"{used - labels} in {query}"


def measure_of(sample: str) -> Measure:
    name = sample.removeprefix(f"{PREFIX}_")
    for end in ("", "_bucket", "_sum", "_count"):
        if name.removesuffix(end) in SHOWN:
            return SHOWN[name.removesuffix(end)][1]
    raise AssertionError(f"there is no metric {sample}")


def test_the_table_in_the_documents_is_the_registry() -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text()
    section = text.partition("## Metrics and what to alert on")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", section, re.MULTILINE)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert told == {name: (kind, measure.labels) for name, (kind, measure) in SHOWN.items()}
    assert len(rows) == len(told)


def test_prometheus_takes_the_rules() -> None:
    done = subprocess.run(
        [need("promtool"), "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(queries_of_alerts())} rules found" in done.stdout
