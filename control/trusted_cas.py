"""Trusted CAs: validate, add, list, show, rename, activate, deactivate, delete, and the certificates to download."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from certs.bundle import Bundle, examine_trusted
from control import audit_log
from control.errors import Refused, refuse_errors
from control.installation import Installation
from control.names import check_name, storable
from store import trusted_cas
from store.engine import Conflict, Connection
from store.records import ChangeKind, Tenant, TrustedCa

NOUN = "trusted_ca"


def validate(inst: Installation, tenant: str, data: bytes, now: datetime) -> Bundle:
    """What is in the file, and whether it could be added. Saves nothing. Raises Refused for an unknown tenant."""
    with inst.reading(tenant) as (connection, found):
        existing = _anchors(connection, found.id)
    return examine_trusted(data, now, existing)


def add(
    inst: Installation, tenant: str, name: str, data: bytes, now: datetime, active: bool = True
) -> tuple[TrustedCa, Bundle]:
    """Trust the CA in the file (PEM, DER or PKCS#7), for that tenant alone.

    Raises Refused: a name that cannot be or is there already, or a file with an error (all findings with it).
    """
    check_name(name, "a trusted CA")
    with inst.reading(tenant) as (connection, found):
        existing = _anchors(connection, found.id)
    bundle = examine_trusted(data, now, existing)
    refuse_errors(name, bundle)
    chain = [certificate.public_bytes(Encoding.DER) for certificate in bundle.chain]
    try:
        with inst.changing(tenant) as (connection, found):
            _refuse_taken(connection, found.id, tenant, name)
            fingerprint = bundle.anchor.fingerprint(SHA256())
            added = trusted_cas.add(connection, found.id, name, active, chain, fingerprint, now, inst.actor.name)
            inst.record(connection, found, ChangeKind.TRUSTED_CA_ADDED, f"{NOUN}.add", name, None, _told(added), now)
    except Conflict:  # the name was checked in the same transaction, so it is the anchor, added since it was examined
        raise Refused(f"{name}: tenant {tenant} trusts this anchor already, under another name") from None
    return added, bundle


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


def rename(inst: Installation, tenant: str, old: str, new: str, now: datetime) -> TrustedCa:
    """Give it another name. Raises Refused for one that cannot be or is taken, and where there is none of the old."""
    check_name(new, "a trusted CA")
    with inst.changing(tenant) as (connection, found):
        before = _one(connection, found, old)
        if old != new:
            _refuse_taken(connection, found.id, tenant, new)
            trusted_cas.change(connection, before.id, now, inst.actor.name, name=new)
            _changed(inst, connection, found, "rename", before, now, name=new)
        return _one(connection, found, new)


def activate(inst: Installation, tenant: str, name: str, now: datetime) -> TrustedCa:
    """Trust it from the next connection on. Raises Refused where there is none, or it has expired."""
    return _switch(inst, tenant, name, True, now)


def deactivate(inst: Installation, tenant: str, name: str, now: datetime) -> TrustedCa:
    """Keep it, but do not trust it from the next connection on. Raises Refused where there is none of that name."""
    return _switch(inst, tenant, name, False, now)


def delete(inst: Installation, tenant: str, name: str, now: datetime) -> None:
    """Trust it no longer. Raises Refused where there is none of that name."""
    with inst.changing(tenant) as (connection, found):
        before = _one(connection, found, name)
        trusted_cas.delete(connection, before.id)
        inst.record(connection, found, ChangeKind.TRUSTED_CA_DELETED, f"{NOUN}.delete", name, _told(before), None, now)


def _switch(inst: Installation, tenant: str, name: str, active: bool, now: datetime) -> TrustedCa:
    with inst.changing(tenant) as (connection, found):
        before = _one(connection, found, name)
        end = x509.load_der_x509_certificate(before.chain[-1]).not_valid_after_utc
        if active and now > end:
            raise Refused(f"{name}: its anchor expired on {end:%Y-%m-%d}; add the CA's new certificate")
        if before.active is not active:
            trusted_cas.change(connection, before.id, now, inst.actor.name, active=active)
            _changed(inst, connection, found, "activate" if active else "deactivate", before, now)
        return _one(connection, found, name)


def _changed(
    inst: Installation,
    connection: Connection,
    tenant: Tenant,
    verb: str,
    before: TrustedCa,
    now: datetime,
    name: str | None = None,
) -> None:
    after = _told(_one(connection, tenant, name or before.name))
    inst.record(
        connection, tenant, ChangeKind.TRUSTED_CA_CHANGED, f"{NOUN}.{verb}", before.name, _told(before), after, now
    )


def _told(ca: TrustedCa) -> dict[str, object]:
    """What the audit log has of it."""
    anchor = x509.load_der_x509_certificate(ca.chain[-1])
    return {"name": ca.name, "active": ca.active, "anchor_sha256": anchor.fingerprint(SHA256()).hex()}


def _anchors(connection: Connection, tenant_id: int) -> dict[str, x509.Certificate]:
    stored = trusted_cas.listing(connection, tenant_id)
    return {ca.name: x509.load_der_x509_certificate(ca.chain[-1]) for ca in stored}


def _refuse_taken(connection: Connection, tenant_id: int, tenant: str, name: str) -> None:
    if trusted_cas.by_name(connection, tenant_id, name) is not None:
        raise Refused(f"tenant {tenant} has a trusted CA {name!r} already; choose another name or delete that one")


def _one(connection: Connection, tenant: Tenant, name: str) -> TrustedCa:
    found = trusted_cas.by_name(connection, tenant.id, name) if storable(name) else None
    if found is None:
        became = audit_log.what_happened(connection, tenant, NOUN, name)
        raise Refused(f"tenant {tenant.name} has no trusted CA {name!r}{became}; see: sallyport trusted-ca list")
    return found
