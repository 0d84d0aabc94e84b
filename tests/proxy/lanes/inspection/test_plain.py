"""What of plain HTTP stays on its connection."""

from __future__ import annotations

from mitmproxy.http import Headers

from proxy.lanes.inspection.plain import trailers


def test_trailers_carry_no_framing_and_nothing_of_one_hop() -> None:
    fields = Headers([(b"Checksum", b"1"), (b"Content-Length", b"5"), (b"Connection", b"close"), (b"Host", b"x")])
    assert trailers(fields).fields == ((b"Checksum", b"1"),)
