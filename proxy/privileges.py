"""Started as root with a user in the settings: what is root's to do, and what is done as that user.

The supervisor stays root underneath, since a listener that a reload adds may have a port below 1024. What takes effect
is the user, though: files in the state directory, which is the user's, are made and opened with the user's rights, so
that no link which somebody puts there leads root anywhere. Root it is only inside :func:`raised`.
"""

from __future__ import annotations

import os
import pwd
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.start_error import StartError

ROOT = 0
RAISED = threading.RLock()
"""Held while root's rights are there: they are the whole process's. A thread that opens files must not do so then."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the processes run as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def account(name: str | None) -> Account | None:
    """The user of the setting ``user``, where one has to be changed to. Raises StartError."""
    if name is None:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise StartError(f"user: there is no user {name}; make one, as with: useradd --system {name}") from None
    if os.getuid() == entry.pw_uid:
        return None
    if os.getuid() != ROOT:
        raise StartError(f"user: only root can start it as {name}; start it as root or as {name}, or leave user out")
    return Account(name, entry.pw_uid, entry.pw_gid, tuple(sorted({*os.getgrouplist(name, entry.pw_gid)})))


def give_state_dir(path: Path, to: Account) -> None:
    """See to it that the state directory is the account's: made so where it is missing. Raises StartError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except FileExistsError:
        owner = path.stat().st_uid
        if owner != to.uid:
            raise StartError(
                f"state_dir {path} belongs to user {_name(owner)}, and its processes run as {to.name}; "
                f"run: chown -R {to.name}: {path}"
            ) from None
    except OSError as error:
        raise StartError(f"state_dir {path} cannot be made: {error.strerror}; set another state_dir") from None
    else:
        os.chown(path, to.uid, to.gid)


def become(to: Account) -> None:
    """Be the account, with no way back."""
    os.setgroups(to.groups)
    os.setresgid(to.gid, to.gid, to.gid)
    os.setresuid(to.uid, to.uid, to.uid)


def lower(to: Account) -> None:
    """Have the account's rights from now on, except inside :func:`raised`."""
    os.setgroups(to.groups)
    os.setegid(to.gid)
    os.seteuid(to.uid)


@contextmanager
def raised(account: Account | None) -> Iterator[None]:
    """Root again, where :func:`lower` took it away; without an account nothing changes."""
    if account is None:
        yield
        return
    with RAISED:
        os.seteuid(ROOT)
        os.setegid(ROOT)
        try:
            yield
        finally:
            os.setegid(account.gid)
            os.seteuid(account.uid)


def for_popen(to: Account | None) -> dict[str, int | tuple[int, ...]]:
    """Arguments of :class:`subprocess.Popen` for a child that runs as the account."""
    return {} if to is None else {"user": to.uid, "group": to.gid, "extra_groups": to.groups}


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
