"""A bounded HTTP client for what a certificate points to: issuers, CRLs (RFC 5280, 4.2.2.1, 4.2.1.13), OCSP (RFC 6960).

Whoever has made the certificate has chosen the URL, so this is the one place where a stranger makes the proxy connect
somewhere: it must not lead into the networks that only the proxy reaches, take long, or take much. So: plain http on
few ports; the address that is really connected to is judged, by the egress rules and beyond them; each redirect is
judged like the first URL; no cookie, no credentials, no proxy of the environment; bytes, time, and the number of
fetches under way are bounded.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

from cachetools import LRUCache

from certs.addresses import globally_reachable, within
from config.settings import Network
from proxy.admission import Egress, ResolveError, Resolver
from proxy.fetch_exchange import Answer, Exchange, FetchFailed, Request, Target, parse_url
from proxy.fetch_room import Room
from proxy.metrics import Metrics
from proxy.parent import ParentError
from proxy.parents import Parents
from proxy.upstream import DialError, dial

__all__ = ["FetchFailed", "Fetcher"]

MOST_AT_ONCE = 8
MOST_PER_HOST = 2
"""Fetches under way in one process, in all and from one host; from hosts of one domain half of all. There is no queue:
a crowd must not make others wait."""
MOST_REDIRECTS = 3
_CLIENT = "certificates"
"""In whose name the resolver is asked: what hangs there takes nothing from the clients' share, and what hangs in one
domain a quarter of this one."""
REMEMBERED = 512
"""Hosts whose last addresses are kept, for when there is no place to ask DNS (RFC 8767): whoever lets lookups hang, of
however many domains, makes nobody deaf for the CAs that are in use. What comes from there is signed in any case."""
_CONNECT_SECONDS = 60.0
"""Longer than anybody waits."""


TIMED_OUT = frozenset({"connection_timeout", "dns_timeout", "http_response_timeout"})

_Key = tuple[str, Request, int]
"""What a fetch is of: URL, request, most bytes."""


class _Fetch:
    """A fetch under way. It goes on for as long as somebody waits for it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[bytes] | None = None
        self.waiting = 0
        self.lacks = "an answer from DNS"
        """What has not come yet."""


