"""The first tables: tenants and their keys, signing and trusted CAs, error settings, leaves, the change feed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, nullable=False)


def _of(table: str, column: str, owner: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{owner}.id"], name=f"fk_{table}_{column}", ondelete="CASCADE")


def _required(name: str, kind: sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]]) -> sa.Column[object]:
    return sa.Column(name, kind, nullable=False)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "installation",
        _id(),
        _required("name", sa.Text),
        _required("created_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_installation"),
        sa.CheckConstraint("id = 1", name=op.f("ck_installation_single_row")),
    )
    op.create_table(
        "tenants",
        _id(),
        _required("name", sa.Text),
        _required("generation", sa.Integer),
        _required("wrapped_key", sa.LargeBinary),
        _required("created_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
        sa.UniqueConstraint("name", name="uq_tenants_name"),
        sqlite_autoincrement=True,
    )
    _certificate_authorities()
    op.create_table(
        "error_settings",
        _required("tenant_id", sa.Integer),
        _required("row", sa.Text),
        _required("action", sa.Text),
        _required("changed_at", INSTANT),
        sa.PrimaryKeyConstraint("tenant_id", "row", name="pk_error_settings"),
        _of("error_settings", "tenant_id", "tenants"),
    )
    _leaves()
    op.create_table(
        "changes",
        _id(),
        _required("tenant_id", sa.Integer),
        _required("generation", sa.Integer),
        _required("kind", sa.Text),
        _required("at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
        sqlite_autoincrement=True,
    )


def _certificate_authorities() -> None:
    op.create_table(
        "signing_cas",
        _id(),
        _required("tenant_id", sa.Integer),
        _required("name", sa.Text),
        _required("kind", sa.Text),
        _required("status", sa.Text),
        _required("chain", sa.Text),
        _required("issuing_spki_sha256", sa.LargeBinary),
        _required("sealed_key", sa.LargeBinary),
        sa.Column("sealed_root_key", sa.LargeBinary, nullable=True),
        _required("created_at", INSTANT),
        _required("changed_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_signing_cas"),
        _of("signing_cas", "tenant_id", "tenants"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_signing_cas_tenant_id_name"),
        sa.CheckConstraint("kind IN ('built_in')", name=op.f("ck_signing_cas_kind")),
        sa.CheckConstraint("status IN ('active', 'inactive', 'revoked')", name=op.f("ck_signing_cas_status")),
        sqlite_autoincrement=True,
    )
    active = sa.text("status = 'active'")
    op.create_index(
        "uq_signing_cas_one_active",
        "signing_cas",
        ["tenant_id"],
        unique=True,
        sqlite_where=active,
        postgresql_where=active,
    )
    op.create_table(
        "trusted_cas",
        _id(),
        _required("tenant_id", sa.Integer),
        _required("name", sa.Text),
        _required("active", sa.Boolean),
        _required("chain", sa.Text),
        _required("anchor_sha256", sa.LargeBinary),
        _required("created_at", INSTANT),
        _required("changed_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_trusted_cas"),
        _of("trusted_cas", "tenant_id", "tenants"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_trusted_cas_tenant_id_name"),
        sa.UniqueConstraint("tenant_id", "anchor_sha256", name="uq_trusted_cas_tenant_id_anchor_sha256"),
        sqlite_autoincrement=True,
    )


def _leaves() -> None:
    op.create_table(
        "leaf_keys",
        _id(),
        _required("tenant_id", sa.Integer),
        _required("signing_ca_id", sa.Integer),
        _required("kind", sa.Text),
        _required("sealed", sa.LargeBinary),
        _required("created_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_leaf_keys"),
        _of("leaf_keys", "tenant_id", "tenants"),
        _of("leaf_keys", "signing_ca_id", "signing_cas"),
        sa.CheckConstraint("kind IN ('ecdsa', 'rsa')", name=op.f("ck_leaf_keys_kind")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_leaf_keys_tenant_id_signing_ca_id_kind", "leaf_keys", ["tenant_id", "signing_ca_id", "kind"])
    op.create_index("ix_leaf_keys_signing_ca_id", "leaf_keys", ["signing_ca_id"])
    op.create_table(
        "leaves",
        _id(),
        _required("tenant_id", sa.Integer),
        _required("signing_ca_id", sa.Integer),
        _required("leaf_key_id", sa.Integer),
        _required("host", sa.Text),
        _required("serial", sa.Text),
        _required("not_before", INSTANT),
        _required("not_after", INSTANT),
        _required("certificate", sa.LargeBinary),
        _required("issued_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_leaves"),
        _of("leaves", "tenant_id", "tenants"),
        _of("leaves", "signing_ca_id", "signing_cas"),
        _of("leaves", "leaf_key_id", "leaf_keys"),
        sa.UniqueConstraint("signing_ca_id", "serial", name="uq_leaves_signing_ca_id_serial"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_leaves_leaf_key_id_host", "leaves", ["leaf_key_id", "host"])
    op.create_index("ix_leaves_tenant_id", "leaves", ["tenant_id"])
