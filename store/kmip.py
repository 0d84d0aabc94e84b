"""Key managers: where the keys of on-premises signing CAs are, and who a tenant is there."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from store.engine import Connection
from store.records import KmipForwarding, KmipKey, KmipSecrets
from store.tables import kmip_forwarding, kmip_keys

_KEY = (
    kmip_keys.c.key_name, kmip_keys.c.primary_host, kmip_keys.c.primary_port, kmip_keys.c.alternate_host,
    kmip_keys.c.alternate_port, kmip_keys.c.pss,
)  # fmt: skip
_FORWARDING = (
    kmip_forwarding.c.chain, kmip_forwarding.c.server_ca, kmip_forwarding.c.username, kmip_forwarding.c.request,
    kmip_forwarding.c.changed_at, kmip_forwarding.c.changed_by,
)  # fmt: skip
_SECRETS = (kmip_forwarding.c.sealed_key, kmip_forwarding.c.sealed_password, kmip_forwarding.c.sealed_new_key)


def set_key(c: Connection, signing_ca_id: int, key: KmipKey) -> None:
    """Where the key of a signing CA is, in place of what was known."""
    c.execute(sa.delete(kmip_keys).where(kmip_keys.c.signing_ca_id == signing_ca_id))
    values = {column.name: getattr(key, column.name) for column in _KEY}
    c.execute(sa.insert(kmip_keys).values(signing_ca_id=signing_ca_id, **values))


def key_of(c: Connection, signing_ca_id: int) -> KmipKey | None:
    """Where the key of a signing CA is; None for one whose key is here."""
    row = c.execute(sa.select(*_KEY).where(kmip_keys.c.signing_ca_id == signing_ca_id)).one_or_none()
    return None if row is None else KmipKey(*row)


def forwarding(c: Connection, tenant_id: int) -> KmipForwarding | None:
    """Who the tenant is to its key managers; None where nobody has said so yet."""
    row = c.execute(sa.select(*_FORWARDING).where(kmip_forwarding.c.tenant_id == tenant_id)).one_or_none()
    return None if row is None else KmipForwarding(*row)


def secrets_of(c: Connection, tenant_id: int) -> KmipSecrets:
    """What is sealed of it; nothing where there is none."""
    row = c.execute(sa.select(*_SECRETS).where(kmip_forwarding.c.tenant_id == tenant_id)).one_or_none()
    return KmipSecrets(None, None, None) if row is None else KmipSecrets(*row)


def set_forwarding(
    c: Connection, tenant_id: int, made: KmipForwarding, secrets: KmipSecrets, now: datetime, by: str
) -> None:
    """All of it at once, in place of what was there."""
    c.execute(sa.delete(kmip_forwarding).where(kmip_forwarding.c.tenant_id == tenant_id))
    c.execute(
        sa.insert(kmip_forwarding).values(
            tenant_id=tenant_id,
            chain=made.chain,
            server_ca=made.server_ca,
            username=made.username,
            request=made.request,
            sealed_key=secrets.key,
            sealed_password=secrets.password,
            sealed_new_key=secrets.new_key,
            changed_at=now,
            changed_by=by,
        )
    )
