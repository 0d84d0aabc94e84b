"""Which hosts have leaves under a leaf key, so that the store is not asked for a host that cannot be there."""

from __future__ import annotations

from collections.abc import Iterable

MOST_HOSTS = 50_000
"""Hosts that are remembered for one leaf key: about 6 MB."""


class RecordedHosts:
    """The hosts under one leaf key, as long as they are not too many: then every host may be there.

    They are read with the key, and this process adds what it records. A leaf that another process records under the
    same key afterwards is not known of: the host gets a second one, as where both make one at the same time.
    """

    __slots__ = ("_hosts",)

    def __init__(self, hosts: Iterable[str] | None) -> None:
        """``hosts``: those in the store; None where they are more than :data:`MOST_HOSTS`, or were not read."""
        self._hosts = None if hosts is None else set(hosts)

    def may_have(self, host: str) -> bool:
        """False where the store has no leaf for the host under this key."""
        return self._hosts is None or host in self._hosts

    def add(self, host: str) -> None:
        """A leaf for the host has been recorded."""
        if self._hosts is None:
            return
        self._hosts.add(host)
        if len(self._hosts) > MOST_HOSTS:
            self._hosts = None
