"""The explicit proxy: a client that knows it has one says CONNECT, or sends plain HTTP requests in absolute form.

What is known before the tunnel stands is said in the answer to the CONNECT: a malformed request, a name without an
address, an address that is out of bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from certs.names import Host, InvalidHost, parse_authority
from issuer.client import IssuerUnavailable
from issuer.protocol import Code
from proxy import refusals
from proxy.admission import ResolveError
from proxy.bypass_lists import matching
from proxy.head import BadHead, HeadReader
from proxy.lanes.forward import ForwardLane
from proxy.leaves import DAY, Shown
from proxy.session import Session, State, Unhurried
from proxy.snapshot import Snapshot
from proxy.tunnel import Tunnel

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
NOT_SIGNED = frozenset({Code.SIGNING_FAILED.value, Code.KEY_MANAGER_DOWN.value})
LONG_ENOUGH = 30 * DAY
"""Seconds for which a server's certificate is taken to hold that nobody has seen yet: any leaf will do for now."""


class Explicit(Unhurried):
    """Reads the first head and decides what the connection becomes."""

    __slots__ = ("buffer", "busy", "half", "reader", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.buffer = bytearray()
        self.reader = HeadReader(session.worker.limits.connect_head_bytes)
        self.busy = False
        self.half = False

    def data(self, data: bytes) -> None:
        """Gather the head; act on it when it is whole."""
        session, buffer = self.session, self.buffer
        buffer += data
        self.busy = True
        if session.state is State.NAME:
            if len(buffer) > session.worker.limits.client_hello_bytes:
                session.pause()  # the tunnel reads on
            return
        try:
            head = self.reader.read(buffer)
        except BadHead as error:
            return session.say(refusals.bad_request(error.status, str(error), session.id))
        if head is None:
            return
        if (refusal := session.outdated("")) is not None:
            return session.say(refusal)
        if head.method != "CONNECT":
            return self._plain()
        try:
            host, port = parse_authority(head.target)
        except InvalidHost as error:
            return session.say(
                refusals.bad_request(400, f"CONNECT {refusals.shown_target(head.target)}: {error}", session.id)
            )
        del buffer[: head.size]
        session.facts |= {"host": host.text, "port": port}
        if (addresses := session.worker.resolver.at_once(host)) is not None:
            return self._admit(host, port, addresses)
        session.to(State.NAME, session.worker.limits.resolve_timeout + 1)
        return session.run(self._resolve(host, port))

    def _plain(self) -> None:
        """Plain HTTP: forwarded, in the inspection lane where the tenant has inspectors for any host."""
        session, inspectors = self.session, self.session.worker.inspectors
        if inspectors is not None and inspectors.inspects_tenant(session.tenant.tenant):
            from proxy.lanes.inspection.lane import InspectionLane

            inspection = InspectionLane(session, inspectors, "", 0, None)
            session.enters("inspection")
            session.to(State.PLAIN, 0, inspection)
            session.has_taken("inspection")
            inspection.begin()
            return inspection.data(bytes(self.buffer))
        lane = ForwardLane(session)
        session.to(State.PLAIN, 0, lane)
        session.has_taken("plain")
        return lane.data(bytes(self.buffer))

    async def _resolve(self, host: Host, port: int) -> None:
        session = self.session
        try:
            addresses = await session.worker.resolver.resolve(host, session.peer)
        except ResolveError as error:
            session.say(refusals.unresolved(host.text, session.id, error.timed_out, str(error)))
            return
        self._admit(host, port, addresses)

    def _admit(self, host: Host, port: int, addresses: tuple[str, ...]) -> None:
        """Answer the CONNECT; TCP to the server opens while the client prepares its ClientHello."""
        session = self.session
        permitted = tuple(address for address in addresses if session.worker.egress.permits(address))
        if session.followed:
            session.stage("admission", session.started, listener=session.listener, host=host.text, port=port,
                          egress="permitted" if permitted else "denied", addresses=permitted or addresses)  # fmt: skip
        if not permitted:
            refused = addresses[0] if addresses else None
            return session.say(refusals.destination_prohibited(host.text, refused, session.id))
        worker, name = session.worker, session.tenant.tenant
        tenant = worker.snapshots.current.get(name, session.tenant)
        if name in worker.issuer_watch.cannot_sign or tenant.signing_ca_end <= worker.wall():
            # Inside the tunnel there would be no certificate to tell it under.
            return session.say(refusals.cannot_sign(host.text, session.id))
        if name in worker.issuer_watch.without_new:
            return self._if_signed(host, tenant, partial(self._establish, host, port, permitted))
        return self._establish(host, port, permitted)

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
                    session.say(refusals.key_manager_down(host.text, session.id))
                elif isinstance(outcome, IssuerUnavailable):
                    go_on()  # for another reason, which comes up again in the tunnel
                else:
                    session.broken(outcome)
            except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection; others wait for this leaf
                session.broken(error)

        return leaves.ask(snapshot, host.text, "ecdsa", later, answered, session.id)

    def _establish(self, host: Host, port: int, permitted: tuple[str, ...]) -> None:
        session = self.session
        session.client.write(ESTABLISHED)
        tunnel = Tunnel(session, host, port)
        session.to(State.HELLO, session.worker.limits.tls_timeout, tunnel)
        tunnel.dial(permitted)
        if self.buffer:
            tunnel.data(bytes(self.buffer))
            session.resume()
        return None

    def ended(self) -> bool:
        """A client that half-closes before its request is whole wants nothing."""
        self.session.close("client closed")
        return False

    def writable(self, writable: bool) -> None:
        """Nothing of size is written here."""

    def timed_out(self) -> None:
        """Too slow. Where there is half a head, say so."""
        session = self.session
        if session.state is State.HEAD and self.buffer:
            return session.say(refusals.bad_request(408, "the request's head did not come in time", session.id))
        return session.close("time limit")

    def closing(self, orderly: bool) -> None:
        """There is nothing to let go of."""
        self.buffer.clear()
