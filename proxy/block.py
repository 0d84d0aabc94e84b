"""What a client is told when its request is not served: everything of it under one name.

:mod:`proxy.refusals` has the reasons with their words for people, :mod:`proxy.block_page` writes one as a page or a
problem document, :mod:`proxy.block_http1` and :mod:`proxy.block_http2` say it to every request of a client that speaks
HTTP inside its tunnel.
"""

from __future__ import annotations

from typing import Protocol

from proxy.block_http1 import Http1Answer
from proxy.block_http2 import Http2Answer
from proxy.block_page import answer_bytes, headers, proxy_status, render
from proxy.refusals import (
    Refusal,
    RefusedError,
    bad_request,
    certificate,
    connection_refused,
    connection_terminated,
    connection_timeout,
    destination_prohibited,
    dns_error,
    dns_timeout,
    internal,
    late_connect,
    loop,
    not_a_web_server,
    not_tls,
    protocol,
    response_incomplete,
    response_malformed,
    sni_mismatch,
    too_many,
    unreachable,
    unresolved,
    wrong_scheme,
)

__all__ = [
    "Answer",
    "Http1Answer",
    "Http2Answer",
    "Refusal",
    "RefusedError",
    "answer_bytes",
    "bad_request",
    "certificate",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "destination_prohibited",
    "dns_error",
    "dns_timeout",
    "headers",
    "internal",
    "late_connect",
    "loop",
    "not_a_web_server",
    "not_tls",
    "protocol",
    "proxy_status",
    "render",
    "response_incomplete",
    "response_malformed",
    "sni_mismatch",
    "too_many",
    "unreachable",
    "unresolved",
    "wrong_scheme",
]


class Answer(Protocol):
    """A server that gives every request on one connection the same refusal. Never raises on what it is fed."""

    done: bool
    """Everything is said: close, once what was returned has been sent."""

    def start(self) -> bytes:
        """What is sent before the client has said anything."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the client, return what is to be sent."""
