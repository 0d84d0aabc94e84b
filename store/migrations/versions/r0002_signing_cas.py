"""Signing CAs of several kinds, exactly one of which is active by a constraint; who changed what, and the audit log.

The tables are made anew and filled from the old ones: SQLite can alter no constraint.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
BEFORE = "'unknown'"
"""Who made what was there before changes had an author."""


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, nullable=False)


def _required(name: str, kind: sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]]) -> sa.Column[object]:
    return sa.Column(name, kind, nullable=False)


def _optional(name: str, kind: sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]]) -> sa.Column[object]:
    return sa.Column(name, kind, nullable=True)


def _tenant_of(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=f"fk_{table}_tenant_id", ondelete="CASCADE")


def upgrade() -> None:
    """Make the new tables from the old ones."""
    _tenants()
    _signing_cas()
    _trusted_cas()
    op.create_table(
        "audit_log",
        _id(),
        _optional("tenant_id", sa.Integer),
        _optional("tenant", sa.Text),
        _required("at", INSTANT),
        _required("actor", sa.Text),
        _required("origin", sa.Text),
        _required("action", sa.Text),
        _required("subject", sa.Text),
        _optional("before", sa.Text),
        _optional("after", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_log_tenant_id_action", "audit_log", ["tenant_id", "action"])


def _tenants() -> None:
    # As text, since SQLAlchemy gives no AUTOINCREMENT to a column that refers to another table.
    op.execute(
        """
        CREATE TABLE new_tenants (
            id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL,
            generation INTEGER NOT NULL,
            wrapped_key BLOB NOT NULL,
            active_signing_ca_id INTEGER NOT NULL,
            active_signing_ca_state TEXT NOT NULL,
            created_at DATETIME NOT NULL,
            CONSTRAINT uq_tenants_name UNIQUE (name),
            CONSTRAINT ck_tenants_active_is_ready CHECK (active_signing_ca_state = 'ready'),
            CONSTRAINT fk_tenants_active_signing_ca
                FOREIGN KEY (active_signing_ca_id, id, active_signing_ca_state)
                REFERENCES signing_cas (id, tenant_id, state) DEFERRABLE INITIALLY DEFERRED
        )
        """
    )
    # One without an active CA gets its oldest that can sign, the built-in one: it could issue nothing before.
    op.execute(
        "INSERT INTO new_tenants SELECT id, name, generation, wrapped_key, "
        "coalesce((SELECT id FROM signing_cas WHERE tenant_id = tenants.id AND status = 'active'), "
        "(SELECT min(id) FROM signing_cas WHERE tenant_id = tenants.id AND status = 'inactive')), "
        "'ready', created_at FROM tenants"
    )
    _replace("tenants")


def _signing_cas() -> None:
    op.create_table(
        "new_signing_cas",
        _id(),
        _required("tenant_id", sa.Integer),
        _required("name", sa.Text),
        _required("kind", sa.Text),
        _required("state", sa.Text),
        _required("chain", sa.Text),
        _required("issuing_spki_sha256", sa.LargeBinary),
        _optional("request", sa.LargeBinary),
        _optional("sealed_key", sa.LargeBinary),
        _optional("sealed_root_key", sa.LargeBinary),
        _required("created_at", INSTANT),
        _required("changed_at", INSTANT),
        _required("changed_by", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_signing_cas"),
        _tenant_of("signing_cas"),
        sa.UniqueConstraint("id", "tenant_id", "state", name="uq_signing_cas_id_tenant_id_state"),
        sa.CheckConstraint("kind IN ('built_in', 'csr', 'imported')", name=op.f("ck_signing_cas_kind")),
        sa.CheckConstraint(
            "state IN ('requested', 'ready', 'revoked', 'deleted', 'revoked_deleted')",
            name=op.f("ck_signing_cas_state"),
        ),
        sa.CheckConstraint(
            "(state IN ('revoked', 'deleted', 'revoked_deleted')) = (sealed_key IS NULL)",
            name=op.f("ck_signing_cas_key"),
        ),
        sqlite_autoincrement=True,
    )
    op.execute(
        "INSERT INTO new_signing_cas SELECT id, tenant_id, name, kind, "  # noqa: S608 - a constant of ours
        "CASE status WHEN 'revoked' THEN 'revoked' ELSE 'ready' END, chain, issuing_spki_sha256, NULL, "
        "CASE status WHEN 'revoked' THEN NULL ELSE sealed_key END, "
        f"CASE status WHEN 'revoked' THEN NULL ELSE sealed_root_key END, created_at, changed_at, {BEFORE} "
        "FROM signing_cas"
    )
    _replace("signing_cas")
    there = sa.text("state NOT IN ('deleted', 'revoked_deleted')")
    op.create_index(
        "uq_signing_cas_tenant_id_name",
        "signing_cas",
        ["tenant_id", "name"],
        unique=True,
        sqlite_where=there,
        postgresql_where=there,
    )


def _trusted_cas() -> None:
    op.create_table(
        "new_trusted_cas",
        _id(),
        _required("tenant_id", sa.Integer),
        _required("name", sa.Text),
        _required("active", sa.Boolean),
        _required("chain", sa.Text),
        _required("anchor_sha256", sa.LargeBinary),
        _required("created_at", INSTANT),
        _required("changed_at", INSTANT),
        _required("changed_by", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_trusted_cas"),
        _tenant_of("trusted_cas"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_trusted_cas_tenant_id_name"),
        sa.UniqueConstraint("tenant_id", "anchor_sha256", name="uq_trusted_cas_tenant_id_anchor_sha256"),
        sqlite_autoincrement=True,
    )
    op.execute(f"INSERT INTO new_trusted_cas SELECT *, {BEFORE} FROM trusted_cas")  # noqa: S608 - a constant of ours
    _replace("trusted_cas")


def _replace(table: str) -> None:
    """Put the new table in the old one's place. Its ids go on where the old one's were, deleted ones included."""
    op.execute(f"DELETE FROM sqlite_sequence WHERE name = 'new_{table}'")  # noqa: S608 - names of ours
    op.execute(f"UPDATE sqlite_sequence SET name = 'new_{table}' WHERE name = '{table}'")  # noqa: S608
    op.drop_table(table)
    op.rename_table(f"new_{table}", table)
