"""What the console asks of the running daemon: handed in by whoever starts it, since it sees no data plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Daemon(Protocol):
    """The workers of this installation, as far as they answer; a worker that does not is left out."""

    async def health(self) -> Sequence[Mapping[str, Any]]:
        """What each worker says of itself: generations, CAs, purges, the store, the issuer, counts."""
        ...

    async def connections(self, most: int) -> Sequence[Mapping[str, Any]]:
        """Each worker's live connections, ``most`` of them, and the hosts that have most."""
        ...


class Nobody:
    """No daemon runs."""

    async def health(self) -> Sequence[Mapping[str, Any]]:
        """Nothing."""
        return ()

    async def connections(self, most: int) -> Sequence[Mapping[str, Any]]:
        """Nothing."""
        return ()
