from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store import changes, engine, installation, tenants
from store.engine import Busy, Conflict, NewerDatabase, Store, StoreError
from store.records import Tenant
from tests.harness.pki import NOW
from tests.store.conftest import add_tenant

ROOT = Path(__file__).parents[2]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_line(error: BaseException, *parts: str) -> None:
    text = str(error)
    assert "\n" not in text
    for part in parts:
        assert part in text


def script(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_database_and_its_companions_are_readable_by_their_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        with Store.open(path, create=True) as store, store.transaction() as c:
            installation.create(c, "here", NOW)
            names = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert names == {
        "sallyport.db": 0o600,
        "sallyport.db-wal": 0o600,
        "sallyport.db-shm": 0o600,
        "sallyport.db.lock": 0o600,
    }


def test_connections_have_the_settings_that_the_rest_relies_on(store: Store) -> None:
    def pragma(c: engine.Connection, name: str) -> object:
        return c.exec_driver_sql(f"PRAGMA {name}").scalar()

    with store.transaction() as c:
        names = ("journal_mode", "foreign_keys", "busy_timeout", "synchronous", "secure_delete")
        assert [pragma(c, name) for name in names] == ["wal", 1, 5000, 1, 1]
    with store.transaction(durable=True) as c:
        assert pragma(c, "synchronous") == 2
    with store.transaction() as c:
        assert pragma(c, "synchronous") == 1
    with store.reading() as c:
        assert [pragma(c, name) for name in ("foreign_keys", "query_only", "busy_timeout")] == [1, 1, 5000]


def test_a_reading_connection_cannot_write(store: Store) -> None:
    with store.reading() as c, pytest.raises(StoreError) as caught:
        tenants.create(c, "acme", b"wrapped", NOW)
    one_line(caught.value, str(store.path), "cannot be written")


def test_an_exception_rolls_the_whole_transaction_back(store: Store) -> None:
    with pytest.raises(RuntimeError, match="in the middle"), store.transaction() as c:  # noqa: PT012 - what came before it counts
        tenants.create(c, "acme", b"wrapped", NOW)
        raise RuntimeError("in the middle")
    with store.reading() as c:
        assert tenants.listing(c) == []


def test_what_is_only_tried_is_seen_within_it_alone_and_gone_behind_it(store: Store, tenant: Tenant) -> None:
    with store.undone() as c:
        assert changes.announce(c, tenant.id, "error_settings_changed", NOW) == 2
        last = changes.latest(c)
        with store.reading() as reader:
            assert changes.latest(reader) == last - 1
    with pytest.raises(KeyError), store.undone() as c:
        changes.announce(c, tenant.id + 1, "error_settings_changed", NOW)
    with store.transaction() as c:
        assert changes.announce(c, tenant.id, "error_settings_changed", NOW) == 2
        assert changes.latest(c) == last  # the id was not used up


def test_a_broken_rule_of_uniqueness_is_a_conflict_that_names_the_columns(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c, pytest.raises(Conflict) as caught:
        tenants.create(c, tenant.name, b"other", NOW)
    assert caught.value.columns == ("tenants.name",)
    one_line(caught.value, str(store.path), "tenants.name")


def test_no_parameter_of_a_statement_gets_into_an_error(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c, pytest.raises(Conflict) as caught:
        tenants.create(c, tenant.name, b"the-wrapped-key", NOW)
    error: BaseException | None = caught.value
    while error is not None:
        assert "the-wrapped-key" not in str(error)
        error = error.__cause__ or error.__context__


def test_a_reader_sees_one_state_while_a_writer_commits(store: Store, tenant: Tenant) -> None:
    with store.reading() as reader:
        before = changes.latest(reader)
        with store.transaction() as writer:
            changes.announce(writer, tenant.id, "error_settings_changed", NOW)
        assert changes.latest(reader) == before
    with store.reading() as reader:
        assert changes.latest(reader) == before + 1


def test_many_threads_write_and_read_at_once_without_losing_a_change(store: Store, tenant: Tenant) -> None:
    def work(_: int) -> int:
        with store.transaction() as c:
            generation = changes.announce(c, tenant.id, "error_settings_changed", NOW)
        with store.reading() as c:
            assert changes.latest(c) >= generation
        return generation

    with ThreadPoolExecutor(16) as pool:
        generations = list(pool.map(work, range(200)))
    assert sorted(generations) == list(range(2, 202))


def test_a_writer_in_another_process_is_waited_for(store: Store, tenant: Tenant) -> None:
    other = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    timer.start()
    began = time.monotonic()
    with store.transaction() as c:
        changes.announce(c, tenant.id, "error_settings_changed", NOW)
    assert time.monotonic() - began >= 0.2
    timer.join()
    other.close()


def test_a_database_that_stays_locked_is_an_error_and_the_store_works_again_afterwards(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.1)
    with Store.open(path, create=True) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):  # more often than there are connections: none may be lost
            with pytest.raises(StoreError) as caught, store.transaction():
                pytest.fail("it began in spite of the lock")
            one_line(caught.value, str(path), "another process kept it locked")
        other.execute("COMMIT")
        other.close()
        with store.transaction() as c:
            add_tenant(c, "acme")


def test_a_nested_transaction_ends_in_an_error_not_in_a_deadlock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.1)
    with Store.open(path, create=True) as store, store.transaction():
        with pytest.raises(StoreError) as caught, store.transaction():
            pytest.fail("it nested")
        one_line(caught.value, "no connection within 0.1 s")


# For who must not wait


def test_a_transaction_that_must_not_wait_is_like_the_others(store: Store, tenant: Tenant) -> None:
    names = ("journal_mode", "foreign_keys", "busy_timeout", "synchronous", "secure_delete", "wal_autocheckpoint")
    with store.transaction_now() as c:
        assert [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names] == ["wal", 1, 0, 1, 1, 10_000]
        changes.announce(c, tenant.id, "error_settings_changed", NOW)
    with pytest.raises(RuntimeError, match="in the middle"), store.transaction_now() as c:  # noqa: PT012 - what came before it counts
        changes.announce(c, tenant.id, "error_settings_changed", NOW)
        raise RuntimeError("in the middle")
    with store.transaction_now() as c, pytest.raises(Conflict):
        tenants.create(c, tenant.name, b"other", NOW)
    with store.reading() as c:
        assert [change.generation for change in changes.since(c, 0)] == [1, 2]


def test_it_is_busy_at_once_and_as_often_as_another_process_writes(store: Store, tenant: Tenant) -> None:
    other = sqlite3.connect(store.path, isolation_level=None)
    for _ in range(3):
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(Busy), store.transaction_now():
                pytest.fail("it began in spite of the lock")
        assert time.monotonic() - began < 1
        other.execute("COMMIT")
        with store.transaction_now() as c:
            changes.announce(c, tenant.id, "error_settings_changed", NOW)
    other.close()
    with store.reading() as c:
        assert len(changes.since(c, 0)) == 4


def test_it_is_busy_where_this_process_writes(store: Store, tenant: Tenant) -> None:
    for occupied in (store.transaction, store.transaction_now):
        with occupied() as c:
            with pytest.raises(Busy), store.transaction_now():
                pytest.fail("it began within another")
            changes.announce(c, tenant.id, "error_settings_changed", NOW)
    with store.reading() as c:
        assert len(changes.since(c, 0)) == 3


def test_the_log_is_moved_into_the_database_when_it_is_asked_for(store: Store, tenant: Tenant, tmp_path: Path) -> None:
    def in_the_database_alone() -> int:
        alone = tmp_path / "alone.db"
        alone.write_bytes(store.path.read_bytes())
        connection = sqlite3.connect(f"{alone.as_uri()}?immutable=1", uri=True)
        (found,) = connection.execute("SELECT count(*) FROM changes").fetchone()
        connection.close()
        return int(found)

    store.move_log()
    assert in_the_database_alone() == 1
    with store.transaction_now() as c:
        changes.announce(c, tenant.id, "error_settings_changed", NOW)
    assert in_the_database_alone() == 1
    with store.reading() as reader:
        assert changes.latest(reader) == 2
        store.move_log()  # a reader does not hold it up
    assert in_the_database_alone() == 2


# Opening what is there, or is not


def test_a_missing_database_is_not_made_unless_asked(path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(path, create=False)
    one_line(caught.value, str(path), "there is no database")
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"this is no database, it is a letter\n" * 40, b"SQLite format 3\x00" + b"\xff" * 4000]
)
def test_what_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        Store.open(path, create=True)
    one_line(caught.value, str(path), "restore a backup")
    assert files(path.parent) == {path.name: content}


