"""Which hosts and tenants an inspector is for."""

from __future__ import annotations

from collections.abc import Iterable

from certs.host_patterns import HostIndex, parse_pattern
from certs.names import InvalidHost, parse_host

EVERYBODY = "*"


class HostPatterns:
    """Hosts as the configuration names them. Raises InvalidHost, with the pattern, for one that is no name."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._index: HostIndex[list[str]] = HostIndex(list)
        patterns = tuple(patterns)
        self._all = "*" in patterns
        for pattern in patterns:
            try:
                self._index.at(parse_pattern(pattern)).append(pattern)
            except InvalidHost as error:
                raise InvalidHost(f"{pattern}: {error}") from None

    def match(self, host: str) -> bool:
        """Whether the host (:attr:`certs.names.Host.text`) is one of these; no host at all is where all are."""
        return self._all or (host != "" and next(self._index.find(parse_host(host)), None) is not None)


def is_for(tenants: Iterable[str], tenant: str) -> bool:
    """Whether a list of tenants has this one."""
    return any(each in (EVERYBODY, tenant) for each in tenants)
