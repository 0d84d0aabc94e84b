"""A parent proxy, as the rest of the data plane knows it, and what can be wrong with the way through it."""

from __future__ import annotations

from dataclasses import dataclass, field

from certs.names import Host
from certs.scope import Trust
from proxy.upstream import DialError


@dataclass(frozen=True, slots=True)
class Parent:
    """Another proxy, through which some hosts are reached."""

    address: str
    """HOST:PORT as it is configured: how it is named to people."""
    host: Host
    port: int
    authorization: bytes = field(default=b"", repr=False)
    """The value of Proxy-Authorization (RFC 9110, section 11.7.1); empty: none is sent."""
    trust: Trust | None = None
    """Whom to believe that it is the parent; None: it is spoken to without TLS."""


class ParentError(DialError):
    """No way through the parent; ``parent`` is its configured address, ``status`` what it answered, if it did."""

    def __init__(self, error: str, parent: str, message: str, status: int | None = None) -> None:
        super().__init__(error, message)
        self.parent = parent
        self.status = status
