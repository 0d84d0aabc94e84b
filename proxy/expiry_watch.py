"""What the log says in time of CAs that end: near the end and behind it, once, and once a day while that is so.

One process says it for all: the supervisor, since it is there for as long as the daemon is, and asks the workers
(:mod:`proxy.status`). What they answer was built by processes that parse what strangers send, so nothing of it is
relied on: what is not as it should be is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from certs.expiry import Expiry, Validity
from proxy.log import ERROR, WARNING, Log
from proxy.status_client import ask_all

LOOK_SECONDS = 5.0
AGAIN = timedelta(days=1)
NOTHING_INTERCEPTED = "nothing is intercepted for this tenant; activate another signing CA"
SERVERS_BLOCKED = "servers behind it are blocked; add the CA's new certificate"


@dataclass(frozen=True, slots=True)
class Fact:
    """An active CA of a tenant. ``problem`` is why its key cannot be opened, where it cannot."""

    kind: Literal["signing", "trusted"]
    tenant: str
    name: str
    validity: Validity
    problem: str = ""


class News(Enum):
    """What there is to say of a CA."""

    ENDS_SOON = "ends soon"
    EXPIRED = "has expired"
    CANNOT_SIGN = "cannot sign"
    CAN_SIGN_AGAIN = "can sign again"


STOPPED = frozenset({News.EXPIRED, News.CANNOT_SIGN})


@dataclass(frozen=True, slots=True)
class _Said:
    news: News
    ends: datetime
    at: datetime

    def holds(self, news: News, ends: datetime, now: datetime) -> bool:
        """Whether that need not be said again. Not for ever where the clock was put back, either."""
        return (self.news, self.ends) == (news, ends) and timedelta(0) <= now - self.at < AGAIN


class ExpiryWatch:
    """Remembers what was said, and says what is due."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, ...], _Said] = {}

    def due(self, facts: Iterable[Fact], now: datetime) -> list[tuple[Fact, News]]:
        """What is to be said now. A CA that is not among the facts is as it was: its worker may not have answered."""
        found: list[tuple[Fact, News]] = []
        for fact in facts:
            # A tenant has one active signing CA; another in its place is what makes it sign again.
            key = (fact.kind, fact.tenant) if fact.kind == "signing" else (fact.kind, fact.tenant, fact.name)
            news, before = news_of(fact, now), self._said.get(key)
            if before is not None and before.news in STOPPED and news not in STOPPED and fact.kind == "signing":
                found.append((fact, News.CAN_SIGN_AGAIN))
            if news is None:
                self._said.pop(key, None)
            elif before is None or not before.holds(news, fact.validity.ends, now):
                found.append((fact, news))
                self._said[key] = _Said(news, fact.validity.ends, now)
        self._said = {key: said for key, said in self._said.items() if abs(now - said.at) < 2 * AGAIN}
        return found


def news_of(fact: Fact, now: datetime) -> News | None:
    """What there is to say of a CA at that moment; None where all is fine."""
    expiry = fact.validity.expiry(now)
    if expiry is Expiry.EXPIRED:
        return News.EXPIRED
    if fact.kind == "signing" and (fact.problem or expiry is Expiry.NOT_YET_VALID):
        return News.CANNOT_SIGN
    return News.ENDS_SOON if expiry is Expiry.NEAR_END else None


def facts(health: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """What the workers say of the CAs in use.

    Of each tenant it is the word of a worker that has the newest working set; where one of these knows that the key
    cannot be opened, its word. One that has yet to ask the issuer says nothing.
    """
    newest: dict[str, tuple[tuple[int, bool], list[Fact]]] = {}
    for worker in health:
        if worker.get("draining") is not False:
            continue
        for tenant, generation, found in _of_worker(worker):
            rank = generation, any(fact.problem for fact in found)
            if tenant not in newest or rank > newest[tenant][0]:
                newest[tenant] = (rank, found)
    return [fact for _, found in newest.values() for fact in found]


def _of_worker(worker: Mapping[str, Any]) -> Iterator[tuple[str, int, list[Fact]]]:
    match worker:
        case {"tenants": dict(tenants), "issuer": {"unusable": dict(unusable)}}:
            for tenant, told in tenants.items():
                match told:
                    case {"generation": int(generation), "signing_ca": signing, "trusted_cas": list(trusted)}:
                        if (active := _fact("signing", tenant, signing, unusable.get(tenant))) is not None:
                            more = (_fact("trusted", tenant, one) for one in trusted)
                            yield tenant, generation, [active, *(fact for fact in more if fact is not None)]
                    case _:
                        pass
        case _:
            pass


def _fact(kind: Literal["signing", "trusted"], tenant: str, told: object, problem: object = None) -> Fact | None:
    match told:
        case {
            "name": str(name),
            "begins": float(begins) | int(begins),
            "warns": float(warns) | int(warns),
            "ends": float(ends) | int(ends),
        }:
            try:
                moments = [datetime.fromtimestamp(seconds, UTC) for seconds in (begins, warns, ends)]
            except (ValueError, OverflowError, OSError):
                return None
            return Fact(kind, tenant, name, Validity(*moments), problem if isinstance(problem, str) else "")
        case _:
            return None


async def follow(state_dir: Path, log: Log, clock: Callable[[], datetime]) -> None:
    """Look again and again, until cancelled."""
    watch = ExpiryWatch()
    while True:
        health = await ask_all(state_dir, {"ask": "health"})
        now = clock()
        for fact, news in watch.due(facts(health), now):
            say(log, fact, news, now)
        await asyncio.sleep(LOOK_SECONDS)


def say(log: Log, fact: Fact, news: News, now: datetime) -> None:
    """Write the line."""
    tenant, name, end = fact.tenant, fact.name, fact.validity.ends
    signing, ends, left = fact.kind == "signing", rfc3339(end), (end - now).days
    match news:
        case News.ENDS_SOON:
            log.event(
                WARNING, "signing CA ends soon" if signing else "trusted CA ends soon",
                tenant=tenant, name=name, ends=ends, days_left=left,
            )  # fmt: skip
        case News.EXPIRED:
            log.event(
                ERROR if signing else WARNING, "signing CA has expired" if signing else "trusted CA has expired",
                tenant=tenant, name=name, ends=ends, effect=NOTHING_INTERCEPTED if signing else SERVERS_BLOCKED,
            )  # fmt: skip
        case News.CANNOT_SIGN:
            reason = fact.problem or f"it is not valid before {rfc3339(fact.validity.begins)}"
            log.event(
                ERROR, "signing CA cannot sign", tenant=tenant, name=name, reason=reason, effect=NOTHING_INTERCEPTED
            )  # fmt: skip
        case News.CAN_SIGN_AGAIN:
            log.event(WARNING, "signing CA can sign again", tenant=tenant, name=name)


def rfc3339(moment: datetime) -> str:
    """A moment as the log has it."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
