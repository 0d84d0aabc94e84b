from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.schema import CreateIndex, CreateTable

from store import accounts, changes, host_exceptions, recent_servers, signing_cas, tenants, trusted_cas
from store.engine import Store, StoreError
from store.migrations import REVISIONS
from store.tables import metadata
from tests.harness.pki import NOW
from tests.store.conftest import add_tenant


def test_the_revisions_that_are_known_are_those_that_are_there() -> None:
    config = Config()
    config.set_main_option("script_location", "store:migrations")
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS
    assert scripts.get_heads() == [REVISIONS[-1]]


FOREIGN_KEY = (
    "CONSTRAINT fk_tenants_active_signing_ca "
    "FOREIGN KEY (active_signing_ca_id, id, active_signing_ca_state) "
    "REFERENCES signing_cas (id, tenant_id, state) DEFERRABLE INITIALLY DEFERRED"
)
"""What the database has and the code's tables cannot say."""


def words(ddl: str) -> list[str]:
    """The clauses of a statement, whatever their order and line breaks."""
    inside = ddl.partition("(")[2].rpartition(")")[0]
    clauses, depth = [""], 0
    for character in inside:
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            clauses.append("")
        else:
            clauses[-1] += character
    return sorted(" ".join(clause.split()) for clause in clauses)


def test_the_migrations_make_just_the_tables_that_the_code_uses(store: Store) -> None:
    with store.reading() as c:
        (difference,) = compare_metadata(MigrationContext.configure(c), metadata)
        assert (difference[0], difference[1].name) == ("remove_fk", "fk_tenants_active_signing_ca")
        schema = c.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        made = {found.name: found.sql for found in schema}
        for table in metadata.tables.values():  # checks, cascades and AUTOINCREMENT, which Alembic does not compare
            expected = words(str(CreateTable(table).compile(c)))
            assert [each for each in words(made[table.name]) if each != FOREIGN_KEY] == expected, table.name
            for index in table.indexes:
                assert " ".join(made[str(index.name)].split()) == " ".join(str(CreateIndex(index).compile(c)).split())


AT = "2026-01-02 03:04:05.000000"
FIRST = """
INSERT INTO installation VALUES (1, 'here', '{AT}');
INSERT INTO tenants (id, name, generation, wrapped_key, created_at) VALUES
    (3, 'acme', 7, x'01', '{AT}'), (5, 'other', 1, x'02', '{AT}');
INSERT INTO signing_cas (id, tenant_id, name, kind, status, chain, issuing_spki_sha256, sealed_key, sealed_root_key,
                         created_at, changed_at) VALUES
    (4, 3, 'built-in', 'built_in', 'active', '["AA=="]', x'0a', x'0b', x'0c', '{AT}', '{AT}'),
    (6, 3, 'gone', 'built_in', 'revoked', '["AQ=="]', x'0d', x'0e', x'0f', '{AT}', '{AT}'),
    (8, 5, 'built-in', 'built_in', 'inactive', '["Ag=="]', x'10', x'11', NULL, '{AT}', '{AT}');
INSERT INTO trusted_cas (id, tenant_id, name, active, chain, anchor_sha256, created_at, changed_at) VALUES
    (2, 3, 'private', 1, '["AA=="]', x'13', '{AT}', '{AT}');
INSERT INTO leaf_keys (id, tenant_id, signing_ca_id, kind, sealed, created_at) VALUES (1, 3, 4, 'ecdsa', x'14', '{AT}');
""".replace("{AT}", AT)


ANN = """
INSERT INTO accounts (name, role, all_tenants, enabled, password_hash, totp_step, created_at, changed_at, changed_by)
VALUES ('ann', 'owner', 1, 1, 'hash', 0, '{AT}', '{AT}', 'root');
""".replace("{AT}", AT)


def made_by_the_first_version(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    to_revision(path, "0001")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST)


def to_revision(path: Path, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "store:migrations")
    config.set_main_option("path_separator", "os")
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_a_database_of_the_first_version_is_migrated_whole_and_kept(path: Path) -> None:
    made_by_the_first_version(path)
    with Store.open(path, create=True) as store:
        with store.reading() as c:
            assert [(tenant.id, tenant.name, tenant.generation) for tenant in tenants.listing(c)] == [
                (3, "acme", 7), (5, "other", 1),
            ]  # fmt: skip
            found = [(ca.id, ca.name, ca.status, ca.chain) for ca in signing_cas.listing(c, 3)]
            assert found == [(4, "built-in", "active", (b"\0",)), (6, "gone", "revoked", (b"\1",))]
            # One without an active CA could issue nothing; now there has to be one.
            assert [(ca.id, ca.status) for ca in signing_cas.listing(c, 5)] == [(8, "active")]
            assert signing_cas.sealed_key(c, 4) == b"\x0b"
            with pytest.raises(KeyError):
                signing_cas.sealed_key(c, 6)
            (trusted,) = trusted_cas.listing(c, 3)
            assert trusted.hosts == ()
            assert (trusted.id, trusted.name, trusted.active, trusted.changed_by) == (2, "private", True, "unknown")
            assert c.exec_driver_sql("SELECT signing_ca_id FROM leaf_keys").scalars().all() == [4]
            assert host_exceptions.listing(c, 3) == []
            assert recent_servers.listing(c, 3, NOW - recent_servers.AGE) == []
        with store.transaction() as c:
            assert changes.announce(c, 3, "error_settings_changed", NOW) == 8
            assert add_tenant(c, "new").id > 5
        with pytest.raises(StoreError), store.transaction() as c:
            c.exec_driver_sql("UPDATE tenants SET active_signing_ca_id = 6 WHERE id = 3")
    kept = path.with_name(f"{path.name}.revision-0001")
    assert kept.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert connection.execute("SELECT name FROM tenants ORDER BY id").fetchall() == [("acme",), ("other",)]


def test_of_an_older_password_nobody_knows_who_gave_it_and_it_stays_good(path: Path) -> None:
    made_by_the_first_version(path)
    to_revision(path, "0013")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(ANN)
    with Store.open(path, create=True) as store, store.reading() as c:
        (ann,) = accounts.listing(c)
        assert (ann.name, ann.password_given_at) == ("ann", None)


def test_a_copy_that_was_kept_before_stays_and_an_equal_one_is_not_made_again(path: Path) -> None:
    kept = path.with_name(f"{path.name}.revision-0001")
    made_by_the_first_version(path)
    Store.open(path, create=True).close()
    first = kept.read_bytes()
    for again in ("equal", "another"):
        path.unlink()
        made_by_the_first_version(path)
        if again == "another":
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("UPDATE tenants SET name = 'changed' WHERE name = 'acme'")
                connection.commit()
        with Store.open(path, create=True) as store:
            copies = store.older_copies()
        assert kept.read_bytes() == first
        assert [copy.name for copy in copies] == [
            kept.name, *([f"{kept.name}.2"] if again == "another" else []),
        ]  # fmt: skip
    with closing(sqlite3.connect(copies[1])) as connection:
        assert ("changed",) in connection.execute("SELECT name FROM tenants").fetchall()
