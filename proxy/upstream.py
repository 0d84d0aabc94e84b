"""The way to the server: connect, handshake, verdict. Nothing of a request is sent before the verdict.

:func:`dial` opens TCP to one of the permitted addresses. :class:`ServerLeg` is the protocol on that connection; it
tells its owner what happened. :class:`Judge` turns a finished handshake into a verdict and keeps verdicts for a while.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Callable, Coroutine, Hashable, Sequence
from concurrent.futures import Executor
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import aiohappyeyeballs
from cachetools import LRUCache
from OpenSSL import SSL

from certs.completion import Attempt, Known
from certs.names import Host
from certs.revocation import Wanted
from certs.scope import Trust
from certs.signatures import Signatures
from certs.trust import TrustStore
from certs.verdict import Action, Defect, Verdict
from certs.verify import Handshake, judge, valid_until
from issuer.joined import Joined
from proxy.snapshot import Snapshot
from proxy.tcp import Reader, reset
from proxy.tls_leg import LegError, TlsLeg
from proxy.turns import Turns

if TYPE_CHECKING:
    from proxy.completing import Completer
    from proxy.revocation import Checked, Revocation

STAGGER_SECONDS = 0.25
"""How long one address is tried before the next is tried beside it (RFC 8305, section 5)."""
READ_LIMIT = 64 * 1024
"""Plain text from a server that is kept before the client's handshake is through, in bytes."""
CLOSE_SECONDS = 10.0
"""How long a connection that was let go may take to send what is left."""
LINGER_SECONDS = 2.0
KEPT_VERDICTS = 4096
MANY_CERTIFICATES = 5
MANY_BYTES = 16 * 1024
"""A longer or larger chain is judged in a thread: it may be expensive on purpose."""
FEW_SIGNATURES = 8
"""So many are verified on the event loop for one server, of which the slowest kinds take a millisecond each. One that
takes more is judged in a thread, however short its chain is."""
BEGUN_BYTES = 1 << 20
BEGUN_SECONDS = 5.0
"""For how long it counts what was judged before others were asked, and of how many bytes of certificates it is kept."""
_OVERHEAD = 1024
"""Bytes that keeping a chain costs beside its own."""
SEEN = "from other servers' chains"
"""How a chain was completed for which nothing was fetched."""
JUDGE_SECONDS = 5.0
"""What a verdict that is made elsewhere may take, beside the time of the handshake: more than a completion does."""


SURELY_BLOCKED = timedelta(minutes=1)
"""For so long what is not asked about has to stay blocked: longer than a verdict takes, and than it is kept unasked."""


class DialError(Exception):
    """No connection; ``error`` is the proxy error type of RFC 9209, section 2.3."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


async def dial(
    addresses: Sequence[str], port: int, factory: Callable[[], asyncio.BaseProtocol], patience: float
) -> tuple[asyncio.Transport, str]:
    """Connect to the first address that answers; the transport, and the address it is connected to.

    Several addresses are tried side by side, a quarter of a second apart. ``patience`` is for all of them, in seconds.
    Raises DialError.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(patience):
            if len(addresses) == 1:
                transport, _ = await loop.create_connection(factory, addresses[0], port)
                return transport, addresses[0]
            infos = [(_family(a), socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (a, port)) for a in addresses]
            connected = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=STAGGER_SECONDS)
            try:
                address = str(connected.getpeername()[0])
                transport, _ = await loop.create_connection(factory, sock=connected)
            except BaseException:
                connected.close()
                raise
            return transport, address
    except TimeoutError:
        raise DialError("connection_timeout", f"no connection within {patience:g} s") from None
    except ConnectionRefusedError:
        raise DialError("connection_refused", "the server refused the connection") from None
    except OSError as error:
        raise DialError("destination_ip_unroutable", error.strerror or str(error)) from None


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Owner(Protocol):
    """Whoever waits for a server: a session of the proxy, or a probe."""

    errors: list[tuple[int, int]]
    """OpenSSL's verification errors of this handshake: (code, depth). Filled by the verify callback."""

    def server_connected(self) -> None:
        """TCP stands; the owner calls :meth:`ServerLeg.begin` when it knows the name to check."""

    def server_established(self) -> None:
        """The handshake is through; nothing is verified yet."""

    def server_refused(self, error: LegError) -> None:
        """The handshake failed."""

    def server_data(self, data: bytes) -> None:
        """Plain text came (or, before :meth:`ServerLeg.begin`, bytes as they are)."""

    def server_ended(self, orderly: bool) -> None:
        """The server will send no more; ``orderly`` where it said so with close_notify."""

    def server_lost(self, error: Exception | None) -> None:
        """The connection is gone."""

    def server_writable(self, writable: bool) -> None:
        """Whether the server takes more, or has more than enough waiting."""


