"""What the running daemon tells of its traffic, as records; which of it somebody wants to see; and how it is followed.

Whoever has asked the workers hands in what they said (``proxy.events``): nothing here asks anybody. Workers parse what
strangers send, so what is not as it should be is passed over.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from certs.host_patterns import covering, parse_pattern
from certs.names import InvalidHost, parse_host
from certs.verdict import Action, Defect
from control.errors import Refused

MOST_WORKERS = 1024
"""Workers of which a follower knows how far it has read."""

PIECE = 500
"""Events of each worker that are asked for at once."""
MOST_PIECES = 100

type Ask = Callable[[Mapping[str, int], int], Awaitable[Sequence[Mapping[str, Any]]]]
"""Asks all workers for so many events behind those that were seen (``console.daemon.Daemon.events``)."""
type Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that came to pass on a connection.

    ``kind``: the log's name for it (docs/operations.md): verdict, refused, request, connection, leaf, … ``seq`` is its
    number in the worker that had ``token``. What there is not is None. ``outcome``: of a request how it ended, of a
    connection why. ``details``: of a refusal what the client was told. ``action``: what was done about the server;
    where something was refused, it was blocked.
    """

    worker: int
    token: str
    seq: int
    at: datetime
    kind: str
    id: str
    tenant: str | None = None
    client: str | None = None
    user: str | None = None
    host: str | None = None
    port: int | None = None
    lane: str | None = None
    outcome: str | None = None
    status: int | None = None
    defects: tuple[str, ...] = ()
    action: str | None = None
    details: str | None = None
    method: str | None = None
    path: str | None = None
    milliseconds: float | None = None
    trace: Mapping[str, Any] | None = field(default=None, repr=False)
    """Of a verdict with findings: what was found in which certificate, and the chain (docs/operations.md)."""
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """All that the worker told of it."""

    @property
    def blocked(self) -> bool:
        """Somebody did not get what he asked for."""
        return self.action == Action.BLOCK and self.kind in ("verdict", "refused")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events somebody wants to see. Empty: all of them."""

    host: str = ""
    """A pattern: example.com, .example.com, *.example.com."""
    client: Network | None = None
    defect: Defect | None = None
    action: Action | None = None
    blocked: bool = False

    @classmethod
    def of(
        cls, host: str = "", client: str = "", defect: str = "", action: str = "", *, blocked: bool = False
    ) -> Wanted:
        """From what a person wrote. Raises Refused, saying what to write."""
        try:
            pattern = str(parse_pattern(host)) if host else ""
        except InvalidHost as error:
            raise Refused(f"{host}: {error}") from None
        try:
            network = ipaddress.ip_network(client, strict=False) if client else None
        except ValueError:
            raise Refused(f"{client}: no address and no network; write 192.0.2.7 or 192.0.2.0/24") from None
        return cls(pattern, network, _one_of(Defect, defect, "defect"), _one_of(Action, action, "action"), blocked)

    def has(self, event: Event) -> bool:
        """Whether the event is one of these."""
        return (
            (not self.blocked or event.blocked)
            and (self.action is None or event.action == self.action)
            and (self.defect is None or self.defect in event.defects)
            and (not self.host or _covers(self.host, event.host))
            and (self.client is None or _is_of(self.client, event.client))
        )


@dataclass(frozen=True, slots=True)
class News:
    """What a follower has not seen before, the oldest first.

    ``more``: there is more already, so ask again. ``missed``: some made room before anybody asked. ``anew``: workers
    (their numbers) that were not there before, whose events begin anew.
    """

    events: tuple[Event, ...]
    more: bool = False
    missed: bool = False
    anew: tuple[int, ...] = ()


class Follower:
    """Follows the events of all workers: :meth:`took` gets each answer, ``since`` is what to ask for the next with."""

    def __init__(self) -> None:
        self.since: dict[str, int] = {}
        """Under each worker's token, the number of the last event that was seen."""

    def took(self, answers: Sequence[Mapping[str, Any]]) -> News:
        """What the workers said when they were asked with ``since``."""
        first, known = not self.since, dict(self.since)
        found: list[Event] = []
        more = missed = False
        anew: list[int] = []
        for answer in answers:
            match answer:
                case {"token": str(token), "number": int(number), "last": int(last)}:
                    pass
                case _:
                    continue
            found += events_of(answer)
            more = more or answer.get("more") is True
            missed = missed or answer.get("missed") is True
            if token not in known and not first:
                anew.append(number)
            self.since[token] = last
        while len(self.since) > MOST_WORKERS:
            del self.since[next(iter(self.since))]
        return News(in_order(found), more, missed, tuple(sorted(set(anew))))

    async def read(self, ask: Ask) -> News:
        """All that there is, the first time, and then all that is new. ``ask`` is asked for it piece by piece."""
        if not self.since:
            self.took(await ask({}, 0))  # where each worker's events begin
        read = [self.took(await ask(self.since, PIECE))]
        while read[-1].more and len(read) < MOST_PIECES:
            read.append(self.took(await ask(self.since, PIECE)))
        return News(
            in_order(event for news in read for event in news.events),
            read[-1].more,
            any(news.missed for news in read),
            tuple(sorted({number for news in read for number in news.anew})),
        )


