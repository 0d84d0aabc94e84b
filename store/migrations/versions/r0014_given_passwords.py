"""Passwords that somebody else has given: good for a time, and to be changed at the first sign-in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the column. Of the passwords that there are nobody knows who gave them: they stay good."""
    op.add_column("accounts", sa.Column("password_given_at", INSTANT, nullable=True))
