"""Alembic's environment: the connection, already in a transaction, comes from :mod:`store.migrations.run`."""

from __future__ import annotations

from alembic import context

from store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters tables by copying them
    transactional_ddl=True,  # SQLite's DDL is transactional, once the driver begins no transaction by itself
)
with context.begin_transaction():
    context.run_migrations()
