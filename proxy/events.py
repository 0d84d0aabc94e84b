"""What the connections of a worker came to lately, for whoever asks (:mod:`proxy.status`): a bounded ring in memory.

It has what the log tells of connections, verdicts, refusals and requests, by the same rules of what may be told, and
nothing of a host of ``log.never_log``. What thins the log (its level, sampling, floods) does not thin this. An event is
kept as it came, so that it costs next to nothing; it is put into words when somebody asks.

Each tenant has rings of its own, so that nobody's traffic pushes out another's, and a second one for what somebody may
have to look at (refusals, verdicts with findings, what was cut), which many requests do not push out.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice, takewhile
from operator import itemgetter
from typing import Any, Final

from certs.mentions import Mentions
from proxy.lanes.exchange import MAX_PATH, Exchange
from proxy.log import names_one_of

MOST: Final = 2000
"""Events of a ring, where one tenant has the worker to itself; several share them."""
LEAST: Final = 100
"""Of a ring, however many tenants there are."""
LARGEST_ANSWER: Final = 256 << 10
"""Characters of events in one answer, which keeps the worker for some milliseconds; the next has what is behind."""
TRACE: Final = frozenset({
    "findings", "findings_left_out", "chain", "chain_left_out", "sent_beside", "anchor", "completed", "tls", "cipher",
    "group", "asks",
})  # fmt: skip
"""Fields of the log's line ``verdict`` that are an event's ``trace``: what was found in which certificate."""

type Entry = tuple[int, float, str, str, str, str, str, str, Mapping[str, Any] | Exchange]
"""Sequence number, seconds since 1970, event, id, tenant, client, user, lane, and the fields of the log."""

_number = itemgetter(0)


class _Ring:
    """``lost`` is the number of the last event that had to make room."""

    __slots__ = ("entries", "lost")

    def __init__(self, most: int) -> None:
        self.entries: deque[Entry] = deque(maxlen=most)
        self.lost = 0


class Events:
    """The events of one worker, numbered from 1 on. ``wall`` tells seconds since 1970; so many tenants share it."""

    def __init__(self, wall: Callable[[], float], tenants: int = 1) -> None:
        self.token = f"{os.getpid()}-{wall():.6f}"
        """By which a follower notices that numbers have begun anew."""
        self.last = 0
        self._wall = wall
        self._most = max(LEAST, MOST // max(1, tenants))
        self._rings: dict[tuple[str, bool], _Ring] = {}

    def keep(
        self, event: str, id: str, tenant: str, client: str, user: str, lane: str,
        fields: Mapping[str, Any] | Exchange, notable: bool = False,
    ) -> None:  # fmt: skip
        """It happened. Nothing may change ``fields`` afterwards; what may not be told must not be in them.

        ``tenant``: one of the configuration, or "" where nobody knows yet whose the connection is. ``notable``:
        somebody may have to look at it.
        """
        ring = self._rings.get((tenant, notable))
        if ring is None:
            ring = self._rings[tenant, notable] = _Ring(self._most)
        entries = ring.entries
        if len(entries) == self._most:
            ring.lost = entries[0][0]
        self.last += 1
        entries.append((self.last, self._wall(), event, id, tenant, client, user, lane, fields))

    def answer(self, since: int | None, most: int, tenant: str | None, never: Mentions | None) -> dict[str, Any]:
        """``most`` events after number ``since``, the oldest first; without ``since``, the last ``most``.

        Of one tenant, or of all (None). ``last`` is what to ask for the next after, ``more`` says that there are some
        already, ``missed`` that some after ``since`` had to make room before anybody asked. ``never``: events whose
        fields name such a host are left out.
        """
        rings = [ring for (whose, _), ring in self._rings.items() if tenant is None or whose == tenant]
        found: list[Entry] = []
        for ring in rings:
            backwards = reversed(ring.entries)
            if since is None:
                found += islice(backwards, most)
            else:
                found += takewhile(lambda entry: entry[0] > since, backwards)
        found.sort(key=_number)
        more = since is not None and len(found) > most
        found = found[-most:] if since is None and most else found[:most]
        told: list[dict[str, Any]] = []
        last, room = since or 0, LARGEST_ANSWER
        for place, entry in enumerate(found):
            if never is None or isinstance(entry[8], Exchange) or not names_one_of(never, entry[8]):
                shown = _shown(entry)
                room -= len(json.dumps(shown, default=str))
                if room < 0 and place:
                    more = True
                    break
                told.append(shown)
            last = entry[0]
        missed = since is not None and any(ring.lost > since for ring in rings)
        return {"token": self.token, "last": last, "more": more, "missed": missed, "events": told}


def _shown(entry: Entry) -> dict[str, Any]:
    number, at, event, id, tenant, client, user, lane, what = entry
    told: dict[str, Any] = {"seq": number, "time": round(at, 3), "event": event, "id": id, "tenant": tenant or None,
                            "client": client or None, "user": user or None, "lane": lane or None}  # fmt: skip
    fields = _of_exchange(what) if isinstance(what, Exchange) else what
    trace: dict[str, Any] = {}
    for name, value in fields.items():
        if value is None or value in ("", ()):
            continue
        kept = value[:MAX_PATH] if isinstance(value, str) else value
        if event == "verdict" and name in TRACE:
            trace[name] = kept
        elif name not in told:
            told[name] = kept
    return told | {"trace": trace} if trace.get("findings") else told


def _of_exchange(x: Exchange) -> dict[str, Any]:
    """A request as the log has it (:meth:`proxy.log.Log.request`)."""
    return {
        "protocol": x.protocol, "method": x.method, "host": x.host, "path": x.path, **(x.more or {}),
        "status": x.status or None, "request_bytes": x.request_bytes, "response_bytes": x.response_bytes,
        "first_byte_ms": round((x.first_byte - x.started) * 1e3, 2) if x.first_byte else None,
        "ms": round((x.ended - x.started) * 1e3, 2) if x.ended else None, "outcome": x.outcome,
    }  # fmt: skip
