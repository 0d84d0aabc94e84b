"""What OpenSSL objected to in the handshake, in the words of a verdict.

OpenSSL and :mod:`certs.checks` judge side by side, and what either finds counts. But OpenSSL builds one path and does
not turn back: it may object to a path that is not the one judged. So an objection that no check of ours shares is tried
again on exactly our path, and dropped where it does not hold there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from OpenSSL import crypto

from certs.paths import Path
from certs.verdict import ORDER, Check, Defect, Finding

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME; pyOpenSSL has no name for it

_TIMES = frozenset({9, 10})
"""Judged by :mod:`certs.checks` against the time that was passed in, on every certificate of the path."""
_PATH = frozenset({2, 18, 19, 20, 21, 27, 29, 30, 31})
"""No path was found: settled by our own, which says so itself where it reaches no anchor."""
_SIGNATURES = frozenset({4, 7, 77})
"""Settled by our own path too, which says so where one in it does not verify."""
_UNSEEN_OUTSIDE = frozenset({26, 66, 67, 68})
"""Purpose and security level: set in a handshake, and not to be set outside of one."""

DEFECTS: dict[int, Defect] = {
    2: Defect.INCOMPLETE_CHAIN,  # unable to get issuer certificate
    4: Defect.BAD_SIGNATURE,  # unable to decrypt certificate's signature
    7: Defect.BAD_SIGNATURE,  # certificate signature failure
    9: Defect.NOT_YET_VALID,
    10: Defect.EXPIRED,
    18: Defect.SELF_SIGNED,  # self-signed certificate
    19: Defect.UNTRUSTED_ROOT,  # self-signed certificate in certificate chain
    20: Defect.INCOMPLETE_CHAIN,  # unable to get local issuer certificate
    21: Defect.INCOMPLETE_CHAIN,  # unable to verify the first certificate
    23: Defect.REVOKED,
    25: Defect.CONSTRAINT_VIOLATION,  # path length constraint exceeded
    26: Defect.WRONG_PURPOSE,  # unsuitable certificate purpose
    27: Defect.INCOMPLETE_CHAIN,  # certificate not trusted
    28: Defect.WRONG_PURPOSE,  # certificate rejected: trusted for other uses only
    29: Defect.INCOMPLETE_CHAIN,  # subject issuer mismatch
    30: Defect.INCOMPLETE_CHAIN,  # authority and subject key identifier mismatch
    31: Defect.INCOMPLETE_CHAIN,  # authority and issuer serial number mismatch
    32: Defect.CONSTRAINT_VIOLATION,  # key usage does not include certificate signing
    37: Defect.CONSTRAINT_VIOLATION,  # non-CA certificate with CA markings
    38: Defect.CONSTRAINT_VIOLATION,  # proxy path length constraint exceeded
    39: Defect.WRONG_PURPOSE,  # key usage does not include digital signature
    40: Defect.CONSTRAINT_VIOLATION,  # proxy certificates not allowed
    43: Defect.CONSTRAINT_VIOLATION,  # no explicit policy
    46: Defect.CONSTRAINT_VIOLATION,  # RFC 3779 resource not subset of parent's
    47: Defect.CONSTRAINT_VIOLATION,  # permitted subtree violation
    48: Defect.CONSTRAINT_VIOLATION,  # excluded subtree violation
    49: Defect.CONSTRAINT_VIOLATION,  # name constraints minimum and maximum
    51: Defect.CONSTRAINT_VIOLATION,  # unsupported name constraint type
    52: Defect.CONSTRAINT_VIOLATION,  # invalid name constraint syntax
    53: Defect.CONSTRAINT_VIOLATION,  # unsupported or invalid name syntax
    62: Defect.HOSTNAME_MISMATCH,
    63: Defect.HOSTNAME_MISMATCH,
    64: Defect.HOSTNAME_MISMATCH,
    66: Defect.WEAK_KEY,  # EE certificate key too weak
    67: Defect.WEAK_KEY,  # CA certificate key too weak
    68: Defect.WEAK_SIGNATURE,  # CA signature digest algorithm too weak
    72: Defect.CONSTRAINT_VIOLATION,  # proxy subject name violation
    76: Defect.WEAK_SIGNATURE,  # cannot find certificate signature algorithm
    77: Defect.BAD_SIGNATURE,  # signature algorithm and issuer's key mismatch
    79: Defect.CONSTRAINT_VIOLATION,  # invalid CA certificate
    80: Defect.CONSTRAINT_VIOLATION,  # path length invalid for non-CA
    81: Defect.CONSTRAINT_VIOLATION,  # path length without keyCertSign
    82: Defect.CONSTRAINT_VIOLATION,  # keyCertSign invalid for non-CA
}
"""X509_V_ERR codes of OpenSSL 4.0 and their defects. Every other one is ``malformed``: the unknown is not good."""


OPENSSL = Check(
    "openssl_agrees",
    "OpenSSL, which verifies the chain as well, finds nothing more",
    "RFC 5280 6.1",
    tuple(sorted({Defect.MALFORMED, *DEFECTS.values()}, key=ORDER.__getitem__)),
)


def defect_of(code: int) -> Defect:
    return DEFECTS.get(code, Defect.MALFORMED)


def objections(errors: Iterable[tuple[int, int]], path: Path, found: Sequence[Finding]) -> Iterator[Finding]:
    """Findings for what OpenSSL objected to and our checks did not find.

    ``errors`` are (X509_V_ERR code, depth), ``found`` what the checks made of the path.
    """
    defects = {finding.defect for finding in found}
    left = [
        (code, depth) for code, depth in errors if defect_of(code) not in defects and not _settled(code, depth, path)
    ]
    if left and path.anchor is not None:
        again = verify_again(path)
        if again is None:
            left = [(code, depth) for code, depth in left if code in _UNSEEN_OUTSIDE]
        elif defect_of(again) not in defects:
            left.append((again, 0))
        if again not in _PATH:
            left = [(code, depth) for code, depth in left if code not in _PATH]
    reported: set[Defect] = set()
    for code, depth in left:
        if (defect := defect_of(code)) not in reported:
            reported.add(defect)
            # The depth counts in OpenSSL's path, which need not be ours.
            place = depth if depth == 0 else None
            yield refused(defect, code, place)


def refused(defect: Defect, code: int, place: int | None = None) -> Finding:
    """The finding for an X509_V_ERR code."""
    return OPENSSL.finding(defect, f"OpenSSL refuses it: {description(code)}", f"X509_V_ERR {code}", place)


def _settled(code: int, depth: int, path: Path) -> bool:
    """Whether our checks answer that question for the path, whatever OpenSSL said of its own."""
    if code in _TIMES:
        return True
    if path.anchor is None:
        return code in _PATH | _SIGNATURES
    # The server's own certificate is in every path; what is above it may be another's.
    return code in _UNSEEN_OUTSIDE and depth > 0


def verify_again(path: Path) -> int | None:
    """OpenSSL's first objection to exactly this path, None where it has none.

    Times are left out, since :mod:`certs.checks` looks at every one of the path's; so are purpose, security level and
    name, which cannot be set outside of a handshake. Raises ValueError for a path without anchor.
    """
    if path.anchor is None:
        raise ValueError("a path without anchor cannot be verified")
    leaf, *issuers = (crypto.X509.from_cryptography(certificate) for certificate in path.certificates)
    store = crypto.X509Store()
    store.add_cert(crypto.X509.from_cryptography(path.anchor.certificate))
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN | _NO_CHECK_TIME)
    try:
        crypto.X509StoreContext(store, leaf, issuers[:-1]).verify_certificate()
    except crypto.X509StoreContextError as error:
        return int(error.errors[0])
    return None


def description(code: int) -> str:
    """What OpenSSL calls the error, in a few words; the number for one that is not known."""
    return _WORDS.get(code, f"verification error {code}")


_WORDS = {
    4: "unable to decrypt the certificate's signature",
    6: "unable to decode the issuer's public key",
    7: "certificate signature failure",
    13: "format error in notBefore",
    14: "format error in notAfter",
    20: "unable to get the issuer's certificate",
    22: "certificate chain too long",
    24: "the issuer's certificate has no public key",
    25: "path length constraint exceeded",
    26: "unsuitable certificate purpose",
    32: "key usage does not include certificate signing",
    34: "unhandled critical extension",
    41: "invalid or inconsistent extension",
    42: "invalid or inconsistent policy extension",
    47: "permitted subtree violation",
    48: "excluded subtree violation",
    49: "name constraints with minimum or maximum",
    51: "unsupported name constraint",
    52: "invalid name constraint",
    53: "invalid name",
    66: "the server's key is too weak",
    67: "an issuer's key is too weak",
    68: "a signature's hash is too weak",
    77: "signature algorithm and issuer's key do not fit",
    78: "two signature algorithms that differ",
    79: "invalid CA certificate",
    94: "explicit curve parameters",
}
