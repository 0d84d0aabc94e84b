"""The UDP socket of a listener: whose is this packet, and which peer's tunnel is it for.

A packet of somebody unknown is dropped without a word. Who is known has shown it by the first message of a handshake,
which nobody else can make, and no older one than the last; from then on all from that address is his. A peer whose
address changes (a phone that leaves the house) begins anew by itself within some seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from proxy.wireguard.initiation import Responder
from proxy.wireguard.tunnel import LOOPBACK, Tunnel
from store.records import WireGuardPeer

AT_ONCE = 64
"""Packets that are passed on in one turn of the loop."""
LARGEST = 65_535
HANDSHAKES = 500
"""First messages that are read in a second: each costs two Diffie-Hellmans."""
PATHS = 4
"""Addresses that one peer may be at. The oldest goes for another."""
IDLE_SECONDS = 300.0
"""After so long without a packet a tunnel is ended. Its keys are good for three minutes (section 6.1)."""

Address = tuple[Any, ...]


class Path:
    """From one address to a tunnel, and back: a socket to the tunnel's server, so that it can tell addresses apart."""

    def __init__(self, front: Front, tunnel: Tunnel, address: Address) -> None:
        assert tunnel.address is not None  # noqa: S101 - there are no paths before it runs
        self._front = front
        self.tunnel = tunnel
        self._address = address
        self.used = front.loop.time()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind((LOOPBACK, 0))
            self._socket.connect(tunnel.address)
            front.loop.add_reader(self._socket.fileno(), self._readable)
        except OSError:
            self._socket.close()
            raise

    def send(self, packet: bytes) -> None:
        """To the tunnel. What it does not take now is lost, as packets are."""
        self.used = self._front.loop.time()
        with contextlib.suppress(OSError):
            self._socket.send(packet)

    def _readable(self) -> None:
        for _ in range(AT_ONCE):
            try:
                packet = self._socket.recv(LARGEST)
            except OSError:  # nothing more; or the server is gone, which ends the path soon
                return
            self._front.send(packet, self._address)

    def close(self) -> None:
        self._front.loop.remove_reader(self._socket.fileno())
        self._socket.close()


