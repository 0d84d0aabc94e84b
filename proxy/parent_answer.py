"""The CONNECT that is sent to a parent proxy, and what it answers (RFC 9110, section 9.3.6). Bytes in, bytes out.

h11 reads the answer. A parent is the operator's choice and still another machine: its answer is bounded, and nothing of
what it says is passed on but its status.
"""

from __future__ import annotations

from typing import Final

import h11

from proxy.lanes.plain_heads import PSEUDONYM, via
from proxy.parent import Parent, ParentError

LARGEST_HEAD: Final = 16 * 1024
"""Bytes of an answer within which its head has to end, give or take one read."""
MOST_INTERIM: Final = 8
"""Interim answers (RFC 9110, section 15.2) that may come before the one that counts."""
_NO_HTTP: Final = "its answer to CONNECT is no HTTP/1.1"
CREDENTIALS: Final = 407
"""Proxy Authentication Required (RFC 9110, section 15.5.8)."""


def authority_of(host: str, port: int) -> str:
    """Host and port as CONNECT names them; an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ConnectAnswer:
    """One CONNECT to a parent: ``request`` is to be sent, what comes is given to :meth:`receive`."""

    __slots__ = ("_http", "_interim", "_parent", "_received", "request")

    def __init__(self, parent: Parent, host: str, port: int) -> None:
        self._parent = parent
        self._received = 0
        self._interim = 0
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD)
        authority = authority_of(host, port).encode()
        fields = [(b"Host", authority), via(b"1.1", PSEUDONYM)]
        if parent.authorization:
            fields.append((b"Proxy-Authorization", parent.authorization))
        sent = self._http.send(h11.Request(method=b"CONNECT", target=authority, headers=fields)) or b""
        self.request = sent + (self._http.send(h11.EndOfMessage()) or b"")

    def receive(self, data: bytes) -> bytes | None:
        """Take what came; empty: the parent sends no more. None: its answer is not whole.

        Once the tunnel stands, what came through it behind the answer. Then nothing more is to be given. Raises
        ParentError where there is no tunnel.
        """
        self._received += len(data)
        try:
            self._http.receive_data(data)
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Response | h11.InformationalResponse) and event.http_version[:2] != b"1.":
                    raise self._error("http_protocol_error", _NO_HTTP)
                if isinstance(event, h11.InformationalResponse):
                    self._interim += 1
                    if self._interim > MOST_INTERIM:
                        raise self._error("http_protocol_error", f"more than {MOST_INTERIM} interim answers (1xx)")
                elif isinstance(event, h11.Response):
                    return self._answered(event.status_code)
                elif event is h11.NEED_DATA and data:
                    if self._received > LARGEST_HEAD:
                        raise self._too_large()
                    return None
                else:
                    raise self._ended()
        except h11.RemoteProtocolError as error:
            if not data:
                raise self._ended() from None
            if str(error).startswith("Receive buffer too long"):
                raise self._too_large() from None
            # What h11 says of it quotes the peer.
            raise self._error("http_protocol_error", _NO_HTTP) from None

    def _answered(self, status: int) -> bytes:
        # A 2xx has no body, whatever its fields say (RFC 9110, section 9.3.6), which h11 knows.
        if 200 <= status < 300:
            return bytes(self._http.trailing_data[0])
        raise refused(self._parent, status)

    def _ended(self) -> ParentError:
        if self._received:
            return self._error("http_response_incomplete", "it closed the connection within its answer to CONNECT")
        return self._error("connection_terminated", "it closed the connection without an answer to CONNECT")

    def _too_large(self) -> ParentError:
        return self._error(
            "http_response_header_section_size", f"the head of its answer is larger than {LARGEST_HEAD} bytes"
        )

    def _error(self, error: str, what: str) -> ParentError:
        return ParentError(error, self._parent.address, what)


def refused(parent: Parent, status: int) -> ParentError:
    """What a status of the parent's means that is none of success; the error types are those of RFC 9209, 2.3."""
    if status == CREDENTIALS:
        what = "it does not take the credentials" if parent.authorization else "it asks for credentials: none are set"
        return ParentError("proxy_configuration_error", parent.address, f"{what} (407)", status)
    if 400 <= status < 500:
        return ParentError("http_request_denied", parent.address, f"it refuses the tunnel ({status})", status)
    if status >= 500:
        return ParentError("destination_unavailable", parent.address, f"it cannot reach the server ({status})", status)
    return ParentError("http_protocol_error", parent.address, f"it answered CONNECT with {status}", status)
