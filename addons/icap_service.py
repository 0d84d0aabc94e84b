"""An ICAP service: its URL, and what its answer to OPTIONS says (RFC 3507 sections 4.2 and 4.10.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self
from urllib.parse import urlsplit

from addons.icap_heads import IcapHead, MessageError, items, number

DEFAULT_PORTS: Final = {"icap": 1344, "icaps": 11344}

_URL = re.compile(r"[!-~]+").fullmatch
_HOST = re.compile(r"[0-9A-Za-z._:-]+").fullmatch


@dataclass(frozen=True)
class Address:
    """Where connections go: services of one address share them."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True)
class ServiceUrl:
    """``icap://HOST[:PORT]/SERVICE``, or ``icaps://`` for TLS."""

    text: str
    host_field: str
    address: Address

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, whose text says what is expected."""
        expected = "expected icap://HOST[:PORT]/SERVICE, or icaps:// for TLS"
        if _URL(text) is None:
            raise ValueError(f"{text!r} has blanks or other characters that no URL has; {expected}")
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ValueError(f"{text!r} is no URL: {error}; {expected}") from None
        if parts.scheme not in DEFAULT_PORTS:
            raise ValueError(f"{text!r} is no ICAP URL; {expected}")
        if _HOST(host) is None or parts.username is not None or parts.fragment or port == 0:
            raise ValueError(f"{text!r} names no host that can be asked; {expected}")
        if parts.path in ("", "/"):
            raise ValueError(f"{text!r} names no service; {expected}")
        return cls(text, parts.netloc, Address(host, port or DEFAULT_PORTS[parts.scheme], parts.scheme == "icaps"))


class Transfer(Enum):
    """How a message is given to the service, by the extension of its path. The first that a list names wins."""

    COMPLETE = b"transfer-complete"
    PREVIEW = b"transfer-preview"
    IGNORE = b"transfer-ignore"


@dataclass(frozen=True)
class ServiceOptions:
    """What a service said of itself."""

    methods: frozenset[str]
    preview: int | None
    """Bytes; None: it takes no previews."""
    max_connections: int | None
    lifetime: int | None
    """Seconds for which this holds; None: until the ISTag changes."""
    tag: bytes | None
    transfers: Mapping[str, Transfer]
    """By extension in lower case; ``*`` for all others."""

    @classmethod
    def parse(cls, head: IcapHead, tag: bytes | None) -> Self:
        """From the head of a 200 to OPTIONS, and its ISTag. Raises MessageError."""
        methods = frozenset(item.decode("latin-1").upper() for item in items(head.fields, b"methods"))
        if not methods:
            raise MessageError("its answer to OPTIONS names no Methods")
        transfers: dict[str, Transfer] = {}
        for transfer in Transfer:
            for item in items(head.fields, transfer.value):
                transfers.setdefault(item.decode("latin-1").lower().removeprefix("."), transfer)
        return cls(
            methods=methods,
            preview=number(head.fields, b"preview"),
            max_connections=number(head.fields, b"max-connections") or None,
            lifetime=number(head.fields, b"options-ttl"),
            tag=tag,
            transfers=transfers,
        )

    def transfer(self, path: str) -> Transfer:
        """What the Transfer-* lists say of a path; where they say nothing, a preview is good enough."""
        name = path.partition("?")[0].rpartition("/")[2]
        extension = name.rpartition(".")[2].lower() if "." in name else ""
        return self.transfers.get(extension) or self.transfers.get("*", Transfer.PREVIEW)

    def preview_for(self, path: str, at_most: int) -> int | None:
        """Bytes to preview, never more than ``at_most`` (-1: as the service says); None: the message is sent whole."""
        if self.preview is None or self.transfer(path) is not Transfer.PREVIEW:
            return None
        return self.preview if at_most < 0 else min(self.preview, at_most)
