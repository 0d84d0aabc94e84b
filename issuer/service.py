"""The issuer's service: the listening socket, the connections on it, and the change feed that it follows."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from datetime import datetime
from functools import partial

from cachetools import LRUCache

from config.settings import Settings
from issuer import feed
from issuer.connection import Connection
from issuer.events import log_event
from issuer.issuing import Issuance
from issuer.keyring import WorkingSet
from issuer.log import NOT_COUNTED
from issuer.metrics import Metrics
from kms.bucket import Bucket
from kms.provider import KeyProvider
from store.engine import Store, StoreError

POLL_SECONDS = 0.25
KEPT_BUCKETS = 4096
"""Tenants whose rate is known; the name comes from a worker and may be any."""
SHARE_OF_TIMEOUT = 0.8
"""Of the time that a worker waits: the rest is for its reading our refusal before it gives up by itself."""


class Service:
    """Issues leaves over a Unix socket from :meth:`start` to :meth:`stop`. ``clock`` tells aware UTC."""

    def __init__(
        self,
        store: Store,
        provider: KeyProvider,
        settings: Settings,
        clock: Callable[[], datetime],
        metrics: Metrics = NOT_COUNTED,
    ) -> None:
        """To be made on the running event loop."""
        self._store = store
        self._limits = settings.limits
        self.issuance = Issuance(store, provider, settings, clock, metrics)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._following: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._buckets: LRUCache[str, Bucket] = LRUCache(KEPT_BUCKETS)
        self._empty = asyncio.Event()
        self._empty.set()

    async def start(self, listener: socket.socket) -> asyncio.Task[None]:
        """Follow the feed, and accept connections from ``listener``.

        The task that follows the feed is returned. It ends by itself only with a fault of this program, and then the
        service has to end too, since purges would be missed. Raises StoreError where the store cannot be read.
        """
        loop = asyncio.get_running_loop()
        self.issuance.keyring.seen = await self.issuance.reading.call(partial(feed.latest, self._store))
        self._following = loop.create_task(self._follow())
        self._renewing = loop.create_task(self.issuance.ahead.follow())
        # Not create_unix_server: it would remove the socket's file at the end, and the file is the supervisor's.
        self._server = await loop.create_server(self._connection, sock=listener)
        return self._following

    async def stop(self, seconds: float = 2.0) -> None:
        """Accept no more, answer what is in flight (for so many seconds in all), close."""
        deadline = asyncio.get_running_loop().time() + seconds
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)
        for connection in list(self._connections):
            connection.abort()
        tasks = [task for task in (self._following, self._renewing) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.issuance.stop(max(0.1, deadline - asyncio.get_running_loop().time()))

    def joined(self, connection: Connection) -> None:
        """A worker has connected."""
        self._connections.add(connection)
        self._empty.clear()

    def left(self, connection: Connection) -> None:
        """Its connection is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def may_sign(self, tenant: str) -> bool:
        """One more new leaf for the tenant; False where it has had its share of this second."""
        bucket = self._buckets.get(tenant)
        if bucket is None:
            clock = asyncio.get_running_loop().time
            bucket = self._buckets[tenant] = Bucket(self._limits.leaves_per_second_per_tenant, clock)
        return bucket.take()

    def apply(self, news: feed.News) -> None:
        """Act on what the feed says: a tenant whose CA is another now loses its keys and leaves at once."""
        keyring = self.issuance.keyring
        for tenant in news.tenants:
            held = keyring.of(tenant.tenant_id)
            # One that was active before another, and is again, has lost its leaf keys meanwhile.
            if all(_holds_still(one, tenant) for one in held):
                for working in held:
                    working.generation = tenant.generation
                continue
            leaves = self.issuance.forget(tenant.tenant_id)
            log_event("purged", tenant=held[0].tenant, generation=tenant.generation, leaves=leaves)
        keyring.seen = news.latest

    def _connection(self) -> Connection:
        deadline = self._limits.leaf_timeout * SHARE_OF_TIMEOUT
        return Connection(self, self.issuance, self._limits.leaves_per_second, deadline)

    async def _follow(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                news = await self.issuance.reading.call(partial(feed.read, self._store, self.issuance.keyring.seen))
            except StoreError as error:
                if not failing:
                    log_event("feed_unreadable", "error", message=str(error))
                failing = True
                continue
            if failing:
                log_event("feed_readable")
            failing = False
            if news is not None:
                self.apply(news)


def _holds_still(working: WorkingSet, now: feed.TenantNow) -> bool:
    if working.ca_id not in now.issuing or working.as_of < now.activation:
        return False
    return not working.signs_elsewhere or working.as_of >= now.forwarding
