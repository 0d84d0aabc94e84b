"""What is said to an ICAP server (RFC 3507). Without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Method = Literal["OPTIONS", "REQMOD", "RESPMOD"]

PIECE: Final = 64 * 1024
"""Bytes of a body that go into one chunk."""


@dataclass(frozen=True)
class Scan:
    """An HTTP message to be scanned: whole heads, with the empty line that ends them, and a whole body.

    ``path`` is the request's path, of which the extension counts for the Transfer-* lists of a service.
    """

    method: Method
    request_head: bytes
    response_head: bytes = b""
    body: bytes = b""
    path: str = "/"

    def encapsulated(self) -> str:
        """The value of the Encapsulated field (RFC 3507 section 4.4.1)."""
        parts = [("req-hdr", 0)] if self.request_head else []
        offset = len(self.request_head)
        if self.response_head:
            parts.append(("res-hdr", offset))
            offset += len(self.response_head)
        body = "null-body" if not self.body else "req-body" if self.method == "REQMOD" else "res-body"
        return ", ".join(f"{name}={place}" for name, place in [*parts, (body, offset)])


@dataclass(frozen=True)
class Request:
    """An ICAP request as bytes: what is sent at once, and what only after ``100 Continue``."""

    first: Sequence[bytes]
    rest: Sequence[bytes]
    previewed: bool
    """Whether there is a rest that the server may ask for."""


def options_request(url: str, host: str) -> Request:
    """OPTIONS for a service (RFC 3507 section 4.10)."""
    return Request([_icap_head("OPTIONS", url, host, [("Encapsulated", "null-body=0")])], (), previewed=False)


def scan_request(url: str, host: str, scan: Scan, preview: int | None, client_ip: str | None = None) -> Request:
    """REQMOD or RESPMOD. ``preview`` is a number of bytes, or None: the body is sent whole.

    ``Allow: 204`` is always said: the whole message is held here, which is all that section 4.6 asks for.
    """
    fields = [("Allow", "204")]
    if client_ip is not None:
        fields.append(("X-Client-IP", client_ip))
    if not scan.body:
        preview = None
    if preview is not None:
        fields.append(("Preview", str(preview)))
    fields.append(("Encapsulated", scan.encapsulated()))
    first = [_icap_head(scan.method, url, host, fields), scan.request_head, scan.response_head]
    if not scan.body:
        return Request(first, (), previewed=False)
    if preview is None:
        return Request([*first, *_chunks(scan.body), b"0\r\n\r\n"], (), previewed=False)
    if len(scan.body) <= preview:
        return Request([*first, *_chunks(scan.body), b"0; ieof\r\n\r\n"], (), previewed=False)
    begin, rest = memoryview(scan.body)[:preview], memoryview(scan.body)[preview:]
    return Request(
        [*first, *_chunks(begin), b"0\r\n\r\n"],
        [*_chunks(rest), b"0\r\n\r\n"],
        previewed=True,
    )


def _icap_head(method: Method, url: str, host: str, fields: list[tuple[str, str]]) -> bytes:
    lines = [f"{method} {url} ICAP/1.0", f"Host: {host}", "User-Agent: Sallyport"]
    lines += [f"{name}: {value}" for name, value in fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _chunks(body: bytes | memoryview) -> Iterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(view), PIECE):
        piece = view[start : start + PIECE]
        yield b"".join((b"%x\r\n" % len(piece), piece, b"\r\n"))
