"""What traffic came to: verdicts over time, and the hosts that were blocked most."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables. What came before was not counted."""
    op.create_table(
        "verdict_counts",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("begins_at", INSTANT, nullable=False),
        sa.Column("defect", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "begins_at", "defect", "action", name="pk_verdict_counts"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_verdict_counts_tenant_id", ondelete="CASCADE"),
    )
    op.create_index("ix_verdict_counts_begins_at", "verdict_counts", ["begins_at"])
    op.create_table(
        "blocked_hosts",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("begins_at", INSTANT, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("defect", sa.Text, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "begins_at", "host", "defect", name="pk_blocked_hosts"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_blocked_hosts_tenant_id", ondelete="CASCADE"),
    )
    op.create_index("ix_blocked_hosts_begins_at", "blocked_hosts", ["begins_at"])
