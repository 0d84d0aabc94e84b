"""A key pair for the archive tests, and archives opened again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

from mitmproxy import http
from mitmproxy.io import FlowReader, tnetstring

from addons.archive_format import read_archive
from addons.archive_keys import load_identity, load_recipient, new_pair

PRIVATE, PUBLIC = new_pair()
IDENTITY = load_identity(PRIVATE)
RECIPIENT = load_recipient(PUBLIC)


def opened(data: bytes) -> bytes:
    """What is in an archive, all of it. Raises as read_archive does."""
    return b"".join(read_archive(io.BytesIO(data), IDENTITY))


def names(folder: Path) -> list[str]:
    """The archives in a folder, the oldest first."""
    return sorted(path.name for path in folder.glob("flows-*"))


def content(folder: Path) -> bytes:
    """What is in all finished archives of a folder, the oldest first."""
    return b"".join(opened(path.read_bytes()) for path in sorted(folder.glob("*.sealed")))


def flows(data: bytes) -> list[http.HTTPFlow]:
    """The flows in an archive's content, as mitmproxy reads them."""
    return cast("list[http.HTTPFlow]", list(FlowReader(io.BytesIO(data)).stream()))


def states(data: bytes) -> list[dict[str, Any]]:
    """The same as plain values."""
    found: list[dict[str, Any]] = []
    rest = memoryview(data)
    while rest:
        state, rest = tnetstring.pop(rest)
        found.append(cast("dict[str, Any]", state))
    return found
