"""What may be told of a client and its requests, in the log and in traces, after the settings for its tenant.

It is worked out once for a tenant. A tap asks :attr:`Disclosure.path` for each request, and for more only where more is
to be told: the default costs what a fixed rule would.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from config.settings import Log as Settings
from config.settings import Privacy
from proxy.lanes.exchange import MAX_PATH, Exchange, path_of, readable

MAX_FIELD: Final = 256
"""Characters of a header field's value."""
MAX_QUERY: Final = 512
NETWORK: Final = {4: 24, 6: 64}
"""Bits of an address that tell a network and no host in it."""
URLS: Final = frozenset({"referer", "location", "content-location", "x-original-url", "x-rewrite-url", "destination"})
"""Fields whose value is a URL: what may not be told of a request's own URL may not be told of these."""

type Fields = Iterable[tuple[bytes, bytes]]
"""Header fields, as they stand in the message."""


class Disclosure:
    """One tenant's rules. ``more_of_request`` and ``more_of_response``: there is more to tell than the path."""

    __slots__ = ("_client", "_path", "_query", "_request_fields", "_response_fields", "_user", "more_of_request",
                 "more_of_response", "path", "requests")  # fmt: skip

    def __init__(self, privacy: Privacy, requests: bool = True) -> None:
        self.requests = requests and privacy.requests
        self.path: Callable[[bytes], str] = path_of if privacy.path == "full" else _no_path
        """A request target's path as it is told."""
        self._client = privacy.client
        self._user = privacy.user
        self._path = privacy.path
        self._query = privacy.query
        self._request_fields = tuple(name.encode() for name in privacy.request_headers)
        self._response_fields = tuple(name.encode() for name in privacy.response_headers)
        self.more_of_request = self.requests and (privacy.query != "none" or bool(privacy.request_headers))
        self.more_of_response = self.requests and bool(privacy.response_headers)

    def client(self, address: str) -> str:
        """A client's address as it is told: whole, its network (/24, /64), or "" for not at all."""
        if self._client == "full":
            return address
        if self._client == "none":
            return ""
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return ""
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return str(ipaddress.ip_network((parsed, NETWORK[parsed.version]), strict=False))

    def user(self, name: str) -> str:
        """The name of a proxy user as it is told: whole, or "" for not at all."""
        return name if self._user == "full" else ""

    def tell_request(self, exchange: Exchange, target: bytes, fields: Fields) -> None:
        """Note what else is to be told of a request; to be called where ``more_of_request`` says so."""
        more: dict[str, Any] = {}
        if self._query != "none" and (query := self.query(target)):
            more["query"] = query
        if told := self._fields(self._request_fields, fields):
            more["request_headers"] = told
        if more:
            exchange.more = {**(exchange.more or {}), **more}

    def tell_response(self, exchange: Exchange, fields: Fields) -> None:
        """The same of a response."""
        if told := self._fields(self._response_fields, fields):
            exchange.more = {**(exchange.more or {}), "response_headers": told}

    def query(self, target: bytes) -> str:
        """A request target's query as it is told: nothing, the names of its parameters, or all of it."""
        query = target.partition(b"#")[0].partition(b"?")[2]
        if self._query == "none":
            return ""
        if self._query == "names":
            query = b"&".join(part.partition(b"=")[0] for part in query.split(b"&"))
        return readable(query, MAX_QUERY)

    def _fields(self, wanted: tuple[bytes, ...], fields: Fields) -> dict[str, str]:
        if not wanted:
            return {}
        found: dict[str, str] = {}
        for name, value in fields:
            if (low := name.lower()) in wanted:
                key, text = low.decode("ascii"), self._value(low.decode("ascii"), value.strip(b" \t"))
                found[key] = f"{found[key]}, {text}"[:MAX_FIELD] if key in found else text
        return found

    def _value(self, name: str, value: bytes) -> str:
        text = "".join(c if " " <= c <= "~" else f"%{ord(c):02X}" for c in value[:MAX_PATH].decode("latin-1"))
        if name in URLS:
            text = self._url(text)
        return text[:MAX_FIELD]

    def _url(self, text: str) -> str:
        try:
            url = urlsplit(text)
        except ValueError:
            return ""
        # User information would be a password in the log.
        place = f"{url.scheme}://{url.netloc.rpartition('@')[2]}" if url.netloc else ""
        path = url.path if self._path == "full" else ""
        query = self.query(f"?{url.query}".encode())
        return f"{place}{path}{'?' if query else ''}{query}"


def disclosure_for(settings: Settings, tenant: str) -> Disclosure:
    """What the configuration says for a tenant."""
    return Disclosure(settings.privacy_of(tenant), settings.requests)


def fields_of(head: bytes) -> Fields:
    """The fields of an HTTP/1 head that was parsed before: its lines but the first (RFC 9112, section 5)."""
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            yield name, value


def _no_path(target: bytes) -> str:
    return ""


DEFAULT: Final = Disclosure(Privacy())
"""Paths without queries, no header fields."""
