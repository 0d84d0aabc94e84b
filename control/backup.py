"""Saving an installation while it is used, and putting what was saved in its place.

What there is to save are two things. The database has all that administrators and the issuer have done; the keys in it
are sealed, so it may lie where other backups lie. The master key opens them all, and belongs where few can get at it.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from config.settings import Settings
from control import state_dir
from control.errors import InstallationError, Refused
from control.installation import SETUP_LOCK_FILE, SETUP_SECONDS, Installation, publish_root, root_file
from kms.providers.local import MASTER_KEY_FILE, KeyFileError, LocalProvider
from store import backup
from store.creation import file_lock
from store.engine import DATABASE_FILE, StoreError
from store.records import Tenant

SCRATCH = ".restoring-"


@dataclass(frozen=True, slots=True)
class Restored:
    """The tenants that are there now, and where the files are that were there before.

    ``problems``: root certificates that could not be published; all else is done.
    """

    tenants: tuple[Tenant, ...]
    aside: tuple[Path, ...]
    problems: tuple[str, ...] = ()


def save(folder: Path, target: Path, key: Path | None) -> None:
    """Copy the database of a state directory into the new file ``target``, and its master key into the new ``key``.

    Nothing is made or migrated there. Raises Refused; then neither file is made.
    """
    with _refusing():
        backup.copy(folder / DATABASE_FILE, target)
        try:
            if key is not None:
                LocalProvider.open(folder / MASTER_KEY_FILE, create=False)  # one that is damaged is no backup
                state_dir.write(key, (folder / MASTER_KEY_FILE).read_bytes(), new=True)
        except BaseException:
            target.unlink()
            raise


def restore(settings: Settings, source: Path, key: Path | None, now: datetime) -> Restored:
    """Put the saved database in place, and the saved master key where one is given. No daemon may run meanwhile.

    A copy is opened first as any installation is, and migrated where it is of an older version; only then is it put in
    place. What was there is kept aside. Raises Refused, or InstallationError where the state directory cannot be used;
    then what was there is in place.
    """
    folder = settings.state_dir
    state_dir.prepare(folder)
    with _refusing(), file_lock(folder / SETUP_LOCK_FILE, f"{folder}: another process sets it up", SETUP_SECONDS):
        for left in folder.glob(f"{SCRATCH}*"):
            shutil.rmtree(left)  # of a restore that was killed: it has keys
        scratch = folder / f"{SCRATCH}{secrets.token_hex(8)}"
        scratch.mkdir(mode=0o700)
        try:
            backup.copy(source, scratch / DATABASE_FILE, to_be_used=True)
            state_dir.write(scratch / MASTER_KEY_FILE, (key or folder / MASTER_KEY_FILE).read_bytes())
            with _opened(settings.model_copy(update={"state_dir": scratch}), source, key, now) as inst:
                tenants = inst.tenants()
            aside = _put_in_place(scratch, folder, f".before-{now:%Y%m%dT%H%M%SZ}")
        finally:
            shutil.rmtree(scratch)
    return Restored(tenants, aside, tuple(_publish(settings, tenants, now)))


@contextmanager
def _opened(settings: Settings, source: Path, key: Path | None, now: datetime) -> Iterator[Installation]:
    """The copy, opened. What is said of it is said of the file that it is of."""
    try:
        with Installation.open(settings, now) as inst:
            yield inst
    except InstallationError as error:
        text = str(error).replace(str(settings.state_dir / DATABASE_FILE), str(source))
        named = key or settings.state_dir.parent / MASTER_KEY_FILE
        raise Refused(text.replace(str(settings.state_dir / MASTER_KEY_FILE), str(named))) from None


def _put_in_place(scratch: Path, folder: Path, ending: str) -> tuple[Path, ...]:
    """Rename both, one right after the other. Where that fails, both are as before.

    Where the process is killed in between, the key is the new one and the database the old one: nothing starts with
    these, and the same restore once more completes it.
    """
    database, key_file = folder / DATABASE_FILE, folder / MASTER_KEY_FILE
    old_database, old_key = (path.with_name(path.name + ending) for path in (database, key_file))
    made: list[Path] = []
    try:
        if key_file.exists():
            made.append(old_key)
            old_key.hardlink_to(key_file)
        if not database.exists():
            _switch(scratch, folder, old_key)
            made.clear()
            return ()
        made.append(old_database)
        old_database.hardlink_to(database)
        with backup.out_of_use(database, old_database):
            _switch(scratch, folder, old_key)
    except BaseException as error:
        for each in made:
            if not isinstance(error, FileExistsError) or each is not made[-1]:
                each.unlink(missing_ok=True)
        raise
    if old_key.exists() and old_key.read_bytes() == key_file.read_bytes():
        old_key.unlink()
        made.remove(old_key)
    return tuple(made)


def _switch(scratch: Path, folder: Path, old_key: Path) -> None:
    (scratch / MASTER_KEY_FILE).rename(folder / MASTER_KEY_FILE)
    try:
        (scratch / DATABASE_FILE).rename(folder / DATABASE_FILE)
    except BaseException:
        with suppress(FileNotFoundError):
            os.link(old_key, scratch / MASTER_KEY_FILE)
            (scratch / MASTER_KEY_FILE).rename(folder / MASTER_KEY_FILE)
        raise
    backup.sync(folder)


def _publish(settings: Settings, tenants: tuple[Tenant, ...], now: datetime) -> Iterator[str]:
    """Publish the roots of the tenants that there are now, and of no other."""
    try:
        with Installation.open(settings, now) as inst:
            wanted = {root_file(inst, tenant.name) for tenant in tenants}
            for path in set(inst.state_dir.glob("certs/*-root.pem")) - wanted:
                path.unlink()
            for tenant in tenants:
                try:
                    publish_root(inst, tenant.name)
                except (Refused, InstallationError) as error:
                    yield str(error)
    except (InstallationError, OSError) as error:
        yield str(error)


@contextmanager
def _refusing() -> Iterator[None]:
    """What the store and the system say is the administrator's answer."""
    try:
        yield
    except (StoreError, KeyFileError) as error:
        raise Refused(str(error)) from None
    except OSError as error:
        raise Refused(f"{error.filename2 or error.filename}: {error.strerror}") from None
