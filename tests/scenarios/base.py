"""What a scenario is, and the authorities that most of them share."""

from __future__ import annotations

import datetime as dt
import inspect
import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Literal

from cryptography import x509

from certs.authority import spki_sha256
from certs.trust import TrustStore
from certs.verdict import Defect
from tests.harness.pki import NOW, Authority, Issued
from tests.harness.publisher import Publisher

HOST = "good.example"
Says = Literal["accepts", "refuses"]
ACCEPTS: Says = "accepts"
REFUSES: Says = "refuses"


@dataclass
class Server:
    """A server: its certificate, what it sends behind it (default: the issuers but the root), and who asks."""

    leaf: Issued
    chain: Sequence[Issued] | None = None
    own: Sequence[Sequence[Issued]] = ()
    """The tenant's bundles, topmost last; default: the leaf's root."""
    common: Sequence[Issued] = ()
    host: str = HOST
    """The name that is asked for; in a scenario, where nothing is said: the scenario's own."""
    now: dt.datetime = NOW
    ours: Sequence[Issued] = ()
    """Signing CAs of this installation."""
    no_trust: bool = False
    unserved: str = ""
    """Why there can be no TLS server with it; empty: there can."""
    ciphers: str = "ALL"
    """Of TLS 1.2 and before, as OpenSSL writes them."""
    versions: Sequence[str] = ("TLSv1.2", "TLSv1.3")
    dh: str = ""
    """Its Diffie-Hellman group, PEM."""
    held: Sequence[Issued] = ()
    """What the server has in place of the first it sends, where OpenSSL would not take those: each as long and with the
    same key. They are exchanged on the way, which TLS 1.2 does not notice before its end."""
    not_in_memory: str = ""
    """Why a handshake in memory cannot show it."""
    stapled: bytes = b""
    """The OCSP answer that it sends along."""
    hard: bool = False
    """It is blocked, too, where nobody tells whether a certificate was revoked."""

    @property
    def sent(self) -> Sequence[Issued]:
        return [self.leaf, *(self.leaf.line()[1:] if self.chain is None else self.chain)]

    @property
    def exchanged(self) -> tuple[bytes, bytes] | None:
        """What the server says of its certificates, and what arrives (RFC 5246 7.4.2)."""
        if not self.held:
            return None
        said, arrives = (
            b"".join(len(issued.raw).to_bytes(3) + issued.raw for issued in line)
            for line in (self.held, self.sent[: len(self.held)])
        )
        assert len(said) == len(arrives), "what is exchanged is not as long"
        return said, arrives

    @property
    def bundles(self) -> Sequence[Sequence[Issued]]:
        """The tenant's own, the default included."""
        if not self.own and not self.common and not self.no_trust:
            return [[self.leaf.line(with_root=True)[-1]]]
        return self.own

    @property
    def anchors(self) -> Sequence[Issued]:
        """Whom the tenant trusts, by the common store or by its own."""
        return [*self.common, *(bundle[-1] for bundle in self.bundles)]

    @property
    def trust(self) -> TrustStore:
        return TrustStore(
            [each.certificate for each in self.common],
            [[each.certificate for each in bundle] for bundle in self.bundles],
        )

    @property
    def own_keys(self) -> frozenset[bytes]:
        return frozenset(spki_sha256(authority.certificate) for authority in self.ours)


@dataclass(frozen=True)
class Scenario:
    """A case. ``defects`` is the verdict after a handshake, so the proxy's; empty: the server is good."""

    module: str
    name: str
    make: Callable[[str], Server]
    defects: tuple[Defect, ...]
    as_it_is: tuple[Defect, ...]
    """What is found without a handshake, where OpenSSL has no say, or no handshake would come to its end."""
    curl_says: Says | None = None
    """Where curl comes to something else than the verdict; None: it comes to the same."""
    chromium_says: Says | None = None
    why: str = ""
    """Why curl or Chromium comes to something else."""

    @property
    def id(self) -> str:
        return f"{self.module}/{self.name}"

    @property
    def host(self) -> str:
        """A host of its own, so that all can be served, and trusted or not, beside each other."""
        return f"{self.name.replace('_', '-')[:60].rstrip('-')}.example"

    @property
    def summary(self) -> str:
        """The docstring's first paragraph, on one line."""
        return " ".join((inspect.getdoc(self.make) or "").partition("\n\n")[0].split())

    @property
    def good(self) -> bool:
        return not self.defects

    @cached_property
    def server(self) -> Server:
        """Made once in a process."""
        made = self.make(self.host)
        return replace(made, host=self.host) if made.host == HOST else made

    @property
    def hindrance(self) -> str:
        """Why a running server, and the clock of the machine, cannot show it; empty: they can."""
        server = self.server
        if server.unserved:
            return server.unserved
        return "it is about another time than the machine's" if server.now != NOW else ""


SCENARIOS: list[Scenario] = []


def scenario(
    *defects: Defect,
    as_it_is: Sequence[Defect] | None = None,
    curl_says: Says | None = None,
    chromium_says: Says | None = None,
    why: str = "",
) -> Callable[[Callable[[str], Server]], Callable[[str], Server]]:
    """A case with the defects that are found in it; the function is called with the host that the case is for."""

    def register(make: Callable[[str], Server]) -> Callable[[str], Server]:
        SCENARIOS.append(
            Scenario(
                module=make.__module__.rpartition(".")[2],
                name=make.__name__,
                make=make,
                defects=defects,
                as_it_is=defects if as_it_is is None else tuple(as_it_is),
                curl_says=curl_says,
                chromium_says=chromium_says,
                why=why,
            )
        )
        return make

    return register


STATED = re.compile(r"(?:Good|Blocked as (?P<defects>[a-z_]+(?:, [a-z_]+)*)): (?P<clauses>.+)\.")
"""A summary: the verdict, and the clauses that it rests on."""


@cache
def publisher() -> Publisher:
    """The server at which CAs publish what they say of revocation; one for a process, as long as that runs."""
    return Publisher().__enter__()


@cache
def root() -> Authority:
    """The tenant's own CA in most cases."""
    return Authority.root("Root")


@cache
def issuing() -> Authority:
    return root().intermediate("Issuing")


@cache
def public() -> Authority:
    """A CA of the common store."""
    return Authority.root("Public Root")


@cache
def public_issuing() -> Authority:
    return public().intermediate("Public Issuing")


def constrained(
    permitted: Sequence[x509.GeneralName] | None = None,
    excluded: Sequence[x509.GeneralName] | None = None,
    below: Authority | None = None,
) -> Authority:
    """An intermediate with these name constraints."""
    return (below or root()).intermediate("Constrained", name_constraints=x509.NameConstraints(permitted, excluded))


def network(text: str) -> x509.IPAddress:
    return x509.IPAddress(ipaddress.ip_network(text))
