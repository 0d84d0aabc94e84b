"""Trusted CAs as lists show them, of the API and of pages alike; and how their names and hosts are written in forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from cryptography import x509

from certs.expiry import Validity
from console.tables import Column
from control import recent_traffic, trusted_cas
from control.installation import Installation
from control.names import LONGEST_NAME
from control.shown import trusted_cas as shown
from control.shown.certificates import common_name
from control.shown.text import clean
from store.records import TrustedCa


@dataclass(frozen=True, slots=True)
class Row:
    """A trusted CA in a list. ``using``: the hosts it vouched for within the last day; None: not remembered."""

    record: TrustedCa
    anchor: x509.Certificate
    using: tuple[str, ...] | None
    now: datetime

    @property
    def used_by(self) -> int | None:
        """How many hosts that is."""
        return None if self.using is None else len(self.using)

    @property
    def ends(self) -> datetime:
        """When its anchor does."""
        return self.anchor.not_valid_after_utc

    @property
    def expiry(self) -> str:
        """How near that is: of certs.expiry."""
        return Validity.of([self.anchor]).expiry(self.now).value

    def as_object(self) -> dict[str, Any]:
        """The same for JSON."""
        using = None if self.using is None else {self.record.name: self.using}
        return shown.as_object(self.record, self.now) | shown.used_by_object(using, self.record)


COLUMNS: tuple[Column[Row], ...] = (
    Column("name", "Name", lambda one: one.record.name),
    Column("status", "Status", lambda one: shown.status(one.record)),
    Column("common_name", "Common name", lambda one: common_name(one.anchor)),
    Column("expires", "Expires", lambda one: one.ends, found=False),
    Column("changed_at", "Last modified", lambda one: one.record.changed_at, found=False),
    Column("hosts", "Hosts", lambda one: " ".join(one.record.hosts) or "all hosts", shown=False),
    Column("used_by", "Used by", lambda one: one.used_by, shown=False, found=False, numeric=True),
    Column("sha256", "SHA-256", lambda one: sha256(one.record.chain[-1]).hexdigest(), shown=False),
    Column("changed_by", "Changed by", lambda one: one.record.changed_by, shown=False),
    Column("created_at", "Created", lambda one: one.record.created_at, shown=False, found=False),
)


def rows(inst: Installation, tenant: str, now: datetime) -> list[Row]:
    """The tenant's, by name. Raises Missing."""
    records = trusted_cas.listing(inst, tenant)
    using = recent_traffic.hosts_by_anchor(inst, tenant, now)
    return [_row(record, using, now) for record in records]


def row(inst: Installation, tenant: str, name: str, now: datetime) -> Row:
    """One of them. Raises Missing."""
    record = trusted_cas.show(inst, tenant, name)
    return _row(record, recent_traffic.hosts_by_anchor(inst, tenant, now), now)


def _row(record: TrustedCa, using: dict[bytes, tuple[str, ...]] | None, now: datetime) -> Row:
    (anchor,) = shown.anchor_of(record)
    hosts = None if using is None else using.get(sha256(record.chain[-1]).digest(), ())
    return Row(record, anchor, hosts, now)


def patterns(text: str) -> tuple[str, ...]:
    """The host patterns that somebody wrote into one field, with spaces, commas or lines between them."""
    return tuple(text.replace(",", " ").split())


def proposed_name(chain: Sequence[x509.Certificate], file: str) -> str:
    """A name for what is in a file: its anchor's common name, or else the file's own, as far as either can be one."""
    text = common_name(chain[-1]) if chain else file.rpartition(".")[0] or file
    return clean(text)[:LONGEST_NAME].strip()
