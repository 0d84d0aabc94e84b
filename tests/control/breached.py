"""Lists of breached passwords, written as Have I Been Pwned's downloader does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def sha1(password: str) -> str:
    """The name of a password in such a list."""
    return hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()


def write_list(path: Path, passwords: Iterable[str], end: str = "\n") -> None:
    """The list of these, with counts of many lengths."""
    hashes = sorted(map(sha1, passwords))
    path.write_bytes("".join(f"{each}:{7 ** (n % 12)}{end}" for n, each in enumerate(hashes)).encode())
