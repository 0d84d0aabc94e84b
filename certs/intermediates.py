"""Intermediate certificates that were seen in good chains, to complete others with.

Servers often leave theirs out, and few stand behind most servers. Only what was in a path that reached an anchor
without a finding is kept: a stranger who sends certificates puts none here that no trusted CA has signed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from cachetools import LRUCache
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.facts import Facts, NameKey, facts_of_issuer
from certs.verdict import Verdict

MOST_NAMES = 1024
MOST_EACH = 4
"""Certificates of one name that are kept: keys rolled over, and cross-certificates."""
LARGEST = 4096
"""Bytes of one that is kept; usual ones have under 2 KiB."""


class Intermediates:
    """Issuers by their name, for one process; the last used are kept."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._named: LRUCache[NameKey, tuple[Facts, ...]] = LRUCache(most)
        self._lock = threading.Lock()  # verdicts may be made off the event loop's thread

    def learn(self, verdict: Verdict) -> None:
        """Keep what is between the server's own certificate and the anchor, where nothing at all was found."""
        if not verdict.ok:
            return
        for certificate in verdict.chain[1:-1]:
            size = len(certificate.public_bytes(Encoding.DER))
            if size <= LARGEST:
                self._keep(facts_of_issuer(certificate, size))

    def _keep(self, issuer: Facts) -> None:
        with self._lock:
            there = self._named.get(issuer.subject, ())
            if there and there[0].certificate == issuer.certificate:
                return
            others = tuple(each for each in there if each.certificate != issuer.certificate)
            # The one seen last goes first, and drives out the one not seen for longest.
            self._named[issuer.subject] = (issuer, *others)[:MOST_EACH]

    def issuers_of(self, child: Facts) -> Sequence[x509.Certificate]:
        """Those of the issuer's name, without another key identifier than the one that is asked for."""
        with self._lock:
            there = self._named.get(child.issuer, ())
        return [issuer.certificate for issuer in there if child.names_as_issuer(issuer)]
