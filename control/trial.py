"""What a change of settings would make of servers that were judged before: each is judged twice, now, and compared.

Once under the settings as they are and once as they would be, from the same certificates and at the same time: so what
differs is the change's doing alone, and not that of a day that has passed. It is judged by what judges connections
(:mod:`certs.replay`). What cannot be found out again without the server, or without asking others, counts as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cachetools import LRUCache

from certs.decision import ErrorSettings
from certs.names import Host, InvalidHost, parse_host
from certs.replay import judge_again
from certs.scope import Trust, TrustByHost
from certs.verdict import COVERED_BY_UNTRUSTED, Action, Defect, Finding, Verdict
from config.settings import Verification
from store.records import RecentServer

NOT_KEPT = "what it showed was not kept: it was too large, or cannot be read"
NOT_REMEMBERED = "verification.remember_servers is off, so no server is known to try it on"
MOST_SETS = 256
_REVOCATION = frozenset({Defect.REVOKED.value, Defect.REVOCATION_UNKNOWN.value})
_AS_IT_WAS = (Defect.REVOKED, Defect.REVOCATION_UNKNOWN, Defect.PROTOCOL)
"""What is not found in certificates alone: others were asked for it, or the handshake tells it."""


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """By what a server is judged, and what is done about it. ``trust`` is made without rules (:mod:`certs.replay`)."""

    trust: TrustByHost
    errors: ErrorSettings
    own_keys: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is wrong with a server, and what is done."""

    defects: tuple[Defect, ...]
    action: Action


@dataclass(frozen=True, slots=True)
class Difference:
    """A server that would be judged otherwise; ``last_at``: when it was last visited, to ten minutes."""

    host: str
    port: int
    last_at: datetime
    before: Outcome
    after: Outcome


@dataclass(frozen=True, slots=True)
class Untried:
    """A server on which the change could not be tried, and why not."""

    host: str
    port: int
    last_at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of trying a change on so many servers. ``remarks``: what it cannot tell, a line each."""

    servers: int
    differing: tuple[Difference, ...] = ()
    untried: tuple[Untried, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(slots=True)
class _Unknown:
    """How many servers there is something about that is not known here."""

    unasked: int = 0
    unwanted: int = 0
    incomplete: int = 0

    def remarks(self) -> tuple[str, ...]:
        told = (
            (self.unasked, "servers that are blocked and would pass, about whose revocation nobody was asked yet"),
            (self.unwanted, "servers that were never looked at for revocation_unknown, as nothing was set for it"),
            (self.incomplete, "servers that lack an issuer, which is looked for in a connection and was not here"),
        )
        return tuple(f"{what}: {count}" for count, what in told if count)


@dataclass(slots=True)
class _Comparison:
    before: WorkingSet
    after: WorkingSet
    verification: Verification
    now: datetime
    unknown: _Unknown = field(default_factory=_Unknown)
    _alike: LRUCache[tuple[Trust, Trust], bool] = field(default_factory=lambda: LRUCache(MOST_SETS))

    def of(self, server: RecentServer) -> tuple[Outcome, Outcome]:
        """Before and after. Raises ValueError where it cannot be judged again."""
        try:
            host = parse_host(server.host)
        except InvalidHost as error:
            raise ValueError(str(error)) from None
        alike = self._trusts_alike(host)
        verdict = self._verdict(server, host, self.before)
        again = verdict if alike else self._verdict(server, host, self.after)
        first = self._outcome(server, host, verdict, self.before)
        second = self._outcome(server, host, again, self.after)
        self._note_unknown(server, host, again, first.action, second.action)
        if not alike and self.verification.complete_chains and Defect.INCOMPLETE_CHAIN in again.defects:
            self.unknown.incomplete += 1
        return first, second

    def _trusts_alike(self, host: Host) -> bool:
        """Whether the change makes no difference to whom is trusted about the host."""
        if self.before.trust is self.after.trust:
            return True
        pair = self.before.trust.at(host), self.after.trust.at(host)
        if (alike := self._alike.get(pair)) is None:
            one, other = pair[0].store, pair[1].store
            alike = self._alike[pair] = one.anchors == other.anchors and one.helpers == other.helpers
        return alike

    def _verdict(self, server: RecentServer, host: Host, working: WorkingSet) -> Verdict:
        if not server.shown:
            return Verdict.of(_kept(Defect(defect)) for defect in server.defects)
        if server.presented is None:
            raise ValueError(NOT_KEPT)
        trust = working.trust.at(host)
        return judge_again(server.presented, server.added, host, trust, self.now, working.own_keys)

    def _outcome(self, server: RecentServer, host: Host, verdict: Verdict, working: WorkingSet) -> Outcome:
        """With what was found besides, where that counts."""
        errors = working.errors
        for defect in _AS_IT_WAS:
            if server.shown and defect.value in server.defects and self._counts(defect, verdict, host, errors):
                verdict = verdict.also(_kept(defect))
        return Outcome(verdict.defects, errors.decide(verdict, host, self.now).action)

    def _counts(self, defect: Defect, verdict: Verdict, host: Host, errors: ErrorSettings) -> bool:
        """Whether what was found besides would be found under these settings as well (proxy.revocation)."""
        if defect is Defect.PROTOCOL or not _reaches_anchor(verdict):
            return defect is Defect.PROTOCOL
        if defect is Defect.REVOKED:
            return True
        blocked = errors.decide(verdict, host, self.now).action is Action.BLOCK
        return not blocked and self._wants_unknown(errors, host, verdict)

    def _note_unknown(self, server: RecentServer, host: Host, verdict: Verdict, before: Action, after: Action) -> None:
        """Nobody is asked about a server that is blocked for something else, or that reaches no anchor."""
        verification = self.verification
        if not server.shown or not _reaches_anchor(verdict) or after is Action.BLOCK:
            return
        asked = verification.revocation != "off" or verification.crl_directory is not None
        if asked and before is Action.BLOCK and _REVOCATION.isdisjoint(server.defects):
            self.unknown.unasked += 1
        elif verification.revocation == "soft" and self._wants_unknown(self.after.errors, host, verdict):
            self.unknown.unwanted += not self._wants_unknown(self.before.errors, host, verdict)

    def _wants_unknown(self, errors: ErrorSettings, host: Host, verdict: Verdict) -> bool:
        hard = self.verification.revocation == "hard"
        return hard or errors.says_of(Defect.REVOCATION_UNKNOWN, host, verdict.leaf, self.now)


def compare(
    servers: Sequence[RecentServer], before: WorkingSet, after: WorkingSet, verification: Verification, now: datetime
) -> Trial:
    """Judge the servers under both, and tell which differ. Decides without I/O; some milliseconds a server."""
    comparison = _Comparison(before, after, verification, now)
    differing, untried = [], []
    for server in servers:
        try:
            first, second = comparison.of(server)
        except ValueError as error:
            untried.append(Untried(server.host, server.port, server.last_at, str(error)))
            continue
        if first != second:
            differing.append(Difference(server.host, server.port, server.last_at, first, second))
    return Trial(len(servers), tuple(differing), tuple(untried), comparison.unknown.remarks())


def _reaches_anchor(verdict: Verdict) -> bool:
    return COVERED_BY_UNTRUSTED.isdisjoint(verdict.defects)


def _kept(defect: Defect) -> Finding:
    return Finding(defect, "found when the server was last judged", "what cannot be found out again counts as it was")
