"""What becomes of a connection that is nobody's, and of a password that others could read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from certs.names import parse_host
from config.settings import Limits, Listener
from proxy.block import Refusal
from proxy.listeners.explicit import Explicit
from proxy.listeners.transparent import Transparent
from proxy.session import State
from proxy.whose import Whose, may_say
from tests.proxy.test_basic import field


class FakeSession:
    """As much of a session as a way in needs before it is known whose it is."""

    def __init__(self, socket_peer: str, peer: str = "", **listener: Any) -> None:
        self.listener = Listener.model_validate({"name": "shared", "bind": "127.0.0.1:0", **listener})
        self.peer = peer or socket_peer
        self.client = SimpleNamespace(get_extra_info=lambda name: (socket_peer, 1) if name == "peername" else None)
        self.worker = SimpleNamespace(limits=Limits(), whose=Whose([self.listener]))
        self.state = State.HEAD
        self.snapshot = None
        self.tenant_name = self.id = ""
        self.login: Any = None
        self.presented = b""
        self.facts: dict[str, Any] = {}
        self.said: list[Refusal] = []
        self.aborted: list[str] = []

    def belongs(self) -> None:
        assert self.worker.whose.tenant(self.listener, self.peer) == ""

    def say(self, refusal: Refusal) -> None:
        self.said.append(refusal)

    def refused(self, refusal: Refusal) -> None:
        self.said.append(refusal)

    def abort(self, why: str) -> None:
        self.aborted.append(why)


SHARED: dict[str, Any] = {"authentication": {"tenants": ["acme"]}}


@pytest.mark.parametrize(
    ("socket_peer", "peer", "listener", "may"),
    [
        ("127.0.0.1", "", SHARED, True),
        ("::1", "", SHARED, True),
        ("::ffff:127.0.0.1", "", SHARED, True),
        ("10.0.0.1", "", SHARED, False),
        ("127.0.0.1", "10.0.0.1", SHARED, False),  # another proxy is here, its client is not
        ("10.0.0.1", "127.0.0.1", SHARED, False),
        ("10.0.0.1", "", {"authentication": {"tenants": ["acme"], "clear_text": True}}, True),
        ("127.0.0.1", "", {}, False),
    ],
)
def test_a_password_is_asked_for_where_nobody_can_read_it(
    socket_peer: str, peer: str, listener: dict[str, Any], may: bool
) -> None:
    session: Any = FakeSession(socket_peer, peer, **listener)
    assert may_say(session) is may


@pytest.mark.parametrize("credentials", [b"", b"Proxy-Authorization: " + field("alice:secret") + b"\r\n"])
def test_in_clear_text_nobody_is_asked_and_no_password_is_looked_at(credentials: bytes) -> None:
    session: Any = FakeSession("10.0.0.1", **SHARED)
    Explicit(session).data(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n" + credentials + b"\r\n")
    (refusal,) = session.said
    assert (refusal.status, refusal.details, refusal.challenge) == (403, "clear_text", "")


@pytest.mark.parametrize("head", [b"CONNECT a.example:443 HTTP/1.1\r\n\r\n", b"GET http://a.example/ HTTP/1.1\r\n\r\n"])
def test_a_client_of_no_network_is_told(head: bytes) -> None:
    session: Any = FakeSession("10.0.0.1", networks=[{"network": "10.1.0.0/16", "tenant": "acme"}])
    Explicit(session).data(head)
    (refusal,) = session.said
    assert (refusal.status, refusal.error, refusal.details) == (403, "http_request_denied", "no_tenant")


def test_a_client_that_knows_of_no_proxy_is_reset() -> None:
    networks = [{"network": "10.1.0.0/16", "tenant": "acme"}]
    session: Any = FakeSession("10.0.0.1", mode="transparent", networks=networks)
    Transparent(session).goes_to(parse_host("192.0.2.1"), 443)
    assert session.aborted == ["nobody's"]
    assert session.said[0].details == "no_tenant"
