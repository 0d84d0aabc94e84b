"""Whether leaves can be had: the issuer asked from time to time, and how it answered when leaves were wanted.

An issuer that nobody asks anything could be dead for hours unnoticed, and a CA expire, before the first client hears
of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from issuer.client import IssuerUnavailable
from issuer.protocol import Code

CHECK_SECONDS = 2.0
UNREACHABLE = frozenset({"timeout", "refused_peer", "protocol"})
"""Codes of the client's own: there was no answer of the issuer's."""
NO_FAULT = frozenset({Code.INVALID_HOST.value, Code.RATE_LIMITED.value, Code.KEY_MANAGER_BUSY.value, "closed"})
"""Codes that say nothing about whether the next leaf can be had."""
NO_NEW = frozenset({Code.KEY_MANAGER_DOWN.value, Code.KEY_MANAGER_BUSY.value})
"""Codes by which there may be no leaf but those that are there."""
CANNOT_SIGN = frozenset({Code.CA_EXPIRED.value, Code.KEY_UNAVAILABLE.value})
"""Codes that no time and no other host will change: an administrator has to."""
REMEMBERED_SECONDS = 60.0
"""A leaf that could not be had counts for so long, unless another could meanwhile."""


class Issuer(Protocol):
    """What is asked; issuer.client.IssuerClient is one."""

    async def check(self, tenant: str) -> int: ...


class IssuerWatch:
    """``monotonic`` tells seconds."""

    def __init__(self, issuer: Issuer, tenants: Callable[[], Iterable[str]], monotonic: Callable[[], float]) -> None:
        self._issuer = issuer
        self._tenants = tenants
        self._monotonic = monotonic
        self.unreachable: str | None = None
        """Why the issuer gave no answer, while it gives none."""
        self.tenants: dict[str, str] = {}
        """Why no leaf can be made for a tenant, while that is so."""
        self.cannot_sign: frozenset[str] = frozenset()
        """Tenants whose signing CA has expired, or whose key cannot be opened."""
        self.without_new: frozenset[str] = frozenset()
        """Tenants whose key manager cannot be asked, or not for so much: leaves that are there can be had, and perhaps
        no new ones."""
        self.unusable: dict[str, str] | None = None
        """Why a tenant's key cannot be opened, while that is so. None: nobody was asked yet."""
        self._signing_cas: dict[str, int | None] = {}
        self._failed: tuple[float, str] | None = None

    async def follow(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(CHECK_SECONDS)

    async def look(self) -> None:
        """Ask once for each tenant."""
        found: dict[str, str] = {}
        unusable: dict[str, str] = {}
        cannot_sign: set[str] = set()
        without_new: set[str] = set()
        for tenant in tuple(self._tenants()):
            try:
                await self._issuer.check(tenant)
            except IssuerUnavailable as error:
                if error.code in UNREACHABLE:
                    self.unreachable = str(error)
                    return
                if error.code not in NO_FAULT:
                    found[tenant] = str(error)
                if error.code in CANNOT_SIGN:
                    cannot_sign.add(tenant)
                if error.code in NO_NEW:
                    without_new.add(tenant)
                if error.code == Code.KEY_UNAVAILABLE.value:
                    unusable[tenant] = str(error)
        self.unreachable = None
        self.tenants = found
        self.unusable = unusable
        self.cannot_sign = frozenset(cannot_sign)
        self.without_new = frozenset(without_new)

    def changed(self, tenant: str, signing_ca: int | None) -> None:
        """This is the tenant's signing CA from now on: what was found of another one is over."""
        if self._signing_cas.get(tenant) != signing_ca:
            self._signing_cas[tenant] = signing_ca
            self.tenants.pop(tenant, None)
            self.cannot_sign -= {tenant}
            self.without_new -= {tenant}
            if self.unusable is not None:
                self.unusable.pop(tenant, None)

    def heard(self, error: IssuerUnavailable | None) -> None:
        """A leaf was had, or not."""
        if error is None:
            self._failed = None
        elif error.code not in NO_FAULT:
            self._failed = (self._monotonic(), str(error))

    @property
    def failed(self) -> str | None:
        """Why the last leaf that was wanted could not be had, where that is not long ago."""
        if self._failed is None or self._monotonic() - self._failed[0] > REMEMBERED_SECONDS:
            return None
        return self._failed[1]
