"""What is wrong with a server's certificate: defects, checks, findings, the verdict; and the actions that there are.

A :class:`Check` is one question, a :class:`Finding` one thing that is wrong, a :class:`Verdict` all of them in the
order in which they are named. What is done about it is decided in :mod:`certs.decision`; :mod:`certs.checklist` tells
what came of each check.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from cryptography import x509


class Defect(StrEnum):
    """What can be wrong. The order is the one in which several are named."""

    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad_signature"
    OWN_CA = "own_ca"
    REVOKED = "revoked"
    WEAK_KEY = "weak_key"
    WEAK_SIGNATURE = "weak_signature"
    CONSTRAINT_VIOLATION = "constraint_violation"
    WRONG_PURPOSE = "wrong_purpose"
    SELF_SIGNED = "self_signed"
    INCOMPLETE_CHAIN = "incomplete_chain"
    UNTRUSTED_ROOT = "untrusted_root"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    HOSTNAME_MISMATCH = "hostname_mismatch"
    REVOCATION_UNKNOWN = "revocation_unknown"
    PROTOCOL = "protocol"


ORDER = {defect: place for place, defect in enumerate(Defect)}
UNTRUSTED = "untrusted"
"""The master row for the defects of :data:`COVERED_BY_UNTRUSTED`; a row of one's own wins over it."""
COVERED_BY_UNTRUSTED = frozenset({Defect.SELF_SIGNED, Defect.UNTRUSTED_ROOT, Defect.INCOMPLETE_CHAIN})


class Action(StrEnum):
    """What is done, the strictest first."""

    BLOCK = "block"
    WARN = "warn"
    BYPASS = "bypass"
    ALLOW = "allow"


STRICTNESS = {action: place for place, action in enumerate(Action)}


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect: which certificate, why, by which clause, and what can be done.

    ``certificate`` counts from the server's own (0) upwards in the chain that was judged; None where the
    finding is about the whole chain or the handshake.
    """

    defect: Defect
    explanation: str
    clause: str
    certificate: int | None = None
    remedy: str = ""
    check: str = ""
    """The name of the :class:`Check` that found it."""


@dataclass(frozen=True, slots=True)
class Check:
    """A question that is put to a server; ``says`` is so where it is passed, and ``clause`` is why it has to be.

    ``defects`` are those that it can find, the first of them the one that it is there for.
    """

    name: str
    says: str
    clause: str
    defects: tuple[Defect, ...]

    def finding(
        self, defect: Defect, explanation: str, clause: str, certificate: int | None = None, remedy: str = ""
    ) -> Finding:
        """A finding of this check. Every finding is made by a check, so that none is in no list."""
        return Finding(defect, explanation, clause, certificate, remedy, self.name)


class Anchored(StrEnum):
    """Where the chain of a verdict ends."""

    NOWHERE = ""
    COMMON = "common store"
    OWN = "trusted CA"


NONE_LEFT_OUT: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that was found, and the chain that it was found in (the server's certificate first)."""

    findings: tuple[Finding, ...] = ()
    chain: tuple[x509.Certificate, ...] = ()
    completed: str = ""
    """Where certificates of the chain are from that the server did not send, in words; empty where it sent them all."""
    leaf_unread: bool = False
    """The server's own certificate cannot be read: ``chain`` is what it sent behind that."""
    anchored: Anchored = field(default=Anchored.NOWHERE, compare=False)
    """Of what the last certificate of ``chain`` is."""
    unmade: Mapping[str, str] = field(default=NONE_LEFT_OUT, compare=False)
    """The names of checks that were not made, and why not; those that a failed handshake leaves out are not named."""

    @classmethod
    def of(
        cls,
        findings: Iterable[Finding],
        chain: Iterable[x509.Certificate] = (),
        leaf_unread: bool = False,
        anchored: Anchored = Anchored.NOWHERE,
        unmade: Mapping[str, str] = NONE_LEFT_OUT,
    ) -> Verdict:
        """A verdict with its findings in the order of :class:`Defect`."""
        ordered = sorted(findings, key=lambda finding: ORDER[finding.defect])
        return cls(tuple(ordered), tuple(chain), leaf_unread=leaf_unread, anchored=anchored, unmade=unmade)

    def also(self, *findings: Finding) -> Verdict:
        """The same verdict with these findings too."""
        return replace(self, findings=Verdict.of([*self.findings, *findings]).findings)

    @property
    def leaf(self) -> x509.Certificate | None:
        """The server's own certificate; None where it showed none, or one that cannot be read."""
        return self.chain[0] if self.chain and not self.leaf_unread else None

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def defects(self) -> tuple[Defect, ...]:
        """Each defect once, in order."""
        return tuple(dict.fromkeys(finding.defect for finding in self.findings))
