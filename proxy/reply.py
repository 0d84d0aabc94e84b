"""What a server of our own says to a request: one refusal to all of them, or to each what a function makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxy.block_page import headers, render
from proxy.refusals import Refusal

_LONGEST = 1024
"""Characters of a field that are looked at."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as an answer of ours depends on it."""

    method: str
    target: str
    """As it came: in origin-form most often (RFC 9112, section 3.2)."""
    authority: bytes = b""
    """The field Host, or ``:authority``; empty where there is none."""
    accept: str = ""
    agent: str = ""
    protocol: str = "HTTP/1.1"

    @classmethod
    def of(
        cls, method: bytes, target: bytes, fields: Iterable[tuple[bytes, bytes]], protocol: str = "HTTP/1.1"
    ) -> Asked:
        """The request with these fields, names in lower case, pseudo-header fields among them or not."""
        found: dict[bytes, list[bytes]] = {}
        for name, value in fields:
            found.setdefault(name, []).append(value)
        return cls(
            method.decode("latin-1"),
            target.decode("latin-1"),
            b", ".join(found.get(b":authority") or found.get(b"host") or ()),
            b", ".join(found.get(b"accept", ())).decode("latin-1"),
            b", ".join(found.get(b"user-agent", ()))[:_LONGEST].decode("latin-1"),
            protocol,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response. Its fields say how long the body is, and leave out what is of one connection."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes


Says = Callable[[Asked | None], Reply]
"""Answers a request; None: one that could not be understood."""


def refusing(refusal: Refusal) -> Says:
    """Say the refusal to every request, in the form that it prefers."""

    def says(asked: Asked | None) -> Reply:
        content_type, body = render(refusal, asked.accept if asked is not None else None)
        return Reply(refusal.status, tuple(headers(refusal, content_type, len(body))), body)

    return says
