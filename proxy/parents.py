"""Parent proxies (``upstream``): which hosts are reached through which, what a parent is shown, and the way through it.

Names of hosts that are reached so are the parent's to resolve: nothing here asks DNS for them, and no egress rule can
be held against an address that is not known here. A host that is an address is judged by the egress rules all the same,
by whoever asks for it. What is dialled is the parent, which :meth:`Parents.permits` judges.
"""

from __future__ import annotations

import asyncio
import base64
import os
import stat
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from certs.addresses import within
from certs.bundle import read_certificates
from certs.formats import BundleError
from certs.host_patterns import HostIndex, parse_pattern
from certs.names import Host, InvalidHost, parse_authority
from certs.scope import Trust
from certs.trust import USUAL, TrustStore, parse_common_store, server_leg_context
from config.common_store import read_common_store
from config.settings import DIRECT, Settings, UpstreamProxy
from proxy import refusals
from proxy.admission import Egress, ResolveError, Resolver
from proxy.parent import Parent, ParentError
from proxy.parent_link import ParentLink
from proxy.refusals import Refusal
from proxy.tcp import Reader
from proxy.upstream import DialError, dial

LARGEST_PASSWORD: Final = 1024
"""Bytes; a head has room for them."""
LARGEST_CAS: Final = 1 << 20
_CLIENT: Final = "parent proxies"
"""In whose name the resolver is asked for parents, so that no client's lookups take their places."""


