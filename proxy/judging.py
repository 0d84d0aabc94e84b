"""Who judges servers, put together as the settings say: for workers, and for a probe."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime
from typing import Literal

from config.settings import Settings
from proxy.admission import Egress, Resolver
from proxy.completing import Completer
from proxy.crl_cache import Means
from proxy.fetching import Fetcher
from proxy.log import Log
from proxy.metrics import Metrics
from proxy.parents import Parents
from proxy.revocation import Revocation
from proxy.upstream import Judge
from store.crls import FOLDER, CrlFiles

ASKED_AT_ONCE = 64
ASKED_PER_HOST = 16
"""Questions about revocation under way in one process: many sites have one CA, so that it is asked much at once."""


def judge_for(
    settings: Settings, resolver: Resolver, egress: Egress, thread: Executor, clock: Callable[[], datetime],
    monotonic: Callable[[], float], log: Log, metrics: Metrics | None = None,
    parents: Parents | None = None,
) -> Judge:  # fmt: skip
    """To be closed in the end, and made inside of a running loop. ``thread`` is where costly chains are judged."""
    metrics = metrics or Metrics()
    verification = settings.verification
    fetch = verification.fetch

    def fetcher(gets: Literal["aia", "crl"], **bounds: int) -> Fetcher:
        return Fetcher(
            resolver, egress, ports=fetch.ports, private=fetch.private, gets=gets, metrics=metrics, parents=parents,
            **bounds,
        )  # fmt: skip

    completer = None
    if verification.complete_chains:
        completer = Completer(fetcher("aia"), thread, clock, metrics=metrics)
    revocation = None
    if verification.revocation != "off" or verification.crl_directory is not None:
        asking = fetcher("crl", most_at_once=ASKED_AT_ONCE, most_per_host=ASKED_PER_HOST)
        reading = ThreadPoolExecutor(1, thread_name_prefix="crls")
        means = Means(asking, reading, clock, monotonic, log)
        revocation = Revocation(verification, means, CrlFiles(settings.state_dir / FOLDER), metrics)
    return Judge(clock, thread, completer, revocation)
