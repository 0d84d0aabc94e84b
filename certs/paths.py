"""Paths from a server's certificate to an anchor: found with backtracking, at a bounded cost.

A stranger chooses the certificates, and can choose them so that looking for a path is expensive: many issuers of one
name, loops of cross-certificates, slow keys. So everything here is counted: signatures checked, steps taken, length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509

from certs.facts import Facts, NameKey, kept_facts
from certs.signatures import Signatures
from certs.trust import VERIFY_DEPTH, Anchor, TrustStore

MOST_STEPS = 500
LONGEST_PATH = VERIFY_DEPTH + 2
"""Certificates, the server's own and the anchor included."""


@dataclass(frozen=True, slots=True)
class Path:
    """Certificates, the server's own first, each with its issuer behind it."""

    line: tuple[Facts, ...]
    anchor: Anchor | None
    """What the last certificate is, where an anchor was reached."""
    broken: frozenset[int] = frozenset()
    """The places of those whose signature the key behind them (the last one's: its own) does not verify."""

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        return tuple(facts.certificate for facts in self.line)

    @property
    def leaf(self) -> Facts:
        return self.line[0]

    @property
    def top(self) -> Facts:
        return self.line[-1]


class Search:
    """One depth-first look for paths, over the issuers that names, then signatures, allow."""

    def __init__(self, presented: Sequence[Facts], trust: TrustStore, signatures: Signatures | None = None) -> None:
        """``presented``: what the server sent, its own certificate first; at least that one."""
        self._leaf = presented[0]
        self._trust = trust
        self._signatures = signatures or Signatures()
        self._presented: dict[NameKey, list[Facts]] = {}
        for facts in presented[1:]:
            self._presented.setdefault(facts.subject, []).append(facts)
        self._forgiving = False
        self._steps = 0
        self._cut = False
        self._longest = Path((self._leaf,), None)
        self._rank = (0, 0)

    @property
    def exhausted(self) -> bool:
        """Whether a limit ended the search before everything was tried."""
        return self._cut or self._signatures.exhausted

    def likeliest(self) -> Path | None:
        """The path that :meth:`paths` yields first where every signature in it verifies; none of them was looked at.

        None where the first issuers of the right names lead to no anchor.
        """
        line: tuple[Facts, ...] = (self._leaf,)
        for _ in range(LONGEST_PATH):
            if (anchor := self._trust.anchor(line[-1].certificate)) is not None:
                return Path(line, anchor)
            issuer = next((issuer for issuer in self._issuers(line[-1]) if not _loops(issuer, line)), None)
            if issuer is None:
                break
            line = (*line, issuer)
        return None

    def paths(self) -> Iterator[Path]:
        """Every path from the server's certificate to an anchor, the likeliest first.

        Where there is none: the longest path. Where that one's top is not its own issuer, and a certificate of the
        right name does not verify a signature in it, that signature is broken, and the path goes on behind it.
        """
        found = False
        for path in self._onwards((self._leaf,)):
            found = True
            yield path
        if found:
            return
        if not self._longest.top.own_issuer or self._longest.broken:
            self._forgiving = True
            if broken := list(self._onwards((self._leaf,))):
                yield min(broken, key=lambda path: len(path.broken))
                return
        yield self._longest

    def _onwards(self, line: tuple[Facts, ...], broken: frozenset[int] = frozenset()) -> Iterator[Path]:
        """Every path that begins with this line and reaches an anchor."""
        self._steps += 1
        top = line[-1]
        if (anchor := self._trust.anchor(top.certificate)) is not None:
            yield Path(line, anchor, broken)
        else:
            self._remember(line, broken)
        for issuer in self._issuers(top):
            if _loops(issuer, line):
                continue
            if self._steps >= MOST_STEPS or len(line) >= LONGEST_PATH:
                self._cut = True
                return
            if self._signatures.verified(top, issuer):
                yield from self._onwards((*line, issuer), broken)
            elif self._forgiving and top.names_as_issuer(issuer):
                yield from self._onwards((*line, issuer), broken | {len(line) - 1})

    def _issuers(self, child: Facts) -> list[Facts]:
        """Certificates of the right name: anchors, helpers, presented ones; of each, fitting key identifiers first."""
        found: dict[x509.Certificate, Facts] = {}
        for group in (
            [kept_facts(anchor.certificate) for anchor in self._trust.anchors_named(child.issuer)],
            [kept_facts(helper) for helper in self._trust.helpers_named(child.issuer)],
            self._presented.get(child.issuer, []),
        ):
            if len(group) > 1:
                group = sorted(group, key=lambda issuer: not child.names_as_issuer(issuer))
            for issuer in group:
                found.setdefault(issuer.certificate, issuer)
        return list(found.values())

    def _remember(self, line: tuple[Facts, ...], broken: frozenset[int]) -> None:
        """Keep the longest line that reached no anchor; of two as long, the one with fewer broken signatures."""
        top = line[-1]
        rank = len(line), -len(broken)
        if rank <= self._rank:
            return
        self._rank = rank
        if top.own_issuer and not self._signatures.verified(top, top):
            broken |= {len(line) - 1}
        self._longest = Path(line, None, broken)


def _loops(issuer: Facts, line: Sequence[Facts]) -> bool:
    """The same name and key again would be a loop, whatever certificate brings it (RFC 4158 5.2)."""
    return any(issuer.spki == below.spki and issuer.subject == below.subject for below in line)
