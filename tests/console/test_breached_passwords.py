from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Console as Section
from control.authorisation import Role
from tests.console.conftest import Console
from tests.control.breached import write_list
from tests.control.conftest import PASSWORD, account

API = "/api/v1"
BREACHED = "a very breached password"


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "breached.txt"
    write_list(path, [BREACHED, "another one of these"])
    return path


@pytest.fixture
def section(listed: Path) -> Section:
    return Section(breached_passwords=str(listed))


def test_the_api_and_the_pages_take_no_breached_password_and_none_while_the_list_is_broken(
    console: Console, listed: Path
) -> None:
    owner = console.signed_in("ann")
    account(console.inst, "bob", Role.AUDITOR)
    new = {"name": "eve", "role": "auditor"}

    def told(password: str) -> set[str]:
        answers = [
            owner.post(f"{API}/accounts", json={**new, "password": password}),
            owner.post(f"{API}/accounts/bob:set-password", json={"password": password}),
        ]
        assert [each.status_code for each in answers] == [422, 422]
        page = owner.post("/me/password", data={"current": PASSWORD, "password": password, "repeated": password})
        assert page.status_code == 422
        assert "list of breached" in page.text
        return {each.json()["detail"] for each in answers}

    (said,) = told(BREACHED)
    assert said.startswith("the password is in the list of breached passwords")
    assert BREACHED not in said
    listed.unlink()
    (said,) = told("horse tractor moon and sun")
    assert "(console.breached_passwords) cannot be used" in said
    assert str(listed) in said
    assert owner.post(f"{API}/accounts", json=new).status_code == 422  # one that is made here neither
    write_list(listed, [BREACHED])
    assert owner.post(f"{API}/accounts", json={**new, "password": "horse tractor moon and sun"}).status_code == 201
