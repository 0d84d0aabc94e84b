"""What the console asks of the running daemon: handed in by whoever starts it, since it sees no data plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from certs.signer import Health


@dataclass(frozen=True, slots=True)
class KeyManagers:
    """Under the names of tenants whose signing CA's key is in a key manager, how its hosts are.

    ``unknown``: why that is not known of some, in words; None where it is.
    """

    found: Mapping[str, Health]
    unknown: str | None


class Daemon(Protocol):
    """The workers of this installation, as far as they answer; a worker that does not is left out."""

    async def health(self) -> Sequence[Mapping[str, Any]]:
        """What each worker says of itself: generations, CAs, purges, the store, the issuer, counts."""
        ...

    async def connections(self, most: int) -> Sequence[Mapping[str, Any]]:
        """Each worker's live connections, ``most`` of them, and the hosts that have most."""
        ...

    async def events(self, since: Mapping[str, int], most: int, tenant: str | None) -> Sequence[Mapping[str, Any]]:
        """What came lately on connections of a tenant, or of all tenants (None), an answer for each worker.

        For :class:`control.traffic.Follower`, whose ``since`` it takes. A worker that is not in that tells its last
        ``most`` events, any other at most so many behind the one that was seen; 500 are the most.
        """
        ...

    async def key_managers(self, tenants: Sequence[str]) -> KeyManagers:
        """How the key managers of these tenants are."""
        ...


class Nobody:
    """No daemon runs."""

    async def health(self) -> Sequence[Mapping[str, Any]]:
        """Nothing."""
        return ()

    async def connections(self, most: int) -> Sequence[Mapping[str, Any]]:
        """Nothing."""
        return ()

    async def events(self, since: Mapping[str, int], most: int, tenant: str | None) -> Sequence[Mapping[str, Any]]:
        """Nothing."""
        return ()

    async def key_managers(self, tenants: Sequence[str]) -> KeyManagers:
        """Nothing."""
        return KeyManagers({}, "no daemon runs")
