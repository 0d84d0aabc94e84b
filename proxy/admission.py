"""May this connection go where it asks to: names to addresses, and which addresses are out of bounds.

The rules are judged on the address that is then connected to, so a name that resolves differently the second time
gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from certs.addresses import METADATA, any_in, with_embedded
from certs.names import Host, InvalidHost, parse_host
from config.settings import Network

DENIED = (
    ipaddress.ip_network("0.0.0.0/8"),  # "this network" (RFC 791): the kernel takes 0.0.0.0 for itself
    ipaddress.ip_network("127.0.0.0/8"),
    ipaddress.ip_network("169.254.0.0/16"),
    ipaddress.ip_network("224.0.0.0/4"),
    ipaddress.ip_network("255.255.255.255/32"),
    ipaddress.ip_network("::/128"),
    ipaddress.ip_network("::1/128"),
    ipaddress.ip_network("fe80::/10"),
    ipaddress.ip_network("ff00::/8"),
    *METADATA,
)


class Egress:
    """Which addresses may be connected to: ``deny`` wins, then ``allow``, then the addresses that are denied anyway."""

    def __init__(self, allow: Sequence[Network], deny: Sequence[Network]) -> None:
        self.allow = tuple(allow)
        self.deny = tuple(deny)
        self._known: dict[str, bool] = {}

    def permits(self, text: str) -> bool:
        """Whether the address may be connected to. What is no address may not."""
        if (known := self._known.get(text)) is None:
            if len(self._known) > 10_000:
                self._known.clear()
            known = self._known[text] = self._judge(text)
        return known

    def _judge(self, text: str) -> bool:
        both = with_embedded(text)
        if not both or any_in(both, self.deny):
            return False
        return any_in(both, self.allow) or not any_in(both, DENIED)


class ResolveError(Exception):
    """The name has no address, or none was to be had in time (``timed_out``).

    ``busy``: it was not asked for, since too many others are. ``temporary``: nobody can tell at the moment.
    """

    def __init__(self, message: str, *, timed_out: bool = False, busy: bool = False, temporary: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.busy = busy
        self.temporary = temporary


class Resolver:
    """Names to addresses: the configured ones first, then the system's resolver in threads, with a deadline."""

    def __init__(
        self, hosts: Mapping[str, str], timeout: float, threads: int = 64, most_each: int = 16, own: str = ""
    ) -> None:
        """``own``: the name that is the proxy itself, and is asked of nobody; "": there is none."""
        self.timeout = timeout
        self._own = own
        self._most_each = most_each
        """Names that one client may have looked up at the same time: a thread is bound for as long as DNS is silent."""
        self._asking: dict[str, asyncio.Future[tuple[str, ...]]] = {}
        self._each: Counter[str] = Counter()
        self._hosts: dict[str, tuple[str, ...]] = {}
        for name, address in hosts.items():
            self._hosts[parse_host(name).text] = (str(ipaddress.ip_address(address)),)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="resolve")

    def at_once(self, host: Host) -> tuple[str, ...] | None:
        """The addresses of an IP literal or a configured name; None where DNS has to be asked."""
        if host.is_ip:
            return (host.text,)
        return self._hosts.get(host.text)

    async def resolve(self, host: Host, client: str, group: str | None = None) -> tuple[str, ...]:
        """The addresses of a name, in the system's order, for a client. Raises ResolveError.

        ``group``: of all that the client asks for, names of one group may take a quarter of the places.
        """
        if (known := self.at_once(host)) is not None:
            return known
        if host.text == self._own:
            raise ResolveError("the name is the proxy's own, and no server's")
        if (asked := self._asking.get(host.text)) is None:
            bounds = {client: self._most_each}
            if group is not None:
                bounds[f"{client} {group}"] = max(1, self._most_each // 4)
            if any(self._each[who] >= most for who, most in bounds.items()):
                raise ResolveError("the client has too many names looked up at once", timed_out=True, busy=True)
            self._each.update(bounds.keys())
            asked = asyncio.get_running_loop().run_in_executor(self._pool, _lookup, host.text)
            self._asking[host.text] = asked
            asked.add_done_callback(lambda done: self._answered(host.text, bounds.keys(), done))
        try:
            # Whoever gives up leaves the answer to the others, and the thread to its end.
            return await asyncio.wait_for(asyncio.shield(asked), self.timeout)
        except TimeoutError:
            raise ResolveError(f"no answer from DNS within {self.timeout:g} s", timed_out=True) from None

    def _answered(self, name: str, counted: Iterable[str], done: asyncio.Future[tuple[str, ...]]) -> None:
        del self._asking[name]
        for who in counted:
            self._each[who] -= 1
            if not self._each[who]:
                del self._each[who]
        if not done.cancelled():
            done.exception()  # whoever still waits has it

    def close(self) -> None:
        """Let the threads end; those that still wait for DNS are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _lookup(name: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        temporary = error.errno == socket.EAI_AGAIN
        raise ResolveError(error.strerror or "the name could not be resolved", temporary=temporary) from None
    except UnicodeError:
        raise ResolveError("the name cannot be asked of DNS") from None
    return tuple(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def check_resolver_hosts(hosts: Mapping[str, str]) -> str | None:
    """What is wrong with the configured names, for a start that says so; None where nothing is."""
    for name in hosts:
        try:
            parse_host(name)
        except InvalidHost as error:
            return f"resolver.hosts: {name!r}: {error}"
    return None
