from __future__ import annotations

import shutil
import sqlite3
import stat
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import pytest

from config.settings import Settings
from control import backup, tenants
from control.errors import InstallationError, Refused
from control.installation import Installation, publish_root
from tests.harness.pki import NOW

LATER = NOW + timedelta(hours=1)
ASIDE = f".before-{LATER:%Y%m%dT%H%M%SZ}"


def everything(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, but for those that locks are on, and an empty log of the database."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith((".lock", "-shm")) and path.stat().st_size
    }


def root(inst: Installation, tenant: str = "default") -> bytes:
    return publish_root(inst, tenant).read_bytes()


def names(settings: Settings) -> list[str]:
    with Installation.open(settings, NOW) as inst:
        return [tenant.name for tenant in tenants.listing(inst)]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "other")


def test_what_is_saved_while_it_is_used_is_an_installation_elsewhere(
    inst: Installation, elsewhere: Settings, tmp_path: Path
) -> None:
    saved, key = tmp_path / "saved.db", tmp_path / "saved.key"
    tenants.create(inst, "acme", NOW)
    with inst.changing("acme"):  # somebody is in the middle of a change
        backup.save(inst.state_dir, saved, key)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (saved, key)] == [0o600, 0o600]
    done = backup.restore(elsewhere, saved, key, LATER)
    assert [tenant.name for tenant in done.tenants] == ["acme", "default"]
    assert done.aside == ()
    with Installation.open(elsewhere, LATER) as other:
        assert other.name == inst.name
        assert [(other.state_dir / "certs" / f"{name}-root.pem").exists() for name in ("acme", "default")] == [True] * 2
        assert [root(other, name) for name in ("acme", "default")] == [root(inst, name) for name in ("acme", "default")]
        with other.store.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    assert sorted(path.name for path in saved.parent.iterdir() if path.name.startswith("saved")) == [
        "saved.db",
        "saved.key",
    ]


def test_what_was_there_is_kept_aside(inst: Installation, elsewhere: Settings, tmp_path: Path) -> None:
    saved, key = tmp_path / "saved.db", tmp_path / "saved.key"
    backup.save(inst.state_dir, saved, key)
    with Installation.open(elsewhere, NOW) as other:
        tenants.create(other, "was-there", NOW)
    before = (elsewhere.state_dir / "master.key").read_bytes()
    done = backup.restore(elsewhere, saved, key, LATER)
    assert done.aside == (elsewhere.state_dir / f"master.key{ASIDE}", elsewhere.state_dir / f"sallyport.db{ASIDE}")
    assert names(elsewhere) == ["default"]
    # And that can be put back in the same way.
    backup.restore(elsewhere, done.aside[1], done.aside[0], LATER + timedelta(hours=1))
    assert names(elsewhere) == ["default", "was-there"]
    assert (elsewhere.state_dir / "master.key").read_bytes() == before


def test_the_master_key_stays_where_it_is_the_right_one(inst: Installation, tmp_path: Path) -> None:
    saved = tmp_path / "saved.db"
    backup.save(inst.state_dir, saved, None)
    tenants.create(inst, "afterwards", NOW)
    inst.close()
    done = backup.restore(inst.settings, saved, None, LATER)
    assert done.aside == (inst.state_dir / f"sallyport.db{ASIDE}",)
    assert names(inst.settings) == ["default"]


def test_a_damaged_database_is_replaced_and_kept_with_its_log(inst: Installation, tmp_path: Path) -> None:
    saved = tmp_path / "saved.db"
    backup.save(inst.state_dir, saved, None)
    tenants.create(inst, "in-the-log", NOW)
    killed = tmp_path / "killed"
    shutil.copytree(inst.state_dir, killed)  # as one that was killed leaves it: the log is not in the file yet
    log = killed / "sallyport.db-wal"
    assert log.stat().st_size
    log.write_bytes(b"nor is this one" + log.read_bytes()[15:])
    (killed / "sallyport.db").write_bytes(b"no database any more" * 500)
    (killed / "sallyport.db-shm").unlink()
    settings = Settings(state_dir=killed)
    done = backup.restore(settings, saved, None, LATER)
    assert done.aside[0].read_bytes() == b"no database any more" * 500
    assert names(settings) == ["default"]
    assert done.aside[0].with_name(done.aside[0].name + "-wal").read_bytes().startswith(b"nor is this one")


