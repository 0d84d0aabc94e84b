"""What a scenario is, and the authorities that most of them share.

Each is judged twice: as it is (`test_verify.py`, where only our own checks can find anything), and after a real
handshake, with what OpenSSL objected to (`test_verify_handshake.py`).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

from cryptography import x509

from certs.trust import TrustStore
from certs.verdict import Defect
from tests.harness.pki import NOW, Authority, Issued

HOST = "good.example"


@dataclass
class Server:
    """A server: its certificate, what it sends behind it (default: the issuers but the root), and who asks."""

    leaf: Issued
    chain: Sequence[Issued] | None = None
    own: Sequence[Sequence[Issued]] = ()
    """The tenant's bundles, topmost last; default: the leaf's root."""
    common: Sequence[Issued] = ()
    host: str = HOST
    now: dt.datetime = NOW
    own_keys: frozenset[bytes] = frozenset()
    no_trust: bool = False
    unserved: bool = False
    """No TLS server can be made with it that the client shakes hands with."""

    @property
    def sent(self) -> Sequence[Issued]:
        return [self.leaf, *(self.leaf.line()[1:] if self.chain is None else self.chain)]

    @property
    def trust(self) -> TrustStore:
        own = self.own
        if not own and not self.common and not self.no_trust:
            own = [[self.leaf.line(with_root=True)[-1]]]
        return TrustStore(
            [each.certificate for each in self.common], [[each.certificate for each in bundle] for bundle in own]
        )


@dataclass(frozen=True)
class Scenario:
    name: str
    make: Callable[[], Server]
    defects: tuple[Defect, ...]
    with_openssl: tuple[Defect, ...] = field(default=())
    """Where OpenSSL adds to it."""


SCENARIOS: list[Scenario] = []


def scenario(
    *defects: Defect, with_openssl: Sequence[Defect] = ()
) -> Callable[[Callable[[], Server]], Callable[[], Server]]:
    def register(make: Callable[[], Server]) -> Callable[[], Server]:
        SCENARIOS.append(Scenario(make.__name__, cache(make), defects, tuple(with_openssl) or defects))
        return make

    return register


@cache
def root() -> Authority:
    return Authority.root("Root")


@cache
def issuing() -> Authority:
    return root().intermediate("Issuing")


def constrained(
    permitted: Sequence[x509.GeneralName] | None = None, excluded: Sequence[x509.GeneralName] | None = None
) -> Authority:
    return root().intermediate("Constrained", name_constraints=x509.NameConstraints(permitted, excluded))


def network(text: str) -> x509.IPAddress:
    return x509.IPAddress(ipaddress.ip_network(text))
