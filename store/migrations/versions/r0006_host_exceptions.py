"""Exceptions to the error settings, for some hosts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the table. Nothing was excepted before."""
    op.create_table(
        "host_exceptions",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("pattern", sa.Text, nullable=False),
        sa.Column("defect", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=True),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_host_exceptions"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name="fk_host_exceptions_tenant_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint(
            "tenant_id", "pattern", "defect", "fingerprint",
            name="uq_host_exceptions_tenant_id_pattern_defect_fingerprint",
        ),
        sa.CheckConstraint("length(fingerprint) = 32", name=op.f("ck_host_exceptions_sha256")),
        sqlite_autoincrement=True,
    )  # fmt: skip
    unpinned = sa.text("fingerprint IS NULL")
    op.create_index(
        "uq_host_exceptions_unpinned",
        "host_exceptions",
        ["tenant_id", "pattern", "defect"],
        unique=True,
        sqlite_where=unpinned,
        postgresql_where=unpinned,
    )
