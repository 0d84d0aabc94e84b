"""Why a request is not served, with words for people: what happened, why, and whom to ask.

Statuses are those that RFC 9209 2.3 recommends for the error type, but for 403 where the organisation's rules say no
and 502 where this proxy itself cannot go on. Every function takes the id that the log has too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from certs.decision import Decision
from certs.verdict import COVERED_BY_UNTRUSTED, ORDER, STRICTNESS, Defect, Finding

ASK = "ask the people who run this proxy in your organisation, and give them the id below."
NEEDED = f"If you need it, {ASK}"
RETRY_SECONDS = 5
"""What a client over a limit is told to wait: connections come and go within seconds."""
LATER = f"Try again in a while. If it goes on, {ASK}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served, for a program and for a person.

    ``error`` is an error type of RFC 9209 2.3, ``details`` its machine-readable detail (a defect, ``sni_mismatch``),
    ``id`` what the log has too.
    """

    status: int
    error: str
    details: str | None
    title: str
    explanation: str
    remedy: str
    host: str
    id: str
    findings: tuple[Finding, ...] = ()
    """What is wrong with the server, those first for which it is blocked."""
    retry_after: int | None = None
    """Seconds after which it is worth another try, where that can be said."""
    challenge: str = ""
    """The value of Proxy-Authenticate (RFC 9110, section 11.7.1), where the client can say who it is."""
    allowed: frozenset[Defect] = frozenset()
    """Defects that a setting lets pass: the server is blocked for others."""
    by: tuple[str, ...] = ()
    """For the log: which setting decided, for each of :attr:`defects`."""

    @property
    def defects(self) -> list[Defect]:
        """Each defect of the findings once, in the order of the verdict."""
        return sorted({finding.defect for finding in self.findings}, key=ORDER.__getitem__)


