"""The explicit proxy: a client that knows it has one says CONNECT, or sends plain HTTP requests in absolute form.

What is known before the tunnel stands is said in the answer to the CONNECT: a malformed request, a client that nobody
knows, a name without an address, an address that is out of bounds.
"""

from __future__ import annotations

from certs.names import InvalidHost, parse_authority
from proxy import basic, refusals
from proxy.block import Refusal, answer_bytes
from proxy.head import BadHead, HeadReader, RequestHead
from proxy.lanes.forward import forward
from proxy.lanes.plain_heads import PSEUDONYM, been_here
from proxy.listeners.proxy_header import resembles_header
from proxy.listeners.way_in import WayIn
from proxy.session import Session, State, digest
from proxy.users import CHECK_SECONDS, Checked, Login
from proxy.whose import may_say

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
MOST_ASKED = 20
"""How often a client is asked on one connection who it is."""
MOST_DROPPED = 64 * 1024
"""Bytes of a body that are read and dropped, so that the client can ask again on the connection."""

NOT_BALANCED = "it begins as the PROXY protocol does, which is taken from the addresses in proxy_protocol alone"


class Explicit(WayIn):
    """Reads the first head and decides what the connection becomes."""

    __slots__ = ("asked", "checking", "dropping", "reader")

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.reader = HeadReader(session.worker.limits.connect_head_bytes)
        self.checking = False
        """A password is being verified."""
        self.asked = 0
        """How often the client was asked who it is."""
        self.dropping = 0
        """Bytes of the body of such a request that are still to come."""

    def data(self, data: bytes) -> None:
        """Gather the head; act on it when it is whole."""
        self.buffer += data
        self.busy = True
        if self.waits():
            return None
        return self._read()

    def waits(self) -> bool:
        """Whether what the client sends has to wait, since it is being looked into who it is, or where it goes."""
        if not self.checking:
            return super().waits()
        if len(self.buffer) > self.session.worker.limits.client_hello_bytes:
            self.session.pause()
        return True

    def _read(self) -> None:
        session, buffer = self.session, self.buffer
        if self.dropping:
            dropped = min(self.dropping, len(buffer))
            del buffer[:dropped]
            self.dropping -= dropped
        if not buffer:
            self.busy = False
            return None
        try:
            head = self.reader.read(buffer)
        except BadHead as error:
            why = NOT_BALANCED if resembles_header(buffer) else str(error)
            return session.say(refusals.bad_request(error.status, why, session.id))
        if head is None:
            return None
        if session.listener.authentication is not None:
            return self._whose(head)
        return self._go(head)

    def _go(self, head: RequestHead) -> None:
        """It is known whose it is, as far as that is to be known."""
        session, buffer = self.session, self.buffer
        if head.method != "CONNECT":
            if session.snapshot is None:
                return self.nobodys(refusals.no_tenant(session.id))
            if (refusal := session.outdated("")) is not None:
                return session.say(refusal)
            return forward(session, bytes(buffer))
        try:
            host, port = parse_authority(head.target)
        except InvalidHost as error:
            return session.say(
                refusals.bad_request(400, f"CONNECT {refusals.shown_target(head.target)}: {error}", session.id)
            )
        del buffer[: head.size]
        if been_here(head.headers, PSEUDONYM):
            return session.say(refusals.loop(host.text, session.id))
        return self.goes_to(host, port)

    # --- whose it is ---

    def _whose(self, head: RequestHead) -> None:
        """By the credentials that came with the request, where some did (RFC 9110, section 11.7)."""
        session = self.session
        value = basic.presented(head.headers)
        if value is None:
            return self._is_of(head, None, None)
        if not may_say(session):
            return session.say(refusals.clear_text(session.id))
        if (credentials := basic.parse(value)) is None:
            return self._wrong(head)
        users, listener = session.worker.users, session.listener
        if (login := users.at_once(listener, credentials.name, credentials.password)) is not None:
            return self._is_of(head, value, login)

        async def check() -> None:
            checked = await users.check(listener, credentials.name, credentials.password, session.peer)
            self._checked(head, value, checked)

        self.checking = True
        session.deadline = session.loop.time() + CHECK_SECONDS
        return session.run(check())

    def _checked(self, head: RequestHead, value: bytes, checked: Checked) -> None:
        session = self.session
        self.checking = False
        session.resume()
        if checked.login is not None:
            return self._is_of(head, value, checked.login)
        if checked.named is not None:
            # What may be told of a tenant's users is for the tenant to say, whoever it was that gave the name.
            tenant, name = checked.named
            disclosure = session.worker.disclosure(tenant)
            session.shown, session.facts["user"] = disclosure.client(session.peer), disclosure.user(name)
        if checked.wait > 0:
            return session.say(refusals.too_many_guesses(checked.wait, session.id))
        return self._wrong(head)

    def _is_of(self, head: RequestHead, value: bytes | None, login: Login | None) -> None:
        session = self.session
        session.login, session.presented = login, digest(value)
        session.facts.pop("user", None)
        if (limit := session.belongs()) is not None:
            session.worker.metrics.refused(limit)
            return session.say(refusals.too_many(limit, session.id))
        if session.snapshot is not None:
            return self._go(head)
        if session.tenant_name:
            return session.close("no such tenant")
        if not may_say(session):
            return session.say(refusals.clear_text(session.id))
        return self._ask(head, refusals.credentials_required(self._challenge(), session.id))

    def _wrong(self, head: RequestHead) -> None:
        """Wrong credentials are not taken for none, whatever else would say whose the connection is."""
        return self._ask(head, refusals.credentials_wrong(self._challenge(), self.session.id))

    def _challenge(self) -> str:
        authentication = self.session.listener.authentication
        assert authentication is not None  # noqa: S101 - asked for where it is set alone
        return basic.challenge(authentication.realm)

    def _ask(self, head: RequestHead, refusal: Refusal) -> None:
        """Answer 407, and stay for another try, where the request's end is known (RFC 9112, section 9.3)."""
        session, buffer = self.session, self.buffer
        self.asked += 1
        length = _body_length(head)
        close = length is None or self.asked >= MOST_ASKED or session.draining
        session.refused(refusal)
        session.client.write(answer_bytes(refusal, head.get(b"accept"), close, head.method == "HEAD"))
        session.facts.pop("user", None)
        if close or length is None:
            return session.close("refused")
        del buffer[: head.size]
        self.dropping = length
        self.reader = HeadReader(session.worker.limits.connect_head_bytes)
        session.deadline = session.loop.time() + session.worker.limits.connect_head_timeout
        # In another turn of the loop: a client that sends one after the other keeps nobody from his own.
        session.loop.call_soon(self._go_on)
        return None

    def _go_on(self) -> None:
        session = self.session
        if session.phase is self and not self.checking and session.state is State.HEAD:
            try:
                self._read()
            except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection and no other
                session.broken(error)

    # --- the end ---

    def established(self) -> None:
        """The answer to the CONNECT."""
        self.session.client.write(ESTABLISHED)

    def timed_out(self) -> None:
        """Too slow. Where there is half a head, say so."""
        session = self.session
        if self.checking:
            return session.say(refusals.too_many("overload", session.id))
        if session.state is State.HEAD and self.buffer:
            return session.say(refusals.bad_request(408, "the request's head did not come in time", session.id))
        return session.close("time limit")


def _body_length(head: RequestHead) -> int | None:
    """Bytes behind the head that belong to the request; None where the connection cannot be used after it."""
    options = {option.strip().lower() for option in (head.get(b"connection") or "").split(",")}
    if head.version == "1.0" or "close" in options or head.get(b"transfer-encoding") or head.get(b"expect"):
        return None
    if head.method == "CONNECT":
        return 0
    length = head.get(b"content-length") or "0"
    if not (length.isascii() and length.isdigit() and len(length) < 7) or int(length) > MOST_DROPPED:
        return None
    return int(length)
