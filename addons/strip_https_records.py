"""Takes HTTPS and SVCB records (RFC 9460) out of DNS answers over HTTPS (RFC 8484).

    mitmdump -s addons/strip_https_records.py

Such a record tells a browser, before its first request, that a server speaks HTTP/3, and with which key the server's
name is to be hidden in the ClientHello (ECH, RFC 9849). Without it, it connects as it always did. Bodies of other kinds
keep streaming. What calls itself a DNS message and cannot be read raises: whether that blocks is the operator's choice.
"""

from __future__ import annotations

from mitmproxy import http

from addons.https_records import LARGEST, without

MEDIA_TYPE = "application/dns-message"
sallyport_body = "none"
"""Of Sallyport: no body need be kept but those that are asked for in ``responseheaders``."""


class StripHttpsRecords:
    """What has no such record stays as it is, to the octet."""

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Have the body of a DNS answer kept."""
        if flow.response is not None and _is_dns(flow.response):
            flow.response.stream = False

    def response(self, flow: http.HTTPFlow) -> None:
        """Look into it. Raises ValueError for what cannot be looked into."""
        response = flow.response
        if response is None or not _is_dns(response) or flow.request.method == "HEAD" or response.raw_content == b"":
            return
        content = response.get_content(strict=True)  # of whatever coding; None: it was too large to be kept
        if content is None or len(content) > LARGEST:
            raise ValueError(f"a DNS message of more than {LARGEST} bytes")
        if (shorter := without(content)) is not None:
            response.content = shorter


def _is_dns(response: http.Response) -> bool:
    said = ",".join(response.headers.get_all("content-type"))
    return any(each.partition(";")[0].strip().lower() == MEDIA_TYPE for each in said.split(","))


addons = [StripHttpsRecords()]
