"""The plain lane's place in a session: admission for each of its servers, and the client's transport."""

from __future__ import annotations

import asyncio

from certs.names import Host
from proxy.lanes.plain import PlainLane
from proxy.reach import reach
from proxy.session import Session, State, Unhurried
from proxy.tcp import Reader


def forward(session: Session, data: bytes) -> None:
    """Plain HTTP: forwarded, in the inspection lane where the tenant has inspectors for any host."""
    worker = session.worker
    inspectors = worker.inspectors
    inspects = inspectors is not None and inspectors.inspects_tenant(session.tenant.tenant)
    # What is asked of the proxy itself is no inspector's, and nothing else is asked on that connection.
    alone = inspects and worker.site.is_asked(session, data, origin=session.towards is not None)
    if inspectors is not None and inspects and not alone:
        from proxy.lanes.inspection.lane import InspectionLane

        inspection = InspectionLane(session, inspectors, "", 0, None)
        session.enters("inspection")
        session.to(State.PLAIN, 0, inspection)
        session.has_taken("inspection")
        inspection.begin()
        return inspection.data(data)
    lane = ForwardLane(session, alone)
    session.to(State.PLAIN, 0, lane)
    session.has_taken("plain")
    return lane.data(data)


class ForwardLane(Unhurried):
    """Phase of a session whose client sends plain HTTP requests."""

    __slots__ = ("half", "lane", "late", "server", "session")

    def __init__(self, session: Session, alone: bool = False) -> None:
        """``alone``: the first request is for the proxy itself, and there is to be no other."""
        self.session = session
        self.half = False
        self.server: asyncio.Transport | None = None
        self.late: asyncio.TimerHandle | None = None
        """Runs while a head has begun and is not whole."""
        self.lane = PlainLane(
            self,
            self.dial,
            session.exchange,
            session.worker.wall,
            session.id,
            session.refused,
            disclosure=session.disclosure,
            limits=session.worker.limits,
            origin=session.towards is not None,
            parent=lambda host: session.worker.parents.of(session.tenant.tenant, session.goes_to(host)),
            carries=session.carries,
            ours=session.worker.site.to_plain(session, alone=alone),
        )

    @property
    def busy(self) -> bool:
        """A request is under way."""
        return self.lane.busy

    def data(self, data: bytes) -> None:
        """Bytes of the client."""
        lane, session = self.lane, self.session
        session.to_server(len(data))
        lane.data_received(data)
        if lane.reading_head == (self.late is not None):
            return
        if self.late is not None:
            self.late.cancel()
            self.late = None
        elif session.state is State.PLAIN:
            patience = session.worker.limits.connect_head_timeout
            self.late = session.loop.call_later(patience, session.close, "time limit: head")

    def ended(self) -> bool:
        """FIN from the client; an answer may still be on its way."""
        self.half = True
        self.lane.eof_received()
        return True

    def writable(self, writable: bool) -> None:
        """Back-pressure from the client's side."""
        if writable:
            self.lane.resume_writing()
        else:
            self.lane.pause_writing()

    def timed_out(self) -> None:
        """Nobody has said anything for the idle time."""
        self.session.close("idle")

    def closing(self, orderly: bool) -> None:
        """Let the server go."""
        self.server = None
        if self.late is not None:
            self.late.cancel()
        self.lane.connection_lost()

    # --- what the lane asks for ---

    def write(self, data: bytes) -> None:
        """Send to the client."""
        self.session.active = self.session.loop.time()
        self.session.to_client(len(data))
        self.session.client.write(data)

    def pause_reading(self) -> None:
        """The client has to wait, most often for the server to take what it was sent."""
        self.session.pause()
        self.session.waits_for(self.server)

    def resume_reading(self) -> None:
        """Read the client again."""
        self.session.resume()

    def close(self) -> None:
        """Everything is said."""
        self.session.close("done")

    def abort(self) -> None:
        """The client must not take what it has for the whole."""
        self.session.abort("cut")

    async def dial(self, host: Host, port: int, protocol: Reader) -> asyncio.Transport:
        """Open a connection to a server; admission as for a CONNECT. Raises RefusedError."""
        session = self.session
        parent = session.worker.parents.of(session.tenant.tenant, session.goes_to(host))
        session.facts |= {"host": host.text, "port": port, "parent": parent.address if parent is not None else None}
        transport, session.facts["address"] = await reach(session, host, port, protocol, tunnel=False)
        self.server = transport
        return transport
