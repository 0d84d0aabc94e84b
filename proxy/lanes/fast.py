"""The fast lane: decrypted bytes pass on as they are, and a tap reads along.

The tap sees the bytes before they are sent. What it cannot follow is not passed on, unless the operator says otherwise,
nor is a request for another host than the connection's, or a head beyond the limits: that is answered here, and the
connection comes to its end.
Each side is read only as fast as the other takes it, and an end is passed on in the way in which it came.
"""

from __future__ import annotations

from collections.abc import Sequence

from certs.failures import defect_of_failure
from certs.names import parse_host
from certs.verdict import Action, Verdict
from proxy import refusals
from proxy.block_page import answer_bytes
from proxy.lanes import calm_http2
from proxy.lanes.abuse import over_limit
from proxy.lanes.answer import HTTP_PROTOCOLS, LINGER_SECONDS, AnswerLane
from proxy.lanes.farewell_http1 import Http1Farewell
from proxy.lanes.farewell_http2 import Http2Farewell
from proxy.lanes.http2_sieve import ENHANCE_YOUR_CALM, goaway
from proxy.lanes.linger import Linger
from proxy.lanes.misdirected import Addressee
from proxy.lanes.tap import (
    Detour,
    Http1Tap,
    Http2Tap,
    Misdirected,
    OverLimit,
    Tap,
    TooLarge,
    TurnedAway,
    Unparsed,
    make_tap,
)
from proxy.lanes.tap_bytes import BytesTap
from proxy.log import WARNING
from proxy.session import Judged, Session, State
from proxy.tls_leg import LegError, TlsLeg
from proxy.upstream import NOBODY, READ_LIMIT, ServerLeg

NEW_SECONDS = 2.0
"""For so long after both legs are up, a first request is taken to be on its way."""


