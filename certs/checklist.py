"""What came of each check that a verdict consists of: passed, failed with which findings, or not made, and why.

The list is of the checks themselves, which those who make them declare, so there is no second one to keep in step. It
is worked out when somebody asks for it; a verdict only knows which checks were not made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from certs import failures, openssl_errors, revocation, second_opinion, verify
from certs.checks import CHECKS
from certs.verdict import ORDER, Check, Verdict

ALL: tuple[Check, ...] = tuple(
    sorted(
        (
            verify.SENT, verify.READABLE, verify.BOUNDED, verify.FOUND,
            *(each.check for each in CHECKS),
            second_opinion.SECOND, openssl_errors.OPENSSL, verify.LOOKED_AT,
            revocation.NOTHING_REVOKED, revocation.REVOCATION_KNOWN,
            failures.HANDSHAKE, failures.NO_CERTIFICATE_WANTED,
        ),
        key=lambda check: ORDER[check.defects[0]],
    )
)  # fmt: skip
"""Every check, in the order of what it is there for."""


class State(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_MADE = "not made"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one check. ``why``: it was not made; ``findings``: places among the verdict's, from 0."""

    check: Check
    state: State
    why: str = ""
    findings: tuple[int, ...] = ()


def outcomes(verdict: Verdict) -> tuple[Outcome, ...]:
    """What came of every check, in the order of :data:`ALL`."""
    found: dict[str, list[int]] = {}
    for place, finding in enumerate(verdict.findings):
        found.setdefault(finding.check, []).append(place)
    ended = failures.ENDED if failures.HANDSHAKE.name in found else ""
    return tuple(_outcome(check, tuple(found.get(check.name, ())), verdict, ended) for check in ALL)


def _outcome(check: Check, findings: tuple[int, ...], verdict: Verdict, ended: str) -> Outcome:
    if findings:
        return Outcome(check, State.FAILED, findings=findings)
    if why := ended or verdict.unmade.get(check.name, ""):
        return Outcome(check, State.NOT_MADE, why)
    return Outcome(check, State.PASSED)
