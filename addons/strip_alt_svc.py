"""Keeps clients where they are seen: what a server says of other places to reach it at is taken back (RFC 7838).

    mitmdump -s addons/strip_alt_svc.py

Alt-Svc is how browsers learn that a server speaks HTTP/3, so that the next request goes over QUIC and past the proxy.
Only heads are looked at; bodies keep streaming.
"""

from __future__ import annotations

from mitmproxy import http

CLEAR = "clear"
"""RFC 7838, section 3: the client is to forget what it was told before, here or in another network."""


class StripAltSvc:
    """Every alternative goes, not those for QUIC alone: none of them was judged, and none need be inspected."""

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Put ``clear`` in the place of what the server said; where it said nothing, nothing is said."""
        if flow.response is not None and "alt-svc" in flow.response.headers:
            flow.response.headers.set_all("alt-svc", [CLEAR])


addons = [StripAltSvc()]