class Fetcher:
    """Fetches, those of one URL joined.

    ``ports`` are asked and no others. ``private`` are the networks that may be asked though they are not globally
    reachable (RFC 6890), where the egress rules permit them too: an internal CA's server. ``gets`` is what is fetched
    with GET, for ``metrics``; with POST it is OCSP answers.
    """

    def __init__(
        self,
        resolver: Resolver,
        egress: Egress,
        *,
        ports: Collection[int] = (80,),
        private: Sequence[Network] = (),
        most_at_once: int = MOST_AT_ONCE,
        most_per_host: int = MOST_PER_HOST,
        gets: Literal["aia", "crl"] = "aia",
        metrics: Metrics | None = None,
        parents: Parents | None = None,
    ) -> None:
        self.made = 0
        """Fetches that were begun, which those who joined one did not."""
        self._resolver = resolver
        self._egress = egress
        self._ports = frozenset(ports)
        self._private = tuple(private)
        self._most_at_once = most_at_once
        self._most_per_host = most_per_host
        self._gets = gets
        self._metrics = metrics or Metrics()
        self._parents = parents
        self._under_way: dict[_Key, _Fetch] = {}
        self._per_host: Counter[str] = Counter()
        self._room = Room()
        self._addresses_before: LRUCache[str, tuple[str, ...]] = LRUCache(REMEMBERED)

    async def get(self, url: str, *, most: int, until: float) -> bytes:
        """The body at a URL: ``most`` bytes, by the loop's time ``until``. Raises FetchFailed, and nothing else."""
        return await self._shared(url, Request(), most, until)

    async def post(self, url: str, body: bytes, content_type: str, *, most: int, until: float) -> bytes:
        """The body that answers a POST; as :meth:`get`."""
        return await self._shared(url, Request(body, content_type), most, until)

    def close(self) -> None:
        """Give up what is under way; who waits for it is cancelled."""
        for fetch in self._under_way.values():
            if fetch.task is not None:
                fetch.task.cancel()

    async def _shared(self, url: str, request: Request, most: int, until: float) -> bytes:
        """Fetch, or wait for a fetch of the same that is under way."""
        loop = asyncio.get_running_loop()
        if until <= loop.time():
            raise FetchFailed("no time is left for it", timed_out=True)
        key = url, request, most
        fetch = self._under_way.get(key)
        if fetch is None:
            if len(self._under_way) >= self._most_at_once:
                self._metrics.fetched(self._kind(request), "busy", None)
                raise FetchFailed(f"{len(self._under_way)} other fetches are under way, the most at once", busy=True)
            fetch = self._under_way[key] = _Fetch()
            fetch.task = loop.create_task(self._fetch(url, request, most, fetch))
            fetch.task.add_done_callback(partial(self._ended, key, fetch, loop.time()))
            self.made += 1
        assert fetch.task is not None  # noqa: S101 - set where it was made
        fetch.waiting += 1
        try:
            async with asyncio.timeout_at(until):
                return await asyncio.shield(fetch.task)
        except TimeoutError:
            raise FetchFailed(f"{fetch.lacks} has not come in time", timed_out=True) from None
        finally:
            fetch.waiting -= 1
            if not fetch.waiting:
                self._forget(key, fetch)
                fetch.task.cancel()

    def _kind(self, request: Request) -> str:
        return self._gets if request.body is None else "ocsp"

    def _ended(self, key: _Key, fetch: _Fetch, began: float, task: asyncio.Task[bytes]) -> None:
        self._forget(key, fetch)
        # Looked at also so that asyncio does not complain where nobody waits any more.
        failed = None if task.cancelled() else task.exception()
        if task.cancelled() or (isinstance(failed, FetchFailed) and failed.timed_out):
            result = "timed_out"  # who waited has given up
        else:
            result = "ok" if failed is None else "busy" if isinstance(failed, FetchFailed) and failed.busy else "failed"
        self._metrics.fetched(self._kind(key[1]), result, task.get_loop().time() - began)

    def _forget(self, key: _Key, fetch: _Fetch) -> None:
        if self._under_way.get(key) is fetch:
            del self._under_way[key]

    async def _fetch(self, url: str, request: Request, most: int, fetch: _Fetch) -> bytes:
        """The body at the end of the redirects."""
        target, about = parse_url(url), ""
        for _ in range(1 + MOST_REDIRECTS):
            try:
                answer = await self._asked(target, request, most, fetch)
                if answer.moved is None:
                    return answer.body
                about = f"redirected to {answer.moved[:200]!r}: "
                target = parse_url(answer.moved)
            except FetchFailed as failed:
                raise FetchFailed(f"{about}{failed}", timed_out=failed.timed_out, busy=failed.busy) from None
        raise FetchFailed(f"it redirects more than {MOST_REDIRECTS} times")

    async def _asked(self, target: Target, request: Request, most: int, fetch: _Fetch) -> Answer:
        """What one server answers."""
        if target.port not in self._ports:
            raise FetchFailed(f"it is at port {target.port}, which is not asked")
        with self._place_at(target.host.text):
            fetch.lacks = "an answer from DNS"
            # A certificate belongs to no tenant, so what counts for all of them counts.
            parent = self._parents.of(None, target.host) if self._parents is not None else None
            # A name is the parent's to resolve.
            addresses = () if parent is not None and not target.host.is_ip else await self._addresses(target)
            exchange = Exchange(
                target, request, most, lambda reading: self._room.enter(reading, _domain(target.host.text)), parent
            )
            try:
                fetch.lacks = "a connection"
                if parent is None or self._parents is None:
                    await dial(addresses, target.port, lambda: exchange, _CONNECT_SECONDS)
                else:
                    await self._parents.through(
                        parent, target.host, target.port, exchange, _CONNECT_SECONDS, tunnel=False
                    )
                fetch.lacks = "the whole answer"
                outcome = await exchange.answer
            except DialError as error:
                about = f"the parent proxy {error.parent}: " if isinstance(error, ParentError) else ""
                raise FetchFailed(f"{about}{error}", timed_out=error.error in TIMED_OUT) from None
            finally:
                self._room.leave(exchange)
                exchange.drop()
        if isinstance(outcome, FetchFailed):
            raise outcome
        return outcome

    async def _addresses(self, target: Target) -> tuple[str, ...]:
        """Those of the host that may be asked: at least one."""
        name = target.host.text
        try:
            addresses = await self._resolver.resolve(target.host, _CLIENT, _domain(name))
        except ResolveError as error:
            before = self._addresses_before.get(name)
            if before is None or not error.busy:
                raise FetchFailed(f"no address: {error}", timed_out=error.timed_out, busy=error.busy) from None
            addresses = before
        else:
            self._addresses_before[name] = addresses
        permitted = tuple(address for address in addresses if self._permits(address))
        if not permitted:
            where = ", ".join(addresses[:3]) or "no address"
            raise FetchFailed(f"it is at {where}: private, or denied by the egress rules")
        return permitted

    def _permits(self, text: str) -> bool:
        """Whether a stranger may have the address asked."""
        return self._egress.permits(text) and (globally_reachable(text) or within(text, self._private))

    @contextmanager
    def _place_at(self, host: str) -> Iterator[None]:
        bounds = {host: self._most_per_host, f"*.{_domain(host)}": max(1, self._most_at_once // 2)}
        for where, most in bounds.items():
            if self._per_host[where] >= most:
                raise FetchFailed(f"{self._per_host[where]} other fetches from it are under way", busy=True)
        self._per_host.update(bounds.keys())
        try:
            yield
        finally:
            for where in bounds:
                self._per_host[where] -= 1
                if not self._per_host[where]:
                    del self._per_host[where]


def _domain(host: str) -> str:
    """The last two labels of a name: what is below them is one owner's, most often. An address is its own."""
    return host if ":" in host or host.replace(".", "").isdigit() else ".".join(host.split(".")[-2:])
