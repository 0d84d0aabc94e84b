"""What a scrape gets: the counts of all processes, and what the workers say of themselves at that moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from issuer.metric_files import Measure

CONNECTIONS_OPEN = Measure("connections_open", "Client connections that are open.")
GENERATION = Measure(
    "generation", "Number of the tenant's working set, that of the worker which is furthest behind.", ("tenant",)
)
SIGNING_CA_EXPIRY = Measure(
    "signing_ca_expiry_seconds", "Time until the active signing CA ends; negative when it has ended.", ("tenant",)
)
TRUSTED_CA_EXPIRY = Measure(
    "trusted_ca_expiry_seconds", "Time until an active trusted CA of the tenant's own ends.", ("tenant", "name")
)
STORE_AGE = Measure("store_age_seconds", "How long ago the store was last known to say what workers use; the longest.")
WORKERS = Measure("workers", "Workers that answer and are not draining.")
READY = Measure("ready", "1 where /readyz answers 200, else 0.")
LOOP_LAG = Measure("loop_lag_seconds", "Longest delay of a worker's event loop in 15 s.", ("process",))
WORKER_MEMORY = Measure("worker_memory_bytes", "Resident memory of a worker.", ("process",))
CRLS = Measure("crls", "CRLs that certificates name, in memory; of the worker that has most.")
CRL_BYTES = Measure("crl_cache_bytes", "Memory that CRLs take, of all workers.")
CRLS_OVERDUE = Measure(
    "crls_overdue", "CRLs in use that could not be fetched again when due; the old ones serve until they end."
)
TUNNELS = Measure("wireguard_tunnels", "Peers of WireGuard listeners whose tunnels are open.", ("tenant",))
STREAMS = Measure("wireguard_streams", "TCP connections that come out of tunnels and are open.", ("tenant",))
GAUGES = (
    CONNECTIONS_OPEN, GENERATION, SIGNING_CA_EXPIRY, TRUSTED_CA_EXPIRY, STORE_AGE, WORKERS, READY, LOOP_LAG,
    WORKER_MEMORY, CRLS, CRL_BYTES, CRLS_OVERDUE, TUNNELS, STREAMS,
)  # fmt: skip


class _Told(Collector):
    """Families that were made beforehand: collecting must not wait for anybody."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(
    folder: Path,
    health: Sequence[dict[str, Any]],
    tunnels: Sequence[dict[str, Any]],
    ready: bool,
    now: float,
    accept: str,
) -> tuple[bytes, str]:
    """The answer to a scrape, and its content type, as ``accept`` wants it.

    ``health`` is what workers say, ``tunnels`` what WireGuard's process does; ``now``: seconds since 1970.
    """
    registry = CollectorRegistry(auto_describe=False)
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call] # it has no types
    registry.register(_Told([*gauges(health, ready, now), *gauges_of_tunnels(tunnels)]))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def gauges(health: Sequence[dict[str, Any]], ready: bool, now: float) -> list[Metric]:
    """What the workers say, as families."""
    at_work = [worker for worker in health if not worker["draining"]]
    generation, signing, trusted = _family(GENERATION), _family(SIGNING_CA_EXPIRY), _family(TRUSTED_CA_EXPIRY)
    for tenant, oldest in sorted(_oldest(at_work).items()):
        generation.add_metric([tenant], oldest["generation"])
        signing.add_metric([tenant], oldest["signing_ca"]["ends"] - now)
        for ca in oldest["trusted_cas"]:
            trusted.add_metric([tenant, ca["name"]], ca["ends"] - now)
    lag, memory = _family(LOOP_LAG), _family(WORKER_MEMORY)
    for worker in at_work:
        lag.add_metric([f"worker {worker['number']}"], worker["loop_lag"])
        memory.add_metric([f"worker {worker['number']}"], worker["memory"])
    families: list[Metric] = [generation, signing, trusted, lag, memory]
    values = {
        CONNECTIONS_OPEN: sum(worker["sessions"] for worker in health),
        WORKERS: len(at_work),
        READY: float(ready),
    }
    if at_work:
        values[STORE_AGE] = max(worker["store"]["age"] for worker in at_work)
    if crls := [worker["crls"] for worker in at_work if worker["crls"] is not None]:
        values[CRLS] = max(each["kept"] for each in crls)
        values[CRL_BYTES] = sum(each["bytes"] for each in crls)
        values[CRLS_OVERDUE] = max(each["overdue"] for each in crls)
    for measure, value in values.items():
        family = _family(measure)
        family.add_metric([], value)
        families.append(family)
    return families


def gauges_of_tunnels(health: Sequence[dict[str, Any]]) -> list[Metric]:
    """What the process that ends WireGuard tunnels says, as families."""
    tunnels, streams = _family(TUNNELS), _family(STREAMS)
    for tenant in sorted({tenant for process in health for tenant in process["tenants"]}):
        told = [process["tenants"][tenant] for process in health if tenant in process["tenants"]]
        tunnels.add_metric([tenant], sum(one["tunnels"] for one in told))
        streams.add_metric([tenant], sum(one["streams"] for one in told))
    return [tunnels, streams]


def _oldest(health: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each tenant's working set in the worker that is furthest behind."""
    found: dict[str, dict[str, Any]] = {}
    for worker in health:
        for name, tenant in worker["tenants"].items():
            if name not in found or tenant["generation"] < found[name]["generation"]:
                found[name] = tenant
    return found


def _family(measure: Measure) -> GaugeMetricFamily:
    return GaugeMetricFamily(measure.full_name, measure.help, labels=measure.labels)
