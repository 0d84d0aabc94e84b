"""Trusted CAs: validate, add, list, show, delete."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from certs.bundle import Bundle, examine_trusted
from control.errors import Refused
from control.installation import Installation
from store import changes, trusted_cas
from store.engine import Conflict, Connection
from store.records import ChangeKind, TrustedCa

LONGEST_NAME = 128


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
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise Refused(
            f"{name[:LONGEST_NAME]!r} cannot name a trusted CA; "
            f"expected 1 to {LONGEST_NAME} printable characters, no space at the ends"
        )
    with inst.reading(tenant) as (connection, found):
        existing = _anchors(connection, found.id)
    bundle = examine_trusted(data, now, existing)
    if not bundle.ok:
        errors = [finding.message for finding in bundle.findings if finding.level == "error"]
        raise Refused(f"{name}: {'; '.join(errors)}", bundle.findings)
    chain = [certificate.public_bytes(Encoding.DER) for certificate in bundle.chain]
    try:
        with inst.changing(tenant) as (connection, found):
            _refuse_taken(connection, found.id, tenant, name)
            fingerprint = bundle.anchor.fingerprint(SHA256())
            added = trusted_cas.add(connection, found.id, name, active, chain, fingerprint, now)
            changes.announce(connection, found.id, ChangeKind.TRUSTED_CA_ADDED, now)
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
        return _one(connection, found.id, tenant, name)


def delete(inst: Installation, tenant: str, name: str, now: datetime) -> None:
    """Trust it no longer. Raises Refused where there is none of that name."""
    with inst.changing(tenant) as (connection, found):
        trusted_cas.delete(connection, _one(connection, found.id, tenant, name).id)
        changes.announce(connection, found.id, ChangeKind.TRUSTED_CA_DELETED, now)


def _anchors(connection: Connection, tenant_id: int) -> dict[str, x509.Certificate]:
    stored = trusted_cas.listing(connection, tenant_id)
    return {ca.name: x509.load_der_x509_certificate(ca.chain[-1]) for ca in stored}


def _refuse_taken(connection: Connection, tenant_id: int, tenant: str, name: str) -> None:
    if trusted_cas.by_name(connection, tenant_id, name) is not None:
        raise Refused(f"tenant {tenant} has a trusted CA {name!r} already; choose another name or delete that one")


def _one(connection: Connection, tenant_id: int, tenant: str, name: str) -> TrustedCa:
    found = trusted_cas.by_name(connection, tenant_id, name)
    if found is None:
        raise Refused(f"tenant {tenant} has no trusted CA {name!r}; see: sallyport trusted-ca list")
    return found
