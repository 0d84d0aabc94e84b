"""Signing CAs whose key stays in a key manager: how it is reached, and who we are there.

The table is made anew: SQLite can alter no constraint.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the new table from the old one, and two more."""
    op.create_table(
        "new_signing_cas",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("issuing_spki_sha256", sa.LargeBinary, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=True),
        sa.Column("sealed_key", sa.LargeBinary, nullable=True),
        sa.Column("sealed_root_key", sa.LargeBinary, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_signing_cas"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_signing_cas_tenant_id", ondelete="CASCADE"),
        sa.UniqueConstraint("id", "tenant_id", "state", name="uq_signing_cas_id_tenant_id_state"),
        sa.CheckConstraint(
            "kind IN ('built_in', 'csr', 'imported', 'on_premises', 'untrusted')", name=op.f("ck_signing_cas_kind")
        ),
        sa.CheckConstraint(
            "state IN ('requested', 'ready', 'revoked', 'deleted', 'revoked_deleted', 'untrusted')",
            name=op.f("ck_signing_cas_state"),
        ),
        sa.CheckConstraint(
            "(kind = 'on_premises' OR state IN ('revoked', 'deleted', 'revoked_deleted')) = (sealed_key IS NULL)",
            name=op.f("ck_signing_cas_key"),
        ),
        sa.CheckConstraint(
            "(kind = 'untrusted' AND state IN ('untrusted', 'deleted')) OR "
            "(kind <> 'untrusted' AND state <> 'untrusted')",
            name=op.f("ck_signing_cas_untrusted_is_never_ready"),
        ),
        sqlite_autoincrement=True,
    )
    op.execute("INSERT INTO new_signing_cas SELECT * FROM signing_cas")
    op.execute("DELETE FROM sqlite_sequence WHERE name = 'new_signing_cas'")
    op.execute("UPDATE sqlite_sequence SET name = 'new_signing_cas' WHERE name = 'signing_cas'")
    op.drop_table("signing_cas")
    op.rename_table("new_signing_cas", "signing_cas")
    there = sa.text("state NOT IN ('deleted', 'revoked_deleted', 'untrusted')")
    op.create_index(
        "uq_signing_cas_tenant_id_name",
        "signing_cas",
        ["tenant_id", "name"],
        unique=True,
        sqlite_where=there,
        postgresql_where=there,
    )
    untrusted = sa.text("state = 'untrusted'")
    op.create_index(
        "uq_signing_cas_untrusted",
        "signing_cas",
        ["tenant_id"],
        unique=True,
        sqlite_where=untrusted,
        postgresql_where=untrusted,
    )
    op.create_table(
        "kmip_keys",
        sa.Column("signing_ca_id", sa.Integer, nullable=False),
        sa.Column("key_name", sa.Text, nullable=False),
        sa.Column("primary_host", sa.Text, nullable=False),
        sa.Column("primary_port", sa.Integer, nullable=False),
        sa.Column("alternate_host", sa.Text, nullable=True),
        sa.Column("alternate_port", sa.Integer, nullable=True),
        sa.Column("pss", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("signing_ca_id", name="pk_kmip_keys"),
        sa.ForeignKeyConstraint(
            ["signing_ca_id"], ["signing_cas.id"], name="fk_kmip_keys_signing_ca_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint("(alternate_host IS NULL) = (alternate_port IS NULL)", name=op.f("ck_kmip_keys_alternate")),
    )
    op.create_table(
        "kmip_forwarding",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary, nullable=True),
        sa.Column("server_ca", sa.Text, nullable=False),
        sa.Column("username", sa.Text, nullable=True),
        sa.Column("sealed_password", sa.LargeBinary, nullable=True),
        sa.Column("request", sa.LargeBinary, nullable=True),
        sa.Column("sealed_new_key", sa.LargeBinary, nullable=True),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_kmip_forwarding"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_kmip_forwarding_tenant_id", ondelete="CASCADE"),
        sa.CheckConstraint("(username IS NULL) = (sealed_password IS NULL)", name=op.f("ck_kmip_forwarding_login")),
        sa.CheckConstraint("(request IS NULL) = (sealed_new_key IS NULL)", name=op.f("ck_kmip_forwarding_request")),
    )
