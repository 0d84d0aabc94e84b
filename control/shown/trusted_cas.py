"""Trusted CAs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cryptography import x509

from control.shown import certificates, expiry
from store.records import TrustedCa

FIRST_HOSTS = 20
"""Hosts that JSON names, of those that use a trusted CA."""


def status(record: TrustedCa) -> str:
    """``active`` or ``inactive``."""
    return "active" if record.active else "inactive"


def hosts_of(record: TrustedCa, most: int = 100) -> str:
    """The hosts that it may vouch for, as text."""
    shown, more = record.hosts[:most], len(record.hosts) - most
    return ", ".join([*shown, f"{more} more"] if more > 0 else shown) or "all hosts"


def users(using: dict[str, tuple[str, ...]] | None, record: TrustedCa) -> int | None:
    """For how many hosts it vouched in the last 24 hours; None where that is not remembered."""
    return None if using is None else len(using.get(record.name, ()))


def used_by_object(using: dict[str, tuple[str, ...]] | None, record: TrustedCa) -> dict[str, Any]:
    """The same for JSON, with the first hosts in order."""
    first = None if using is None else using.get(record.name, ())[:FIRST_HOSTS]
    return {"used_by_hosts": users(using, record), "first_hosts": first}


def used_by_in_words(hosts: int | None) -> str:
    """That number for people."""
    if hosts is None:
        return "not known: verification.remember_servers is off"
    return f"{hosts_in_words(hosts)} in the last 24 hours"


def hosts_in_words(hosts: int) -> str:
    """``1 host``, ``2 hosts``."""
    return "1 host" if hosts == 1 else f"{hosts} hosts"


def anchor_of(record: TrustedCa) -> list[x509.Certificate]:
    """The certificate whose end is the trusted CA's.

    It alone is trusted: the others only help to build the way to it, and a server sends its own, renewed ones.
    """
    return certificates.load(record.chain[-1:])


def as_object(record: TrustedCa, now: datetime) -> dict[str, Any]:
    """The record for JSON, its certificates in order, the anchor last."""
    return {
        "name": record.name,
        "status": status(record),
        "hosts": record.hosts or ("*",),
        "created_at": record.created_at,
        "changed_at": record.changed_at,
        "changed_by": record.changed_by,
        **expiry.as_object(anchor_of(record), now),
        "certificates": certificates.as_objects(certificates.load(record.chain)),
    }
