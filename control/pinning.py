"""Hosts that clients seem to have pinned: what the workers found, put together into proposals to bypass them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter

from certs.bypass import BypassRules
from certs.names import parse_host
from config.problems import shown
from control import audit_log
from control import bypass_rules as rules_of
from control.errors import Missing
from control.installation import Installation
from store import bypass_rules, refusals
from store.records import BypassRule, Refusal

EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A host that so many clients refuse. ``enough``: as many as the configuration asks for.

    ``rule``: one of the tenant's own by which it is bypassed by now.
    """

    host: str
    clients: tuple[str, ...]
    count: int
    first_at: datetime
    last_at: datetime
    enough: bool
    rule: str | None = None

    @property
    def proposed(self) -> bool:
        """Whether a rule is proposed for it."""
        return self.enough and self.rule is None

    @property
    def evidence(self) -> str:
        """Why a rule is made for it, in words."""
        clients = f"{len(self.clients)} client{'s' if len(self.clients) != 1 else ''}"
        times = f"{self.count} time{'s' if self.count != 1 else ''}"
        return f"pinned: {clients} refused our certificate {times}, {self.first_at:%Y-%m-%d} to {self.last_at:%Y-%m-%d}"


def proposals(inst: Installation, tenant: str, now: datetime) -> list[Proposal]:
    """The hosts, those with most clients first. Raises Refused for an unknown tenant."""
    with inst.reading(tenant) as (connection, found):
        known = refusals.listing(connection, found.id, now - refusals.AGE)
        rules = BypassRules({rule.pattern: rule.expires_at for rule in bypass_rules.listing(connection, found.id)})
    after = inst.settings.bypass.propose_after
    made = [_proposal(host, group, after, rules.match(parse_host(host), now)) for host, group in _by_host(known)]
    return sorted((one for one in made if one.clients), key=lambda one: (-len(one.clients), one.host))


def accept(
    inst: Installation,
    tenant: str,
    host: str,
    now: datetime,
    reason: str | None = None,
    expires_at: datetime | None = None,
) -> BypassRule:
    """Make the rule that a proposal is for. ``reason``: without one, what clients did is the reason.

    What is known of the host stays: where the rule is removed, it is proposed again. Raises Missing where no client
    refuses the host, and Refused as :func:`control.bypass_rules.add`.
    """
    proposal = next((one for one in proposals(inst, tenant, now) if one.host == host), None)
    if proposal is None:
        raise unknown(host)
    (rule,) = rules_of.add(inst, tenant, [host], now, reason or proposal.evidence, expires_at)
    return rule


def unknown(host: str) -> Missing:
    """Nobody refuses the host."""
    return Missing(f"nothing is known of {shown(host)}; see: sallyport bypass proposals")


def dismiss(inst: Installation, tenant: str, host: str, now: datetime) -> bool:
    """Forget what is known of a host, as if nobody had refused it. False where nothing was known.

    No working set has it, so no generation is made. The audit log tells how much it was, and of no client.
    """
    with inst.changing(tenant) as (connection, found):
        known = [one for one in refusals.listing(connection, found.id, EVER) if one.host == host]
        if not known:
            return False
        before = {"clients": len(known), "refusals": sum(one.count for one in known)}
        audit_log.write(connection, inst.actor, found, "pinning.dismiss", host, before, None, now)
        refusals.forget(connection, found.id, host)
    return True


def _by_host(known: Iterable[Refusal]) -> Iterable[tuple[str, list[Refusal]]]:
    return ((host, list(group)) for host, group in groupby(known, attrgetter("host")))


def _proposal(host: str, group: list[Refusal], after: int, rule: str | None) -> Proposal:
    counting = refusals.counting(group)
    return Proposal(
        host=host,
        clients=tuple(one.client for one in counting),
        count=sum(one.count for one in counting),
        first_at=min(one.first_at for one in group),
        last_at=max(one.last_at for one in group),
        enough=len(counting) >= after,
        rule=rule,
    )
