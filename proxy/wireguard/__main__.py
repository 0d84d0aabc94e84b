"""The process of the WireGuard listeners: ``python -m proxy.wireguard``, started by the supervisor.

Its settings come on standard input as JSON. It gets the UDP sockets; the peers it reads from the store, whose change
feed it follows; the tenants' private keys come from the issuer. At the control socket's end of file the supervisor is
gone, and so it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from config.settings import Listener, Settings
from issuer.client import IssuerClient, IssuerUnavailable
from issuer.hardening import harden_child, keep_others_out
from proxy.admission import Resolver
from proxy.control import ISSUER_SOCKET, READY, TUNNELS_SOCKETS, status_socket, workers_socket
from proxy.log import ERROR, INFO, WARNING, Log, open_log
from proxy.seldom import Seldom
from proxy.status_socket import StatusSocket
from proxy.wireguard.front import Front
from proxy.wireguard.initiation import KEY_BYTES, Responder
from proxy.wireguard.tunnel import Shared, Tunnel
from store import changes, tenants, wireguard
from store.engine import DATABASE_FILE, Store, StoreError
from store.records import WireGuardPeer

POLL_SECONDS = 0.25
SWEEP_SECONDS = 5.0
RETRY_SECONDS = 1.0
"""Between attempts to get a key from the issuer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the store says of a tenant: its public key, and its peers."""

    public_key: bytes | None = None
    peers: tuple[WireGuardPeer, ...] = ()


class Process:
    """The listeners of the process, and what is known of their tenants."""

    def __init__(self, settings: Settings, sockets: list[tuple[Listener, socket.socket]], log: Log) -> None:
        self.settings = settings
        self.log = log
        self.loop = asyncio.get_running_loop()
        self.store = Store.open(settings.state_dir / DATABASE_FILE, create=False)
        self.issuer = IssuerClient(settings.state_dir.joinpath(*ISSUER_SOCKET), settings.limits.leaf_timeout)
        hosts = dict(settings.resolver.hosts)
        if own := settings.onboarding.name:
            # The proxy's own page: any address in the tunnel leads to us, and this one is ours.
            hosts[own] = str(settings.wireguard.network[1])
        resolver = Resolver(hosts, settings.limits.resolve_timeout)
        limits = settings.limits
        self.shared = Shared(settings.wireguard, limits.half_close_timeout, limits.write_timeout, resolver, self.fault)
        self.seldom = Seldom(self._refused)
        self.fronts = [(listener, self._front(listener, listening)) for listener, listening in sockets]
        self._seen = -1
        self._known: dict[str, tuple[Wanted, bytes]] = {}
        """What is in force: what the store said, and the private key."""
        self._unreadable: str | None = None
        """Why the store cannot be read; None where it can."""
        self._keyless: dict[str, str] = {}
        """Why the private key of a tenant could not be had, of those that have been asked for in vain."""
        self._status = StatusSocket(status_socket(settings.state_dir, os.getpid(), TUNNELS_SOCKETS), self.answer)
        self._asking: dict[str, asyncio.Task[None]] = {}
        """Tenants whose keys the issuer is asked for. Whoever was removed goes meanwhile."""

    def _front(self, listener: Listener, listening: socket.socket) -> Front:
        name, tenant = listener.name, listener.tenant or ""  # which it has: config.settings
        workers = workers_socket(self.settings.state_dir, listener)

        def make(peer: WireGuardPeer) -> Tunnel:
            def refused(why: str) -> None:
                fields = {"listener": name, "tenant": tenant, "peer": peer.name, "reason": why}
                self.seldom.happened(f"{name} {peer.name}", self.loop.time(), **fields)

            exceeded = partial(front.end, peer.public_key, "too many streams that were refused")
            return Tunnel(self.shared, peer, workers, refused, exceeded)

        def told(peer: WireGuardPeer, ended: str) -> None:
            if ended:
                self.log.event(INFO, "tunnel closed", listener=name, tenant=tenant, peer=peer.name, reason=ended)
            else:
                self.log.event(INFO, "tunnel opened", listener=name, tenant=tenant, peer=peer.name)

        front = Front(listening, make, told)
        return front

    def _refused(self, _: str, count: int, fields: dict[str, object]) -> None:
        self.log.event(
            WARNING, "stream refused", listener=fields["listener"], tenant=fields["tenant"], peer=fields["peer"],
            reason=fields["reason"], count=count,
        )  # fmt: skip

    async def run(self, control: socket.socket, ending: asyncio.Event) -> None:
        """Serve until told to end. Raises StoreError at the beginning."""
        await self.look()
        try:
            await self._status.start()
        except OSError as error:  # a full disk has no room for a socket's name; to serve matters more than to tell
            self.log.event(ERROR, "status cannot be told", reason=error.strerror or str(error))
        control.setblocking(False)
        await self.loop.sock_sendall(control, READY)
        for _, front in self.fronts:
            front.start()
        gone = self.loop.create_task(_gone(control, ending))
        following = self.loop.create_task(self._follow())
        following.add_done_callback(lambda task: self._follower_ended(task, ending))
        await ending.wait()
        for task in (gone, following, *self._asking.values()):
            task.cancel()
        self._status.stop()
        for _, front in self.fronts:
            front.close()
        self.seldom.flush(float("inf"))
        await self.issuer.close()
        self.shared.resolver.close()

    def _follower_ended(self, task: asyncio.Task[None], ending: asyncio.Event) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # A removed peer would stay: better no tunnels, until the supervisor has started another process.
            self.fault(error)
            ending.set()

    async def _follow(self) -> None:
        swept = self.loop.time()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.look()
            except StoreError as error:
                if self._unreadable is None:
                    effect = "the peers stay as they were"
                    self.log.event(ERROR, "store cannot be read", reason=str(error), effect=effect, seconds=None)
                self._unreadable = str(error)
            else:
                if self._unreadable is not None:
                    self.log.event(WARNING, "store can be read again")
                self._unreadable = None
            now = self.loop.time()
            self.seldom.flush(now)
            if now - swept >= SWEEP_SECONDS:
                swept = now
                for _, front in self.fronts:
                    front.sweep()

    async def look(self) -> None:
        """See whether anything has changed, and act on it. Raises StoreError."""
        read = await asyncio.to_thread(self._read)
        if read is not None:
            self._seen, wanted = read
            for tenant, now in wanted.items():
                before, key = self._known.get(tenant, (Wanted(), b""))
                if now.public_key != before.public_key:
                    key = b""
                self._put(tenant, now, key)  # whoever was removed goes at once, whatever the issuer says
        for tenant, (now, key) in self._known.items():
            if now.public_key is not None and not key and tenant not in self._asking:
                task = self._asking[tenant] = self.loop.create_task(self._fetch(tenant))
                task.add_done_callback(partial(self._fetched, tenant))

    async def _fetch(self, tenant: str) -> None:
        """Get the private key of a tenant. Where it cannot be had, it is said, and some time passes."""
        try:
            key = await self.issuer.wireguard_key(tenant)
        except IssuerUnavailable as error:
            reason = str(error)
        else:
            now, _ = self._known[tenant]
            if len(key) == KEY_BYTES and Responder(key).public_key == now.public_key:
                return self._put(tenant, now, key)
            reason = "it is not the one that belongs to the tenant's public key; restore a backup"
        self._keyless[tenant] = reason
        self.log.event(ERROR, "no WireGuard key", tenant=tenant, reason=reason)
        return await asyncio.sleep(RETRY_SECONDS)

    def _fetched(self, tenant: str, task: asyncio.Task[None]) -> None:
        del self._asking[tenant]
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fault(error)

    def _put(self, tenant: str, now: Wanted, key: bytes) -> None:
        self._known[tenant] = now, key
        if key or now.public_key is None:
            self._keyless.pop(tenant, None)
        for front in self._fronts_of(tenant):
            front.serve(key, now.peers)

    def _read(self) -> tuple[int, dict[str, Wanted]] | None:
        self.store.check_place()
        with self.store.reading() as connection:
            latest = changes.latest(connection)
            if latest == self._seen:
                return None
            found = {}
            for name in {listener.tenant or "" for listener, _ in self.fronts}:
                tenant = tenants.by_name(connection, name)
                found[name] = (
                    Wanted(wireguard.public_key(connection, tenant.id), tuple(wireguard.listing(connection, tenant.id)))
                    if tenant is not None
                    else Wanted()
                )
        return latest, found

    def answer(self, asked: object) -> dict[str, object]:
        """How it is, to whoever asks for its ``health``; to what is no question, what was expected."""
        if asked != {"ask": "health"}:
            return {"error": 'expected {"ask": "health"}'}
        return {
            "pid": os.getpid(),
            "store": self._unreadable,
            "tenants": {
                tenant: {
                    "no_key": self._keyless.get(tenant),
                    "peers": len(now.peers),
                    "tunnels": sum(len(front.tunnels) for front in self._fronts_of(tenant)),
                    "streams": sum(front.streams for front in self._fronts_of(tenant)),
                }
                for tenant, (now, _) in self._known.items()
            },
        }

    def _fronts_of(self, tenant: str) -> list[Front]:
        return [front for listener, front in self.fronts if listener.tenant == tenant]

    def fault(self, error: BaseException) -> None:
        """Log a fault of ours with the place where it happened."""
        frames = traceback.extract_tb(error.__traceback__)
        where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-6:]]
        self.log.event(
            ERROR, "fault", error=type(error).__name__, reason=self.log.of_fault(str(error)[:300]), where=where
        )


async def _gone(control: socket.socket, ending: asyncio.Event) -> None:
    """Wait for the supervisor's end of the control socket to close."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while await loop.sock_recv(control, 64):
            pass
    ending.set()