class _Nobody:
    """The owner of a connection that nobody waits for any more."""

    errors: list[tuple[int, int]] = []  # noqa: RUF012 - never appended to: no handshake begins for nobody

    def server_connected(self) -> None: ...
    def server_established(self) -> None: ...
    def server_refused(self, error: LegError) -> None: ...
    def server_data(self, data: bytes) -> None: ...
    def server_ended(self, orderly: bool) -> None: ...
    def server_lost(self, error: Exception | None) -> None: ...
    def server_writable(self, writable: bool) -> None: ...


NOBODY = _Nobody()


class ServerLeg(Reader):
    """The connection to the server."""

    __slots__ = ("_waits", "begun", "leg", "lost", "owner", "transport")

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.transport: asyncio.Transport | None = None
        self.leg: TlsLeg | None = None
        self.begun = False
        self.lost = False
        self._waits: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's own promise for TCP
        self.transport = transport
        if self.owner is NOBODY:
            transport.abort()  # given up while TCP was opening
            return
        self.bound(transport)
        self.owner.server_connected()

    def begin(self, trust: Trust, host: Host, alpn: Sequence[bytes]) -> None:
        """Start the handshake: SNI and ALPN as the client asked. The owner is a :class:`certs.trust.Collector` then."""
        tls = SSL.Connection(trust.context, None)
        tls.set_connect_state()
        tls.set_app_data(self.owner)
        if trust.tls.stapled:
            tls.request_ocsp()
        if not host.is_ip:
            tls.set_tlsext_host_name(host.text.encode())
        if alpn:
            tls.set_alpn_protos(list(alpn))
        assert self.transport is not None  # noqa: S101 - begin comes after connection_made
        self.leg = TlsLeg(tls, self.transport)
        self.begun = True
        self._handshake(b"")

    def _handshake(self, data: bytes) -> None:
        leg = self.leg
        assert leg is not None  # noqa: S101 - only called once begun
        try:
            if not leg.handshake(data):
                return
        except LegError as error:
            self.owner.server_refused(error)
            return
        self.owner.server_established()
        self._plain(b"")  # what came behind the server's Finished

    @property
    def waiting(self) -> bool:
        """The handshake waits for what :meth:`wait_for` was given."""
        return self._waits is not None

    def wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Go on with the handshake when that is done. Until then nothing is read; it ends with the connection."""
        self.read(False)
        self._waits = asyncio.get_running_loop().create_task(work)
        self._waits.add_done_callback(self._go_on)

    def _go_on(self, task: asyncio.Task[None]) -> None:
        self._waits = None
        if task.cancelled() or self.lost:
            return
        try:
            task.result()
            self.read(True)
            self._handshake(b"")
        except BaseException:  # as asyncio ends a connection whose protocol raises; the loop tells of it
            self.close(orderly=False)
            raise

    def _plain(self, data: bytes) -> None:
        leg = self.leg
        if leg is None:
            return
        try:
            plain = leg.receive(data)
        except LegError as error:
            self.owner.server_refused(error)
            return
        if plain:
            self.owner.server_data(plain)
        if leg.ended:
            self.owner.server_ended(True)

    def read(self, reading: bool) -> None:
        """Read from the server, or do not for now."""
        transport = self.transport
        if transport is None or self.lost or transport.is_closing():
            return
        if reading:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def close(self, orderly: bool, notify: bool = True) -> None:
        """Let the connection go: in order, with close_notify behind what is still to be sent, or at once.

        Without ``notify`` there is no close_notify: what the server was sent is not the whole.
        """
        transport = self.transport
        if transport is None or self.lost:
            return
        if not orderly:
            reset(transport)
            return
        if notify and self.leg is not None and self.leg.established:
            self.leg.end()
        transport.close()
        if transport.get_write_buffer_size():
            # A server that does not read must not keep the connection for ever.
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, transport.abort)

    def linger(self) -> None:
        """Say goodbye and read on for a moment: a server that says its own would be answered with RST otherwise."""
        transport, leg = self.transport, self.leg
        if transport is None or leg is None or self.lost:
            return self.close(orderly=True)
        self.owner = NOBODY
        leg.end()
        leg.half_close()
        self.read(True)
        asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.close)
        return None

    def data_received(self, data: bytes) -> None:
        leg = self.leg
        if leg is None:
            self.owner.server_data(data)
        elif leg.established:
            self._plain(data)
        else:
            self._handshake(data)

    def eof_received(self) -> bool:
        self.owner.server_ended(False)
        return True  # the other direction may still be wanted

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._waits is not None:
            self._waits.cancel()
        self.owner.server_lost(exc)

    def pause_writing(self) -> None:
        self.owner.server_writable(False)

    def resume_writing(self) -> None:
        self.owner.server_writable(True)


def costly(handshake: Handshake) -> bool:
    """Whether judging may take long."""
    return len(handshake.presented) >= MANY_CERTIFICATES or size(handshake) > MANY_BYTES


def size(handshake: Handshake) -> int:
    """Bytes of the certificates that were shown."""
    return sum(map(len, handshake.encoded))


def verdict_on(
    handshake: Handshake, host: Host, trust: TrustStore, own_keys: frozenset[bytes], moment: datetime
) -> tuple[Verdict, datetime]:
    """Judge; the verdict, and until when it may be kept. May run in a thread: it changes nothing."""
    verdict = judge(handshake, host, trust, moment, own_keys)
    return verdict, _until(verdict, moment)


def _until(verdict: Verdict, moment: datetime) -> datetime:
    return min(valid_until(verdict, moment), moment + timedelta(hours=1))


def attempt_on(
    handshake: Handshake,
    host: Host,
    trust: TrustStore,
    own_keys: frozenset[bytes],
    moment: datetime,
    known: Known | None,
    signatures: Signatures | None = None,
) -> Attempt:
    """Judge, and again with the issuers that are missing and ``known``. May run in a thread, as :func:`verdict_on`."""
    attempt = Attempt.of(handshake, host, trust, own_keys, moment, signatures)
    return attempt if known is None else attempt.completed(known, moment, signatures)


def _wanted(snapshot: Snapshot, host: Host, moment: datetime) -> Wanted:
    errors, unsure = snapshot.errors, Defect.REVOCATION_UNKNOWN

    def blocked(verdict: Verdict) -> bool:
        if errors.decide(verdict, host, moment).action is not Action.BLOCK:
            return False
        # An exception that says block and is about to end: then the server passes by this very verdict.
        end = errors.exceptions.next_end(host, moment)
        return end is None or end - moment > SURELY_BLOCKED

    def unknown(verdict: Verdict) -> bool:
        return errors.says_of(unsure, host, verdict.leaf, moment)

    return Wanted(blocked, unknown)


class Judge:
    """Verdicts on finished handshakes, the recent ones kept.

    A verdict is kept under the whole chain, OpenSSL's errors, the name and the tenant's working set, until the next
    date in the chain changes it (an hour at most). A chain that lacks an issuer is completed where there is a
    ``completer``; one that could not be is kept for as short as that says. Whether what it is made of was revoked is
    found out where there is a ``revocation``.

    What is cheap is judged on the event loop, once, and goes on from there to who is asked. What may be expensive on
    purpose is judged in one thread, where a client whose servers send much of it keeps nobody else's waiting.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        thread: Executor,
        completer: Completer | None = None,
        revocation: Revocation | None = None,
    ) -> None:
        self.clock = clock
        self.thread = thread
        """For chains that may be expensive on purpose. One at a time, clients by turns; nothing else waits for it."""
        self.completer = completer
        self.revocation = revocation
        self.made = 0
        """Verdicts that were made, and not found among those that are kept."""
        self._kept: LRUCache[tuple[object, ...], tuple[Verdict, datetime]] = LRUCache(KEPT_VERDICTS)
        self._begun: LRUCache[tuple[object, ...], tuple[Attempt, datetime]] = LRUCache(
            BEGUN_BYTES, getsizeof=lambda begun: size(begun[0].handshake) + _OVERHEAD
        )
        """What was judged a moment ago by what there was, and when."""
        self._turns: Turns[Hashable] = Turns()
        self._asking: Joined[tuple[object, ...], Verdict] = Joined()

    @property
    def seconds(self) -> float:
        """What a verdict that is made elsewhere may take, beside the time of the handshake."""
        return JUDGE_SECONDS + (0.0 if self.revocation is None else self.revocation.patience)

    def at_once(self, handshake: Handshake, host: Host, snapshot: Snapshot) -> Verdict | None:
        """The verdict, where it is kept or quickly found; else :meth:`elsewhere` is to be awaited."""
        key = self.key(handshake, host, snapshot)
        if (verdict := self.known(key)) is not None:
            return verdict
        if (begun := self._begun_lately(key)) is None:
            if costly(handshake):
                return None
            moment, signatures = self.clock(), Signatures(FEW_SIGNATURES)
            attempt = self._attempt(handshake, host, snapshot, moment, signatures)()
            if signatures.exhausted:
                return None
            begun = self._keep_begun(key, attempt, moment)
        return self._settled(key, *begun, snapshot)

    async def elsewhere(self, handshake: Handshake, host: Host, snapshot: Snapshot, client: Hashable = None) -> Verdict:
        """The verdict on what may take long, or for which others have to be asked.

        ``client`` is for whom: of those that wait for the thread each has its turn, however many it waits for.
        """
        key = self.key(handshake, host, snapshot)
        if (begun := self._begun_lately(key)) is None:
            async with self._turns.turn(client):
                # Whoever had the turn before may have judged just this.
                if (verdict := self.known(key)) is not None:
                    return verdict
                if (begun := self._begun_lately(key)) is None:
                    moment = self.clock()
                    work = self._attempt(handshake, host, snapshot, moment)
                    attempt = await asyncio.get_running_loop().run_in_executor(self.thread, work)
                    begun = self._keep_begun(key, attempt, moment)
            if (verdict := self._settled(key, *begun, snapshot)) is not None:
                return verdict
        # Whoever gives up leaves it to those who come next: they find it done.
        return await self._asking.run(key, partial(self._asked, key, *begun, snapshot))

    def _begun_lately(self, key: tuple[object, ...]) -> tuple[Attempt, datetime] | None:
        if (begun := self._begun.get(key)) is None:
            return None
        attempt, moment = begun
        until = min(moment + timedelta(seconds=BEGUN_SECONDS), _until(attempt.verdict(), moment))
        return begun if self.clock() < until else None

    def _keep_begun(self, key: tuple[object, ...], attempt: Attempt, moment: datetime) -> tuple[Attempt, datetime]:
        self.made += 1
        begun = self._begun[key] = attempt, moment
        return begun

    def _attempt(
        self,
        handshake: Handshake,
        host: Host,
        snapshot: Snapshot,
        moment: datetime,
        signatures: Signatures | None = None,
    ) -> Callable[[], Attempt]:
        known = None if self.completer is None else self.completer.seen.issuers_of
        trust = snapshot.trust.at(host).store
        return partial(attempt_on, handshake, host, trust, snapshot.own_keys, moment, known, signatures)

    def _settled(
        self, key: tuple[object, ...], attempt: Attempt, moment: datetime, snapshot: Snapshot
    ) -> Verdict | None:
        """The verdict, where nobody has to be asked for it."""
        if self.completer is not None and self.completer.can_ask(attempt):
            return None
        verdict = attempt.verdict(SEEN)
        if self.completer is not None:
            self.completer.seen.learn(verdict)
        checked = None
        if self.revocation is not None:
            checked = self.revocation.at_hand(
                verdict, attempt.handshake.stapled, _wanted(snapshot, attempt.host, moment)
            )
            if checked is None:
                return None
        return self._kept_for(key, attempt, verdict, checked, _until(verdict, moment))

    async def _asked(self, key: tuple[object, ...], attempt: Attempt, moment: datetime, snapshot: Snapshot) -> Verdict:
        """The verdict by what others say: who has the missing issuer, and who knows what was revoked."""
        verdict, seconds, checked = attempt.verdict(SEEN), None, None
        if self.completer is not None and self.completer.can_ask(attempt):
            verdict, seconds = await self.completer.complete(attempt)
        # What has ended meanwhile ends the verdict, so that counts from when it was begun.
        until = _until(verdict, moment)
        if seconds is not None:
            until = min(until, self.clock() + timedelta(seconds=seconds))
        if self.revocation is not None:
            checked = await self.revocation.asked(
                verdict, attempt.handshake.stapled, _wanted(snapshot, attempt.host, moment)
            )
        return self._kept_for(key, attempt, verdict, checked, until)

    def _kept_for(
        self, key: tuple[object, ...], attempt: Attempt, verdict: Verdict, checked: Checked | None, until: datetime
    ) -> Verdict:
        if checked is not None:
            verdict = checked.verdict
            until = until if checked.until is None else min(until, checked.until)
        self.keep(key, attempt.handshake, verdict, until)
        return verdict

    def known(self, key: tuple[object, ...]) -> Verdict | None:
        """A kept verdict that still holds."""
        if (kept := self._kept.get(key)) is not None and self.clock() < kept[1]:
            return kept[0]
        return None

    def key(self, handshake: Handshake, host: Host, snapshot: Snapshot) -> tuple[object, ...]:
        chain = hashlib.sha256()
        for der in handshake.encoded:
            chain.update(len(der).to_bytes(4))
            chain.update(der)
        chain.update(handshake.stapled)
        unread = (handshake.unread, handshake.leaf_unread)
        changes = 0 if self.revocation is None else self.revocation.changes
        return (snapshot.tenant, snapshot.serial, host.text, handshake.errors, unread, chain.digest(), changes)

    def keep(self, key: tuple[object, ...], handshake: Handshake, verdict: Verdict, until: datetime) -> None:
        """Keep a verdict, unless its chain is so large that somebody may want the memory to be full of it."""
        if size(handshake) <= MANY_BYTES:
            self._kept[key] = (verdict, until)

    def forget(self, tenant: str) -> None:
        """Drop what was kept for a tenant."""
        for kept in (self._kept, self._begun):
            for key in [key for key in kept if key[0] == tenant]:
                del kept[key]

    def close(self) -> None:
        """Give up what is being asked of others."""
        if self.completer is not None:
            self.completer.close()
        if self.revocation is not None:
            self.revocation.close()
