"""What the streams of a connection ask of the lane that they are in, which answers in ``rules.py``."""

from __future__ import annotations

from typing import Protocol

from mitmproxy import http
from mitmproxy.connection import Client

from proxy.disclosure import Disclosure
from proxy.lanes.exchange import Exchange
from proxy.lanes.inspection.hooks import InspectorFailed
from proxy.lanes.inspection.inspectors import Plan
from proxy.parent import Parent
from proxy.refusals import Refusal


class Lane(Protocol):
    """What a stream asks of the lane that it is in."""

    def parent(self, host: str) -> Parent | None:
        """Through which other proxy the host is reached."""

    def admit(self, flow: http.HTTPFlow) -> Refusal | None:
        """Say where the request goes, and whether it may."""

    @property
    def disclosure(self) -> Disclosure:
        """What is told of requests."""

    def answered(self, response: http.Response) -> None:
        """A server's response has come."""

    def plan(self, host: str) -> Plan:
        """Which inspectors see the host."""

    def joined(self, plan: Plan, host: str) -> tuple[Plan, Plan]:
        """Those for the host that are not in the plan; and all together."""

    def uninspected(self, host: str) -> Refusal:
        """What is said of a request that was sent on to a host whose inspectors cannot see it."""

    def malformed(self, why: str) -> Refusal:
        """What is said of a request that breaks the rules of HTTP."""

    def unreadable(self, why: str) -> Refusal:
        """What is said of a response that breaks the rules of HTTP."""

    def spoiled(self, why: str) -> Refusal:
        """What is said of a message that an inspector has changed, and that cannot be sent so."""

    def not_switched(self, why: str) -> Refusal:
        """What is said where a server changes to a protocol that cannot be inspected."""

    def too_large(self, request: bool) -> Refusal | None:
        """What is said of a body beyond the limit; None: it is streamed."""

    def no_room(self, request: bool) -> Refusal:
        """What is said of a body for which there is no memory left."""

    def reserve(self, more: int) -> bool:
        """Take so many bytes of what all buffered bodies may use."""

    def hand_over(self, stream_id: int, size: int) -> None:
        """Give so many of them back, once the client has taken what was kept in them."""

    def trailers(self, fields: http.Headers) -> http.Headers:
        """Trailers, as they may be passed on."""

    def limit(self) -> int:
        """Bytes of one body that may be buffered."""

    def watch_stream(self, plan: Plan, message: http.Message, client: Client) -> None:
        """See that a stream function that a script has set is called as a hook is."""

    def inspector_failed(self, error: InspectorFailed) -> Refusal:
        """What is said where an inspector has failed."""

    def now(self) -> float:
        """Seconds since 1970."""

    def exchange(self, exchange: Exchange) -> None:
        """A request and its response are through."""