def events_of(answer: Mapping[str, Any]) -> list[Event]:
    """The events in a worker's answer."""
    match answer:
        case {"token": str(token), "number": int(number), "events": list(told)}:
            return [event for one in told if (event := _event(number, token, one)) is not None]
        case _:
            return []


def in_order(events: Iterable[Event]) -> tuple[Event, ...]:
    """The events of several workers by their time, those of one by their numbers."""
    return tuple(sorted(events, key=lambda event: (event.at, event.token, event.seq)))


def _event(worker: int, token: str, told: object) -> Event | None:
    if not isinstance(told, dict):
        return None
    fields: Mapping[str, Any] = told
    match fields:
        case {"seq": int(seq), "time": float(seconds) | int(seconds), "event": str(kind), "id": str(id)}:
            pass
        case _:
            return None
    try:
        at = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    trace, defects = fields.get("trace"), fields.get("defects")
    return Event(
        worker, token, seq, at, kind, id,
        tenant=_text(fields, "tenant"),
        client=_text(fields, "client"),
        user=_text(fields, "user"),
        host=_text(fields, "host"),
        port=_whole(fields, "port"),
        lane=_text(fields, "lane"),
        outcome=_text(fields, "outcome") or (_text(fields, "reason") if kind == "connection" else None),
        status=_whole(fields, "status"),
        defects=tuple(one for one in defects if isinstance(one, str)) if isinstance(defects, list) else (),
        action=_text(fields, "action") or (Action.BLOCK.value if kind == "refused" else None),
        details=(_text(fields, "details") or _text(fields, "error")) if kind == "refused" else None,
        method=_text(fields, "method"),
        path=_text(fields, "path"),
        milliseconds=float(ms) if isinstance(ms := fields.get("ms"), float | int) else None,
        trace=trace if isinstance(trace, dict) else None,
        fields=fields,
    )  # fmt: skip


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) and value else None


def _whole(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    return value if type(value) is int else None


def _one_of[E: (Defect, Action)](kind: type[E], name: str, what: str) -> E | None:
    if not name:
        return None
    try:
        return kind(name)
    except ValueError:
        raise Refused(f"{name}: no {what}; one of {', '.join(kind)}") from None


def _covers(pattern: str, host: str | None) -> bool:
    """Whether the pattern covers an event's host, which a plain request tells with its port."""
    if host is None:
        return False
    for name in (host, host.rpartition(":")[0]):
        try:
            if pattern in covering(parse_host(name)):
                return True
        except InvalidHost:
            continue
    return False


def _is_of(network: Network, client: str | None) -> bool:
    """Whether the client, an address or (by ``log.privacy``) its network, is of that network, or may be."""
    try:
        its = ipaddress.ip_network(client or "", strict=False)
    except ValueError:
        return False
    return its.version == network.version and its.overlaps(network)
