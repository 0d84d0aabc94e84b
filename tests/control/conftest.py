"""A fresh installation, with the tenant ``default`` in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certs.bundle import Bundle
from config.settings import Settings
from control import trusted_cas
from control.installation import Installation
from store import changes
from store.records import TrustedCa
from tests.harness.pki import NOW


def last_change(inst: Installation) -> int:
    """The id of the last change."""
    with inst.store.reading() as c:
        return changes.latest(c)


def kinds_since(inst: Installation, last: int) -> list[str]:
    """What was announced after that change."""
    with inst.store.reading() as c:
        return [change.kind for change in changes.since(c, last)]


def trust(
    inst: Installation, tenant: str, name: str, data: bytes, *hosts: str, active: bool = True
) -> tuple[TrustedCa, Bundle]:
    """Add one trusted CA."""
    (saved,) = trusted_cas.add(inst, tenant, [trusted_cas.Upload(name, data, hosts, active)], NOW)
    return saved


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "var")


@pytest.fixture
def inst(settings: Settings) -> Iterator[Installation]:
    with Installation.open(settings, NOW) as opened:
        yield opened
