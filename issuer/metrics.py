"""What the issuer counts: leaves, and how long they take to make.

There are a few of these for each new host, so each is counted at once where a scrape finds it, from any thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from issuer.events import log_event
from issuer.metric_files import FOLDER, SECONDS, Measure, MetricFiles

LEAVES_MINTED = Measure("leaves_minted", "Leaves that were made and recorded.", ("tenant", "signer"))
SIGN_SECONDS = Measure(
    "sign_seconds", "Making a leaf: lint, signature, check; signer is local or kmip.", ("signer",), SECONDS
)
KMIP_ERRORS = Measure("kmip_errors", "Requests to a key manager that failed.", ("host", "reason"))


class Metrics(Protocol):
    """Where the issuer counts."""

    def minted(self, tenant: str, signer: str) -> None:
        """A leaf was made and recorded. ``signer`` is ``local`` or ``kmip``."""

    def signed(self, signer: str, seconds: float) -> None:
        """A leaf was made, and took so long."""

    def kmip_failed(self, host: str, reason: str) -> None:
        """A request to a key manager failed."""


class NullMetrics:
    """Metrics are off."""

    def minted(self, tenant: str, signer: str) -> None:
        """Nobody wants to know."""

    def signed(self, signer: str, seconds: float) -> None:
        """Nobody wants to know."""

    def kmip_failed(self, host: str, reason: str) -> None:
        """Nobody wants to know."""


class PrometheusMetrics:
    """Counts into this process's place in the folder."""

    def __init__(self, files: MetricFiles) -> None:
        self._minted = files.counter(LEAVES_MINTED)
        self._signed = files.histogram(SIGN_SECONDS)
        self._kmip_failed = files.counter(KMIP_ERRORS)

    def minted(self, tenant: str, signer: str) -> None:
        self._minted.labels(tenant, signer).inc()

    def signed(self, signer: str, seconds: float) -> None:
        self._signed.labels(signer).observe(seconds)

    def kmip_failed(self, host: str, reason: str) -> None:
        self._kmip_failed.labels(host, reason).inc()


def open_metrics(state_dir: Path, *, enabled: bool) -> Metrics:
    """What the issuer's process counts with. Where the files cannot be made it does without, and says so."""
    if not enabled:
        return NullMetrics()
    try:
        return PrometheusMetrics(MetricFiles(state_dir.joinpath(*FOLDER), "issuer"))
    except OSError as error:
        log_event("metrics_cannot_be_kept", "error", message=error.strerror or str(error))
        return NullMetrics()
