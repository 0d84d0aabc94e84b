"""One peer's tunnel: a server of mitmproxy_rs that knows this peer alone, and what comes out of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mitmproxy_rs.wireguard import start_wireguard_server

from config.settings import WireGuard
from proxy.admission import Resolver
from proxy.listeners.proxy_header import encoded
from proxy.wireguard import names
from proxy.wireguard.stream import Relay
from store.records import WireGuardPeer

LOOPBACK = "127.0.0.1"
DNS_PORT = 53
MOST_QUESTIONS = 2000
"""Ports of one peer that ask for names. Each is remembered for a minute, and mostly asks once."""
AT_ONCE = 16
"""Names of one peer that are looked up at the same time; others wait for their turn."""
MOST_REFUSED = 5000
"""Streams of one peer that are refused until its tunnel is ended: mitmproxy_rs keeps each for a minute."""
REFUSED_SECONDS = 60.0


@dataclass(slots=True)
class Shared:
    """What all tunnels of the process share."""

    settings: WireGuard
    half_close_timeout: float
    write_timeout: float
    resolver: Resolver
    fault: Callable[[BaseException], None]
    """Hears of faults of ours: mitmproxy_rs, which calls us, would keep them to itself."""
    streams: int = 0
    """Streams of all peers."""


@dataclass(slots=True, eq=False)
class Tunnel:
    """Of a peer. ``refused`` hears of each stream that may not be, ``exceeded`` that there are too many of these."""

    shared: Shared
    peer: WireGuardPeer
    workers: Path
    """The socket on which workers take the listener's connections."""
    refused: Callable[[str], None]
    exceeded: Callable[[], None]
    streams: int = 0
    questions: int = 0
    address: tuple[str, int] | None = None
    """Where its server has its UDP socket, once it runs."""
    _server: Any = field(default=None, repr=False)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set, repr=False)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE), repr=False)
    _refused: int = 0
    _since: float = 0.0
    _closed: bool = False

    async def start(self, private_key: bytes) -> None:
        """Start its server. Raises OSError."""
        key, peer = (base64.b64encode(each).decode() for each in (private_key, self.peer.public_key))
        server = await start_wireguard_server(LOOPBACK, 0, key, [peer], self._tcp, self._udp)
        if self._closed:  # the peer was removed meanwhile
            server.close()
            return
        self._server = server
        self.address = server.getsockname()

    def close(self) -> None:
        """End it, with all its connections."""
        self._closed = True
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in tuple(self._tasks):
            task.cancel()

    # --- what comes out of it: both are called by mitmproxy_rs ---

    async def _tcp(self, stream: Any) -> None:
        (source, port), (destination, to) = stream.get_extra_info("peername"), stream.get_extra_info("sockname")
        if (why := self._forbidden(source)) is not None:
            self._refuse(stream, why)
            return
        self.streams += 1
        self.shared.streams += 1
        try:
            with self._kept():
                relay = Relay(stream, self.shared.half_close_timeout, self.shared.write_timeout)
                await relay.run(self.workers, encoded((source, port), (destination, to)))
        except OSError as error:
            self.refused(error.strerror or str(error))
        finally:
            self.streams -= 1
            self.shared.streams -= 1

    async def _udp(self, stream: Any) -> None:
        """DNS is answered; all else is dropped: QUIC most of all, so that browsers go on with TCP."""
        source, destination = stream.get_extra_info("peername")[0], stream.get_extra_info("sockname")
        mine = source in (self.peer.ipv4, self.peer.ipv6) and not self._closed
        if not mine or destination[1] != DNS_PORT or self.questions >= MOST_QUESTIONS:
            with contextlib.suppress(OSError):
                stream.close()
            return
        self.questions += 1
        try:
            with contextlib.suppress(OSError), self._kept():  # OSError: its server is gone
                while question := await stream.read(0):
                    async with self._turns:
                        said = await names.answer(question, self.shared.resolver, source)
                    if said is not None:
                        stream.write(said)
        finally:
            self.questions -= 1

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """What is done inside ends with the tunnel. A fault in it is told, and ends no more than this."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - in a coroutine
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._closed:
                raise
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - it would be seen nowhere
            self.shared.fault(error)
        finally:
            self._tasks.discard(task)

    def _forbidden(self, source: str) -> str | None:
        """Why a peer may not have one more stream from that address."""
        settings = self.shared.settings
        if self._closed:
            return "removed"
        if source not in (self.peer.ipv4, self.peer.ipv6):
            return "not an address of this peer's"
        if self.streams >= settings.streams_per_peer:
            return "wireguard.streams_per_peer"
        if self.shared.streams >= settings.streams:
            return "wireguard.streams"
        return None

    def _refuse(self, stream: Any, why: str) -> None:
        with contextlib.suppress(OSError):
            stream.close()
        self.refused(why)
        now = asyncio.get_running_loop().time()
        if now - self._since > REFUSED_SECONDS:
            self._since, self._refused = now, 0
        self._refused += 1
        if self._refused > MOST_REFUSED and not self._closed:
            self.exceeded()
