"""The page's place in a worker: whose device asks, on which listener, over what."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import h11

from certs.names import InvalidHost, parse_authority
from config.settings import Settings
from proxy import refusals
from proxy.head import BadHead, parse_head
from proxy.lanes.exchange import MAX_METHOD, Exchange
from proxy.lanes.misdirected import Addressee
from proxy.lanes.plain_answer import Answer, Ours
from proxy.lanes.plain_heads import Fields, field, read_target
from proxy.listeners.balanced import destination
from proxy.onboarding.answers import Here, answer
from proxy.refusals import RefusedError
from proxy.reply import Asked, Reply, Says, refusing

if TYPE_CHECKING:
    from proxy.session import Session

_ADDRESSED = frozenset({"explicit", "explicit-tls", "socks5"})
"""Modes whose listeners devices know of, and are told the address of."""
_METHOD = 32
"""Bytes in which a request's method ends, and its target begins."""


class Site:
    """The page, for all connections of a worker. ``clock`` tells the time in UTC."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self.name = settings.onboarding.name
        """The host that is the proxy itself; "" where it is none."""
        self._settings = settings.onboarding
        self._contact = settings.block_page.contact or ""
        self._clock = clock
        self._most = settings.limits.connect_head_bytes

    def is_asked(self, session: Session, data: bytes | bytearray, *, origin: bool) -> bool:
        """Whether a connection's first bytes are the whole head of a plain request for the page.

        ``origin``: the client takes us for the server. To be called where that decides who gets the connection: what
        cannot be told yet is none.
        """
        if not self.name:
            return False
        start = bytes(data[: self._most])
        if self.name.encode() not in start.lower() and (origin or b" /" not in start[:_METHOD]):
            return False
        try:
            head = parse_head(start, self._most + 1)
            if head is None or head.method == "CONNECT":
                return False
            named = field(head.headers, b"host")
            if not origin and head.target.startswith("/"):
                return self._straight(session, named)
            return read_target(head.method, head.target, "", named if origin else None).host.text == self.name
        except (BadHead, RefusedError):
            return False

    def to_plain(self, session: Session, *, alone: bool = False) -> Ours | None:
        """The answers to plain requests of a connection. ``alone``: the connection ends with the first of them."""
        if not self.name:
            return None

        def answered(request: h11.Request, path: str, straight: bool) -> Answer:
            scheme = "https" if session.listener.mode == "explicit-tls" else "http"
            site = f"{scheme}://{field(request.headers, b'host').decode('latin-1')}" if straight else ""
            agent = field(request.headers, b"user-agent").decode("latin-1")
            here = self._here(session, secure=False, site=site, past=straight)
            reply = answer(request.method.decode("latin-1"), path, agent, here)
            fields: Fields = [(name.encode(), value.encode("latin-1")) for name, value in reply.fields]
            return Answer(reply.status, fields, reply.body)

        return Ours(self.name, answered, partial(self._straight, session), alone)

    def to_tls(self, session: Session) -> Says:
        """The answers to what a connection asks inside of TLS for the name."""
        addressee = Addressee(self.name)

        def says(asked: Asked | None) -> Reply:
            if asked is None:
                return refusing(refusals.bad_request(400, "it is not valid HTTP", session.id, self.name))(None)
            if asked.authority and not addressee.accepts(asked.authority):
                named = asked.authority.decode("latin-1")
                return refusing(refusals.misdirected(self.name, named, session.id))(asked)
            path = _path(asked.target)
            reply = answer(asked.method, path, asked.agent, self._here(session, secure=True))
            self._tell(session, asked, path, reply)
            return reply

        return says

    def _here(self, session: Session, *, secure: bool, site: str = "", past: bool = False) -> Here:
        listener = session.listener
        # The working set of now: another CA may have become the active one on a connection that stayed open.
        snapshot = session.worker.snapshots.current.get(session.tenant_name)
        return Here(
            own=self.name,
            root=snapshot.root or None if snapshot is not None else None,
            now=self._clock(),
            mode=listener.mode,
            address=self._address(session) if listener.mode in _ADDRESSED else "",
            direct=self._settings.direct,
            contact=self._contact,
            site=site,
            secure=secure,
            past=past,
        )

    def _address(self, session: Session) -> str:
        """HOST:PORT of the listener as its devices reach it: as the settings say, or its certificate, or as it was."""
        listener = session.listener
        if (told := self._settings.addresses.get(listener.name)) is not None:
            return told
        address, port = destination(session.client) or session.client.get_extra_info("sockname")[:2]
        if listener.mode == "explicit-tls" and listener.tls.names:
            address = listener.tls.names[0]
        shown = str(address).partition("%")[0].removeprefix("::ffff:")
        return f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"

    def _straight(self, session: Session, named: bytes) -> bool:
        """Whether a request in origin-form was sent to a listener as to a web server, by the field Host.

        By a name of ours or by an address. Any other name could be a stranger's, who has it lead here (DNS rebinding).
        """
        try:
            host, _ = parse_authority(named.decode("ascii"), 80)
        except (InvalidHost, UnicodeDecodeError):
            return False
        if host.is_ip or host.text == self.name:
            return True
        told = self._settings.addresses.get(session.listener.name, "").rpartition(":")[0].lower()
        return host.text == told or host.text in session.listener.tls.names

    def _tell(self, session: Session, asked: Asked, path: str, reply: Reply) -> None:
        """A line of the log, as for any other request."""
        told, now = session.disclosure, session.worker.wall()
        size = 0 if asked.method == "HEAD" else len(reply.body)
        session.exchange(
            Exchange(
                asked.protocol, asked.method[:MAX_METHOD], self.name, told.path(path.encode("latin-1")), reply.status,
                response_bytes=size, started=now, first_byte=now, ended=now,
            )
        )  # fmt: skip


def _path(target: str) -> str:
    """The path of a target, which may be the whole address (RFC 9112, section 3.2.2)."""
    if target.lower().startswith("https://"):
        return "/" + target[len("https://") :].partition("/")[2]
    return target