class FastLane:
    """Two legs that are up. Phase of the session, and owner of the server leg."""

    __slots__ = (
        "alpn", "client", "client_done", "errors", "head", "head_since", "host", "opened", "parting", "server",
        "server_done", "server_side", "session", "tap", "unanswered",
    )  # fmt: skip

    def __init__(self, session: Session, client: TlsLeg, server: ServerLeg, alpn: bytes, host: str) -> None:
        assert server.leg is not None  # noqa: S101 - a lane begins when both legs are up
        self.session = session
        self.client = client
        self.server = server.leg
        self.server_side = server
        self.host = host
        self.alpn = alpn
        self.unanswered: list[bytes] | None = []
        """What the client has asked, until the server says anything: it may say that it does not want this client."""
        self.opened = session.loop.time()
        addressee = Addressee(host) if session.worker.settings.tunnel.misdirected == "refuse" else None
        self.tap: Tap = make_tap(
            alpn, host, session.exchange, session.worker.wall, session.worker.limits, addressee, session.disclosure
        )
        self.errors: list[tuple[int, int]] = []
        self.client_done = False
        self.server_done = False
        self.parting = False
        """A request was turned away."""
        self.head: object | None = None
        self.head_since = 0.0
        """The head that was not whole when last looked at, and when it was first seen so."""

    @property
    def busy(self) -> bool:
        """A request is under way, or the connection is so new that its first one must be."""
        new = self.unanswered == [] and self.session.loop.time() - self.opened < NEW_SECONDS
        return self.tap.busy or new

    @property
    def half(self) -> bool:
        """One of the two sides has ended."""
        return self.client_done or self.server_done

    def begin(self, early: bytes, ends: Sequence[bool]) -> None:
        """Pass on what the server said early, how it ended, and what the client sent behind its handshake."""
        session = self.session
        self.server_side.read(True)
        if early:
            self.server_data(early)
        for orderly in ends:
            if session.state is State.OPEN:
                self.server_ended(orderly)
        if self.server_side.lost and session.state is State.OPEN:
            self.server_lost(None)
        if session.state is State.OPEN:
            self.data(b"")

    def overdue(self, now: float) -> bool:
        """A request's head has its time, however slowly it comes."""
        head = self.tap.head
        if head is not self.head:
            self.head, self.head_since = head, now
        return head is not None and now - self.head_since > self.session.worker.limits.connect_head_timeout

    # --- the client's side ---

    def data(self, data: bytes) -> None:
        """Wire bytes of the client."""
        leg = self.client
        try:
            if plain := leg.receive(data):
                if self.unanswered is not None:
                    self._remember(plain)
                detour = None
                try:
                    detour = self.tap.from_client(plain)
                except OverLimit as error:
                    return self._over_limit(error)
                except Unparsed as error:
                    self._unparsed(error)
                self.session.to_server(len(plain))
                if detour is None:
                    self.server.send(plain, more=leg.ended)
                elif self._detour(detour):
                    return None
        except Unparsed as error:
            return self.session.abort(f"cannot be followed: {error}")
        except LegError as error:
            return self.session.abort(f"TLS: {error}")
        if leg.ended and not self.client_done:
            self._client_ended(orderly=True)
        return None

    def _remember(self, plain: bytes) -> None:
        """Keep the first request, where an answer of ours could still be given to it."""
        kept = self.unanswered
        if kept is not None:
            kept.append(plain)
            if sum(map(len, kept)) > READ_LIMIT or (self.alpn and self.alpn not in HTTP_PROTOCOLS):
                self.unanswered = None

    def ended(self) -> bool:
        """FIN from the client."""
        self._client_ended(orderly=False)
        return self.session.state is State.OPEN

    def _client_ended(self, orderly: bool) -> None:
        if not self.client_done:
            self.client_done = True
            self.tap.client_ended()
            if orderly:
                self.server.end()
        if not orderly:
            self.server.half_close()
        if self.server_done:
            self.session.close("both sides ended")

    def writable(self, writable: bool) -> None:
        """The server is read only as fast as the client takes it."""
        self.server_side.read(writable)

    # --- the server's side ---

    def server_data(self, data: bytes) -> None:
        """Plain text of the server."""
        session = self.session
        session.active = session.loop.time()
        self.unanswered = None
        detour = None
        try:
            try:
                detour = self.tap.from_server(data)
            except OverLimit as error:
                return self._over_limit(error)
            except Unparsed as error:
                self._unparsed(error)
            session.to_client(len(data))
            if detour is None:
                self.client.send(data, more=self.server.ended and not self.server_done)
            else:
                self._detour(detour)
        except Unparsed as error:
            session.abort(f"cannot be followed: {error}")
        except LegError as error:
            session.abort(f"client TLS: {error}")
        return None

    def server_ended(self, orderly: bool) -> None:
        """The server will send no more: the client is told in the same way.

        An end without close_notify reaches the client without one, so that it can tell a cut answer (RFC 8446, 6.1).
        """
        session = self.session
        if not self.server_done:
            self.server_done = True
            if (kept := self.tap.release()) and not self.client.closed:
                self.client.send(kept)
            self.tap.server_ended()
            if orderly:
                self.client.end()
        if not orderly:
            self.client.half_close()
        if self.client_done:
            session.close("both sides ended")
        elif session.draining and not self.busy:
            session.close("drained")

    def server_lost(self, error: Exception | None) -> None:
        """The connection to the server is gone: cut off, unless it had said its goodbye before."""
        if error is None or self.server.ended:
            self.session.close("server closed")
        else:
            self.session.abort(f"server: {error}")

    def server_writable(self, writable: bool) -> None:
        """The client is read only as fast as the server takes it."""
        if writable:
            self.session.resume()
        else:
            self.session.pause()
            self.session.waits_for(self.server_side.transport)

    def server_refused(self, error: LegError) -> None:
        """TLS with the server broke. Where it has said nothing yet (one who wants a client certificate), tell why."""
        session, asked = self.session, self.unanswered
        # A client that went without a word is not to be told anything, and may be what the server complains of: it
        # ended without close_notify, and so did we towards the server.
        if asked is None or (self.client_done and not asked):
            return session.abort(f"server TLS: {error}")
        verdict = Verdict.of([defect_of_failure(error.reasons, "client_certificate" in session.facts)])
        session.judged(verdict, Action.BLOCK, Judged(parse_host(self.host), session.facts.get("port", 0)))
        session.facts |= {"defects": [defect.value for defect in verdict.defects], "action": Action.BLOCK.value}
        session.facts.pop("by", None)  # no setting: what was asked for can no longer be had
        refusal = refusals.certificate(verdict.findings, self.host, session.id)
        session.refused(refusal)
        self.tap.closed()
        self.server_side.owner = NOBODY
        self.server_side.close(orderly=True, notify=False)
        lane = AnswerLane(session, self.client, refusal)
        session.to(State.ANSWER, session.worker.limits.tls_timeout, lane)
        lane.begin(b"".join(asked))
        if self.client_done:
            session.close("both sides ended")  # it will ask nothing more, and end no second time
        return None

    def server_connected(self) -> None:
        """Was before this lane."""

    def server_established(self) -> None:
        """Was before this lane."""

    # --- what cannot be followed, and the end ---

    def _unparsed(self, error: Unparsed) -> None:
        """A stream that the tap cannot follow ends the connection, unless the operator lets it pass."""
        session = self.session
        # Once a request was turned away, what passes is chosen: that cannot go on blindly.
        passes = session.worker.settings.tunnel.on_unparsed == "pass" and not self.parting
        action = "pass" if passes else "close"
        session.log(WARNING, "unparsed", host=self.host, reason=str(error), action=action)
        if not passes:
            raise error
        self.tap.closed()
        kept, kept_back = bytes(self.tap.kept), self.tap.release()
        self.tap = BytesTap(self.host, session.exchange, session.worker.wall)
        if kept and not self.server.closed:
            self.server.send(kept)
        if kept_back and not self.client.closed:
            self.client.send(kept_back)

    # --- what is turned away ---

    def _detour(self, detour: Detour) -> bool:
        """Do what the tap says in place of passing a piece on. Returns whether the lane is at its end."""
        if detour.to_server and not self.server.closed:
            self.server.send(detour.to_server)
        if detour.to_client and not self.client.closed:
            self.client.send(detour.to_client)
        if detour.refused is not None:
            return self._turn_away(detour.refused)
        if detour.done:
            self._part()
        return detour.done

    def _turn_away(self, head: TurnedAway) -> bool:
        """The client is told, when its turn comes; nothing that it asks from here on gets to the server."""
        session, tap = self.session, self.tap
        self.parting = True
        # It is kept, and the frames that it came through would be with it, and all that they have read.
        head.__traceback__ = None
        if isinstance(head, TooLarge):
            if not head.request:
                return self._answer_instead(head)
            refusal = refusals.request_head_too_large(head.detail, head.limit, self.host, session.id)
        elif isinstance(head, Misdirected) and not head.malformed:
            refusal = refusals.misdirected(self.host, head.host, session.id)
        else:
            refusal = refusals.bad_request(400, getattr(head, "malformed", ""), session.id, self.host)
        session.refused(refusal)
        if isinstance(tap, Http2Tap):
            farewell: Http1Farewell | Http2Farewell = Http2Farewell(tap, head, refusal)
        else:
            assert isinstance(tap, Http1Tap)  # noqa: S101 - no other turns anything away
            farewell = Http1Farewell(tap, head, refusal)
        self.tap = farewell
        return self._detour(farewell.begin())

    def _answer_instead(self, response: TooLarge) -> bool:
        """Nothing of this response has reached the client: it gets the refusal, and the server is let go."""
        session, tap = self.session, self.tap
        refusal = refusals.response_head_too_large(response.detail, response.limit, self.host, session.id)
        session.refused(refusal)
        if isinstance(tap, Http2Tap):
            if not tap.client.in_frame and not self.server.closed:
                self.server.send(goaway(tap.last_promised))
            self.client.send(calm_http2.instead(tap, response, refusal))
        else:
            self.client.send(answer_bytes(refusal, None, head_only=response.head_only))
        self._part()
        return True

    def _over_limit(self, error: OverLimit) -> None:
        """Somebody does too much of something: it is said, to whom it concerns, and the connection ends."""
        session, tap = self.session, self.tap
        error.__traceback__ = None  # as in _turn_away
        over_limit(session, self.host, error)
        if not error.calm or not isinstance(tap, Http2Tap):
            return session.abort(f"over a limit: {error}")
        self.parting = True
        try:
            if not error.client:
                if not tap.client.in_frame and not self.server.closed:
                    self.server.send(goaway(tap.last_promised, ENHANCE_YOUR_CALM))
                self.client.send(error.passes + calm_http2.gone(tap))
                return self._part()
            if not self.server.closed:
                self.server.send(error.passes + goaway(tap.last_promised))
            self.tap = calm = calm_http2.Http2Calm(tap)
            if not self._detour(calm.begin()):
                session.pause()
                session.loop.call_later(LINGER_SECONDS, session.close, "over a limit")
        except LegError as failed:
            return session.abort(f"TLS: {failed}")
        return None

    def _part(self) -> None:
        """Everything is said, to both sides."""
        self.tap.closed()
        self.server_side.owner = NOBODY
        self.server_side.close(orderly=True)
        Linger(self.session, self.client, "refused").begin()

    def timed_out(self) -> None:
        """Nobody has said anything for the idle time, or a head did not come to its end."""
        self.session.close("time limit: head" if self.head is not None else "idle")

    def closing(self, orderly: bool) -> None:
        """Both legs end. One that was cut is passed on as cut: the other side gets no close_notify."""
        self.tap.closed()
        server = self.server_side
        server.owner = NOBODY
        # One who ended without close_notify, or was cut off, may have had more to say: the other must be able to tell.
        if orderly and (self.server.ended or not (self.server_done or server.lost)):
            self.client.end()
        server.close(orderly, notify=self.client.ended or not self.client_done)