def done_to(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def no_backup(path: Path, kind: str, good: Path) -> None:
    """What is given for a saved database, and is none."""
    if kind == "empty":
        path.touch()
    elif kind == "nonsense":
        path.write_bytes(b"this is no database, whatever its name says" * 100)
    elif kind == "another's":
        done_to(path, "CREATE TABLE songs (name TEXT)")
    elif kind == "cut":
        path.write_bytes(good.read_bytes()[:-8192])
    elif kind == "newer":
        shutil.copy(good, path)
        done_to(path, "UPDATE alembic_version SET version_num = 'from the future'")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "there is no database"),
        ("empty", "there is no database in it"),
        ("nonsense", "it is damaged or no database of Sallyport"),
        ("another's", "this is no database of Sallyport"),
        ("cut", "damaged"),
        ("newer", "was written by a newer Sallyport"),
    ],
)
def test_what_is_no_backup_is_refused_and_nothing_changed(
    inst: Installation, tmp_path: Path, kind: str, said: str
) -> None:
    good, bad = tmp_path / "good.db", tmp_path / "bad.db"
    backup.save(inst.state_dir, good, None)
    no_backup(bad, kind, good)
    before = everything(inst.state_dir)
    with pytest.raises(Refused, match=said) as caught:
        backup.restore(inst.settings, bad, None, LATER)
    assert str(bad) in str(caught.value)
    assert ".restoring" not in str(caught.value)
    assert everything(inst.state_dir) == before


def test_a_key_that_does_not_open_it_is_refused_and_nothing_changed(
    inst: Installation, elsewhere: Settings, tmp_path: Path
) -> None:
    saved = tmp_path / "saved.db"
    backup.save(inst.state_dir, saved, None)
    assert names(elsewhere) == ["default"]
    before = everything(elsewhere.state_dir)
    with pytest.raises(Refused, match="this master key is not the one of the database") as caught:
        backup.restore(elsewhere, saved, None, LATER)
    assert str(elsewhere.state_dir / "master.key") in str(caught.value)
    assert str(saved) in str(caught.value)
    damaged = tmp_path / "damaged.key"
    damaged.write_text("sallyport master key 1\nAAAA\n")
    with pytest.raises(Refused, match="the master key is damaged") as caught:
        backup.restore(elsewhere, saved, damaged, LATER)
    assert str(damaged) in str(caught.value)
    assert everything(elsewhere.state_dir) == before


def test_a_database_without_its_key_is_not_restored(inst: Installation, elsewhere: Settings, tmp_path: Path) -> None:
    saved = tmp_path / "saved.db"
    backup.save(inst.state_dir, saved, None)
    with pytest.raises(Refused, match=r"master\.key: No such file"):
        backup.restore(elsewhere, saved, None, LATER)
    assert everything(elsewhere.state_dir) == {}


@pytest.mark.parametrize("busy", ["in a transaction", "idle"])
def test_one_that_somebody_has_open_is_not_replaced(
    inst: Installation, elsewhere: Settings, tmp_path: Path, busy: str
) -> None:
    """What he does next would be lost; the key, which is another one, stays as well."""
    saved, key = tmp_path / "saved.db", tmp_path / "saved.key"
    backup.save(inst.state_dir, saved, key)
    with Installation.open(elsewhere, NOW) as other:
        tenants.create(other, "there", NOW)
        before = sorted(path.name for path in elsewhere.state_dir.iterdir())
        with ExitStack() as stack:
            if busy == "in a transaction":
                stack.enter_context(other.reading("default"))
            with pytest.raises(Refused, match="another process is using it"):
                backup.restore(elsewhere, saved, key, LATER)
        tenants.create(other, "afterwards", NOW)
        assert sorted(path.name for path in elsewhere.state_dir.iterdir()) == before
    assert names(elsewhere) == ["afterwards", "default", "there"]


