"""WireGuard: a tenant's key pair, and the devices that may use its listeners."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "wireguard_keys",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_wireguard_keys"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_wireguard_keys_tenant_id", ondelete="CASCADE"),
    )
    op.create_table(
        "wireguard_peers",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("ipv4", sa.Text, nullable=False),
        sa.Column("ipv6", sa.Text, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_wireguard_peers"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_wireguard_peers_tenant_id", ondelete="CASCADE"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_wireguard_peers_tenant_id_name"),
        sa.UniqueConstraint("tenant_id", "public_key", name="uq_wireguard_peers_tenant_id_public_key"),
        sa.UniqueConstraint("tenant_id", "ipv4", name="uq_wireguard_peers_tenant_id_ipv4"),
        sa.UniqueConstraint("tenant_id", "ipv6", name="uq_wireguard_peers_tenant_id_ipv6"),
        sqlite_autoincrement=True,
    )