class RefusedError(Exception):
    """Raised by what was asked to connect and will not or cannot."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.error}: {refusal.title}")
        self.refusal = refusal


def certificate(findings: Sequence[Finding], host: str, id: str, decision: Decision | None = None) -> Refusal:
    """The server's certificate has defects that are blocked. ``findings``: in the verdict's order, at least one.

    ``decision``: what is done about each; those count first for which the strictest is done. None: all are blocked.
    """
    reasons = () if decision is None else decision.reasons
    strictest = min((STRICTNESS[reason.action] for reason in reasons), default=0)
    allowed = frozenset(reason.defect for reason in reasons if STRICTNESS[reason.action] > strictest)
    by = () if decision is None else tuple(decision.by)
    findings = sorted(findings, key=lambda finding: finding.defect in allowed)
    if findings[0].defect is Defect.PROTOCOL:
        return replace(protocol(findings, host, id), allowed=allowed, by=by)
    defects = "defects" if len(findings) > 1 else "a defect"
    untrusted = any(finding.defect in COVERED_BY_UNTRUSTED - allowed for finding in findings)
    trust = " They can trust its CA, if it is one of theirs." if untrusted else ""
    return Refusal(
        502,
        "tls_certificate_error",
        findings[0].defect.value,
        "Blocked: this server's certificate cannot be trusted",
        f"The certificate that the server showed has {defects}, so nobody can be sure that it is {host}, nor that no "
        "one listens in. The connection was stopped before anything of your request was sent to it.",
        "If you run this server, mend its certificate as said above. Otherwise do not try to get around this: "
        f"if you need the site, {ASK}{trust}",
        host,
        id,
        tuple(findings),
        allowed=allowed,
        by=by,
    )


def protocol(findings: Sequence[Finding], host: str, id: str) -> Refusal:
    """The TLS handshake with the server failed, so there is nothing to judge or to allow."""
    return Refusal(
        502,
        "tls_protocol_error",
        Defect.PROTOCOL.value,
        "Blocked: no secure connection to this server",
        f"The proxy and {host} could not agree on a secure connection (TLS), so nothing was sent to it. The server may "
        "offer only outdated versions or ciphers, ask for a client certificate, or not speak TLS on this port.",
        f"If you run this server, let it offer TLS 1.2 or 1.3 with forward secrecy. {NEEDED}",
        host,
        id,
        tuple(findings),
    )


def sni_mismatch(connect_host: str, sni: str, id: str) -> Refusal:
    """The tunnel was asked for one host and the TLS inside it for another."""
    return Refusal(
        403,
        "http_request_denied",
        "sni_mismatch",
        "Blocked: two different hosts were asked for",
        f"The tunnel was asked for {connect_host}, but the TLS connection inside it asks for {sni}. A rule for the one "
        "could be got around with the other (domain fronting), so nothing was sent to either.",
        f"This comes from the program that you use or its settings. {NEEDED}",
        connect_host,
        id,
    )


def address_mismatch(host: str, address: str, id: str) -> Refusal:
    """A connection that a gateway sent us went to another address than those of the name that it asks for."""
    return Refusal(
        403,
        "http_request_denied",
        "address_mismatch",
        "Blocked: this address is not the host's",
        f"The connection was made to the address {address} and asks for {host}, which has other addresses. A rule for "
        "the name could be got around with the address, so nothing was sent to it.",
        "This may pass by itself: your device may know an address that the host no longer has, or ask another DNS "
        f"server than this proxy. {NEEDED}",
        host,
        id,
    )


def misdirected(host: str, asked: str, id: str) -> Refusal:
    """A request on the connection to ``host`` is for another one, ``asked`` (RFC 9110 15.5.20)."""
    return Refusal(
        421,
        "http_request_denied",
        "misdirected",
        "Blocked: this request belongs on another connection",
        f"A request for {asked or 'no host'} came on a connection that was made for {host}. A rule for the one could "
        "be got around with the other, so the request was not passed on.",
        "Browsers and most programs try again on a connection of its own. If yours does not, this comes from the "
        f"program that you use or its settings. {NEEDED}",
        host,
        id,
    )


def own_name(host: str, id: str) -> Refusal:
    """The host is the proxy itself, and this is no way to its page: no connection is ever made to it."""
    return _denied(
        403,
        "own_name",
        "Blocked: this name is the proxy's own",
        f"{host} is the proxy itself, which answers for it and connects to nobody. The request came in a way in which "
        "it cannot: on a connection that was made for another host, or sent on by an inspector.",
        f"Open http://{host}/ by itself.",
        host,
        id,
    )


def destination_prohibited(host: str, address: str | None, id: str) -> Refusal:
    """The egress rules do not allow the address that the host resolves to."""
    leads = f"{host} leads to the address {address}" if address and address != host else host
    verb = ", which" if leads != host else ", an address that"
    return Refusal(
        403,
        "destination_ip_prohibited",
        None,
        "Blocked: this address may not be reached through the proxy",
        f"{leads}{verb} the rules of this proxy do not let anybody connect to. Addresses of the proxy's own "
        "machine and network are among those, unless the operator allows them.",
        NEEDED,
        host,
        id,
    )


def dns_error(host: str, id: str, what: str = "the name does not exist, or it has no address") -> Refusal:
    """The name has no address. ``what`` the resolver said."""
    return Refusal(
        502,
        "dns_error",
        None,
        "This host name cannot be found",
        f"The proxy asked for the address of {host} and got none: {what}.",
        f"Check the spelling of the name. If it is right, {ASK}",
        host,
        id,
    )


def dns_timeout(host: str, id: str) -> Refusal:
    """Nobody answered for the name in time."""
    return Refusal(
        504,
        "dns_timeout",
        None,
        "The host name could not be looked up in time",
        f"The proxy asked for the address of {host} and got no answer in time.",
        LATER,
        host,
        id,
    )


def unresolved(host: str, id: str, timed_out: bool, what: str) -> Refusal:
    """The name could not be looked up: in time, or at all."""
    return dns_timeout(host, id) if timed_out else dns_error(host, id, what)


_UNREACHABLE = {
    "connection_refused": (
        502,
        "The server refused the connection",
        "does not accept connections on port {port}. The server may be down, or the port may be wrong.",
    ),
    "connection_timeout": (504, "The server does not answer", "did not answer on port {port} in time."),
    "connection_terminated": (
        502,
        "The server closed the connection",
        "(port {port}) closed the connection before it had answered.",
    ),
    "destination_ip_unroutable": (502, "The server cannot be reached", "(port {port}) cannot be reached from here."),
    "destination_unavailable": (503, "The server cannot be reached", "(port {port}) is not available."),
}


def unreachable(error: str, host: str, port: int, id: str, what: str = "") -> Refusal:
    """There is no connection to the server. ``error``: an error type of RFC 9209; ``what`` the system said, if it did.

    An error type that is not known here is told as ``destination_unavailable``.
    """
    error = error if error in _UNREACHABLE else "destination_unavailable"
    status, title, text = _UNREACHABLE[error]
    said = f" ({what[:300]})" if what else ""
    explanation = f"{host} {text.format(port=port).removesuffix('.')}".rstrip() + f".{said}"
    return Refusal(status, error, None, title, explanation, f"Check the address. {LATER}", host, id)


def connection_refused(host: str, port: int, id: str, what: str = "") -> Refusal:
    """The server's machine is there and refuses the connection."""
    return unreachable("connection_refused", host, port, id, what)