class Front:
    """Of one listener. ``make`` makes a peer's tunnel, ``told`` hears that one begins or ends, and why."""

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[[WireGuardPeer], Tunnel],
        told: Callable[[WireGuardPeer, str], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._listening = listening
        self._make = make
        self._told = told
        self._key = b""
        self._responder: Responder | None = None
        self._peers: Mapping[bytes, WireGuardPeer] = {}
        self._seen: dict[bytes, bytes] = {}
        """The latest timestamp of each peer."""
        self.tunnels: dict[bytes, Tunnel] = {}
        self._paths: dict[Address, Path] = {}
        self._first: dict[bytes, tuple[bytes, Address]] = {}
        """What came for a tunnel that is being started: the last of it."""
        self._starting: set[asyncio.Task[None]] = set()
        self._second = 0.0
        self._handshakes = 0

    def start(self) -> None:
        """Take packets from now on."""
        self._listening.setblocking(False)
        self.loop.add_reader(self._listening.fileno(), self._readable)

    def close(self) -> None:
        """End all tunnels."""
        self.loop.remove_reader(self._listening.fileno())
        for key in tuple(self.tunnels):
            self.end(key, "the proxy is stopping")

    def serve(self, private_key: bytes, peers: Iterable[WireGuardPeer]) -> None:
        """Let these peers in from now on, and no others. Without a key, nobody. Raises ValueError for no key."""
        known = {peer.public_key: peer for peer in peers} if private_key else {}
        changed = private_key != self._key
        if changed:
            self._responder = Responder(private_key) if private_key else None
            self._key = private_key
        before, self._peers = self._peers, known
        for key in tuple(self.tunnels):
            if changed or known.get(key) != before.get(key):
                self.end(key, "the tenant's key is another" if changed else "removed")
        self._seen = {key: seen for key, seen in self._seen.items() if key in known and not changed}

    def end(self, key: bytes, why: str) -> None:
        """End a peer's tunnel. It may begin another, where it is still let in."""
        tunnel = self.tunnels.pop(key, None)
        if tunnel is None:
            return
        self._first.pop(key, None)
        for address, path in tuple(self._paths.items()):
            if path.tunnel is tunnel:
                self._forget(address)
        tunnel.close()
        self._told(tunnel.peer, why)

    @property
    def streams(self) -> int:
        """TCP connections of all its peers."""
        return sum(tunnel.streams for tunnel in self.tunnels.values())

    def sweep(self) -> None:
        """End what was silent for long; to be called every few seconds."""
        limit = self.loop.time() - IDLE_SECONDS
        for address, path in tuple(self._paths.items()):
            if path.used < limit:
                self._forget(address)
        used = {path.tunnel for path in self._paths.values()}
        for key, tunnel in tuple(self.tunnels.items()):
            if tunnel not in used and key not in self._first:
                self.end(key, "idle")

    def send(self, packet: bytes, address: Address) -> None:
        """To a peer."""
        with contextlib.suppress(OSError):  # no way to it now, or no room: lost, as packets are
            self._listening.sendto(packet, address)

    # --- what comes ---

    def _readable(self) -> None:
        for _ in range(AT_ONCE):
            try:
                packet, address = self._listening.recvfrom(LARGEST)
            except OSError:
                return
            self.take(packet, address)

    def take(self, packet: bytes, address: Address) -> None:
        """A packet came from an address."""
        if packet[:1] == b"\x01":
            self._begins(packet, address)
        elif (path := self._paths.get(address)) is not None:
            path.send(packet)

    def _begins(self, packet: bytes, address: Address) -> None:
        responder = self._responder
        if responder is None or not responder.addressed(packet) or not self._may_read():
            return
        initiation = responder.read(packet)
        if initiation is None or (peer := self._peers.get(initiation.public_key)) is None:
            return
        key = peer.public_key
        if initiation.timestamp <= self._seen.get(key, b""):
            return  # somebody has kept it and sends it again
        self._seen[key] = initiation.timestamp
        tunnel = self.tunnels.get(key)
        if tunnel is None:
            tunnel = self.tunnels[key] = self._make(peer)
            self._first[key] = packet, address
            task = self.loop.create_task(self._start(key, tunnel))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
        elif key in self._first:
            self._first[key] = packet, address
        else:
            self._pass(tunnel, packet, address)

    def _may_read(self) -> bool:
        now = self.loop.time()
        if now - self._second >= 1:
            self._second, self._handshakes = now, 0
        self._handshakes += 1
        return self._handshakes <= HANDSHAKES

    async def _start(self, key: bytes, tunnel: Tunnel) -> None:
        try:
            await tunnel.start(self._key)
        except OSError as error:
            if self.tunnels.get(key) is tunnel:
                self.end(key, error.strerror or str(error))
            return
        if self.tunnels.get(key) is not tunnel:
            return
        self._told(tunnel.peer, "")
        packet, address = self._first.pop(key)
        self._pass(tunnel, packet, address)

    def _pass(self, tunnel: Tunnel, packet: bytes, address: Address) -> None:
        path = self._paths.get(address)
        if path is None or path.tunnel is not tunnel:
            if path is not None:
                self._forget(address)
            others = [known for known, one in self._paths.items() if one.tunnel is tunnel]
            if len(others) >= PATHS:
                self._forget(min(others, key=lambda known: self._paths[known].used))
            try:
                path = self._paths[address] = Path(self, tunnel, address)
            except OSError:  # no descriptor is left; it is tried again with the peer's next attempt
                return
        path.send(packet)

    def _forget(self, address: Address) -> None:
        self._paths.pop(address).close()
