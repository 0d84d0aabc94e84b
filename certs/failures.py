"""A handshake with a server that failed, in the words of a verdict."""

from __future__ import annotations

from collections.abc import Iterable

from certs.authority import LARGEST_RSA, LONGEST_EXPONENT
from certs.verdict import Check, Defect, Finding

# The reasons are those of OpenSSL 4.0's error queue, each seen in a handshake with such a server. Verification itself
# never fails a handshake here (certs.trust.collect), but "certificate verify failed" still comes where the server's key
# cannot be decoded.
_MALFORMED = frozenset(
    {
        "ASN1 lib",
        "bad object header",
        "certificate verify failed",
        "excessive message size",
        "header too long",
        "invalid object encoding",
        "nested asn1 error",
        "unable to find public key parameters",
        "unable to get certs public key",
        "unknown certificate type",
        "unsupported public key type",
        "x509 lib",
    }
)
EXCESSIVE_KEY = "rsa key too large"
"""The one reason that is ours: :func:`certs.trust.collect` ended the handshake."""
_EXCESSIVE = frozenset({"bad e value", "modulus too large", EXCESSIVE_KEY})
_WEAK_KEY = _EXCESSIVE | {"ca key too small", "dh key too small", "ee key too small", "modulus too small"}

_WORDS = {
    "excessive message size": "its certificates are larger than is read here",
    "dh key too small": "its Diffie-Hellman group is too small",
    "bad e value": "the exponent of its RSA key is too large",
    "modulus too large": "its RSA key is too large",
    EXCESSIVE_KEY: f"it sent an RSA key over {LARGEST_RSA} bits, or with an exponent over {LONGEST_EXPONENT} bits, "
    "which nobody trusted vouches for",
    "wrong version number": "it does not speak TLS",
    "http request": "it does not speak TLS",
    "tlsv1 alert protocol version": "it speaks no version of TLS from 1.2 on",
    "unsupported protocol": "it speaks no version of TLS from 1.2 on",
    "tls alert handshake failure": "it accepts none of the safe ciphers and signatures, or wants a certificate",
    "unexpected eof while reading": "it closed the connection",
}
_LONGEST = 200
HANDSHAKE = Check(
    "handshake_succeeds",
    "the TLS handshake with the server comes to its end",
    "RFC 8446 4; RFC 9325 3",
    (Defect.PROTOCOL, Defect.MALFORMED, Defect.WEAK_KEY),
)
NO_CERTIFICATE_WANTED = Check(
    "client_certificate_is_not_missing",
    "it asks for no client certificate that it needs and that is missing",
    "RFC 8446 4.3.2; RFC 5246 7.4.4",
    (Defect.PROTOCOL,),
)
ENDED = "the handshake with the server failed"
"""Why no other check is made then."""


def wants_certificate() -> Finding:
    """The finding for a server that asks for a client certificate, where there is none and that blocks it."""
    return NO_CERTIFICATE_WANTED.finding(
        Defect.PROTOCOL,
        "the server asks for a client certificate, and none is configured for it",
        "RFC 8446 4.3.2; RFC 5246 7.4.4",
        None,
        "configure a client certificate for it (tls.servers), or let it be reached without one",
    )


def defect_of_failure(reasons: Iterable[str], asked: bool = False) -> Finding:
    """The finding for a handshake that failed, from the reasons of ``SSL.Error``: ``[(library, function, reason), …]``.

    ``malformed`` where the server's certificate message cannot be read, ``weak_key`` where its key exchange is too
    weak or an RSA key too large, else ``protocol``: version, cipher, alert, a signature that is wrong, what is no TLS,
    and what is not known.
    ``asked``: the server had asked for a client certificate, so that it most likely ended it for the want of one.
    """
    said = tuple(dict.fromkeys(reasons))
    if not _MALFORMED.isdisjoint(said):
        defect, clause = Defect.MALFORMED, "RFC 8446 4.4.2"
    elif not _WEAK_KEY.isdisjoint(said):
        defect, clause = Defect.WEAK_KEY, "RFC 8422 5.1; RFC 7919"
    else:
        defect, clause = Defect.PROTOCOL, "RFC 8446 4; RFC 9325 3"
    shown = "; ".join(f"{_WORDS[reason]} ({reason})" if reason in _WORDS else reason for reason in said)
    what = " ".join(shown.split())[:_LONGEST] or "no reason given"
    remedy = "ask the server's operator to offer TLS 1.2 or 1.3 with forward secrecy"
    if not _EXCESSIVE.isdisjoint(said):
        remedy = "ask the server's operator for certificates with keys of a usual size"
        clause = "CA/B Baseline Requirements 6.1.6"
    if asked and defect is Defect.PROTOCOL:
        what = f"it asked for a client certificate, and ended what it did not get, or did not take: {what}"
        remedy = "configure a client certificate that it takes (tls.servers)"
        clause = "RFC 8446 4.3.2; RFC 5246 7.4.4"
    return HANDSHAKE.finding(defect, f"the handshake with the server failed: {what}", clause, None, remedy)
