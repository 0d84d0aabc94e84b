"""The running daemon, asked at its workers' status sockets, and of key managers at the issuer's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from certs.signer import Health
from console.daemon import KeyManagers
from issuer.client import IssuerClient, IssuerUnavailable
from proxy.control import ISSUER_SOCKET
from proxy.status_client import ask_all, ask_events

ISSUER_SECONDS = 2.0
"""How long the issuer may take to tell of key managers."""


class OfWorkers:
    """A :class:`console.daemon.Daemon`: that of an installation, as far as its workers answer."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    async def health(self) -> Sequence[Mapping[str, Any]]:
        """What each worker says of itself: generations, CAs, purges, the store, the issuer, counts."""
        return await ask_all(self._state_dir, {"ask": "health"})

    async def connections(self, most: int) -> Sequence[Mapping[str, Any]]:
        """Each worker's live connections, ``most`` of them, and the hosts that have most."""
        return await ask_all(self._state_dir, {"ask": "connections", "most": most})

    async def events(self, since: Mapping[str, int], most: int, tenant: str | None) -> Sequence[Mapping[str, Any]]:
        """What came lately on connections of a tenant, or of all (None), an answer for each worker."""
        return await ask_events(self._state_dir, since, most, tenant)

    async def key_managers(self, tenants: Sequence[str]) -> KeyManagers:
        """How those of the tenants are, of which each has hosts; and why that is not known of some."""
        client = IssuerClient(self._state_dir.joinpath(*ISSUER_SOCKET), ISSUER_SECONDS)
        try:
            answers = await asyncio.gather(*map(client.key_manager, tenants), return_exceptions=True)
        finally:
            await client.close()
        found: dict[str, Health] = {}
        unknown: str | None = None
        for tenant, answer in zip(tenants, answers, strict=True):
            if isinstance(answer, IssuerUnavailable):
                unknown = str(answer)
            elif isinstance(answer, BaseException):
                raise answer
            elif answer.hosts:
                found[tenant] = answer
        return KeyManagers(found, unknown)
