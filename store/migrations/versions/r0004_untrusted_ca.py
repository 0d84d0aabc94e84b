"""A CA of each tenant that nobody is to trust, for servers of which clients are to be warned. It can never be active.

The table is made anew: SQLite can alter no constraint.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the new table from the old one."""
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
        sa.CheckConstraint("kind IN ('built_in', 'csr', 'imported', 'untrusted')", name=op.f("ck_signing_cas_kind")),
        sa.CheckConstraint(
            "state IN ('requested', 'ready', 'revoked', 'deleted', 'revoked_deleted', 'untrusted')",
            name=op.f("ck_signing_cas_state"),
        ),
        sa.CheckConstraint(
            "(state IN ('revoked', 'deleted', 'revoked_deleted')) = (sealed_key IS NULL)",
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
