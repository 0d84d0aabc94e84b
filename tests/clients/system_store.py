"""The machine's own store of CAs with one root more, as Debian's update-ca-certificates adds it.

Whatever runs behind :func:`prefix` sees it so, in a mount namespace of its own; the machine's is left as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

STORE, OWN = "/etc/ssl/certs", "/usr/local/share/ca-certificates"
"""What update-ca-certificates writes, and where it finds what an administrator has put there."""


def hindrance() -> str:
    """Why there can be none here; empty where there can."""
    if shutil.which("update-ca-certificates", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is None:
        return "update-ca-certificates is missing (ca-certificates)"
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else f"no mount namespace may be made here: {done.stderr.strip()}"


def prefix(folder: Path, root: Path) -> list[str]:
    """Make it, in ``folder``; what stands before a command for which it is to be there."""
    store, own = folder / "store", folder / "own"
    shutil.copytree(STORE, store, symlinks=True)
    own.mkdir()
    shutil.copy(root, own / "sallyport.crt")
    binds = f'mount --bind "$0" {STORE}; mount --bind "$1" {OWN}; shift; exec "$@"'
    made = ["unshare", "--mount", "sh", "-ec", binds, str(store), str(own)]
    subprocess.run([*made, "update-ca-certificates"], check=True, capture_output=True, timeout=120)
    return made
