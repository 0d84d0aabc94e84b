"""Following the daemon's traffic, event by event: for API and pages, each of which writes it in its own way."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from console.daemon import Daemon
from console.events import Open
from console.problems import Problem
from control.traffic import Event, Follower, Wanted

LOOK_SECONDS = 0.5
MOST = 32
"""Who follows at once; each asks every worker twice a second."""
MOST_OF_ONE = 8
"""Of one account: nobody is to keep the others from following."""
LONGEST_SECONDS = 1800.0
"""Then a browser asks anew by itself, and it is seen whether its session still is."""
QUIET_SECONDS = 15.0
"""So often something is said in any case, so that a connection that is gone shows."""


class Followers(Open):
    """Counts who follows, by account."""

    def __init__(self) -> None:
        super().__init__(MOST, MOST_OF_ONE)

    def admit(self, account: str) -> None:
        """Raise Problem where too many follow, of all or of that account: to be asked before an answer begins."""
        if self.full:
            raise _too_many(f"{MOST} pages follow the traffic already; close one, or try again.")
        if self.full_of(account):
            raise _too_many(f"You follow the traffic on {MOST_OF_ONE} pages already; close one.")


def _too_many(detail: str) -> Problem:
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail, headers={"Retry-After": "30"})


async def last(daemon: Daemon, tenant: str, wanted: Wanted, most: int) -> list[Event]:
    """The last events of a tenant that are wanted, the oldest first."""
    news = await Follower().read(functools.partial(_ask, daemon, tenant))
    return [event for event in news.events if wanted.has(event)][-most:]


async def follow(
    daemon: Daemon,
    tenant: str,
    wanted: Wanted,
    gone: Callable[[], Awaitable[bool]],
    still: Callable[[], bool],
    followers: Followers,
    account: str,
) -> AsyncIterator[Sequence[Event]]:
    """What comes, as it comes; an empty one where for a while nothing did.

    ``gone``: whether whoever asked has gone. ``still``: whether he may still see it; asked now and then, in a thread.
    Raises Problem where too many follow.
    """
    followers.admit(account)
    with followers.one(account):
        loop = asyncio.get_running_loop()
        end, said = loop.time() + LONGEST_SECONDS, loop.time()
        follower = Follower()
        await follower.read(functools.partial(_ask, daemon, tenant))  # what is there already is on the page
        while loop.time() < end and not await gone():
            news = await follower.read(functools.partial(_ask, daemon, tenant))
            found = [event for event in news.events if wanted.has(event)]
            if found or loop.time() - said >= QUIET_SECONDS:
                said = loop.time()
                if not found and not await asyncio.to_thread(still):
                    return
                yield found
            await asyncio.sleep(LOOK_SECONDS)


async def _ask(daemon: Daemon, tenant: str, since: Mapping[str, int], most: int) -> Sequence[Mapping[str, Any]]:
    return await daemon.events(since, most, tenant)
