"""A rule of ``header_policy``: what it does to the fields of a message. Pure: fields in, fields out.

Field names are compared without regard to case, and with ``_`` as ``-``: programs behind a gateway such as CGI or WSGI
read both as one name, so a client could slip the one past a rule for the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from certs.host_patterns import HostPattern

Field = tuple[bytes, bytes]
FRAMING = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "trailer",
        "te",
        "keep-alive",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy-connection",
        "http2-settings",
    }
)
"""Where a message ends, which host it is for, and what concerns one hop alone (RFC 9110 7.6.1): never a policy's."""


class Direction(StrEnum):
    """Whose fields a rule is about."""

    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done for some hosts: ``removed`` first, then ``replaced``, then ``added``.

    ``required``: names (as :func:`same` writes them) to the values that are allowed; None allows any.
    """

    hosts: tuple[HostPattern, ...]
    direction: Direction
    text: str = ""
    required: Mapping[bytes, frozenset[bytes] | None] | None = None
    removed: frozenset[bytes] = frozenset()
    replaced: tuple[Field, ...] = ()
    added: tuple[Field, ...] = ()

    def lacking(self, fields: Iterable[Field]) -> str | None:
        """The name of a field that is required and missing, or that has a value which is not allowed."""
        if not self.required:
            return None
        for name, allowed in self.required.items():
            values = [value.strip(b" \t") for own, value in fields if same(own) == name]
            if not values or (allowed is not None and not allowed.issuperset(values)):
                return name.decode("ascii")
        return None

    def apply(self, fields: Iterable[Field], lower: bool) -> tuple[Field, ...]:
        """The fields after the rule. ``lower``: names are written in lower case (RFC 9113 8.2.1)."""
        kept = [field for field in fields if same(field[0]) not in self.removed]
        new = self.replaced + self.added
        return (*kept, *((name.lower(), value) for name, value in new)) if lower else (*kept, *new)


def same(name: bytes) -> bytes:
    """The form in which field names are compared."""
    return name.lower().replace(b"_", b"-")
