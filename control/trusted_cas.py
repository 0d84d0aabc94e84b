"""Trusted CAs: validate, add, list, show, rename, limit to hosts, activate, deactivate, delete, download."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.bundle import Bundle, examine_trusted
from certs.host_patterns import parse_pattern
from certs.names import InvalidHost
from control import audit_log
from control.errors import Missing, Refused, Taken, refuse_errors
from control.installation import Installation
from control.names import check_name, storable
from store import trusted_cas
from store.engine import Conflict, Connection
from store.records import ChangeKind, Tenant, TrustedCa

NOUN = "trusted_ca"
MOST_HOSTS = 100
"""Patterns of one trusted CA."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file (PEM, DER or PKCS#7) to be added under a name; ``hosts``: patterns of the only hosts it counts for."""

    name: str
    data: bytes = field(repr=False)
    hosts: tuple[str, ...] = ()
    active: bool = True


def validate(inst: Installation, tenant: str, uploads: Sequence[Upload], now: datetime) -> list[Bundle]:
    """What is in each file, and whether it could be added. Saves nothing. Raises Refused for an unknown tenant."""
    with inst.reading(tenant) as (connection, found):
        existing = _anchors(connection, found.id)
    return _examined(uploads, now, existing)


def objections(inst: Installation, tenant: str, uploads: Sequence[Upload]) -> list[tuple[str, ...]]:
    """What keeps each from being added beside what is in its file: its name and its hosts. Raises Missing."""
    count = Counter(upload.name for upload in uploads)
    with inst.reading(tenant) as (connection, found):
        return [
            tuple(_objections(upload, count[upload.name], partial(_refuse_taken, connection, found.id, tenant)))
            for upload in uploads
        ]


def _objections(upload: Upload, count: int, refuse_taken: Callable[[str], None]) -> Iterator[str]:
    checks: tuple[Callable[[], object], ...] = (
        lambda: check_name(upload.name, "a trusted CA"),
        lambda: _refuse_several(upload.name, count),
        lambda: refuse_taken(upload.name),
        lambda: _patterns(upload.name, upload.hosts),
    )
    for check in checks:
        try:
            check()
        except Refused as error:
            yield str(error)


def _refuse_several(name: str, count: int) -> None:
    if count > 1:
        raise Refused(f"{name}: {count} of the files are to have this name; give each its own")


def add(inst: Installation, tenant: str, uploads: Sequence[Upload], now: datetime) -> list[tuple[TrustedCa, Bundle]]:
    """Trust the CAs in the files, for that tenant alone: all of them, or none.

    Raises Refused: a name or a host pattern that cannot be, a name that is there already, or files with an error (all
    findings with it).
    """
    patterns = [_checked(upload) for upload in uploads]
    for name, count in Counter(upload.name for upload in uploads).items():
        _refuse_several(name, count)
    with inst.reading(tenant) as (connection, found):
        existing = _anchors(connection, found.id)
    bundles = _examined(uploads, now, existing)
    _refuse_errors(uploads, bundles)
    saved = []
    with inst.changing(tenant) as (connection, found):
        for upload, hosts, bundle in zip(uploads, patterns, bundles, strict=True):
            _refuse_taken(connection, found.id, tenant, upload.name)
            saved.append((_add(inst, connection, found, upload, hosts, bundle, now), bundle))
    return saved


def _checked(upload: Upload) -> tuple[str, ...]:
    """Its host patterns as they are saved. Raises Refused for a name or pattern that cannot be."""
    check_name(upload.name, "a trusted CA")
    return _patterns(upload.name, upload.hosts)


def _patterns(name: str, hosts: Sequence[str]) -> tuple[str, ...]:
    """Each once, as they are compared; none where one of them covers every host. Raises Refused."""
    found: dict[str, None] = {}
    for text in hosts:
        try:
            found[str(parse_pattern(text))] = None
        except InvalidHost as error:
            raise Refused(f"{name}: {text!r} is no host pattern: {error}") from None
    if len(found) > MOST_HOSTS:
        raise Refused(f"{name}: {len(found)} host patterns; at most {MOST_HOSTS}, so cover several hosts with *.NAME")
    return () if "*" in found else tuple(found)


def _examined(uploads: Sequence[Upload], now: datetime, existing: dict[str, x509.Certificate]) -> list[Bundle]:
    """Each judged, also as one that comes after those before it."""
    known, bundles = dict(existing), []
    for upload in uploads:
        bundles.append(bundle := examine_trusted(upload.data, now, known))
        if bundle.ok:
            known.setdefault(upload.name, bundle.anchor)
    return bundles


