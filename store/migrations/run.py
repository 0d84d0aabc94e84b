"""Runs the migrations on one SQLite file, in one transaction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import event, exc
from sqlalchemy.pool import NullPool

from store.errors import StoreError, translate


def upgrade(path: Path) -> None:
    """Bring the file to the newest revision. The caller holds the creation lock. Raises StoreError.

    Foreign keys are off meanwhile and checked at the end: SQLite alters a table by copying it and dropping the old
    one, which would delete, by cascade, what refers to it.
    """
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"isolation_level": None, "timeout": 5.0},
        poolclass=NullPool,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _connected(driver: Any, record: object) -> None:
        driver.execute("PRAGMA journal_mode = WAL")  # kept in the file, for every later connection
        driver.execute("PRAGMA synchronous = FULL")
        driver.execute("PRAGMA secure_delete = ON")  # the tables that are dropped hold sealed keys
        driver.execute("PRAGMA foreign_keys = OFF")

    @event.listens_for(engine, "begin")
    def _began(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    config = Config()
    config.set_main_option("script_location", "store:migrations")
    config.set_main_option("path_separator", "os")
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise StoreError(f"{path}: {len(broken)} rows refer to rows that are gone; restore a backup")
    except exc.DBAPIError as error:
        raise translate(path, error.orig if error.orig is not None else error) from None
    finally:
        engine.dispose()
