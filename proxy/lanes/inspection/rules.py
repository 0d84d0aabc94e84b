"""Who may ask for what in the inspection lane, what bodies may cost, and what is said where something may not be."""

from __future__ import annotations

from collections.abc import Callable

from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.proxy.layers.http import ErrorCode

from certs.names import InvalidHost, parse_host
from proxy import refusals
from proxy.basic import presented
from proxy.disclosure import Disclosure
from proxy.lanes.exchange import Exchange
from proxy.lanes.inspection import plain
from proxy.lanes.inspection.hooks import InspectorFailed
from proxy.lanes.inspection.inspectors import Inspectors, Plan
from proxy.lanes.inspection.messages import (
    Oversize,
    ParentRefuses,
    Spoiled,
    inspector_failed,
    no_room,
    not_switched,
    too_large,
    uninspected,
)
from proxy.lanes.misdirected import Addressee
from proxy.log import ERROR
from proxy.parent import Parent
from proxy.refusals import Refusal
from proxy.session import Session


class Rules:
    """What the streams of one connection ask; see :class:`proxy.lanes.inspection.asking.Lane`."""

    __slots__ = ("addressee", "asked", "host", "inspectors", "left", "port", "secure", "session")

    def __init__(self, session: Session, inspectors: Inspectors, host: str, port: int, secure: bool) -> None:
        self.session = session
        self.inspectors = inspectors
        self.host = host
        self.port = port
        self.secure = secure
        """Requests come through TLS, for the one host; else each names its own."""
        self.addressee = Addressee(host)
        self.asked = False
        """A request has come."""
        self.left: list[tuple[int, int]] = []
        """By stream: bytes that are still reserved, though what was kept in them is on its way to the client."""

    def parent(self, host: str) -> Parent | None:
        """Through which other proxy the host is reached; what is no host, through none."""
        try:
            return self.session.worker.parents.of(self.session.tenant.tenant, self.session.goes_to(parse_host(host)))
        except InvalidHost:
            return None

    def admit(self, flow: http.HTTPFlow) -> Refusal | None:
        """Say where the request goes, and whether it may be asked for on this connection."""
        self.asked = True
        request = flow.request
        flow.metadata["sallyport_tenant"] = self.session.tenant.tenant
        flow.metadata["sallyport_id"] = self.session.id
        named = request.data.authority
        host = request.headers.get_all("host")
        if not self.secure:
            credentials = presented([(name.lower(), value) for name, value in request.headers.fields])
            request.headers.pop("proxy-authorization", None)  # no inspector's, whatever comes of the request
            if not self.session.carries(credentials):
                self.session.abort("another client's request")
                return refusals.no_tenant(self.session.id)
            if (refusal := plain.admit(request, self.session.id, self.session.towards is not None)) is not None:
                self.session.refused(refusal)
            elif request.data.host == self.session.worker.site.name:
                # Its client asks again, on a connection of its own (RFC 9112 section 9.3.1), which is no inspector's.
                refusal = refusals.own_name(request.data.host, self.session.id)
                self.session.abort("a request for the proxy itself")
            self.session.asked = request.data.host
            return refusal
        if request.data.scheme != b"https":
            return self.malformed("a scheme that is not that of the connection (RFC 9113 section 8.3.1)")
        if not (named or (host and host[0])) and request.data.http_version != b"HTTP/1.0":
            return self.malformed("no host is named (RFC 9110 section 7.2)")
        request.data.host, request.data.port = self.host, self.port
        if named and host and host != [named.decode("latin-1")] and not self.addressee.accepts(host[0].encode()):
            return self.malformed("Host and :authority differ (RFC 9113 section 8.3.1)")
        named = named or (host[0].encode("latin-1") if host else b"")
        if not request.is_http2:
            request.data.authority = b""
        if named and not self.addressee.accepts(named) and self.session.worker.settings.tunnel.misdirected == "refuse":
            refusal = refusals.misdirected(self.host, named.decode("latin-1"), self.session.id)
            self.session.refused(refusal)
            return refusal
        return None

    @property
    def disclosure(self) -> Disclosure:
        """What is told of requests."""
        return self.session.disclosure

    def answered(self, response: http.Response) -> None:
        """A server's response has come."""
        if not self.secure:
            plain.answer(response)

    def plan(self, *hosts: str) -> Plan:
        """Which inspectors see the hosts, now: they may have been loaded again."""
        return self.inspectors.plan(self.session.tenant.tenant, *hosts)

    def joined(self, plan: Plan, host: str) -> tuple[Plan, Plan]:
        """The inspectors for the host that are not in the plan, and all together."""
        unseen = self.inspectors.unseen(plan, self.session.tenant.tenant, host)
        return unseen, self.inspectors.together(plan, unseen) if unseen.scripts else plan

    def uninspected(self, host: str) -> Refusal:
        """What is said of a request that was sent on to a host whose inspectors cannot see it."""
        refusal = uninspected(host, self.session.id)
        self.session.refused(refusal)
        return refusal

    def malformed(self, why: str) -> Refusal:
        """What is said of a request that breaks the rules of HTTP."""
        refusal = refusals.bad_request(400, why, self.session.id, self.host)
        self.session.refused(refusal)
        return refusal

    def unreadable(self, why: str) -> Refusal:
        """What is said of a response that breaks the rules of HTTP."""
        return self.refuse(ErrorCode.RESPONSE_VALIDATION_FAILED, why)

    def refuse(self, code: ErrorCode, why: str) -> Refusal:
        """What a client is told for one of mitmproxy's errors."""
        if isinstance(why, Spoiled):
            self.session.log(ERROR, "inspector failed", inspector=None, host=self.host, reason=str(why), action="block")
            return inspector_failed("that has changed it", self.host, self.session.id)
        if isinstance(why, (Oversize, ParentRefuses)):
            refusal = why.worded(self.host, self.session.id)
            self.session.refused(refusal)
            return refusal
        if code in (ErrorCode.GENERIC_CLIENT_ERROR, ErrorCode.REQUEST_VALIDATION_FAILED, ErrorCode.DESTINATION_UNKNOWN):
            return self.malformed(why)
        if code is ErrorCode.CONNECT_FAILED:
            refusal = refusals.connection_terminated(self.host, self.port, self.session.id, why)
        elif code is ErrorCode.RESPONSE_VALIDATION_FAILED or "malformed" in why:
            refusal = refusals.response_malformed(self.host, self.session.id)
        else:
            refusal = refusals.response_incomplete(self.host, self.session.id)
        self.session.refused(refusal)
        return refusal

    def spoiled(self, why: str) -> Refusal:
        """What is said of a message that an inspector has changed, and that cannot be sent so."""
        return self.refuse(ErrorCode.GENERIC_SERVER_ERROR, Spoiled(why))

    def not_switched(self, why: str) -> Refusal:
        """What is said where a server changes to a protocol that cannot be inspected."""
        refusal = not_switched(why, self.host, self.session.id)
        self.session.refused(refusal)
        return refusal

    def too_large(self, request: bool) -> Refusal | None:
        """What is said of a body beyond the limit; None: it is streamed."""
        if self.inspectors.settings.on_large == "stream":
            return None
        refusal = too_large(request, self.limit(), self.host, self.session.id)
        self.session.refused(refusal)
        return refusal

    def no_room(self, request: bool) -> Refusal:
        """What is said of a body for which there is no memory left."""
        refusal = no_room(request, self.host, self.session.id)
        self.session.refused(refusal)
        return refusal

    def limit(self) -> int:
        """Bytes of one body that may be buffered."""
        return self.inspectors.settings.body_limit

    def reserve(self, more: int) -> bool:
        """Take so many bytes of what all buffered bodies of the worker may use."""
        if more > self.inspectors.body_memory:
            return False
        self.inspectors.body_memory -= more
        return True

    def watch_stream(self, plan: Plan, message: http.Message, client: Client) -> None:
        """See that a stream function that a script has set is called as a hook is."""
        self.inspectors.watch_stream(plan, message, client)

    def inspector_failed(self, error: InspectorFailed) -> Refusal:
        """What is said where an inspector has failed."""
        return inspector_failed(error.inspector, self.host, self.session.id)

    def hand_over(self, stream_id: int, size: int) -> None:
        """Give so many of them back, once the client has taken what was kept in them."""
        self.left.append((stream_id, size))

    def settle(self, taken: Callable[[int], bool]) -> None:
        """Give back what was kept for streams of which all was ``taken``."""
        left, self.left = self.left, []
        for stream_id, size in left:
            if taken(stream_id):
                self.inspectors.body_memory += size
            else:
                self.left.append((stream_id, size))

    def trailers(self, fields: http.Headers) -> http.Headers:
        """Trailers, as they may be passed on."""
        return fields if self.secure else plain.trailers(fields)

    def now(self) -> float:
        """Seconds since 1970."""
        return self.session.worker.wall()

    def exchange(self, exchange: Exchange) -> None:
        """A request and its response are through."""
        self.session.exchange(exchange)
