"""Proxy users: who tells a tenant's connections by name and password."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "proxy_users",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_proxy_users"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_proxy_users_tenant_id", ondelete="CASCADE"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_proxy_users_tenant_id_name"),
        sqlite_autoincrement=True,
    )