def connection_timeout(host: str, port: int, id: str, what: str = "") -> Refusal:
    """The server did not answer the connection in time."""
    return unreachable("connection_timeout", host, port, id, what)


def connection_terminated(host: str, port: int, id: str, what: str = "") -> Refusal:
    """The server closed the connection before it answered."""
    return unreachable("connection_terminated", host, port, id, what)


_THROUGH_PARENT = {
    "dns_error": (502, "its name cannot be found"),
    "dns_timeout": (504, "its name could not be looked up in time"),
    "destination_ip_prohibited": (502, "its address is one that this proxy may not connect to"),
    "destination_ip_unroutable": (502, "it cannot be reached from here"),
    "connection_refused": (502, "it refuses connections"),
    "connection_timeout": (504, "it did not answer in time"),
    "connection_terminated": (502, "it closed the connection"),
    "tls_protocol_error": (502, "no TLS could be agreed on with it"),
    "tls_certificate_error": (502, "its certificate cannot be trusted"),
    "proxy_configuration_error": (502, "it does not let this proxy in"),
    "http_request_denied": (403, "it does not let anybody go there"),
    "http_response_timeout": (504, "it did not answer in time"),
    "destination_unavailable": (503, "it cannot reach the server"),
}
"""Statuses, and the words for people, of what can be wrong with the way through another proxy."""


def through_parent(error: str, host: str, port: int, id: str, parent: str, what: str) -> Refusal:
    """``host`` is reached through another proxy, ``parent``, and cannot be. ``error``: an error type of RFC 9209 2.3.

    ``what`` is for the log, and for whoever reads ``details``; the parent is named by its configured address alone.
    """
    where = f"{host} (port {port})" if host and port else host or "this server"
    status, words = _THROUGH_PARENT.get(error, (502, "what it answered makes no sense"))
    denied = status == 403
    return Refusal(
        status,
        error,
        f"parent {parent}: {what[:200]}",
        "Blocked: another proxy on the way does not allow this" if denied else "The server cannot be reached",
        f"Connections to {where} go through another proxy of your organisation, and {words}. Nothing of "
        "your request was sent to the server.",
        NEEDED if denied else LATER,
        host,
        id,
    )


def response_malformed(host: str, id: str) -> Refusal:
    """What the server answered is no HTTP."""
    return Refusal(
        502,
        "http_protocol_error",
        None,
        "The server's answer cannot be understood",
        f"What {host} answered is not valid HTTP, so it was not passed on: it could mean one thing to the proxy and "
        "another to your program.",
        f"If you run this server, mend its answers. {NEEDED}",
        host,
        id,
    )


def response_incomplete(host: str, id: str) -> Refusal:
    """The server ended the connection in the head of its answer."""
    return Refusal(
        502,
        "http_response_incomplete",
        None,
        "The server's answer broke off",
        f"{host} closed the connection in the middle of the head of its answer, so there is nothing to pass on.",
        LATER,
        host,
        id,
    )


def loop(host: str, id: str) -> Refusal:
    """The request has already come through this proxy."""
    return Refusal(
        502,
        "proxy_loop_detected",
        None,
        "The request runs in a circle",
        f"The request for {host} has already passed this proxy: it, or a proxy behind it, leads back to it.",
        f"Ask for another address than the proxy's own. If you did, {ASK}",
        host,
        id,
    )


def bad_request(status: int, why: str, id: str, host: str = "") -> Refusal:
    """The request is malformed. ``why``: one line that says what and where; ``status``: 400, 431, 501 or 505."""
    return Refusal(
        status,
        "http_request_error",
        None,
        "The request cannot be understood",
        f"What your program sent to the proxy is not a request that can be served: {why}.",
        f"This comes from the program that you use or its proxy settings. If it goes on, {ASK}",
        host,
        id,
    )


HEAD_LIMITS = {"header_fields": "{} header fields", "header_bytes": "{} bytes of header fields"}
"""What ``details`` says of a head that is too large, with the words for it."""


