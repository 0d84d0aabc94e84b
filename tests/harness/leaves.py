"""Leaves in the store, as the issuer records them."""

from __future__ import annotations

from datetime import timedelta

from cryptography.hazmat.primitives.serialization import Encoding

from control.installation import Installation
from store import leaves, signing_cas, tenants
from store.records import NewLeaf
from tests.harness.pki import NOW, Authority

SERVERS = Authority.root("Leaves")


def record(inst: Installation, tenant: str, *hosts: str) -> None:
    """Have a leaf for each host recorded, a minute after one another, under the tenant's active signing CA."""
    with inst.store.transaction() as c:
        found = tenants.by_name(c, tenant)
        assert found is not None
        ca = signing_cas.active(c, found.id)
        assert ca is not None
        key = leaves.add_key(c, found.id, ca.id, "ecdsa", b"sealed", NOW)
        rows = []
        for place, host in enumerate(hosts):
            made = SERVERS.leaf(host).certificate
            rows.append(
                NewLeaf(
                    found.id, ca.id, key.id, host, f"{made.serial_number:x}", made.not_valid_before_utc,
                    made.not_valid_after_utc, made.public_bytes(Encoding.DER), NOW + timedelta(minutes=place),
                )
            )  # fmt: skip
        leaves.record(c, rows)
