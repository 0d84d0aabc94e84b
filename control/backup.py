"""Saving an installation while it is used, and putting what was saved in its place.

What there is to save are two things. The database has all that administrators and the issuer have done; the keys in it
are sealed, so it may lie where other backups lie. The master key opens them all, and belongs where few can get at it.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from config.settings import Settings
from control import state_dir
from control.errors import InstallationError, Refused
from control.installation import SETUP_LOCK_FILE, SETUP_SECONDS, Installation, publish_root
from kms.providers.local import MASTER_KEY_FILE
from store import backup
from store.creation import file_lock
from store.engine import DATABASE_FILE, StoreError
from store.records import Tenant


@dataclass(frozen=True, slots=True)
class Restored:
    """The tenants that are there now, and where the files are that were there before."""

    tenants: tuple[Tenant, ...]
    aside: tuple[Path, ...]


def save(inst: Installation, target: Path, key: Path | None) -> None:
    """Copy the database into the new file ``target``, and the master key into the new file ``key``.

    Raises Refused; then neither is made.
    """
    with _refusing():
        backup.copy(inst.store.path, target)
        try:
            if key is not None:
                state_dir.write(key, (inst.state_dir / MASTER_KEY_FILE).read_bytes(), new=True)
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
    scratch = folder / f".restoring-{secrets.token_hex(8)}"
    with _refusing(), file_lock(folder / SETUP_LOCK_FILE, f"{folder}: another process sets it up", SETUP_SECONDS):
        scratch.mkdir(mode=0o700)
        try:
            backup.copy(source, scratch / DATABASE_FILE, to_be_used=True)
            state_dir.write(scratch / MASTER_KEY_FILE, (key or folder / MASTER_KEY_FILE).read_bytes())
            with _opened(settings.model_copy(update={"state_dir": scratch}), source, key, now) as inst:
                tenants = inst.tenants()
            aside = _put_in_place(scratch, folder, f".before-{now:%Y%m%dT%H%M%SZ}")
        finally:
            shutil.rmtree(scratch)
    with Installation.open(settings, now) as inst:
        for tenant in tenants:
            publish_root(inst, tenant.name)
    return Restored(tenants, aside)


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
    aside: list[Path] = []
    new, old = scratch / MASTER_KEY_FILE, folder / MASTER_KEY_FILE
    if not old.exists():
        new.rename(old)
    elif new.read_bytes() != old.read_bytes():
        aside.append(folder / (MASTER_KEY_FILE + ending))
        aside[-1].hardlink_to(old)
        new.rename(old)
    if (folder / DATABASE_FILE).exists():
        aside.append(folder / (DATABASE_FILE + ending))
    backup.replace(folder / DATABASE_FILE, scratch / DATABASE_FILE, folder / (DATABASE_FILE + ending))
    return tuple(aside)


@contextmanager
def _refusing() -> Iterator[None]:
    """What the store and the system say is the administrator's answer."""
    try:
        yield
    except StoreError as error:
        raise Refused(str(error)) from None
    except OSError as error:
        raise Refused(f"{error.filename2 or error.filename}: {error.strerror}") from None
