"""Hosts for which clients refuse our certificate while they take it for others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "refusals",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("how", sa.Text, nullable=False),
        sa.Column("first_at", INSTANT, nullable=False),
        sa.Column("last_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "host", "client", name="pk_refusals"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_refusals_tenant_id", ondelete="CASCADE"),
        sa.CheckConstraint("how IN ('alert', 'closed')", name=op.f("ck_refusals_how")),
    )
    op.create_index("ix_refusals_tenant_id_last_at", "refusals", ["tenant_id", "last_at"])
