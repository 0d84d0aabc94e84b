"""Where the certificates of a verdict's chain are from, and what the server sent beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509

from certs.trust import TrustStore
from certs.verdict import Anchored, Verdict


class Origin(StrEnum):
    """Where a certificate of a chain is from."""

    SENT = "sent by the server"
    COMMON = "common store"
    OWN = "trusted CA"
    COMPLETED = "completed"
    """The server did not send it, and nobody here trusts it: :attr:`Verdict.completed` says where it was found."""


@dataclass(frozen=True, slots=True)
class Origins:
    """``chain``: for each certificate of the verdict's, in its order. ``beside``: what was sent and is in no path."""

    chain: tuple[Origin, ...]
    beside: tuple[x509.Certificate, ...]


def origins(verdict: Verdict, sent: Sequence[x509.Certificate], trust: TrustStore) -> Origins:
    """``sent``: what the server sent, as far as it can be read; ``trust``: whom the verdict trusts."""
    shown, path = frozenset(sent), frozenset(verdict.chain)
    helpers = frozenset(trust.helpers)

    def origin(place: int, certificate: x509.Certificate) -> Origin:
        if certificate in shown:
            return Origin.SENT
        if verdict.anchored is Anchored.COMMON and place == len(verdict.chain) - 1:
            return Origin.COMMON
        if certificate in helpers or trust.anchor(certificate) is not None:
            return Origin.OWN
        return Origin.COMPLETED

    return Origins(
        tuple(origin(place, certificate) for place, certificate in enumerate(verdict.chain)),
        tuple(certificate for certificate in dict.fromkeys(sent) if certificate not in path),
    )
