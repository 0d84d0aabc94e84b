"""Answers of our own over the client's TLS: every request on the connection gets one, most often the same refusal."""

from __future__ import annotations

from proxy.block import Refusal
from proxy.block_http1 import Http1Answer
from proxy.block_http2 import Http2Answer
from proxy.reply import Says
from proxy.session import Session, Unhurried
from proxy.tls_leg import LegError, TlsLeg

HTTP_PROTOCOLS = (b"h2", b"http/1.1")
LINGER_SECONDS = 2.0
"""For how long the client is still read: closing on unread bytes would reset it, and the answer with it."""


class AnswerLane(Unhurried):
    """Phase of a session whose server is out of it."""

    __slots__ = ("answer", "busy", "half", "leg", "reason", "says", "session")

    def __init__(self, session: Session, leg: TlsLeg, says: Refusal | Says) -> None:
        self.session = session
        self.leg = leg
        self.says = says
        self.reason = "refused" if isinstance(says, Refusal) else "answered"
        self.answer: Http1Answer | Http2Answer | None = None
        self.busy = True
        self.half = False

    def begin(self, asked: bytes) -> None:
        """Answer a client whose handshake is through, and who has asked already."""
        try:
            answer = self._answer()
            if asked and (out := answer.feed(asked)):
                self.leg.send(out)
        except LegError as error:
            return self.session.close(f"TLS: {error}")
        return self._after()

    def _answer(self) -> Http1Answer | Http2Answer:
        session = self.session
        http2 = self.leg.tls.get_alpn_proto_negotiated() == b"h2"
        self.answer = Http2Answer(self.says) if http2 else Http1Answer(self.says)
        session.deadline = session.loop.time() + session.worker.limits.tls_timeout
        if first := self.answer.start():
            self.leg.send(first)
        return self.answer

    def data(self, data: bytes) -> None:
        """Wire bytes of the client: its handshake, then its requests."""
        leg, session = self.leg, self.session
        try:
            if self.answer is None:
                if not leg.handshake(data):
                    return
                session.worker.metrics.handshake("client", session.loop.time() - leg.started)
                if session.followed:
                    session.stage("client handshake", tls=leg.tls.get_protocol_version_name())
                answer = self._answer()
                data = b""
            else:
                answer = self.answer
            plain = leg.receive(data)
            if plain and not answer.done and (out := answer.feed(plain)):
                leg.send(out)
        except LegError as error:
            return session.close(f"client handshake: {error}" if self.answer is None else f"TLS: {error}")
        return self._after()

    def _after(self) -> None:
        leg, session = self.leg, self.session
        if leg.ended:
            return session.close(self.reason)
        if self.answer is not None and self.answer.done and not leg.closed:
            leg.end()
            leg.half_close()
            session.deadline = min(session.deadline, session.loop.time() + LINGER_SECONDS)
        return None

    def ended(self) -> bool:
        """The client has read what it wanted."""
        self.session.close(self.reason)
        return False

    def writable(self, writable: bool) -> None:
        """A client that does not take its answers sends no more requests."""
        if writable:
            self.session.resume()
        else:
            self.session.pause()

    def timed_out(self) -> None:
        """The time for reading the answer is over."""
        self.session.close(self.reason)

    def closing(self, orderly: bool) -> None:
        """Say goodbye."""
        if orderly and self.leg.established:
            self.leg.end()
