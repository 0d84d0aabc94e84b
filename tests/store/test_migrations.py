from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.schema import CreateIndex, CreateTable

from store.engine import Store
from store.migrations import REVISIONS
from store.tables import metadata


def test_the_revisions_that_are_known_are_those_that_are_there() -> None:
    config = Config()
    config.set_main_option("script_location", "store:migrations")
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS
    assert scripts.get_heads() == [REVISIONS[-1]]


def words(ddl: str) -> list[str]:
    """The clauses of a statement, whatever their order and line breaks."""
    inside = ddl.partition("(")[2].rpartition(")")[0]
    return sorted(" ".join(clause.split()).strip(",") for clause in inside.splitlines() if clause.strip())


def test_the_migrations_make_just_the_tables_that_the_code_uses(store: Store) -> None:
    with store.reading() as c:
        assert compare_metadata(MigrationContext.configure(c), metadata) == []
        schema = c.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        made = {found.name: found.sql for found in schema}
        for table in metadata.sorted_tables:  # checks, cascades and AUTOINCREMENT, which Alembic does not compare
            assert words(made[table.name]) == words(str(CreateTable(table).compile(c))), table.name
            for index in table.indexes:
                assert " ".join(made[str(index.name)].split()) == " ".join(str(CreateIndex(index).compile(c)).split())
