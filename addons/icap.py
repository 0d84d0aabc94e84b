"""Has requests and responses scanned by an ICAP server (RFC 3507; docs/icap.md).

    mitmdump -s addons/icap.py --set icap_url=icap://127.0.0.1:1344/avscan

A message that could not be scanned is an exception from the hook. What then happens to it is the lane's `on_error`;
mitmdump logs it and lets the message pass.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl

from mitmproxy import ctx, http
from mitmproxy.addonmanager import Loader

from addons.icap_answer import Answer
from addons.icap_client import Client, Limits
from addons.icap_flows import apply, reqmod, respmod, streamed
from addons.icap_heads import IcapError, MessageError, values
from addons.icap_messages import Scan
from addons.icap_service import ServiceUrl
from addons.option_files import options_error
from addons.refusing import REFUSED

logger = logging.getLogger(__name__)

PREFIX = "icap_"
_FOUND = (b"x-infection-found", b"x-virus-id", b"x-violations-found")


class Icap:
    """The options are read when they are set; connections are made when the first message is scanned."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._requests: ServiceUrl | None = None
        self._responses: ServiceUrl | None = None

    def load(self, loader: Loader) -> None:
        """Define the options."""
        limits = Limits()
        loader.add_option("icap_url", str, "", "ICAP service for requests and responses: icap://HOST[:PORT]/SERVICE.")
        loader.add_option("icap_reqmod_url", str, "", "ICAP service for requests, where it is not icap_url.")
        loader.add_option("icap_respmod_url", str, "", "ICAP service for responses, where it is not icap_url.")
        loader.add_option("icap_timeout", int, 4, "Seconds for a message's whole transaction, waiting included.")
        loader.add_option("icap_preview", int, limits.preview, "Bytes to preview at most; -1: as the service says.")
        loader.add_option("icap_max_connections", int, limits.connections, "Connections to an ICAP server, per worker.")
        loader.add_option("icap_body_limit", int, limits.body, "Bytes of a body that the ICAP server may send back.")
        loader.add_option("icap_skip_streamed", bool, False, "Let bodies pass unscanned that were not kept.")
        loader.add_option("icap_client_ip", bool, False, "Tell the ICAP server the client's address (X-Client-IP).")
        loader.add_option("icap_ca_file", str, "", "PEM file with the CAs to trust for icaps; else the system's.")

    def configure(self, updated: set[str]) -> None:
        """Read the options. Raises OptionsError; then what was set before still counts."""
        if not any(name.startswith(PREFIX) for name in updated):
            return
        requests, responses = _services()
        limits = Limits(
            timeout=_at_least("icap_timeout", 1),
            preview=_at_least("icap_preview", -1),
            connections=_at_least("icap_max_connections", 1),
            body=_at_least("icap_body_limit", 1),
        )
        urls = [url for url in (requests, responses) if url is not None]
        client = Client(urls, limits, _trust(urls))
        self.done()
        self._client, self._requests, self._responses = client, requests, responses

    def done(self) -> None:
        """End the connections."""
        if self._client is not None:
            self._client.close()
        self._client = None

    async def request(self, flow: http.HTTPFlow) -> None:
        """Have the request scanned. An HTTP response that comes of it is the client's answer."""
        if flow.response is not None or (self._client is not None and self._requests is None):
            return
        if streamed(flow.request):
            _skip("request")
            return
        answer = await self._scan(flow, reqmod(flow), self._requests)
        if answer is not None and answer.response is not None:
            flow.metadata[REFUSED] = "icap"

    async def response(self, flow: http.HTTPFlow) -> None:
        """Have the response scanned: not what this or another inspector answered itself, nor a change of protocols."""
        if flow.response is None or REFUSED in flow.metadata or flow.response.status_code == 101:
            return
        if self._client is not None and self._responses is None:
            return
        if streamed(flow.response):
            _skip("response")
            return
        await self._scan(flow, respmod(flow, flow.response), self._responses)

    async def _scan(self, flow: http.HTTPFlow, scan: Scan, url: ServiceUrl | None) -> Answer | None:
        """Ask, and apply what is changed. Raises IcapError."""
        if self._client is None or url is None:
            raise IcapError("nothing is scanned: the icap options are wrong; the log of the start says what")
        answer = await self._client.scan(url, scan, _client_ip(flow) if ctx.options.icap_client_ip else None)
        if answer is None:
            return None
        try:
            apply(flow, answer)
        except MessageError as error:
            raise IcapError(f"ICAP server {url.text}: {scan.method}: {error}") from error
        logger.info("%s %s: changed by %s%s", flow.request.method, flow.request.pretty_host, url.text, _found(answer))
        return answer


def _services() -> tuple[ServiceUrl | None, ServiceUrl | None]:
    both, one, other = ctx.options.icap_url, ctx.options.icap_reqmod_url, ctx.options.icap_respmod_url
    if both and (one or other):
        raise options_error("icap_url is for requests and responses: unset it, or icap_reqmod_url and icap_respmod_url")
    if not (both or one or other):
        raise options_error("no ICAP server: set icap_url, or icap_reqmod_url, icap_respmod_url or both")
    if both:
        url = _url("icap_url", both)
        return url, url
    return _url("icap_reqmod_url", one) if one else None, _url("icap_respmod_url", other) if other else None


def _url(option: str, text: str) -> ServiceUrl:
    try:
        return ServiceUrl.parse(text)
    except ValueError as error:
        raise options_error(f"{option}: {error}") from None


def _at_least(option: str, least: int) -> int:
    value = int(getattr(ctx.options, option))
    if value < least:
        raise options_error(f"{option} is {value}; expected {least} or more")
    return value


def _trust(urls: list[ServiceUrl]) -> ssl.SSLContext | None:
    """What vouches for the servers of ``icaps`` URLs; None where there is none."""
    file = ctx.options.icap_ca_file
    if not any(url.address.tls for url in urls):
        if file:
            raise options_error("icap_ca_file is for TLS; set an icaps:// URL, or unset it")
        return None
    try:
        return ssl.create_default_context(cafile=file or None)
    except OSError as error:
        raise options_error(f"icap_ca_file: {file}: {error.strerror or error}; expected a PEM file with CAs") from None


def _skip(what: str) -> None:
    if not ctx.options.icap_skip_streamed:
        raise IcapError(
            f"the {what}'s body was passed on without being kept, so it cannot be scanned; raise the limit for bodies, "
            "or let such pass with icap_skip_streamed"
        )


def _client_ip(flow: http.HTTPFlow) -> str:
    address = ipaddress.ip_address(flow.client_conn.peername[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _found(answer: Answer) -> str:
    """What the server says that it found, for the log."""
    found = [value for name in _FOUND for value in values(answer.head.fields, name)]
    return f": {ascii(found[0].decode('latin-1'))[1:-1][:200]}" if found else ""


addons = [Icap()]
