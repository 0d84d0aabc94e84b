"""What of a tenant's settings counts when a server is judged, in the words of ``certs``.

The data plane makes its working sets of it, and whoever tries a change before it is saved judges by the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from certs.decision import ErrorSettings
from certs.exceptions import HostException, HostExceptions
from certs.host_patterns import parse_pattern
from certs.scope import OwnCa
from certs.verdict import Action
from store import error_settings, host_exceptions
from store.engine import Connection
from store.records import TrustedCa


def own_cas(stored: Iterable[TrustedCa]) -> tuple[OwnCa, ...]:
    """Those that are active."""
    return tuple(OwnCa(ca.chain, ca.hosts) for ca in stored if ca.active)


def errors(c: Connection, tenant_id: int) -> ErrorSettings:
    """A tenant's rows and exceptions; each decision looks which have expired. Raises ValueError for what is none."""
    rows = {row: Action(action) for row, action in error_settings.rows(c, tenant_id).items()}
    exceptions = tuple(
        HostException(
            stored.id, parse_pattern(stored.pattern), stored.defect, Action(stored.action), stored.fingerprint,
            stored.expires_at, stored.reason,
        )
        for stored in host_exceptions.listing(c, tenant_id)
    )  # fmt: skip
    return ErrorSettings(rows, HostExceptions(exceptions))
