from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cli import admin
from control import accounts, api_tokens, passwords, sign_in
from control.due import GIVEN_LASTS
from control.installation import Installation
from control.passwords import Hashing
from tests.cli.conftest import Run
from tests.control.breached import write_list
from tests.control.conftest import CHEAP
from tests.harness.pki import NOW


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command hashes as it always does, with Argon2id at its cheapest in place of its dearest."""
    monkeypatch.setattr(passwords.STANDARD, "_hasher", CHEAP._hasher)
    passwords.STANDARD.__dict__.pop("_nobodys", None)


def opened(tmp_path: Path) -> Installation:
    from config.settings import Settings

    return Installation.open(Settings(state_dir=tmp_path / "state"), NOW)


def signs_in(tmp_path: Path, name: str, password: str) -> bool:
    with opened(tmp_path) as inst:
        try:
            return bool(sign_in.sign_in(inst, name, password, "192.0.2.1", NOW, CHEAP))
        except sign_in.WrongCredentials:
            return False


def done(run: Run, *args: str, stdin: bytes | None = None) -> str:
    result = run(*args, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(run: Run, *args: str, status: int = 1) -> str:
    result = run(*args)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    return result.stderr


def test_the_first_account_is_an_owner_with_a_password_that_is_printed_once(run: Run, tmp_path: Path) -> None:
    told = done(run, "admin", "create", "ann")
    assert told.startswith("Account ann is created: owner of all tenants.\nPassword: ")
    password = told.rpartition("Password: ")[2].strip()
    assert signs_in(tmp_path, "ann", password)
    assert "administrator of all tenants" in done(run, "admin", "create", "bob")
    for shown in ("list", "show"):
        assert password not in done(run, "admin", shown, *(["ann"] if shown == "show" else []))
    assert password not in done(run, "audit-log", "--all-tenants", "--json")


def test_role_tenants_and_password_are_taken_as_given(run: Run, tmp_path: Path) -> None:
    done(run, "tenant", "create", "acme")
    (tmp_path / "password").write_bytes("grüne horse tractors\r\nnot this\n".encode())
    made = json.loads(
        done(run, "admin", "create", "ann", "--role", "auditor", "--tenant", "acme", "--tenant", "default",
             "--password-file", str(tmp_path / "password"), "--json")
    )  # fmt: skip
    assert (made["role"], made["tenants"], made["enabled"]) == ("auditor", ["acme", "default"], True)
    assert "password" not in made
    assert signs_in(tmp_path, "ann", "grüne horse tractors")
    again = json.loads(done(run, "admin", "passwd", "ann", "--json"))
    assert not signs_in(tmp_path, "ann", "grüne horse tractors")
    assert signs_in(tmp_path, "ann", again["password"])
    done(run, "admin", "passwd", "ann", "--password-file", "-", stdin=b"horse tractor moon\n")
    assert signs_in(tmp_path, "ann", "horse tractor moon")
    # Without a role, who is for one tenant is no owner, though there is none.
    assert json.loads(done(run, "admin", "create", "bob", "--tenant", "acme", "--json"))["role"] == "administrator"


def test_a_password_is_to_be_changed_unless_it_is_the_persons_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("grüne horse tractors\n")
    given = ("--password-file", str(tmp_path / "password"))

    def shown(name: str) -> tuple[bool, str]:
        told = json.loads(done(run, "admin", "show", name, "--json"))
        text = next(line for line in done(run, "admin", "show", name).splitlines() if line.startswith("password:"))
        assert (told["password_given_at"] is None) == (told["password_to_be_changed_by"] is None)
        return told["password_given_at"] is not None, text.removeprefix("password:").strip()

    said = run("admin", "create", "ann", *given)
    assert "to be changed at the first sign-in, by " in said.stderr
    to_be_changed, text = shown("ann")
    assert to_be_changed
    assert re.fullmatch(r"given on [-\d]+ [:\d]+, to be changed by [-\d]+ [:\d]+", text)
    own = run("admin", "passwd", "ann", *given, "--own")
    assert own.stderr == ""
    assert shown("ann") == (False, "own")
    done(run, "admin", "passwd", "ann")
    assert shown("ann")[0]
    done(run, "admin", "create", "bob", "--own")
    assert shown("bob") == (False, "own")
    table = done(run, "admin", "list")
    assert re.search(r"^ann .* to be changed by [-\d]+ ", table, re.MULTILINE)
    assert re.search(r"^bob .* own  ", table, re.MULTILINE)
    assert f"within {GIVEN_LASTS.days} days" in done(run, "admin", "create", "--help")


def test_accounts_are_listed_shown_changed_disabled_and_deleted(run: Run) -> None:
    assert done(run, "admin", "list") == "There is no account; make the first one with: sallyport admin create NAME\n"
    done(run, "admin", "create", "ann")
    done(run, "admin", "create", "bob")
    assert [one["name"] for one in json.loads(done(run, "admin", "list", "--json"))] == ["ann", "bob"]
    until = json.loads(done(run, "admin", "show", "bob", "--json"))["password_to_be_changed_by"]
    row = rf"bob   administrator  all tenants  enabled  to be changed by {until[:10]}  no             never"
    assert row in done(run, "admin", "list")
    assert "auditor of default" in done(run, "admin", "change", "bob", "--role", "auditor", "--tenant", "default")
    assert "auditor of all tenants" in done(run, "admin", "change", "bob", "--all-tenants")
    done(run, "admin", "disable", "bob")
    shown = json.loads(done(run, "admin", "show", "bob", "--json"))
    assert (shown["enabled"], shown["sessions"], shown["tokens"], shown["wrong_guesses"]) == (False, [], [], 0)
    assert "status:         disabled" in done(run, "admin", "show", "bob")
    done(run, "admin", "enable", "bob")
    done(run, "admin", "reset-totp", "bob")
    done(run, "admin", "delete", "bob")
    assert "there is no account 'bob'; see: sallyport admin list" in refused(run, "admin", "show", "bob")
    log = json.loads(done(run, "audit-log", "--all-tenants", "--json"))
    actions = [one["action"] for one in log if one["tenant"] is None]
    assert actions == [
        "admin.delete", "admin.reset_totp", "admin.enable", "admin.disable", "admin.change", "admin.change",
        "admin.create", "admin.create",
    ]  # fmt: skip
    assert "admin.delete" in done(run, "audit-log", "--all-tenants")


def test_what_cannot_be_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    done(run, "admin", "create", "ann")
    for arguments, why in (
        (["create", "ann"], "there is an account ann already"),
        (["create", "Ann"], "cannot name an account"),
        (["create", "bob", "--tenant", "nowhere"], "there is no tenant 'nowhere'"),
        (["delete", "ann"], "last enabled owner"),
        (["disable", "ann"], "last enabled owner"),
        (["change", "ann", "--role", "auditor"], "last enabled owner"),
        (["passwd", "bob"], "there is no account 'bob'"),
        (["reset-totp", "bob"], "there is no account 'bob'"),
    ):
        said = refused(run, "admin", *arguments)
        assert why in said
        assert said.count("\n") == 1
    (tmp_path / "short").write_text("short\n")
    (tmp_path / "latin").write_bytes("gr\xfcne horse tractors".encode("latin-1"))
    assert "too short" in refused(run, "admin", "create", "bob", "--password-file", str(tmp_path / "short"))
    for arguments, why in (
        (["create", "bob", "--role", "king"], "'king' is not one of"),
        (["create", "bob", "--password-file", str(tmp_path / "none")], "No such file"),
        (["create", "bob", "--password-file", str(tmp_path / "latin")], "no UTF-8"),
        (["change", "ann"], "nothing is to be changed"),
        (["change", "ann", "--all-tenants", "--tenant", "default"], "expected one of them"),
    ):
        assert why in refused(run, "admin", *arguments, status=2)


def test_a_tenant_named_in_the_wrong_place_gives_nothing_away(run: Run) -> None:
    for command in (["admin", "create", "ann"], ["admin", "list"], ["token", "create", "ci", "--account", "ann"]):
        said = refused(run, "--tenant", "default", *command, status=2)
        assert "--tenant before the command" in said
        assert "--if-generation before the command" in refused(run, "--if-generation", "3", *command, status=2)
    assert json.loads(done(run, "admin", "list", "--json")) == []


def test_a_token_alone_is_on_standard_output_and_lets_its_program_in(run: Run, tmp_path: Path) -> None:
    done(run, "admin", "create", "ann")
    made = run("token", "create", "ci", "--account", "ann", "--scope", "write", "--tenant", "default")
    assert made.exit_code == 0
    token = made.stdout.strip()
    assert token.startswith("spt_")
    assert "Token ci is created: write for default, expires: " in made.stderr
    with opened(tmp_path) as inst:
        found = api_tokens.authenticate(inst, token, NOW)
        assert found is not None
        assert (found.account, found.scope, found.tenants) == ("ann", "write", {"default"})
    (listed,) = json.loads(done(run, "token", "list", "--json"))
    assert (listed["name"], listed["status"], listed["used_at"] is None) == ("ci", "active", False)
    assert token not in json.dumps(listed)
    assert "ci" in done(run, "token", "list", "--account", "ann")
    done(run, "token", "revoke", "ci")
    assert done(run, "token", "list") == "There is no token.\n"
    with opened(tmp_path) as inst:
        assert api_tokens.authenticate(inst, token, NOW) is None


def test_a_token_ends_when_it_is_told_to_or_after_90_days(run: Run) -> None:
    done(run, "admin", "create", "ann")

    def made(name: str, *more: str) -> dict[str, str | None]:
        told = json.loads(done(run, "token", "create", name, "--account", "ann", "--json", *more))
        assert told["token"].startswith("spt_")
        assert told["scope"] == "read"
        return dict(told)

    assert made("a", "--expires", "2999-12-31")["expires_at"] == "2999-12-31T23:59:59Z"
    assert made("b", "--expires", "never")["expires_at"] is None
    assert made("c")["expires_at"] is not None
    assert "is past" in refused(run, "token", "create", "d", "--account", "ann", "--expires", "2020-01-01")
    assert "is no date" in refused(run, "token", "create", "d", "--account", "ann", "--expires", "soon", status=2)
    assert "there is no token 'd'" in refused(run, "token", "revoke", "d")
    assert "Missing option '--account'" in refused(run, "token", "create", "d", status=2)


def test_the_roles_of_the_command_are_those_of_the_use_case() -> None:
    from control.authorisation import Role

    assert list(admin.ROLES.choices) == list(Role)
    assert isinstance(accounts.STANDARD, Hashing)


def test_no_account_gets_a_breached_password(run: Run, config: Path, tmp_path: Path) -> None:
    listed = tmp_path / "breached.txt"
    write_list(listed, ["a very breached password", "another one of these"])
    config.write_text(config.read_text().replace("console: {", "console: {breached_passwords: breached.txt, "))
    given = tmp_path / "password"
    given.write_text("a very breached password\n")
    for command in ("create", "passwd"):
        told = refused(run, "admin", command, "ann", "--password-file", str(given))
        assert "the password is in the list of breached passwords" in told
        assert given.read_text().strip() not in told
        done(run, "admin", command, "ann")  # with one that is made here
    given.write_text("horse tractor moon\n")
    done(run, "admin", "passwd", "ann", "--password-file", str(given))
    listed.unlink()
    for command in (("create", "bob"), ("passwd", "ann"), ("passwd", "ann", "--password-file", str(given))):
        told = refused(run, "admin", *command)
        assert "the list of breached ones (console.breached_passwords) cannot be used" in told
        assert f"{listed}: No such file or directory; expected SHA-1 hashes" in told
    assert signs_in(tmp_path, "ann", "horse tractor moon")


def test_check_config_tells_of_a_list_of_breached_passwords_that_is_none(
    run: Run, config: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "breached.txt"
    config.write_text(config.read_text().replace("console: {", "console: {breached_passwords: breached.txt, "))
    told = refused(run, "check-config", status=2)
    assert f"{config}: console.breached_passwords: {listed}: No such file or directory" in told
    listed.write_text("password\n")
    (problem,) = json.loads(run("check-config", "--json").stdout)["problems"]
    assert problem["path"] == "console.breached_passwords"
    assert problem["message"].startswith(
        f"{listed}: what is at byte 0 is no such hash; expected SHA-1 hashes in upper-case"
    )
    write_list(listed, ["a very breached password"])
    assert json.loads(done(run, "check-config", "--json"))["settings"]["console"]["breached_passwords"] == str(listed)
