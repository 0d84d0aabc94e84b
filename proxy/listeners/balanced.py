"""Behind a load balancer: a connection begins with whose it is (PROXY protocol), and goes on as its listener's.

The header is believed of the addresses that the listener names, and of who connects over a Unix socket of ours; of
these it is required. From anybody else it is nothing but bytes that no listener expects. It comes before all else, be
it TLS to the proxy, and what the transport tells of its peer afterwards is what the header has told.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from config.settings import Listener
from proxy.listeners.proxy_header import BadHeader, Endpoint, Header, read_header
from proxy.seats import Seat
from proxy.tcp import Reader

if TYPE_CHECKING:
    from proxy.entrance import Entrance

DESTINATION = "destination"
"""What the transport has beside ``peername`` and ``sockname``: where the connection was made to, as the header says."""
BALANCER = "balancer"
"""And the address from which it really comes."""

Begin = Callable[[str, Seat], asyncio.BaseProtocol]
"""Makes the protocol of a connection, of the client's address and its seat."""


def sends_header(listener: Listener, address: str) -> bool:
    """Whether who connects from there says first whose the connection is. An empty address: over a Unix socket."""
    if not address:
        return True
    if not listener.proxy_protocol:
        return False
    source = ipaddress.ip_address(address.partition("%")[0])
    return any(source in network for network in listener.proxy_protocol)


def destination(transport: asyncio.BaseTransport) -> Endpoint | None:
    """Where the connection was made to, as the header says; None: there was none, or it does not say so."""
    found: Endpoint | None = transport.get_extra_info(DESTINATION)
    return found


class Balanced(Reader):
    """A connection until its header is read; then its protocol is another."""

    __slots__ = ("_address", "_begin", "_buffer", "_entrance", "_late", "_listener", "_seat", "_told", "_transport")

    def __init__(
        self, entrance: Entrance, listener: Listener, address: str, seat: Seat, begin: Begin, told: dict[str, Any]
    ) -> None:
        """``told``: what the transport tells of itself (get_extra_info); it is changed here."""
        self._entrance = entrance
        self._listener = listener
        self._address = address
        self._seat = seat
        """Without a client: the balancer is none, and counts as none."""
        self._begin = begin
        self._told = told
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's own promise for TCP
        self._transport = transport
        self.bound(transport)
        worker = self._entrance.worker
        self._entrance.balanced.add(self)
        self._late = worker.loop.call_later(worker.limits.connect_head_timeout, self._too_late)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._buffer += data
        try:
            header = read_header(self._buffer)
        except BadHeader as error:
            return self._refuse(str(error))
        if header is not None:
            self._goes_on(header, self._transport)
        return None

    def _goes_on(self, header: Header, transport: asyncio.Transport) -> None:
        """All that follows is for the listener's own protocol."""
        entrance, listener, told = self._entrance, self._listener, self._told
        client = "" if header.source is None else header.source[0]
        tenant = entrance.worker.whose.at_accept(listener, client or self._address)
        seat = entrance.seat_for(listener, tenant, client, self._seat)
        if isinstance(seat, str):
            self._seat = ()
            return entrance.say(listener, transport, entrance.refusal(listener, client, seat))
        self._seat = seat
        if header.source is not None and header.destination is not None:
            told["peername"], told["sockname"], told[DESTINATION] = (
                header.source,
                header.destination,
                header.destination,
            )
        elif not self._address:
            told["sockname"] = None  # the path of a Unix socket is no address
        told[BALANCER] = self._address
        protocol = self._begin(client or self._address, seat)
        self._done()
        self._seat = ()  # it is the protocol's now
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        rest = bytes(self._buffer[header.size :])
        if rest and isinstance(protocol, Reader):
            protocol.data_received(rest)
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()
        self._transport = None
        self._entrance.left(self._seat)

    def close(self) -> None:
        """The worker ends."""
        if self._transport is not None:
            self._transport.close()

    def _done(self) -> None:
        self._entrance.balanced.discard(self)
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        self._refuse("the PROXY protocol header did not come in time")

    def _refuse(self, why: str) -> None:
        if self._transport is not None and not self._transport.is_closing():
            answer = self._entrance.no_header(self._listener, self._address, why)
            self._entrance.say(self._listener, self._transport, answer)