def _refuse_errors(uploads: Sequence[Upload], bundles: Sequence[Bundle]) -> None:
    """Raise Refused with the findings of all, each with its upload's name where there are several."""
    if len(uploads) == 1:
        return refuse_errors(uploads[0].name, bundles[0])
    named = [
        replace(finding, message=f"{upload.name}: {finding.message}")
        for upload, bundle in zip(uploads, bundles, strict=True)
        for finding in bundle.findings
    ]
    if errors := [finding.message for finding in named if finding.level == "error"]:
        raise Refused("; ".join(errors), tuple(named))
    return None


def _add(
    inst: Installation,
    connection: Connection,
    tenant: Tenant,
    upload: Upload,
    hosts: tuple[str, ...],
    bundle: Bundle,
    now: datetime,
) -> TrustedCa:
    chain = tuple(certificate.public_bytes(Encoding.DER) for certificate in bundle.chain)
    new = TrustedCa(0, tenant.id, upload.name, upload.active, chain, now, now, inst.actor.name, hosts)
    return _save(inst, connection, tenant, new, now)


def _save(inst: Installation, connection: Connection, tenant: Tenant, new: TrustedCa, now: datetime) -> TrustedCa:
    """Save one, whose number and last change it is given here."""
    fingerprint = sha256(new.chain[-1]).digest()
    try:
        added = trusted_cas.add(
            connection, tenant.id, new.name, new.active, new.chain, fingerprint, now, inst.actor.name, new.hosts,
            created_at=new.created_at,
        )  # fmt: skip
    except Conflict:  # the name was checked in the same transaction, so it is the anchor, added since it was examined
        raise Taken(f"{new.name}: tenant {tenant.name} trusts this anchor already, under another name") from None
    inst.record(connection, tenant, ChangeKind.TRUSTED_CA_ADDED, f"{NOUN}.add", new.name, None, _told(added), now)
    return added


def listing(inst: Installation, tenant: str) -> list[TrustedCa]:
    """The tenant's trusted CAs, by name."""
    with inst.reading(tenant) as (connection, found):
        return trusted_cas.listing(connection, found.id)


def show(inst: Installation, tenant: str, name: str) -> TrustedCa:
    """One trusted CA. Raises Refused where there is none of that name."""
    with inst.reading(tenant) as (connection, found):
        return _one(connection, found, name)