def request_head_too_large(detail: str, limit: int, host: str, id: str) -> Refusal:
    """The request's head is beyond ``limit``, that of the setting ``detail`` (RFC 6585 section 5)."""
    return Refusal(
        431,
        "http_request_error",
        detail,
        "The request has more header fields than may pass",
        f"What your program sent has more than {HEAD_LIMITS[detail].format(limit)}, the most that may pass here, so "
        "it was not passed on. Most often it is cookies that have gathered.",
        f"Delete the cookies of {host or 'the website'} and try again. If it goes on, {ASK}",
        host,
        id,
    )


def response_head_too_large(detail: str, limit: int, host: str, id: str) -> Refusal:
    """The response's head is beyond ``limit``, that of the setting ``detail`` (RFC 9209 section 2.3.20)."""
    return Refusal(
        502,
        "http_response_header_section_size",
        detail,
        "The server's answer has more header fields than may pass",
        f"What {host} answered has more than {HEAD_LIMITS[detail].format(limit)}, the most that may pass here, so it "
        "was not passed on.",
        f"If you run this server, let it answer with fewer of them. {NEEDED}",
        host,
        id,
    )


def _denied(status: int, details: str, title: str, explanation: str, remedy: str, host: str, id: str) -> Refusal:
    """The request is well-formed and not one that this proxy serves."""
    return Refusal(status, "http_request_denied", details, title, explanation, remedy, host, id)


def not_tls(host: str, id: str) -> Refusal:
    """What came through a tunnel is not TLS."""
    return _denied(
        403,
        "not_tls",
        "Blocked: what came through the tunnel is not TLS",
        f"What was sent through the tunnel to {host} is not TLS. This proxy passes only TLS connections through "
        "tunnels, since it cannot check anything else; nothing was sent to the server.",
        "For a plain http:// address, let your program send the request to the proxy without CONNECT. "
        f"For another protocol, {ASK}",
        host,
        id,
    )


def not_a_web_server(id: str) -> Refusal:
    """A request in origin-form: somebody opened the proxy's port as if it were a website."""
    return _denied(
        400,
        "origin_form",
        "This is a proxy, not a website",
        "This is the port of a proxy, not a website. A request to a proxy names the whole address, as in "
        "GET http://example.com/ HTTP/1.1, or asks for a tunnel, as in CONNECT example.com:443 HTTP/1.1.",
        "Enter this address and port as the HTTP proxy in the settings of your system, browser or program, then open "
        "the website by its own address.",
        "",
        id,
    )


def wrong_scheme(scheme: str, id: str) -> Refusal:
    """A request for a whole address whose scheme is not http."""
    return _denied(
        400,
        "scheme",
        "The proxy does not serve this kind of address",
        f"Without a tunnel this proxy serves http:// addresses only, and this request is for {scheme}://. For https:// "
        "and wss:// addresses a client asks for a tunnel with CONNECT host:443 and speaks TLS inside it.",
        f"This comes from the program that you use: let it use CONNECT. If you cannot change it, {ASK}",
        "",
        id,
    )


def shown_target(target: str) -> str:
    """A request's target for a message or a log: without user information, which can be a password, and not long."""
    return target.rpartition("@")[2][:100]


def late_connect(target: str, id: str) -> Refusal:
    """A CONNECT, for this target, on a connection that has carried plain requests."""
    return _denied(
        400,
        "late_connect",
        "A tunnel needs a connection of its own",
        "This connection to the proxy has carried plain HTTP requests before, so no tunnel is made of it.",
        "This comes from the program that you use: let it open a new connection to the proxy for CONNECT.",
        shown_target(target),
        id,
    )


def outdated(host: str, id: str) -> Refusal:
    """The store could not be read for so long that nobody knows whether what is trusted here still may be."""
    return Refusal(
        503,
        "proxy_configuration_error",
        "store_outage",
        "The proxy has lost touch with its settings",
        "This proxy has not been able to read its settings for too long, so it no longer knows whom it may trust, and "
        "begins no new connections. The website itself may be fine.",
        LATER,
        host,
        id,
    )


def cannot_sign(host: str, id: str) -> Refusal:
    """The tenant's signing CA has expired, or its key cannot be opened: no leaf would be one that verifies."""
    return Refusal(
        502,
        "proxy_configuration_error",
        "signing_ca",
        "The proxy cannot sign certificates now",
        f"The certificate authority with which this proxy shows you {host} has expired or cannot be used, so nothing "
        "is intercepted, and nothing is let through unseen. The website itself may be fine.",
        f"It has to be seen to by whoever runs this proxy: {ASK}",
        host,
        id,
    )


