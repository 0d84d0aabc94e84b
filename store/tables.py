"""The tables. Private to this package: everybody else sees records.

A change here needs a revision in :mod:`store.migrations.versions`; a test compares the two.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An instant: stored as UTC, aware on both sides. SQLite has no zone, so there it is stored without one."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database. Raises ValueError for a datetime without a zone: nobody knows which instant it means."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a zone cannot be stored")
        if value.tzinfo is not UTC:
            value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        instant: datetime = value
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


class Certificates(sa.TypeDecorator[tuple[bytes, ...]]):
    """A chain of DER certificates: a JSON list of base64 texts, readable with any tool."""

    impl = sa.Text()
    cache_ok = True

    def process_bind_param(self, value: tuple[bytes, ...] | None, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else json.dumps([base64.b64encode(der).decode("ascii") for der in value])

    def process_result_value(self, value: Any | None, dialect: Dialect) -> tuple[bytes, ...] | None:
        """From the database. Raises ValueError where the column holds something else."""
        if value is None:
            return None
        try:
            return tuple(base64.b64decode(text, validate=True) for text in json.loads(value))
        except (TypeError, binascii.Error, json.JSONDecodeError) as error:
            raise ValueError(f"a stored certificate chain is damaged: {error}") from None


class Texts(sa.TypeDecorator[tuple[str, ...]]):
    """Several texts: a JSON list."""

    impl = sa.Text()
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> tuple[str, ...] | None:
        """From the database. Raises ValueError where the column holds something else."""
        if value is None:
            return None
        found = json.loads(value)
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise ValueError("a stored list of texts is damaged")
        return tuple(found)


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True)


def _of(table: str, column: str) -> sa.Column[int]:
    return sa.Column(column, sa.Integer, sa.ForeignKey(f"{table}.id", ondelete="CASCADE"), nullable=False)


def _at(column: str) -> sa.Column[datetime]:
    return sa.Column(column, UtcDateTime, nullable=False)


# sqlite_autoincrement: ids are never used again, since caches, the change feed and the issuance log name rows by them.

installation = sa.Table(
    "installation",
    metadata,
    _id(),
    sa.Column("name", sa.Text, nullable=False),
    _at("created_at"),
    sa.CheckConstraint("id = 1", name="single_row"),
)

tenants = sa.Table(
    "tenants",
    metadata,
    _id(),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
    sa.Column("active_signing_ca_id", sa.Integer, nullable=False),
    sa.Column("active_signing_ca_state", sa.Text, nullable=False),
    _at("created_at"),
    sa.CheckConstraint("active_signing_ca_state = 'ready'", name="active_is_ready"),
    # The migration has a foreign key more, which SQLAlchemy cannot tell of beside AUTOINCREMENT: from
    # (active_signing_ca_id, id, active_signing_ca_state) to (id, tenant_id, state) of signing_cas. So just one is the
    # active one, it is the tenant's own, and it can sign: at every commit, whatever crashes or races. It is deferred to
    # the commit, since a tenant and its first CA need each other.
    sqlite_autoincrement=True,
)

THERE = "state NOT IN ('deleted', 'revoked_deleted', 'untrusted')"
"""A signing CA that anybody sees."""

signing_cas = sa.Table(
    "signing_cas",
    metadata,
    _id(),
    _of("tenants", "tenant_id"),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("chain", Certificates, nullable=False),
    sa.Column("issuing_spki_sha256", sa.LargeBinary, nullable=False),
    sa.Column("request", sa.LargeBinary, nullable=True),
    sa.Column("sealed_key", sa.LargeBinary, nullable=True),
    sa.Column("sealed_root_key", sa.LargeBinary, nullable=True),
    _at("created_at"),
    _at("changed_at"),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.UniqueConstraint("id", "tenant_id", "state"),
    sa.CheckConstraint("kind IN ('built_in', 'csr', 'imported', 'on_premises', 'untrusted')", name="kind"),
    sa.CheckConstraint(
        "state IN ('requested', 'ready', 'revoked', 'deleted', 'revoked_deleted', 'untrusted')", name="state"
    ),
    # What is revoked or deleted can never sign again: its key is gone with the same statement. That of an
    # on-premises one never was here.
    sa.CheckConstraint(
        "(kind = 'on_premises' OR state IN ('revoked', 'deleted', 'revoked_deleted')) = (sealed_key IS NULL)",
        name="key",
    ),
    # What clients are to be warned by can never be what they trust: only what is ready can be active.
    sa.CheckConstraint(
        "(kind = 'untrusted' AND state IN ('untrusted', 'deleted')) OR (kind <> 'untrusted' AND state <> 'untrusted')",
        name="untrusted_is_never_ready",
    ),
    sqlite_autoincrement=True,
)
# A deleted one stays, without its keys, for the leaves that it has signed; its name is free again.
# What PostgreSQL needs of an index is in the migrations alone: named here, it has every process load its dialect.
sa.Index(
    "uq_signing_cas_tenant_id_name",
    signing_cas.c.tenant_id,
    signing_cas.c.name,
    unique=True,
    sqlite_where=sa.text(THERE),
)
sa.Index(
    "uq_signing_cas_untrusted",
    signing_cas.c.tenant_id,
    unique=True,
    sqlite_where=sa.text("state = 'untrusted'"),
)

kmip_keys = sa.Table(
    "kmip_keys",
    metadata,
    sa.Column("signing_ca_id", sa.Integer, sa.ForeignKey("signing_cas.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("key_name", sa.Text, nullable=False),
    sa.Column("primary_host", sa.Text, nullable=False),
    sa.Column("primary_port", sa.Integer, nullable=False),
    sa.Column("alternate_host", sa.Text, nullable=True),
    sa.Column("alternate_port", sa.Integer, nullable=True),
    sa.Column("pss", sa.Boolean, nullable=False),
    sa.CheckConstraint("(alternate_host IS NULL) = (alternate_port IS NULL)", name="alternate"),
)

kmip_forwarding = sa.Table(
    "kmip_forwarding",
    metadata,
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("chain", Certificates, nullable=False),
    sa.Column("sealed_key", sa.LargeBinary, nullable=True),
    sa.Column("server_ca", Certificates, nullable=False),
    sa.Column("username", sa.Text, nullable=True),
    sa.Column("sealed_password", sa.LargeBinary, nullable=True),
    # A key that was made here, and its request, until the certificate comes back; what is used meanwhile stays.
    sa.Column("request", sa.LargeBinary, nullable=True),
    sa.Column("sealed_new_key", sa.LargeBinary, nullable=True),
    _at("changed_at"),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.CheckConstraint("(username IS NULL) = (sealed_password IS NULL)", name="login"),
    sa.CheckConstraint("(request IS NULL) = (sealed_new_key IS NULL)", name="request"),
)

trusted_cas = sa.Table(
    "trusted_cas",
    metadata,
    _id(),
    _of("tenants", "tenant_id"),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("chain", Certificates, nullable=False),
    sa.Column("anchor_sha256", sa.LargeBinary, nullable=False),
    _at("created_at"),
    _at("changed_at"),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.Column("hosts", Texts, nullable=False, server_default="[]"),
    # In place of ``active`` where there are ``hosts``: a process of before these, which a migration finds at work, sees
    # an inactive one, and no CA that counts for every host.
    sa.Column("active_for_hosts", sa.Boolean, nullable=False, server_default="0"),
    sa.UniqueConstraint("tenant_id", "name"),
    sa.UniqueConstraint("tenant_id", "anchor_sha256"),
    sqlite_autoincrement=True,
)

error_settings = sa.Table(
    "error_settings",
    metadata,
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("row", sa.Text, primary_key=True),
    sa.Column("action", sa.Text, nullable=False),
    _at("changed_at"),
)

host_exceptions = sa.Table(
    "host_exceptions",
    metadata,
    _id(),
    _of("tenants", "tenant_id"),
    sa.Column("pattern", sa.Text, nullable=False),
    sa.Column("defect", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary, nullable=True),
    sa.Column("expires_at", UtcDateTime, nullable=True),
    sa.Column("reason", sa.Text, nullable=False),
    _at("created_at"),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.UniqueConstraint("tenant_id", "pattern", "defect", "fingerprint"),
    sa.CheckConstraint("length(fingerprint) = 32", name="sha256"),
    sqlite_autoincrement=True,
)
# For the constraint above no NULL is the same as another.
sa.Index(
    "uq_host_exceptions_unpinned",
    host_exceptions.c.tenant_id,
    host_exceptions.c.pattern,
    host_exceptions.c.defect,
    unique=True,
    sqlite_where=sa.text("fingerprint IS NULL"),
)

bypass_rules = sa.Table(
    "bypass_rules",
    metadata,
    _id(),
    _of("tenants", "tenant_id"),
    sa.Column("pattern", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=True),
    _at("created_at"),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=True),
    sa.UniqueConstraint("tenant_id", "pattern"),
    sqlite_autoincrement=True,
)

proxy_users = sa.Table(
    "proxy_users",
    metadata,
    _id(),
    _of("tenants", "tenant_id"),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    _at("created_at"),
    _at("changed_at"),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.UniqueConstraint("tenant_id", "name"),
    sqlite_autoincrement=True,
)

wireguard_keys = sa.Table(
    "wireguard_keys",
    metadata,
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("sealed_key", sa.LargeBinary, nullable=False),
    _at("created_at"),
)

wireguard_peers = sa.Table(
    "wireguard_peers",
    metadata,
    _id(),
    _of("tenants", "tenant_id"),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("ipv4", sa.Text, nullable=False),
    sa.Column("ipv6", sa.Text, nullable=True),
    _at("created_at"),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.UniqueConstraint("tenant_id", "name"),
    sa.UniqueConstraint("tenant_id", "public_key"),
    sa.UniqueConstraint("tenant_id", "ipv4"),
    sa.UniqueConstraint("tenant_id", "ipv6"),
    sqlite_autoincrement=True,
)

leaf_keys = sa.Table(
    "leaf_keys",
    metadata,
    _id(),
    _of("tenants", "tenant_id"),
    _of("signing_cas", "signing_ca_id"),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    _at("created_at"),
    sa.CheckConstraint("kind IN ('ecdsa', 'rsa')", name="kind"),
    sa.Index(None, "tenant_id", "signing_ca_id", "kind"),
    sa.Index(None, "signing_ca_id"),
    sqlite_autoincrement=True,
)

leaves = sa.Table(
    "leaves",
    metadata,
    _id(),
    _of("tenants", "tenant_id"),
    _of("signing_cas", "signing_ca_id"),
    _of("leaf_keys", "leaf_key_id"),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("serial", sa.Text, nullable=False),
    _at("not_before"),
    _at("not_after"),
    sa.Column("certificate", sa.LargeBinary, nullable=False),
    _at("issued_at"),
    sa.UniqueConstraint("signing_ca_id", "serial"),  # RFC 5280 4.1.2.2: unique for each certificate of a CA
    sa.Index(None, "leaf_key_id", "host"),
    sa.Index(None, "tenant_id"),
    sqlite_autoincrement=True,
)

refusals = sa.Table(
    "refusals",
    metadata,
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("host", sa.Text, primary_key=True),
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("how", sa.Text, nullable=False),
    _at("first_at"),
    _at("last_at"),
    sa.CheckConstraint("how IN ('alert', 'closed')", name="how"),
    sa.Index(None, "tenant_id", "last_at"),
)

recent_servers = sa.Table(
    "recent_servers",
    metadata,
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("host", sa.Text, primary_key=True),
    sa.Column("port", sa.Integer, primary_key=True),
    _at("last_at"),
    # No foreign key: a chain may go before its servers do, where all together are too large.
    sa.Column("chain_sha256", sa.LargeBinary, nullable=True),
    sa.Column("shown", sa.Boolean, nullable=False),
    sa.Column("anchor_sha256", sa.LargeBinary, nullable=True),
    sa.Column("defects", Texts, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Index(None, "tenant_id", "last_at"),
    sa.Index(None, "tenant_id", "chain_sha256"),
)

recent_chains = sa.Table(
    "recent_chains",
    metadata,
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("sha256", sa.LargeBinary, primary_key=True),
    # Before what is large: what stands behind that is only reached through it.
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("presented", Certificates, nullable=False),
    sa.Column("added", Certificates, nullable=False),
)

# What traffic came to. No client is in it.

verdict_counts = sa.Table(
    "verdict_counts",
    metadata,
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("begins_at", UtcDateTime, primary_key=True),
    sa.Column("defect", sa.Text, primary_key=True),
    sa.Column("action", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Index(None, "begins_at"),
)

blocked_hosts = sa.Table(
    "blocked_hosts",
    metadata,
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("begins_at", UtcDateTime, primary_key=True),
    sa.Column("host", sa.Text, primary_key=True),
    sa.Column("defect", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Index(None, "begins_at"),
)

changes = sa.Table(
    "changes",
    metadata,
    _id(),
    # No foreign key: the feed tells of a tenant's end after the tenant is gone.
    sa.Column("tenant_id", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    _at("at"),
    sqlite_autoincrement=True,
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    _id(),
    # No foreign key: what was done stays known after the tenant is gone.
    sa.Column("tenant_id", sa.Integer, nullable=True),
    sa.Column("tenant", sa.Text, nullable=True),
    _at("at"),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("before", sa.Text, nullable=True),
    sa.Column("after", sa.Text, nullable=True),
    sa.Column("generation", sa.Integer, nullable=True),
    sa.Index(None, "tenant_id", "action"),
    sqlite_autoincrement=True,
)

# Who may use console and REST API. No secret is in here as it is: passwords are Argon2id hashes, tokens and recovery
# codes (random, of 125 bits and more) are SHA-256, secrets of second factors are sealed.

installation_key = sa.Table(
    "installation_key",
    metadata,
    _id(),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    _at("created_at"),
    sa.CheckConstraint("id = 1", name="single_row"),
)

accounts = sa.Table(
    "accounts",
    metadata,
    _id(),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("role", sa.Text, nullable=False),
    # A column of its own: an account whose last tenant is deleted is left with none, and not with all.
    sa.Column("all_tenants", sa.Boolean, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("password_hash", sa.Text, nullable=False),
    # Somebody else gave it, and knows it: it is to be changed. Null: it is the person's own.
    sa.Column("password_given_at", UtcDateTime, nullable=True),
    sa.Column("sealed_totp", sa.LargeBinary, nullable=True),
    # The latest time step whose code was taken: that one and those before are not taken again.
    sa.Column("totp_step", sa.Integer, nullable=False),
    # A secret that was shown, and counts once a code of it was entered.
    sa.Column("sealed_new_totp", sa.LargeBinary, nullable=True),
    _at("created_at"),
    _at("changed_at"),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.Column("signed_in_at", UtcDateTime, nullable=True),
    sa.CheckConstraint("role IN ('owner', 'administrator', 'auditor')", name="role"),
    sqlite_autoincrement=True,
)

account_tenants = sa.Table(
    "account_tenants",
    metadata,
    sa.Column("account_id", sa.Integer, sa.ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    sa.Index(None, "tenant_id"),
)

recovery_codes = sa.Table(
    "recovery_codes",
    metadata,
    sa.Column("account_id", sa.Integer, sa.ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("sha256", sa.LargeBinary, primary_key=True),
)

sessions = sa.Table(
    "sessions",
    metadata,
    _id(),
    _of("accounts", "account_id"),
    sa.Column("sha256", sa.LargeBinary, nullable=False, unique=True),
    # Begun with the password; the second factor is still to come, and until then it is good for nothing else.
    sa.Column("awaits_code", sa.Boolean, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    _at("created_at"),
    _at("used_at"),
    _at("expires_at"),
    sa.Index(None, "account_id"),
    sa.Index(None, "expires_at"),
    sqlite_autoincrement=True,
)

api_tokens = sa.Table(
    "api_tokens",
    metadata,
    _id(),
    _of("accounts", "account_id"),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("sha256", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("all_tenants", sa.Boolean, nullable=False),
    _at("created_at"),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=True),
    sa.Column("used_at", UtcDateTime, nullable=True),
    sa.CheckConstraint("scope IN ('read', 'write')", name="scope"),
    sa.Index(None, "account_id"),
    sqlite_autoincrement=True,
)

api_token_tenants = sa.Table(
    "api_token_tenants",
    metadata,
    sa.Column("api_token_id", sa.Integer, sa.ForeignKey("api_tokens.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    sa.Index(None, "tenant_id"),
)

guesses = sa.Table(
    "guesses",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    _at("last_at"),
    sa.CheckConstraint("kind IN ('account', 'unknown', 'source')", name="kind"),
    sa.Index(None, "kind", "last_at"),
)

setup_link = sa.Table(
    "setup_link",
    metadata,
    _id(),
    sa.Column("sha256", sa.LargeBinary, nullable=False),
    _at("created_at"),
    _at("expires_at"),
    sa.CheckConstraint("id = 1", name="single_row"),
)