def test_a_database_of_something_else_is_refused_and_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.commit()
    connection.close()
    before = files(path.parent)
    with pytest.raises(StoreError) as caught:
        Store.open(path, create=True)
    one_line(caught.value, str(path), "no database of Sallyport")
    assert files(path.parent) == before


def test_a_newer_database_is_refused_and_left_alone(path: Path) -> None:
    Store.open(path, create=True).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NewerDatabase) as caught:
        Store.open(path, create=True)
    assert str(caught.value) == (
        f"{path} was written by a newer Sallyport (revision 0999); install that version or restore a backup"
    )
    assert path.read_bytes() == before
    assert path.with_name(path.name + "-wal").stat().st_size == 0  # a reader's, empty


def test_what_a_reader_still_needs_is_moved_out_of_the_log_afterwards(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.1)
    log = path.with_name(path.name + "-wal")
    with Store.open(path, create=True) as writing, Store.open(path, create=True) as reading:
        with reading.reading() as c:
            tenants.listing(c)
            with writing.transaction() as other:
                add_tenant(other, "acme")
            assert not writing.checkpoint()
            assert log.stat().st_size
        assert writing.checkpoint()
        assert not log.stat().st_size


def test_damage_inside_is_an_error_of_one_line(store: Store, tenant: Tenant) -> None:
    store.checkpoint()
    store.close()
    content = bytearray(store.path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    store.path.write_bytes(content)
    with pytest.raises(StoreError) as caught, Store.open(store.path, create=False) as damaged, damaged.reading() as c:
        tenants.listing(c)
    one_line(caught.value, str(store.path), "damaged")


def test_damage_that_is_met_later_is_an_error_of_one_line(store: Store, tenant: Tenant) -> None:
    with store.reading() as c:
        page = c.exec_driver_sql("SELECT rootpage FROM sqlite_master WHERE name = 'tenants'").scalar_one()
    store.checkpoint()
    store.close()
    content = bytearray(store.path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    store.path.write_bytes(content)
    with Store.open(store.path, create=False) as damaged, damaged.reading() as c, pytest.raises(StoreError) as caught:
        tenants.listing(c)
    one_line(caught.value, str(store.path), "damaged; restore a backup")


@pytest.mark.parametrize("name", ["a b", "100%", "what?mode=memory", "a#b", "Büro", "a;b&c=d"])
def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for create in (True, False):
        with Store.open(folder / "sallyport.db", create=create) as store, store.reading() as c:
            assert changes.latest(c) == 0
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"sallyport.db", "sallyport.db.lock"}


def test_an_empty_file_that_a_crash_left_is_completed(path: Path) -> None:
    path.touch(0o600)
    with Store.open(path, create=True) as store, store.reading() as c:
        assert changes.latest(c) == 0


def test_opening_what_is_up_to_date_is_quick_and_imports_no_alembic(store: Store) -> None:
    code = """
import sys, time, pathlib
from store.engine import Store
from store import changes
began = time.perf_counter()
with Store.open(pathlib.Path(sys.argv[1]), create=False) as store:
    took = time.perf_counter() - began
    with store.reading() as c:
        changes.latest(c)
assert "alembic" not in sys.modules and "mako" not in sys.modules
assert took < 0.3, took
"""
    process = script(code, store.path)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors


# Several processes, and crashes


def test_processes_that_open_a_fresh_folder_at_once_all_get_the_same_database(path: Path) -> None:
    code = """
import sys, pathlib, datetime
from store.engine import Store
from tests.store.conftest import add_tenant
sys.stdin.readline()
with Store.open(pathlib.Path(sys.argv[1]), create=True) as store:
    with store.transaction() as c:
        add_tenant(c, sys.argv[2], b"wrapped", datetime.datetime.fromisoformat(sys.argv[3]))
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), f"tenant-{number}", NOW.isoformat()],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    with Store.open(path, create=False) as store, store.reading() as c:
        assert [tenant.name for tenant in tenants.listing(c)] == [f"tenant-{number}" for number in range(4)]


def killed(code: str, *arguments: object) -> None:
    process = script(code, *arguments)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -9, errors


def test_a_process_killed_within_a_transaction_changes_nothing(store: Store, tenant: Tenant) -> None:
    code = """
import sys, os, signal, pathlib, datetime
from store.engine import Store
from store import changes
from tests.store.conftest import add_tenant
store = Store.open(pathlib.Path(sys.argv[1]), create=False)
now = datetime.datetime.fromisoformat(sys.argv[2])
with store.transaction(durable=True) as c:
    add_tenant(c, "committed", b"wrapped", now)
with store.transaction(durable=True) as c:
    add_tenant(c, "half", b"wrapped", now)
    changes.announce(c, 1, "tenant_created", now)
    c.exec_driver_sql("PRAGMA cache_spill")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed(code, store.path, NOW.isoformat())
    with store.transaction() as c:  # the lock went with the process
        assert [found.name for found in tenants.listing(c)] == ["acme", "committed"]
        assert changes.announce(c, tenant.id, "error_settings_changed", NOW) == 2


@pytest.mark.parametrize("when", ["before the first table", "after the last table"])
def test_a_process_killed_within_the_migration_leaves_what_the_next_start_completes(path: Path, when: str) -> None:
    code = """
import sys, os, signal, pathlib
from alembic import op
from store.engine import Store
real, when = op.create_table, sys.argv[2]
def create_table(name, *arguments, **keywords):
    if when == "before the first table":
        os.kill(os.getpid(), signal.SIGKILL)
    real(name, *arguments, **keywords)
    if name == "audit_log":
        os.kill(os.getpid(), signal.SIGKILL)
op.create_table = create_table
Store.open(pathlib.Path(sys.argv[1]), create=True)
"""
    killed(code, path, when)
    assert path.exists()
    with Store.open(path, create=True) as store, store.transaction() as c:
        assert add_tenant(c, "acme").name == "acme"
