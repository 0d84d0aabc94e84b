"""A clock, an installation with the tenant ``default``, and what its tests need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control.installation import Installation
from tests.issuer.rig import Clock, installation, settings_for


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inst(tmp_path: Path, clock: Clock) -> Iterator[Installation]:
    with installation(settings_for(tmp_path), clock) as opened:
        yield opened