def certificates(inst: Installation, tenant: str, name: str) -> tuple[x509.Certificate, ...]:
    """Its certificates, intermediates first, the anchor last. Raises Refused where there is none of that name."""
    return tuple(x509.load_der_x509_certificate(der) for der in show(inst, tenant, name).chain)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to become of a trusted CA; None: that stays as it is. ``hosts``: patterns; none of them: all hosts."""

    name: str | None = None
    active: bool | None = None
    hosts: Sequence[str] | None = None


def change(inst: Installation, tenant: str, name: str, wanted: Wanted, now: datetime) -> TrustedCa:
    """Change all of that about it, or nothing. Raises Refused: as :func:`rename`, :func:`activate`, :func:`limit`."""
    if wanted.name is not None:
        check_name(wanted.name, "a trusted CA")
    hosts = None if wanted.hosts is None else _patterns(name, wanted.hosts)
    with inst.changing(tenant) as (connection, found):
        before = _one(connection, found, name)
        if hosts is not None and before.hosts != hosts:
            trusted_cas.change(connection, before.id, now, inst.actor.name, hosts=hosts)
            before = _changed(inst, connection, found, "limit", before, now)
        if wanted.active is not None:
            before = _switch(inst, connection, found, before, wanted.active, now)
        if wanted.name is not None and before.name != wanted.name:
            _refuse_taken(connection, found.id, tenant, wanted.name)
            trusted_cas.change(connection, before.id, now, inst.actor.name, name=wanted.name)
            before = _changed(inst, connection, found, "rename", before, now, name=wanted.name)
        return before


def rename(inst: Installation, tenant: str, old: str, new: str, now: datetime) -> TrustedCa:
    """Give it another name. Raises Refused for one that cannot be or is taken, and where there is none of the old."""
    return change(inst, tenant, old, Wanted(name=new), now)


def activate(inst: Installation, tenant: str, name: str, now: datetime) -> TrustedCa:
    """Trust it from the next connection on. Raises Refused where there is none, or it has expired."""
    return change(inst, tenant, name, Wanted(active=True), now)


def deactivate(inst: Installation, tenant: str, name: str, now: datetime) -> TrustedCa:
    """Keep it, but do not trust it from the next connection on. Raises Refused where there is none of that name."""
    return change(inst, tenant, name, Wanted(active=False), now)


def limit(inst: Installation, tenant: str, name: str, hosts: Sequence[str], now: datetime) -> TrustedCa:
    """Let it vouch for the hosts of these patterns alone; none, or ``*``: for all.

    Raises Refused for a pattern that cannot be, and where there is none of that name.
    """
    return change(inst, tenant, name, Wanted(hosts=hosts), now)


def switch_all(inst: Installation, tenant: str, names: Sequence[str], active: bool, now: datetime) -> list[TrustedCa]:
    """Activate or deactivate all of these, or none. Returns those that were otherwise before. Raises Refused."""
    changed = []
    with inst.changing(tenant) as (connection, found):
        for before in [_one(connection, found, name) for name in dict.fromkeys(names)]:
            after = _switch(inst, connection, found, before, active, now)
            if after != before:
                changed.append(after)
    return changed


def delete(inst: Installation, tenant: str, name: str, now: datetime) -> TrustedCa:
    """Trust it no longer. Returns it as it was. Raises Refused where there is none of that name."""
    (gone,) = delete_all(inst, tenant, [name], now)
    return gone


def delete_all(inst: Installation, tenant: str, names: Sequence[str], now: datetime) -> list[TrustedCa]:
    """Trust none of these any longer, or change nothing. Returns them as they were. Raises Refused."""
    with inst.changing(tenant) as (connection, found):
        gone = [_one(connection, found, name) for name in dict.fromkeys(names)]
        for one in gone:
            trusted_cas.delete(connection, one.id)
            inst.record(
                connection, found, ChangeKind.TRUSTED_CA_DELETED, f"{NOUN}.delete", one.name, _told(one), None, now
            )
    return gone


def restore(inst: Installation, tenant: str, gone: Sequence[TrustedCa], now: datetime) -> list[TrustedCa]:
    """Add all of these again as they were before they were deleted, or none.

    Their certificates are not judged again: they were when they were added, and may have expired since. So ``gone`` has
    to be what :func:`delete_all` returned, and nothing that somebody sends. Raises Taken.
    """
    with inst.changing(tenant) as (connection, found):
        for one in gone:
            _refuse_taken(connection, found.id, tenant, one.name)
        return [_save(inst, connection, found, one, now) for one in gone]


def _switch(
    inst: Installation, connection: Connection, tenant: Tenant, before: TrustedCa, active: bool, now: datetime
) -> TrustedCa:
    end = x509.load_der_x509_certificate(before.chain[-1]).not_valid_after_utc
    if active and now > end:
        raise Refused(f"{before.name}: its anchor expired on {end:%Y-%m-%d}; add the CA's new certificate")
    if before.active is active:
        return before
    trusted_cas.change(connection, before.id, now, inst.actor.name, active=active)
    return _changed(inst, connection, tenant, "activate" if active else "deactivate", before, now)


def _changed(
    inst: Installation,
    connection: Connection,
    tenant: Tenant,
    verb: str,
    before: TrustedCa,
    now: datetime,
    name: str | None = None,
) -> TrustedCa:
    after = _one(connection, tenant, name or before.name)
    inst.record(
        connection,
        tenant,
        ChangeKind.TRUSTED_CA_CHANGED,
        f"{NOUN}.{verb}",
        before.name,
        _told(before),
        _told(after),
        now,
    )
    return after


def _told(ca: TrustedCa) -> dict[str, object]:
    """What the audit log has of it."""
    return {
        "name": ca.name, "active": ca.active, "hosts": ca.hosts, "anchor_sha256": sha256(ca.chain[-1]).hexdigest(),
    }  # fmt: skip


def _anchors(connection: Connection, tenant_id: int) -> dict[str, x509.Certificate]:
    stored = trusted_cas.listing(connection, tenant_id)
    return {ca.name: x509.load_der_x509_certificate(ca.chain[-1]) for ca in stored}


def _refuse_taken(connection: Connection, tenant_id: int, tenant: str, name: str) -> None:
    if trusted_cas.by_name(connection, tenant_id, name) is not None:
        raise Taken(f"tenant {tenant} has a trusted CA {name!r} already; choose another name or delete that one")


def _one(connection: Connection, tenant: Tenant, name: str) -> TrustedCa:
    found = trusted_cas.by_name(connection, tenant.id, name) if storable(name) else None
    if found is None:
        became = audit_log.what_happened(connection, tenant, NOUN, name)
        raise Missing(f"tenant {tenant.name} has no trusted CA {name!r}{became}; see: sallyport trusted-ca list")
    return found