class Parents:
    """Which host is reached through which parent, and how. Raises ValueError, one line, for what cannot be used."""

    def __init__(self, settings: Settings, resolver: Resolver, egress: Egress, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._resolver = resolver
        self._egress = egress
        self._clock = clock
        self._rules = _rules(settings)

    def __bool__(self) -> bool:
        return self._rules is not None

    def reread(self) -> None:
        """Read passwords and CAs again. Raises ValueError for one that cannot be used, and all stays as it was."""
        self._rules = _rules(self._settings)

    def of(self, tenant: str | None, host: Host) -> Parent | None:
        """The parent through which the host is reached for a tenant; None: it is reached directly.

        ``tenant`` None is nobody's: what counts for all tenants counts.
        """
        if self._rules is None or host.text == self._settings.onboarding.name:
            return None  # the proxy itself is reached through nobody
        found = min(
            (
                rule
                for listed in self._rules.find(host)
                for rule in listed
                if "*" in rule[1] or (tenant is not None and tenant in rule[1])
            ),
            key=lambda rule: rule[0],
            default=None,
        )
        return None if found is None else found[2]

    def permits(self, parent: Parent, address: str) -> bool:
        """Whether a parent may be at this address. One that is written as an address is permitted by being written."""
        if parent.host.is_ip and address == parent.host.text:
            return True
        return self._egress.permits(address) or within(address, self._settings.upstream.allow)

    async def dial(
        self, tenant: str | None, host: Host, port: int, addresses: Sequence[str], protocol: Reader, patience: float
    ) -> tuple[asyncio.Transport, str]:
        """Connect to a host, through its parent where it has one; the transport, and the address that was dialled.

        ``addresses`` are those of the host that may be dialled, where it has no parent. ``patience``: seconds for all
        of it. Raises DialError.
        """
        if (parent := self.of(tenant, host)) is None:
            return await dial(addresses, port, lambda: protocol, patience)
        return await self.through(parent, host, port, protocol, patience)

    async def through(
        self, parent: Parent, host: Host, port: int, protocol: Reader, patience: float, *, tunnel: bool = True
    ) -> tuple[asyncio.Transport, str]:
        """A tunnel to the host through the parent; without ``tunnel``, a connection to the parent. As :meth:`dial`."""
        try:
            async with asyncio.timeout(patience):
                addresses = await self._addresses(parent)
                if not tunnel and parent.trust is None:
                    return await self._dialled(parent, addresses, protocol, patience)
                link = ParentLink(parent, self._clock)
                try:
                    _, address = await self._dialled(parent, addresses, link.leg, patience)
                    if parent.trust is not None:
                        await link.secure()
                    if tunnel:
                        await link.connect(host.text, port)
                except BaseException:
                    link.drop()
                    raise
                return link.hand_over(protocol), address
        except TimeoutError:
            why = f"it did not answer within {patience:g} s"
            raise ParentError("http_response_timeout", parent.address, why) from None

    async def _addresses(self, parent: Parent) -> tuple[str, ...]:
        try:
            addresses = await self._resolver.resolve(parent.host, _CLIENT)
        except ResolveError as error:
            kind = "dns_timeout" if error.timed_out else "dns_error"
            raise ParentError(kind, parent.address, f"its name has no address: {error}") from None
        permitted = tuple(address for address in addresses if self.permits(parent, address))
        if not permitted:
            why = "neither the egress rules nor upstream.allow permit its address"
            raise ParentError("destination_ip_prohibited", parent.address, why)
        return permitted

    async def _dialled(
        self, parent: Parent, addresses: Sequence[str], protocol: Reader, patience: float
    ) -> tuple[asyncio.Transport, str]:
        try:
            return await dial(addresses, parent.port, lambda: protocol, patience)
        except DialError as error:
            # What the system says of it names addresses, which are nobody's affair.
            unroutable = error.error == "destination_ip_unroutable"
            why = "it cannot be reached" if unroutable else str(error).replace("the server", "it")
            raise ParentError(error.error, parent.address, why) from None


def unreached(error: DialError, host: str, port: int, id: str) -> Refusal:
    """What is said where there is no connection: to the server, or through its parent."""
    if isinstance(error, ParentError):
        return refusals.through_parent(error.error, host, port, id, error.parent, str(error))
    return refusals.unreachable(error.error, host, port, id, str(error))


# --- from the settings ---

_Rule = tuple[int, tuple[str, ...], Parent | None]
"""Its place in the file, for which tenants it is, and the parent; None: directly."""


def check(settings: Settings) -> str | None:
    """What is wrong with the parents, for a start that says so; None where nothing is."""
    try:
        _rules(settings)
    except ValueError as error:
        return str(error)
    return None


def _rules(settings: Settings) -> HostIndex[list[_Rule]] | None:
    entries = settings.upstream.proxies
    if not entries:
        return None
    index: HostIndex[list[_Rule]] = HostIndex(list)
    for place, entry in enumerate(entries):
        where = f"upstream.proxies[{place}]"
        rule = place, entry.tenants, _parent(entry, settings, where)
        for text in entry.hosts:
            try:
                index.at(parse_pattern(text)).append(rule)
            except InvalidHost as error:
                raise ValueError(f"{where}.hosts: {error}") from None
    return index


def _parent(entry: UpstreamProxy, settings: Settings, where: str) -> Parent | None:
    if entry.address == DIRECT:
        return None
    try:
        host, port = parse_authority(entry.address)
    except InvalidHost as error:
        raise ValueError(f"{where}.address: {error}") from None
    return Parent(
        entry.address, host, port, _authorization(entry, where), _trust(entry, settings, where) if entry.tls else None
    )


def _trust(entry: UpstreamProxy, settings: Settings, where: str) -> Trust:
    """The common store, or ``ca_file`` alone: who has named a CA for a proxy wants no other to vouch for it."""
    if entry.ca_file is None:
        store = TrustStore(parse_common_store(read_common_store(settings.trust.common_store)), [])
    else:
        try:
            found = read_certificates(_read(Path(entry.ca_file), f"{where}.ca_file", LARGEST_CAS, secret=False))
        except BundleError as error:
            raise ValueError(f"{where}.ca_file: {entry.ca_file}: {error}") from None
        store = TrustStore((), [[certificate] for certificate in found])
    return Trust(store, server_leg_context(store), USUAL)


def _authorization(entry: UpstreamProxy, where: str) -> bytes:
    """Basic credentials (RFC 7617), in UTF-8; empty where there are none."""
    if entry.username is None or entry.password_file is None:
        return b""
    where, file = f"{where}.password_file", Path(entry.password_file)
    data = _read(file, where, LARGEST_PASSWORD, secret=True)
    password = data.removesuffix(b"\n").removesuffix(b"\r")
    try:
        fit = bool(password) and password.decode().isprintable()
    except UnicodeDecodeError:
        fit = False
    if not fit:
        raise ValueError(f"{where}: {file}: expected one line of text, the password, in UTF-8")
    return b"Basic " + base64.b64encode(entry.username.encode() + b":" + password)


def _read(file: Path, where: str, largest: int, *, secret: bool) -> bytes:
    try:
        # What is no file (a pipe, a device) must not be waited for.
        with open(file, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"{where}: {file}: this is no file")
            if secret and stat.S_IMODE(found.st_mode) & 0o077:
                raise ValueError(f"{where}: {file}: others can use this file; run: chmod 600 {file}")
            data = opened.read(largest + 1)
    except OSError as error:
        raise ValueError(f"{where}: {file}: {error.strerror}") from None
    if len(data) > largest:
        raise ValueError(f"{where}: {file}: larger than {largest} bytes")
    return data