async def serve(
    settings: Settings, sockets: list[tuple[Listener, socket.socket]], control: socket.socket, log: Log
) -> None:
    """End tunnels until SIGTERM, or until the supervisor is gone."""
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    # These two are sent to the whole group by a terminal; what they mean is the supervisor's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    log.start(loop.call_later)
    process = Process(settings, sockets, log)

    def failed(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        if isinstance(error := context.get("exception"), BaseException):
            process.fault(error)

    loop.set_exception_handler(failed)
    await process.run(control, ending)


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sallyport wireguard")
    parser.add_argument("--listen", action="append", default=[], metavar="INDEX:FD")
    parser.add_argument("--control", type=int, required=True, metavar="FD")
    arguments = parser.parse_args()
    harden_child()
    keep_others_out()
    # mitmproxy_rs tells of each packet that it makes nothing of; standard error is for lines of JSON.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        settings = Settings.model_validate_json(sys.stdin.buffer.read())
    except ValidationError as error:  # the supervisor was killed in the middle of it, or is of another version
        sys.stderr.write(f"wireguard: the settings on stdin are not valid: {error.error_count()} errors\n")
        return 2
    sockets = []
    for entry in arguments.listen:
        index, _, fd = entry.partition(":")
        sockets.append((settings.listeners[int(index)], socket.socket(fileno=int(fd))))
    with contextlib.suppress(ValueError, OSError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    log = open_log(settings.log, "wireguard", time.time)
    with socket.socket(fileno=arguments.control) as control:
        try:
            asyncio.run(serve(settings, sockets, control, log))
        except (StoreError, OSError, ValueError) as error:
            log.event(ERROR, "wireguard cannot start", reason=str(error))
            return 2
        finally:
            log.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
