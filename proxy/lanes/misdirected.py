"""Whether a request is for the host of its connection (RFC 9110 section 7.4, RFC 9113 section 9.1.1).

What the rules say of a host is decided when its connection is made. A request for another host that came on it would
slip past the rules of its own, so it is answered with 421 (RFC 9110 section 15.5.20) and not passed on.
"""

from __future__ import annotations

from certs.names import InvalidHost, parse_authority

_HTTPS = 443


class Addressee:
    """The host that a connection is for: the one that its leaf was shown for.

    ``host`` is the text of a :class:`certs.names.Host`.
    """

    __slots__ = ("_last", "host")

    def __init__(self, host: str) -> None:
        self.host = host
        self._last = (f"[{host}]" if ":" in host else host).encode()

    def accepts(self, raw: bytes) -> bool:
        """Whether ``raw``, the value of Host or :authority or the authority of a URL, names this host.

        What names no host at all is not accepted, nor what is not ASCII (RFC 3986 section 3.2.2). Names alone are
        compared, not ports: the rules are for hosts, clients leave a port out that is not the default one (port
        forwarding, ``curl --connect-to``), and the server gets the request on the port of the CONNECT whatever its
        field says. A value that was accepted is remembered: the next request with the same costs one comparison.
        """
        if raw == self._last:
            return True
        try:
            host, _ = parse_authority(raw.decode("ascii"), _HTTPS)
        except (InvalidHost, UnicodeDecodeError):
            return False
        if host.text != self.host:
            return False
        self._last = raw
        return True
