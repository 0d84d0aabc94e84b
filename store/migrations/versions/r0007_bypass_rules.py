"""Bypass rules: hosts that a tenant's traffic is not decrypted for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table, with no rule in it."""
    op.create_table(
        "bypass_rules",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("pattern", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_bypass_rules"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_bypass_rules_tenant_id", ondelete="CASCADE"),
        sa.UniqueConstraint("tenant_id", "pattern", name="uq_bypass_rules_tenant_id_pattern"),
        sqlite_autoincrement=True,
    )