def test_where_the_name_for_what_was_there_is_taken_nothing_is_changed(
    inst: Installation, elsewhere: Settings, tmp_path: Path
) -> None:
    saved, key = tmp_path / "saved.db", tmp_path / "saved.key"
    backup.save(inst.state_dir, saved, key)
    assert names(elsewhere) == ["default"]
    for name in (f"master.key{ASIDE}", f"sallyport.db{ASIDE}"):
        taken = elsewhere.state_dir / name
        taken.write_text("of another restore")
        before = everything(elsewhere.state_dir)
        with pytest.raises(Refused, match="File exists"):
            backup.restore(elsewhere, saved, key, LATER)
        assert everything(elsewhere.state_dir) == before
        taken.unlink()
    assert names(elsewhere) == ["default"]


def test_one_that_was_killed_between_key_and_database_is_completed_by_doing_it_again(
    inst: Installation, elsewhere: Settings, tmp_path: Path
) -> None:
    saved, key = tmp_path / "saved.db", tmp_path / "saved.key"
    tenants.create(inst, "saved", NOW)
    backup.save(inst.state_dir, saved, key)
    assert names(elsewhere) == ["default"]
    left = elsewhere.state_dir / ".restoring-killed"
    left.mkdir()
    shutil.copy(saved, left / "sallyport.db")
    shutil.copy(key, elsewhere.state_dir / "master.key")
    with pytest.raises(InstallationError, match="this master key is not the one of the database"):
        names(elsewhere)
    backup.restore(elsewhere, saved, key, LATER)
    assert names(elsewhere) == ["default", "saved"]
    assert not left.exists()


def test_a_key_that_others_can_read_is_put_right_and_roots_of_tenants_that_are_gone_are_not_published(
    inst: Installation, tmp_path: Path
) -> None:
    saved = tmp_path / "saved.db"
    backup.save(inst.state_dir, saved, None)
    tenants.create(inst, "gone", NOW)
    publish_root(inst, "gone")
    inst.close()
    key_file = inst.state_dir / "master.key"
    key_file.chmod(0o644)
    done = backup.restore(inst.settings, saved, None, LATER)
    assert done.problems == ()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert [path.name for path in (inst.state_dir / "certs").iterdir()] == ["default-root.pem"]


def test_what_is_not_there_cannot_be_saved_and_is_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "nothing"
    with pytest.raises(Refused, match=f"{folder}/sallyport.db: there is no database"):
        backup.save(folder, tmp_path / "saved.db", None)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_key_is_not_saved_as_if_it_were_one(inst: Installation, tmp_path: Path) -> None:
    (inst.state_dir / "master.key").write_text("sallyport master key 1\nAAAA\n")
    with pytest.raises(Refused, match="the master key is damaged"):
        backup.save(inst.state_dir, tmp_path / "saved.db", tmp_path / "saved.key")
    assert [path.name for path in tmp_path.iterdir()] == ["var"]


def test_nothing_is_overwritten_by_a_backup(inst: Installation, tmp_path: Path) -> None:
    there, key = tmp_path / "there", tmp_path / "key"
    there.write_bytes(b"mine")
    for file, key_file in ((there, None), (there, key), (key, there)):
        with pytest.raises(Refused, match=f"{there}: "):
            backup.save(inst.state_dir, file, key_file)
        assert there.read_bytes() == b"mine"
        assert not key.exists()
    with pytest.raises(Refused, match="nowhere"):
        backup.save(inst.state_dir, tmp_path / "nowhere" / "saved.db", None)
