"""A fresh installation, with the tenant ``default`` in it."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from certs.bundle import Bundle
from config.settings import Settings
from control import accounts, trusted_cas
from control.authorisation import Role
from control.installation import Installation
from control.passwords import Hashing
from store import changes
from store.records import Account, TrustedCa
from tests.harness.pki import NOW

CHEAP = Hashing(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
"""Argon2id as cheap as it gets: for tests of what is done with it."""
PASSWORD = "horse tractor moon"


def account(inst: Installation, name: str, role: Role = Role.OWNER, *tenants: str) -> Account:
    """An account with the password above, its own; for all tenants where none is named."""
    return accounts.create(inst, name, PASSWORD, role, tenants or None, NOW, CHEAP, own=True)


def given(inst: Installation, name: str, role: Role = Role.OWNER, at: datetime = NOW) -> Account:
    """The same for all tenants, with a password that somebody else gave, and that is to be changed."""
    return accounts.create(inst, name, PASSWORD, role, None, at, CHEAP)


def code_of(secret: str, at: datetime) -> str:
    """What an authenticator app shows then (RFC 6238, computed here in the RFC's own words)."""
    counter = int(at.timestamp()) // 30
    digest = hmac.digest(base64.b32decode(secret), counter.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 0xF
    return f"{(int.from_bytes(digest[offset : offset + 4], 'big') & 0x7FFFFFFF) % 10**6:06}"


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
