"""Users: who is let in, what is remembered, what a change means, and how guessing is slowed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import bcrypt
import pytest

from config.settings import Listener
from proxy import users as module
from proxy.guesses import MOST, SECONDS, Guesses
from proxy.users import Checked, Users


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


SHARED = Listener.model_validate(
    {
        "name": "shared", "bind": "127.0.0.1:0",
        "authentication": {"tenants": ["acme", "beta"], "htpasswd": [{"file": "/users", "tenant": "beta"}]},
    }
)  # fmt: skip
ONE = Listener.model_validate({"name": "one", "bind": "127.0.0.1:0", "authentication": {"tenants": ["acme"]}})
NONE = Listener.model_validate({"name": "none", "bind": "127.0.0.1:0"})


class World:
    """The users of two tenants, a clock, and what was compared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stored: dict[str, dict[str, str]] = {
            "acme": {"alice": hashed("for acme"), "a@b.example": hashed("of mail")},
            "beta": {"alice": hashed("for beta")},
        }
        self.file = {"bob": hashed("of the file")}
        self.now = 1000.0
        self.compared: list[str] = []
        real = module.matches

        def matches(against: str, password: str) -> bool:
            self.compared.append(against)
            return real(against, password)

        monkeypatch.setattr(module, "matches", matches)
        snapshots: Callable[[], Any] = lambda: {  # noqa: E731 - what a worker has
            tenant: SimpleNamespace(users=users) for tenant, users in self.stored.items()
        }
        self.users = Users(snapshots, lambda path: self.file if path == "/users" else {}, lambda: self.now)

    def verify(self, name: str, password: str, listener: Listener = SHARED, client: str = "10.0.0.1") -> str | None:
        return asyncio.run(self.users.verify(listener, name, password, client))

    def check(self, name: str, password: str, client: str = "10.0.0.1") -> Checked:
        return asyncio.run(self.users.check(SHARED, name, password, client))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_name_says_whose_it_is_where_there_are_several(world: World) -> None:
    assert world.verify("alice@acme", "for acme") == "acme"
    assert world.verify("alice@beta", "for beta") == "beta"
    assert world.verify("alice@beta", "for acme") is None
    assert world.verify("alice", "for acme") is None
    assert world.verify("bob@beta", "of the file") == "beta"
    assert world.verify("bob@acme", "of the file") is None
    assert world.verify("alice@other", "for acme") is None
    assert world.verify("acme", "for acme") is None


def test_where_there_is_one_the_name_alone_does(world: World) -> None:
    assert world.verify("alice", "for acme", ONE) == "acme"
    assert world.verify("alice@acme", "for acme", ONE) == "acme"
    assert world.verify("a@b.example", "of mail", ONE) == "acme"
    assert world.verify("alice@beta", "for beta", ONE) is None
    assert world.verify("alice", "for acme", NONE) is None


def test_what_was_verified_is_remembered_for_a_while(world: World) -> None:
    for _ in range(3):
        assert world.verify("alice@acme", "for acme") == "acme"
    assert len(world.compared) == 1
    assert world.users.at_once(SHARED, "alice@acme", "for acme") is not None
    assert world.users.at_once(SHARED, "alice@beta", "for acme") is None
    assert world.users.at_once(SHARED, "alice@acme", "for Acme") is None
    world.now += module.KEPT_SECONDS + 1
    assert world.users.at_once(SHARED, "alice@acme", "for acme") is None


def test_another_password_and_no_user_count_at_once(world: World) -> None:
    assert world.verify("alice@acme", "for acme") == "acme"
    session: Any = SimpleNamespace(login=world.users.at_once(SHARED, "alice@acme", "for acme"), listener=SHARED)
    nobody: Any = SimpleNamespace(login=None, listener=SHARED)
    assert world.users.gone([session, nobody]) == []
    before, world.stored["acme"]["alice"] = world.stored["acme"]["alice"], hashed("another")
    assert world.users.gone([session, nobody]) == [session]
    assert world.verify("alice@acme", "for acme") is None
    assert world.verify("alice@acme", "another") == "acme"
    world.stored["acme"]["alice"] = before
    del world.stored["acme"]["alice"]
    assert world.verify("alice@acme", "another") is None
    del world.stored["beta"]  # the tenant is gone, and its file's users with it
    assert world.verify("bob@beta", "of the file") is None


def test_one_who_is_deleted_while_the_password_is_verified_is_not_let_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def matches(against: str, password: str) -> bool:
        world.stored["acme"].clear()
        return True

    monkeypatch.setattr(module, "matches", matches)
    assert world.verify("alice@acme", "for acme") is None


def test_a_name_that_nobody_has_costs_what_another_costs(world: World) -> None:
    assert world.verify("carol@beta", "x") is None
    assert world.verify("carol", "x") is None
    assert world.compared[0] in (world.stored["beta"]["alice"], world.file["bob"])
    assert len(world.compared) == 2
    # Not even with the password of the one that is compared with.
    for password in ("for acme", "of mail", "for beta", "of the file"):
        assert world.verify("carol@beta", password) is None
        assert world.verify("", password) is None
    world.stored["acme"].clear()
    assert world.verify("alice", "x", ONE, client="10.0.0.2") is None
    assert world.compared[-1] == module.DECOY


def test_many_at_once_with_the_same_are_verified_once(world: World) -> None:
    async def all_of_them() -> list[str | None]:
        asked = (world.users.verify(SHARED, "alice@acme", "for acme", "10.0.0.1") for _ in range(50))
        return await asyncio.gather(*asked)

    assert asyncio.run(all_of_them()) == ["acme"] * 50
    assert len(world.compared) == 1


def test_guessing_is_slowed_for_client_and_user_and_keeps_out_nobody_who_came_before(world: World) -> None:
    assert world.verify("alice@acme", "for acme", client="10.9.9.9") == "acme"
    found = [world.check("alice@acme", f"guess {number}", client="10.0.0.1") for number in range(12)]
    assert [each.wait > 0 for each in found] == [False] * 10 + [True] * 2
    assert found[0].named == ("acme", "alice")
    compared = len(world.compared)
    assert world.check("alice@acme", "another guess", client="10.0.0.2").wait > 0  # the user's, from anywhere else
    assert world.check("alice@beta", "for beta", client="10.0.0.1").wait > 0  # the client's, for anybody else
    assert len(world.compared) == compared
    assert world.check("alice@acme", "a slip", client="10.9.9.9").wait == 0
    assert world.verify("alice@acme", "for acme", client="10.0.0.1") == "acme"  # what was verified lately is no guess
    assert world.verify("alice@beta", "for beta", client="10.0.0.3") == "beta"
    world.now += module.KEPT_SECONDS + 1
    assert world.verify("alice@acme", "for acme", client="10.0.0.1") == "acme"


def test_right_passwords_are_no_guesses(world: World) -> None:
    for number in range(30):
        world.now += module.KEPT_SECONDS
        assert world.verify("alice@acme", "for acme", client=f"10.0.1.{number % 2}") == "acme"


def test_a_bucket_leaks() -> None:
    now = [0.0]
    guesses = Guesses(lambda: now[0])
    for _ in range(int(MOST)):
        assert guesses.begin("a", "b") == 0
    assert guesses.begin("a") == SECONDS
    assert guesses.begin("c") == 0
    now[0] += SECONDS
    assert guesses.begin("b") == 0
    assert guesses.begin("b") > 0
    guesses.take_back("b")
    assert guesses.begin("b") == 0
