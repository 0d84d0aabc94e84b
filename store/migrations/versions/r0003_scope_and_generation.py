"""Trusted CAs for some hosts only; of which generation each entry of the audit log is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. What was trusted is trusted for every host; of old entries nobody knows the generation."""
    op.add_column("trusted_cas", sa.Column("hosts", sa.Text, nullable=False, server_default="[]"))
    # A process of before, which knows of no limits, must not take a limited one for one that counts everywhere: where
    # there are limits, it sees an inactive one, and this column says what it is.
    op.add_column("trusted_cas", sa.Column("active_for_hosts", sa.Boolean, nullable=False, server_default="0"))
    op.add_column("audit_log", sa.Column("generation", sa.Integer, nullable=True))
