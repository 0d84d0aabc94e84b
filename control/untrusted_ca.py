"""The CA of each tenant that clients are warned by: made when the action ``warn`` is first set, offered to nobody.

What it signs is for servers that are not to be trusted, so no device must ever trust it: its certificate is in no
listing and no download, and by a constraint of the database it can never be the active one.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from certs.authority import make_untrusted
from control.built_in import CA_KEY, pkcs8
from control.installation import Installation
from store import signing_cas
from store.engine import Connection
from store.records import ChangeKind, Tenant

NAME = "untrusted"
RENEWED_BEFORE = timedelta(days=365)
"""One that ends sooner is replaced when the action is set again."""


def ensure(inst: Installation, connection: Connection, tenant: Tenant, now: datetime) -> None:
    """Make it where there is none, or one that ends soon, in the caller's transaction.

    Raises Refused where the tenant's key cannot be unwrapped.
    """
    before = signing_cas.untrusted(connection, tenant.id)
    if before is not None:
        end = x509.load_der_x509_certificate(before.certificate).not_valid_after_utc
        if now + RENEWED_BEFORE < end:
            return
    certificate, key = make_untrusted(tenant.name, inst.name, now)
    sealed = inst.tenant_key(connection, tenant).seal(tenant.name, CA_KEY, pkcs8(key))
    chain = [certificate.public_bytes(Encoding.DER)]
    signing_cas.set_untrusted(connection, tenant.id, NAME, chain, sealed, now, inst.actor.name)
    after = {"sha256": certificate.fingerprint(SHA256()).hex()}
    inst.record(connection, tenant, ChangeKind.UNTRUSTED_CA_MADE, "untrusted_ca.make", NAME, None, after, now)
