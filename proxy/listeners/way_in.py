"""What all ways in have in common: admission of a destination, and what is done once the tunnel stands.

A way in reads, in its own protocol, where a client wants to go. It then calls :meth:`WayIn.goes_to`; it is told in
:meth:`WayIn.established` that the tunnel stands, and in :meth:`WayIn.refuse` that there will be none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from certs.names import Host
from issuer.client import IssuerUnavailable
from issuer.protocol import Code
from proxy import refusals
from proxy.admission import ResolveError
from proxy.block import Refusal
from proxy.bypass_lists import matching
from proxy.issuer_watch import NO_NEW
from proxy.leaves import LONG_ENOUGH, Shown
from proxy.session import Session, State, Unhurried
from proxy.snapshot import Snapshot
from proxy.tunnel import Tunnel

NOT_SIGNED = NO_NEW | {Code.SIGNING_FAILED.value}


class WayIn(Unhurried):
    """The phase from the first byte to the tunnel."""

    __slots__ = ("buffer", "busy", "half", "session")

    plain = False
    """Whether what comes through a tunnel of this kind may be plain HTTP too, with the path alone in its first line."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.buffer = bytearray()
        """What the client has sent and nobody has read yet."""
        self.busy = False
        self.half = False

    # --- what differs ---

    def made(self) -> None:
        """The connection stands; most often its client speaks first."""

    def data(self, data: bytes) -> None:
        """The client sent bytes."""
        raise NotImplementedError

    def established(self) -> None:
        """Tell the client that the tunnel stands, where its protocol has words for that."""

    def refuse(self, refusal: Refusal) -> None:
        """Tell the client that there will be no tunnel, as its protocol can, and close."""
        self.session.say(refusal)

    def nobodys(self, refusal: Refusal) -> None:
        """Tell the client that it gets no service, since nothing says whose connection it is, and close.

        There is no leaf for it, nor anything else of a tenant's.
        """
        self.refuse(refusal)

    # --- admission ---

    def goes_to(self, host: Host, port: int) -> None:
        """The client wants to go there: find the addresses, and go on with them. To be called once."""
        session = self.session
        if session.snapshot is None and (limit := session.belongs()) is not None:
            session.worker.metrics.refused(limit)
            return self.refuse(refusals.too_many(limit, session.id))
        if session.snapshot is None:
            return self.nobodys(refusals.no_tenant(session.id))
        if (refusal := session.outdated("")) is not None:
            return self.refuse(refusal)
        session.facts |= {"host": host.text, "port": port}
        if host.text == session.worker.site.name:
            # Before all that could lead elsewhere, or nowhere: parents, DNS, the egress rules.
            return self._signed(host, partial(self._establish, host, port, None))
        if (parent := session.worker.parents.of(session.tenant.tenant, host)) is not None:
            session.facts["parent"] = parent.address
            if not host.is_ip:
                return self._admit(host, port, ())  # the name is the parent's to resolve
        if (addresses := session.worker.resolver.at_once(host)) is not None:
            return self._admit(host, port, addresses)
        session.to(State.NAME, session.worker.limits.resolve_timeout + 1)
        return session.run(self._resolve(host, port))

    async def _resolve(self, host: Host, port: int) -> None:
        session = self.session
        try:
            addresses = await session.worker.resolver.resolve(host, session.peer)
        except ResolveError as error:
            self.refuse(refusals.unresolved(host.text, session.id, error.timed_out, str(error)))
            return
        self._admit(host, port, addresses)

    def _admit(self, host: Host, port: int, addresses: tuple[str, ...]) -> None:
        """Let it pass or not; TCP to the server opens while the client prepares its ClientHello."""
        session = self.session
        permitted = tuple(address for address in addresses if session.worker.egress.permits(address))
        parent = session.facts.get("parent")
        named = parent is not None and not host.is_ip
        if session.followed:
            session.stage("admission", session.started, listener=session.listener.name, host=host.text, port=port,
                          egress="permitted" if permitted or named else "denied", addresses=permitted or addresses,
                          parent=parent)  # fmt: skip
        if not (permitted or named):
            refused = addresses[0] if addresses else None
            return self.refuse(refusals.destination_prohibited(host.text, refused, session.id))
        return self._signed(host, partial(self._establish, host, port, permitted))

    def _signed(self, host: Host, go_on: Callable[[], None]) -> None:
        """Go on where there can be a leaf: inside the tunnel nobody could be told that there is none."""
        session = self.session
        worker, name = session.worker, session.tenant.tenant
        tenant = worker.snapshots.current.get(name, session.tenant)
        if name in worker.issuer_watch.cannot_sign or tenant.signing_ca_end <= worker.wall():
            return self.refuse(refusals.cannot_sign(host.text, session.id))
        if name in worker.issuer_watch.without_new:
            return self._if_signed(host, tenant, go_on)
        return go_on()

    def _if_signed(self, host: Host, snapshot: Snapshot, go_on: Callable[[], None]) -> None:
        """Go on where the host has a leaf: here, or with the issuer. Inside the tunnel nobody could be told."""
        session = self.session
        worker, name = session.worker, snapshot.tenant
        leaves, later = worker.leaves, worker.wall() + LONG_ENOUGH
        # Of an address the name is not known yet that a leaf would be for; what is not decrypted needs none.
        unseen = host.is_ip or worker.settings.tunnel.non_tls == "pass"
        if unseen or matching(snapshot.bypass, worker.bypass_lists, name, (host,), worker.clock) is not None:
            return go_on()
        if leaves.kept(snapshot, host.text, "ecdsa", later) is not None:
            return go_on()
        if session.state is State.HEAD:
            session.to(State.NAME, session.worker.limits.leaf_timeout + 1)

        def answered(outcome: Shown | Exception) -> None:
            if session.phase is not self:
                return  # the client did not wait
            try:
                if isinstance(outcome, Shown):
                    go_on()
                elif isinstance(outcome, IssuerUnavailable) and outcome.code in NOT_SIGNED:
                    self.refuse(refusals.key_manager_down(host.text, session.id))
                elif isinstance(outcome, IssuerUnavailable):
                    go_on()  # for another reason, which comes up again in the tunnel
                else:
                    session.broken(outcome)
            except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection; others wait for this leaf
                session.broken(error)

        return leaves.ask(snapshot, host.text, "ecdsa", later, answered, session.id)

    def _establish(self, host: Host, port: int, permitted: tuple[str, ...] | None) -> None:
        """``permitted`` None: the host is the proxy itself, and there is nothing to connect to."""
        session = self.session
        self.established()
        tunnel = Tunnel(session, host, port, self.plain or permitted is None)
        session.to(State.HELLO, session.worker.limits.tls_timeout, tunnel)
        if permitted is not None:
            tunnel.dial(permitted)
        if self.buffer:
            tunnel.data(bytes(self.buffer))
            session.resume()
        return None

    # --- the end ---

    def ended(self) -> bool:
        """A client that half-closes before its request is whole wants nothing."""
        self.session.close("client closed")
        return False

    def writable(self, writable: bool) -> None:
        """Nothing of size is written here."""

    def timed_out(self) -> None:
        """Too slow."""
        self.session.close("time limit")

    def closing(self, orderly: bool) -> None:
        """There is nothing to let go of."""
        self.buffer.clear()

    def waits(self) -> bool:
        """Whether what the client sends has to wait, since it is being looked into where it goes."""
        session = self.session
        if session.state is not State.NAME:
            return False
        if len(self.buffer) > session.worker.limits.client_hello_bytes:
            session.pause()  # the tunnel reads on
        return True
