"""A server judged again from what it once showed, without the server: for trying a change of whom a tenant trusts.

What OpenSSL objects to depends on whom the tenant trusts, and it says so in a handshake alone: outside of one it knows
neither purpose nor security level (:mod:`certs.openssl_errors`). So a handshake is begun with OpenSSL, in memory, and
it is given a ServerHello of TLS 1.2 and the certificates, which stand in the clear there (RFC 5246 7.4.2). It verifies
them when it has read them, before it asks who has the key; nobody has it here, and the handshake goes no further.
Then :func:`certs.verify.judge` judges as it does behind every handshake.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from OpenSSL import SSL

from certs.completion import Attempt
from certs.names import Host
from certs.scope import Trust
from certs.verdict import Verdict
from certs.verify import Handshake

_SUITE = b"\xc0\x2b"  # ECDHE-ECDSA-AES128-GCM-SHA256, RFC 5289 3.2
_LARGEST_RECORD = 1 << 14  # RFC 5246 6.2.1
_ALL = 1 << 17
_VERIFIED = frozenset({"wrong certificate type", "unknown certificate type"})
"""Why OpenSSL goes no further behind a chain that it has verified: the key is none for the suite."""


class _Seen:
    """The :class:`certs.trust.Collector` of a handshake that asks for nothing."""

    def __init__(self) -> None:
        self.errors: list[tuple[int, int]] = []
        self.asked = False
        self.stapled = b""

    def may_be_shown(self, connection: SSL.Connection) -> bool:
        """Nothing is shown to nobody."""
        return False


def judge_again(
    presented: Sequence[bytes],
    added: Sequence[bytes],
    host: Host,
    trust: Trust,
    now: datetime,
    own_keys: frozenset[bytes] = frozenset(),
) -> Verdict:
    """The verdict on a server that showed these certificates (DER, its own first), for whom the tenant trusts.

    ``added`` are those that completed its chain then (:mod:`certs.completion`). ``trust`` is for TLS 1.2, as
    :class:`certs.scope.TrustByHost` makes it without rules. What takes the server or others to be known is not in it:
    what it sent along of OCSP, revocation, client certificates. Raises ValueError where a certificate cannot be read.
    """
    certificates, more = _loaded(presented), _loaded(added)
    errors = objections_again(presented, trust.context)
    handshake = Handshake(certificates, errors, encoded=tuple(presented))
    attempt = Attempt.of(handshake, host, trust.store, own_keys, now)
    if more:
        attempt = attempt.completed(lambda _: more, now)
    return attempt.verdict("from where they were found before")


def objections_again(presented: Sequence[bytes], context: SSL.Context) -> tuple[tuple[int, int], ...]:
    """What OpenSSL objects to in these certificates, as (X509_V_ERR code, depth), in a handshake of this context.

    Raises ValueError where it does not come to verify them.
    """
    seen = _Seen()
    tls = SSL.Connection(context, None)
    tls.set_connect_state()
    tls.set_app_data(seen)
    tls.set_options(SSL.OP_NO_TLSv1_3)  # where certificates are encrypted
    with contextlib.suppress(SSL.WantReadError):
        tls.do_handshake()
    tls.bio_read(_ALL)  # the ClientHello
    said = _messages(presented)
    for start in range(0, len(said), _LARGEST_RECORD):
        tls.bio_write(b"\x16\x03\x03" + _sized(2, said[start : start + _LARGEST_RECORD]))
    try:
        tls.do_handshake()
    except SSL.WantReadError:
        pass
    except SSL.Error as error:
        reasons = [reason for _, _, reason in error.args[0]] if error.args else []
        if _VERIFIED.isdisjoint(reasons):
            raise ValueError(f"OpenSSL does not take the certificates: {'; '.join(reasons)}") from None
    return tuple(seen.errors)


def _messages(presented: Sequence[bytes]) -> bytes:
    """ServerHello (RFC 5246 7.4.1.3) with renegotiation_info (RFC 5746 3.6), and Certificate (RFC 5246 7.4.2)."""
    extensions = _sized(2, b"\xff\x01\x00\x01\x00")
    hello = b"\x03\x03" + bytes(32) + _sized(1, b"") + _SUITE + b"\x00" + extensions
    certificates = _sized(3, b"".join(_sized(3, der) for der in presented))
    return b"\x02" + _sized(3, hello) + b"\x0b" + _sized(3, certificates)


def _sized(octets: int, what: bytes) -> bytes:
    return len(what).to_bytes(octets) + what


def _loaded(encoded: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    with warnings.catch_warnings():
        # cryptography warns of serial numbers below one; a check looks at them.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        try:
            return tuple(x509.load_der_x509_certificate(der) for der in encoded)
        except x509.InvalidVersion as error:
            raise ValueError(str(error)) from None