def key_manager_down(host: str, id: str) -> Refusal:
    """The tenant's CA key is in a key manager, which cannot be asked, and there is no leaf for the host yet."""
    return Refusal(
        502,
        "proxy_internal_error",
        "key_manager",
        "The proxy cannot sign certificates for new websites now",
        f"The certificate with which this proxy shows you {host} is signed elsewhere in your organisation, and no "
        "signature can be had from there. Websites that were visited in the last days work. The website itself may be "
        "fine.",
        LATER,
        host,
        id,
        retry_after=RETRY_SECONDS,
    )


def credentials_required(challenge: str, id: str) -> Refusal:
    """The client has not said who it is (RFC 9110, section 15.5.8)."""
    return Refusal(
        407,
        "http_request_denied",
        "credentials_required",
        "The proxy has to know who you are",
        "This proxy serves those whom it knows, and no user's name and password came with the request. Nothing of it "
        "was passed on.",
        f"Enter your name and password for the proxy, or put them into your program's proxy settings. Otherwise {ASK}",
        "",
        id,
        challenge=challenge,
    )


def credentials_wrong(challenge: str, id: str) -> Refusal:
    """There is no such user, or the password is another one. Which of both is not said."""
    return Refusal(
        407,
        "http_request_denied",
        "credentials_wrong",
        "The name or the password for the proxy is wrong",
        "There is no user of this proxy with the name and the password that came with the request. Nothing of it was "
        "passed on.",
        f"Check both, and that your program has no old ones saved. If they are right, {ASK}",
        "",
        id,
        challenge=challenge,
    )


def too_many_guesses(seconds: float, id: str) -> Refusal:
    """Too many wrong passwords came from the client, or for the user (RFC 6585, section 4)."""
    return Refusal(
        429,
        "http_request_denied",
        "guesses",
        "Too many passwords were tried",
        "Too many wrong passwords for this proxy came from your address or for your name, or too many are being looked "
        "at. The password that came with the request was not looked at.",
        f"Check the password in your program's proxy settings, and try again in a while. If it goes on, {ASK}",
        "",
        id,
        retry_after=max(1, math.ceil(seconds)),
    )


def clear_text(id: str) -> Refusal:
    """Who the client is cannot be asked, or be believed, over a connection that others can read."""
    return Refusal(
        403,
        "http_request_denied",
        "clear_text",
        "Blocked: no password may be sent over this connection",
        "This proxy serves those whom it knows by name and password, but your connection to it is not encrypted, so "
        "others on the way could read the password. Nothing of your request was passed on. If a password came with it, "
        "it was not looked at, and should be changed.",
        f"Reach the proxy by its encrypted port (https), if it has one. Otherwise {ASK}",
        "",
        id,
    )


def no_tenant(id: str) -> Refusal:
    """Nothing says whose connection it is."""
    return Refusal(
        403,
        "http_request_denied",
        "no_tenant",
        "Blocked: the proxy does not serve you here",
        "This port of the proxy serves several organisations, and nothing says that your connection belongs to one of "
        "them: your address is in none of their networks.",
        NEEDED,
        "",
        id,
    )


def too_many(which: str, id: str) -> Refusal:
    """A connection too many: ``which`` is the limit's name, or ``memory`` or ``overload`` for a worker at its own."""
    yours = which == "connections_per_client"
    whose = {
        "connections_per_client": "Your address has as many connections to this proxy open as one may have.",
        "connections_per_tenant": "Your organisation has as many connections to this proxy open as it may have.",
        "connections_per_listener": "As many connections are open on this port of the proxy as there may be.",
        "memory": "This proxy has no memory left for more connections than are open now.",
        "overload": "This proxy has as much to do as it can, and serves the connections that are open first.",
    }.get(which, "As many connections to this proxy are open as there may be.")
    return Refusal(
        503,
        "connection_limit_reached",
        which,
        "The proxy takes no more connections now",
        f"{whose} The connection was refused before anything of your request was read.",
        f"Close programs or tabs that you do not need, and try again. If it goes on, {ASK}" if yours else LATER,
        "",
        id,
        retry_after=RETRY_SECONDS,
    )


def internal(host: str, id: str) -> Refusal:
    """This proxy cannot go on: no certificate for the host can be had, or a part of it is down."""
    return Refusal(
        502,
        "proxy_internal_error",
        None,
        "The proxy cannot serve this request now",
        f"A part of the proxy that is needed for {host} does not answer, such as the one that signs certificates. The "
        "website itself may be fine.",
        LATER,
        host,
        id,
    )
