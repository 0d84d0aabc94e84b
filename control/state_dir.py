"""The state directory: ours alone, or not used at all."""

from __future__ import annotations

import os
import pwd
import secrets
import stat
from pathlib import Path

from control.errors import InstallationError
from store.backup import place_new, sync


def prepare(path: Path) -> None:
    """Make the folder (0700) where it is missing, and check who owns it and who can look into it.

    Raises InstallationError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.stat()
    except FileExistsError:
        raise InstallationError(f"state_dir {path} is not a folder; move it away or set another state_dir") from None
    except OSError as error:
        raise InstallationError(
            f"state_dir {path} cannot be made or read: {error.strerror}; set another state_dir"
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise InstallationError(f"state_dir {path} is not a folder; move it away or set another state_dir")
    if found.st_uid != os.geteuid():
        raise InstallationError(
            f"state_dir {path} belongs to {_user(found.st_uid)}, and this runs as {_user(os.geteuid())}; "
            f"run as {_user(found.st_uid)}, or set another state_dir"
        )
    if found.st_mode & 0o077:
        raise InstallationError(
            f"state_dir {path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}); run: chmod 700 {path}"
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise InstallationError(f"state_dir {path} cannot be written; run: chmod 700 {path}")


def write(path: Path, content: bytes, *, new: bool = False) -> None:
    """Write the file (0600) whole or not at all; its folder (0700) is made where it is missing. Raises OSError.

    With ``new`` a file that is there stays, and FileExistsError is raised.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if new:
            place_new(temporary, path)
        else:
            temporary.rename(path)
        sync(path.parent)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
