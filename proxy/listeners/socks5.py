"""SOCKS5 (RFC 1928): a client says where it wants to go in a few bytes, by name or address, and then whatever it likes.

Only CONNECT is served. A reply has a code and no words, so that what can be said later in TLS, or in HTTP, is: success
is replied as early as for an HTTP CONNECT, while TCP to the server opens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from proxy import refusals
from proxy.block import Refusal
from proxy.listeners import socks5_messages as messages
from proxy.listeners.socks5_messages import BadSocks
from proxy.listeners.way_in import WayIn
from proxy.session import Session, State
from proxy.whose import may_say

Verify = Callable[[Session, str, str], Awaitable[bool]]
"""Whether a user's name and password are right. Where they are, it says whose the connection is (Session.is_of)."""


def socks5(session: Session) -> Socks5:
    """The phase; on a listener with ``authentication`` its clients are asked who they are."""
    return Socks5(session, None if session.listener.authentication is None else verified)


async def verified(session: Session, name: str, password: str) -> bool:
    """Whether it is a user who may come here; whose the connection is, is known then."""
    checked = await session.worker.users.check(session.listener, name, password, session.peer)
    if checked.login is None:
        return False
    session.login = checked.login
    return session.belongs() is None and session.snapshot is not None


def known(session: Session) -> bool:
    """Whether something else than credentials says whose it is."""
    return bool(session.worker.whose.tenant(session.listener, session.peer, certificate=session.certified))


class Socks5(WayIn):
    """Negotiates, and reads the request."""

    __slots__ = ("asked", "step", "verify", "verifying")

    plain = True

    def __init__(self, session: Session, verify: Verify | None = None) -> None:
        """``verify``: clients have to say who they are, and this knows them. None: nobody is asked."""
        super().__init__(session)
        self.verify = verify
        self.verifying = False
        self.step: Callable[[Socks5], bool] = Socks5._greeting
        """Reads the next message; False where there is no more to read for now."""
        self.asked = False
        """A request is what is read, or was: there is a reply to say things in."""

    def data(self, data: bytes) -> None:
        """Gather a message; act on it when it is whole."""
        session, buffer = self.session, self.buffer
        buffer += data
        self.busy = True
        if self.waits():
            return None
        if self.verifying:
            if len(buffer) > session.worker.limits.client_hello_bytes:
                session.pause()
            return None
        return self._read()

    def _read(self) -> None:
        try:
            while self.buffer and self.step(self):
                pass
        except BadSocks as error:
            status = 501 if error.reply == messages.COMMAND_NOT_SUPPORTED else 400
            self._say(refusals.bad_request(status, str(error), self.session.id), error.reply)

    # --- the messages ---

    def _greeting(self) -> bool:
        session, buffer = self.session, self.buffer
        if b"A" <= buffer[:1] <= b"Z":
            # HTTP, most likely: then somebody can read why.
            session.say(refusals.bad_request(400, "this port expects SOCKS5 and no HTTP", session.id))
            return False
        if (greeting := messages.read_greeting(buffer)) is None:
            return False
        del buffer[: greeting.size]
        method = messages.NO_AUTHENTICATION
        # One who has no password to offer may be known by its network, as the listener's other clients are.
        if self.verify is not None and (messages.USERNAME_PASSWORD in greeting.methods or not known(session)):
            method = messages.USERNAME_PASSWORD
        if method == messages.USERNAME_PASSWORD and self.verify is verified and not may_say(session):
            session.client.write(messages.method_chosen(messages.NOT_ACCEPTABLE))
            self._end(refusals.clear_text(session.id))
            return False
        if method not in greeting.methods:
            wanted = "a user name and a password" if self.verify is not None else "no authentication"
            session.client.write(messages.method_chosen(messages.NOT_ACCEPTABLE))
            status = 407 if self.verify is not None else 400
            self._end(refusals.bad_request(status, f"the client does not offer {wanted}", session.id))
            return False
        session.client.write(messages.method_chosen(method))
        if method == messages.NO_AUTHENTICATION:
            self._expect_request()
        else:
            self.step = Socks5._credentials
        return True

    def _credentials(self) -> bool:
        if (given := messages.read_credentials(self.buffer)) is None:
            return False
        del self.buffer[: given.size]
        if not given.name or not given.password:
            self._wrong()
            return False
        self.verifying = True
        self.session.run(self._verify(given.name, given.password))
        return False

    async def _verify(self, name: str, password: str) -> None:
        assert self.verify is not None  # noqa: S101 - else nobody was asked for a name
        right = await self.verify(self.session, name, password)
        if self.session.phase is not self:
            return
        self.verifying = False
        if not right:
            return self._wrong()
        self.session.client.write(messages.credentials_answer(True))
        self._expect_request()
        self.session.resume()
        return self._read()

    def _wrong(self) -> None:
        session = self.session
        session.client.write(messages.credentials_answer(False))
        self._end(refusals.bad_request(407, "the user name or the password is wrong", session.id))

    def _expect_request(self) -> None:
        self.step = Socks5._request
        self.asked = True

    def _request(self) -> bool:
        if (request := messages.read_request(self.buffer)) is None:
            return False
        del self.buffer[: request.size]
        self.goes_to(request.host, request.port)
        return False

    # --- answers ---

    def established(self) -> None:
        """The request has succeeded, as far as anybody can tell yet."""
        self.session.client.write(messages.reply(messages.SUCCEEDED))

    def refuse(self, refusal: Refusal) -> None:
        """There is a code for it; the log has the words."""
        self._say(refusal, messages.REPLIES.get(refusal.error, messages.GENERAL_FAILURE))

    def _say(self, refusal: Refusal, code: int) -> None:
        if self.asked:
            self.session.client.write(messages.reply(code))
        self._end(refusal)

    def _end(self, refusal: Refusal) -> None:
        self.session.refused(refusal)
        self.session.close("refused")

    def timed_out(self) -> None:
        """Too slow. Where something has come, it is logged."""
        session = self.session
        if session.state is State.HEAD and self.busy:
            return self.refuse(refusals.bad_request(408, "the request did not come in time", session.id))
        return session.close("time limit")
