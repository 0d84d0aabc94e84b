"""What is done about what is wrong with a server, and which setting says so.

:meth:`ErrorSettings.decide` is the one decision. docs/verdicts.md has the precedence as a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cryptography import x509

from certs.exceptions import HostException, HostExceptions
from certs.names import Host
from certs.verdict import COVERED_BY_UNTRUSTED, STRICTNESS, UNTRUSTED, Action, Defect, Verdict


class Source(StrEnum):
    """What can say what is done about a defect."""

    EXCEPTION = "exception"
    ROW = "row"
    MASTER = "master"
    DEFAULT = "default"
    NOTHING_SHOWN = "nothing shown"
    """A setting would let the server pass, but there is no certificate of it that could be let pass."""


@dataclass(frozen=True, slots=True)
class Reason:
    """What is done about one defect, and by which setting; ``exception``: which one, where it is one."""

    defect: Defect
    action: Action
    source: Source
    exception: HostException | None = None

    def __str__(self) -> str:
        match self.source:
            case Source.EXCEPTION if self.exception is not None:
                return f"exception {self.exception.id}"
            case Source.ROW:
                return f"row {self.defect.value}"
            case Source.MASTER:
                return f"row {UNTRUSTED}"
            case _:
                return self.source.value


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done about a server: the strictest of what is done about each of its defects, in their order."""

    action: Action
    reasons: tuple[Reason, ...] = ()

    @property
    def by(self) -> list[str]:
        """For the log: which setting decided, for each defect in order."""
        return [str(reason) for reason in self.reasons]


NOTHING_WRONG = Decision(Action.ALLOW)
NEEDS_A_CERTIFICATE = frozenset({Action.ALLOW, Action.WARN})
"""Actions by which a client is connected to the server through us."""


@dataclass(frozen=True, slots=True)
class ErrorSettings:
    """A tenant's rows, each a defect's name or ``untrusted`` and its action, and its exceptions for some hosts."""

    rows: Mapping[str, Action] = field(default_factory=dict)
    exceptions: HostExceptions = field(default_factory=HostExceptions)

    def decide(self, verdict: Verdict, host: Host, now: datetime) -> Decision:
        """What is done about a server. ``host``: the name that the client asked for. Allow where nothing is wrong."""
        if verdict.ok:
            return NOTHING_WRONG
        reasons = tuple(self._about(defect, verdict, host, now) for defect in verdict.defects)
        return Decision(min((reason.action for reason in reasons), key=STRICTNESS.__getitem__), reasons)

    def _about(self, defect: Defect, verdict: Verdict, host: Host, now: datetime) -> Reason:
        exception = self.exceptions.find(host, defect, verdict.leaf, now)
        if exception is not None:
            reason = Reason(defect, exception.action, Source.EXCEPTION, exception)
        else:
            reason = self.for_every_host(defect)
        if verdict.leaf is None and reason.action in NEEDS_A_CERTIFICATE:
            return Reason(defect, Action.BLOCK, Source.NOTHING_SHOWN)
        return reason

    def says_of(self, defect: Defect, host: Host, leaf: x509.Certificate | None, now: datetime) -> bool:
        """Whether a row of its own says what is done about a defect, or an exception that counts for this server."""
        return defect.value in self.rows or self.exceptions.find(host, defect, leaf, now) is not None

    def for_every_host(self, defect: Defect) -> Reason:
        """What is done about a defect where no exception counts: by its own row, else the master row, else block."""
        row = self.rows.get(defect.value)
        if row is not None and (row is Action.BLOCK or defect is not Defect.OWN_CA):
            return Reason(defect, row, Source.ROW)
        if defect in COVERED_BY_UNTRUSTED and (row := self.rows.get(UNTRUSTED)) is not None:
            return Reason(defect, row, Source.MASTER)
        return Reason(defect, Action.BLOCK, Source.DEFAULT)
