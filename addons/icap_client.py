"""Asks ICAP services about messages: one call, one verdict, one deadline (RFC 3507).

All that is remembered of a service is its answer to OPTIONS. It is asked for before the first message, when it has
expired, and after an answer with another ISTag: then the service is not what it was.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from addons.icap_answer import Answer
from addons.icap_heads import IcapError, MessageError
from addons.icap_link import CutError
from addons.icap_messages import Request, Scan, options_request, scan_request
from addons.icap_pool import Pool, Progress
from addons.icap_service import Address, ServiceOptions, ServiceUrl, Transfer

_ADVICE: Final[Mapping[int, str]] = {
    400: "it did not understand the request: its log says why",
    401: "it wants a login, which is not supported: let the proxy's address in",
    403: "let the proxy's address in, on the ICAP server",
    404: "it has no such service: check the path in the ICAP URL",
    405: "the service does not take this method: check the path in the ICAP URL",
    408: "it waited too long for the request",
    500: "it failed: its log says why",
    503: "it is overloaded: give it more capacity, or lower icap_max_connections",
    505: "it does not speak ICAP/1.0",
}


@dataclass(frozen=True)
class Limits:
    """``timeout``: seconds for a whole transaction; ``preview``: bytes at most, -1 as the service says;
    ``connections`` to a server; ``body``: bytes that are taken of a changed body."""

    timeout: float = 4
    preview: int = -1
    connections: int = 10
    body: int = 16 << 20


class _Service:
    """A service and what it last said of itself."""

    def __init__(self, url: ServiceUrl) -> None:
        self.url = url
        self.asking = asyncio.Lock()
        self.options: ServiceOptions | None = None
        self.until = 0.0

    def known(self, now: float) -> ServiceOptions | None:
        if self.options is None or self.options.lifetime is None or now < self.until:
            return self.options
        return None


class Client:
    """Services, by their URL, and the pools of connections to their servers. For one event loop.

    ``trust`` is for ``icaps``.
    """

    def __init__(self, urls: list[ServiceUrl], limits: Limits, trust: ssl.SSLContext | None = None) -> None:
        self._limits = limits
        self._services = {url: _Service(url) for url in urls}
        self._pools: dict[Address, Pool] = {
            url.address: Pool(url.address, limits.connections, trust if url.address.tls else None) for url in urls
        }

    def close(self) -> None:
        """End the connections."""
        for pool in self._pools.values():
            pool.close()

    async def scan(self, url: ServiceUrl, scan: Scan, client_ip: str | None = None) -> Answer | None:
        """What the service makes of a message: None where it is to stay as it is, else the answer with status 200.

        Raises IcapError for everything else, within the deadline.
        """
        progress = Progress(scan.method)
        try:
            async with asyncio.timeout(self._limits.timeout):
                return await self._scan(self._services[url], scan, client_ip, progress)
        except TimeoutError:
            raise IcapError(
                f"ICAP server {url.text}: {progress.method}: no verdict within {self._limits.timeout:g} s, it was "
                f"waited for {progress.waits_for}; is the server overloaded? icap_timeout sets the limit"
            ) from None
        except IcapError as error:
            raise IcapError(f"ICAP server {url.text}: {progress.method}: {error}") from error

    async def _scan(self, service: _Service, scan: Scan, client_ip: str | None, progress: Progress) -> Answer | None:
        options = await self._options(service, progress)
        progress.method = scan.method
        if scan.method not in options.methods:
            other = "respmod" if scan.method == "REQMOD" else "reqmod"
            raise IcapError(
                f"the service does not take it, only {', '.join(sorted(options.methods))}; "
                f"name another service for it, or set icap_{other}_url alone"
            )
        if options.transfer(scan.path) is Transfer.IGNORE:
            return None
        preview = options.preview_for(scan.path, self._limits.preview)
        request = scan_request(service.url.text, service.url.host_field, scan, preview, client_ip)
        answer = await self._ask(service, request, progress, _verdict)
        if answer.tag not in (None, options.tag):
            service.options = None
        return None if answer.head.status == 204 else answer

    async def _options(self, service: _Service, progress: Progress) -> ServiceOptions:
        time = asyncio.get_running_loop().time
        if (options := service.known(time())) is not None:
            return options
        progress.method, progress.waits_for = "OPTIONS", "an answer that another request waits for too"
        async with service.asking:
            if (options := service.known(time())) is not None:
                return options
            request = options_request(service.url.text, service.url.host_field)
            options = await self._ask(service, request, progress, _options)
            service.options, service.until = options, time() + (options.lifetime or 0)
        self._share(service.url.address)
        return options

    def _share(self, address: Address) -> None:
        """A server may ask for fewer connections than are configured, not for more."""
        said = [
            service.options.max_connections
            for service in self._services.values()
            if service.url.address == address and service.options and service.options.max_connections
        ]
        self._pools[address].limit = min([self._limits.connections, *said])

    async def _ask[T](self, service: _Service, request: Request, progress: Progress, read: Callable[[Answer], T]) -> T:
        try:
            return await self._try(service, request, progress, read)
        except CutError as cut:
            if not cut.stale:
                raise
        return await self._try(service, request, progress, read, new=True)

    async def _try[T](
        self,
        service: _Service,
        request: Request,
        progress: Progress,
        read: Callable[[Answer], T],
        *,
        new: bool = False,
    ) -> T:
        # Read while the connection is held: one on which nonsense came is not used again.
        async with self._pools[service.url.address].link(progress, new=new) as link:
            return read(await link.ask(request, Answer(progress.method, self._limits.body)))


def _verdict(answer: Answer) -> Answer:
    head = answer.head
    if head.status not in (200, 204):
        said = f"{head.status} {ascii(head.reason)[1:-1]}".rstrip()
        raise IcapError(f"it answered {said}; {_ADVICE.get(head.status, 'expected 200 or 204')}")
    return answer


def _options(answer: Answer) -> ServiceOptions:
    if _verdict(answer).head.status == 204:
        raise MessageError("it answered 204; expected 200")
    return ServiceOptions.parse(answer.head, answer.tag)
