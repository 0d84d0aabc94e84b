"""Servers that were judged lately, and what they showed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the tables. What was judged before is not known."""
    op.create_table(
        "recent_servers",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("last_at", INSTANT, nullable=False),
        sa.Column("chain_sha256", sa.LargeBinary, nullable=True),
        sa.Column("shown", sa.Boolean, nullable=False),
        sa.Column("anchor_sha256", sa.LargeBinary, nullable=True),
        sa.Column("defects", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "host", "port", name="pk_recent_servers"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_recent_servers_tenant_id", ondelete="CASCADE"),
    )
    op.create_index("ix_recent_servers_tenant_id_last_at", "recent_servers", ["tenant_id", "last_at"])
    op.create_index("ix_recent_servers_tenant_id_chain_sha256", "recent_servers", ["tenant_id", "chain_sha256"])
    op.create_table(
        "recent_chains",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("presented", sa.Text, nullable=False),
        sa.Column("added", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "sha256", name="pk_recent_chains"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_recent_chains_tenant_id", ondelete="CASCADE"),
    )
