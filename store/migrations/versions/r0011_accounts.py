"""Accounts of console and REST API, with their sessions, tokens and second factors, and what limits guessing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables, with no account in them."""
    _single_row("installation_key", sa.Column("wrapped", sa.LargeBinary, nullable=False), _at("created_at"))
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("all_tenants", sa.Boolean, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("sealed_totp", sa.LargeBinary, nullable=True),
        sa.Column("totp_step", sa.Integer, nullable=False),
        sa.Column("sealed_new_totp", sa.LargeBinary, nullable=True),
        _at("created_at"),
        _at("changed_at"),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("signed_in_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("name", name="uq_accounts_name"),
        sa.CheckConstraint("role IN ('owner', 'administrator', 'auditor')", name=op.f("ck_accounts_role")),
        sqlite_autoincrement=True,
    )
    _tenants_of("accounts", "account")
    op.create_table(
        "recovery_codes",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "sha256", name="pk_recovery_codes"),
        _refers("recovery_codes", "account_id", "accounts"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("awaits_code", sa.Boolean, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        _at("created_at"),
        _at("used_at"),
        _at("expires_at"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        _refers("sessions", "account_id", "accounts"),
        sa.UniqueConstraint("sha256", name="uq_sessions_sha256"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sessions_account_id", "sessions", ["account_id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("all_tenants", sa.Boolean, nullable=False),
        _at("created_at"),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("used_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_tokens"),
        _refers("api_tokens", "account_id", "accounts"),
        sa.UniqueConstraint("name", name="uq_api_tokens_name"),
        sa.UniqueConstraint("sha256", name="uq_api_tokens_sha256"),
        sa.CheckConstraint("scope IN ('read', 'write')", name=op.f("ck_api_tokens_scope")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_api_tokens_account_id", "api_tokens", ["account_id"])
    _tenants_of("api_tokens", "api_token")
    op.create_table(
        "guesses",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        _at("last_at"),
        sa.PrimaryKeyConstraint("kind", "subject", name="pk_guesses"),
        sa.CheckConstraint("kind IN ('account', 'unknown', 'source')", name=op.f("ck_guesses_kind")),
    )
    op.create_index("ix_guesses_kind_last_at", "guesses", ["kind", "last_at"])
    _single_row("setup_link", sa.Column("sha256", sa.LargeBinary, nullable=False), _at("created_at"), _at("expires_at"))


def _at(name: str) -> sa.Column[object]:
    return sa.Column(name, INSTANT, nullable=False)


def _refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=f"fk_{table}_{column}", ondelete="CASCADE")


def _single_row(table: str, *columns: sa.Column[object]) -> None:
    op.create_table(
        table,
        sa.Column("id", sa.Integer, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.CheckConstraint("id = 1", name=op.f(f"ck_{table}_single_row")),
    )


def _tenants_of(owners: str, owner: str) -> None:
    table = f"{owner}_tenants"
    op.create_table(
        table,
        sa.Column(f"{owner}_id", sa.Integer, nullable=False),
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint(f"{owner}_id", "tenant_id", name=f"pk_{table}"),
        _refers(table, f"{owner}_id", owners),
        _refers(table, "tenant_id", "tenants"),
    )
    op.create_index(f"ix_{table}_tenant_id", table, ["tenant_id"])
