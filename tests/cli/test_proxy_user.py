from __future__ import annotations

import json
from pathlib import Path

from config.passwords import DECOY
from tests.cli.conftest import Run


def test_a_generated_password_is_shown_once(run: Run) -> None:
    added = run("proxy-user", "add", "alice")
    assert added.exit_code == 0, added.stderr
    said, shown = added.stdout.splitlines()
    assert said == "Tenant default: the proxy user alice is added."
    password = shown.removeprefix("Its password, which is not shown again: ")
    assert len(password) == 24
    other = json.loads(run("--json", "proxy-user", "passwd", "alice").stdout)
    assert other["name"] == "alice"
    assert other["password"] != password
    for told in (run("proxy-user", "list"), run("proxy-user", "list", "--json"), run("audit-log", "--json")):
        assert "alice" in told.stdout
        assert password not in told.stdout
        assert other["password"] not in told.stdout
        assert "$argon2" not in told.stdout


def test_a_password_comes_from_a_file_and_is_not_repeated(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("from a file\nand not this\n")
    added = json.loads(run("proxy-user", "add", "bob", "--password-file", str(path), "--json").stdout)
    assert set(added) == {"name", "created_at", "changed_at", "changed_by"}
    done = run("proxy-user", "add", "carol", "--password-file", "-", stdin="short\n")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "too short" in done.stderr
    assert run("proxy-user", "add", "carol", "--password-file", "-", stdin=b"\xff\xff\xff\xff").exit_code == 2
    assert run("proxy-user", "delete", "bob").stdout == "Tenant default: the proxy user bob is deleted.\n"
    assert run("proxy-user", "list").stdout == "Tenant default has no proxy user.\n"


def test_check_config_tells_what_is_wrong_with_listeners_of_several_tenants(
    run: Run, config: Path, tmp_path: Path
) -> None:
    users = tmp_path / "users.htpasswd"
    users.write_text(f"alice:{DECOY}\nbob:$apr1$abcdefgh$abcdefghijklmnopqrstuv\n")

    def told(listener: str) -> str:
        config.write_text(
            f"state_dir: state\nlisteners: [{{name: shared, bind: '127.0.0.1:0', {listener}}}]\n"
            "metrics: {enabled: false}\n"
        )
        done = run("check-config")
        return "" if done.exit_code == 0 else done.stderr

    shared = "authentication: {tenants: [default, acme], htpasswd: %s}"
    assert "users.htpasswd:2: a hash by MD5 (apr1)" in told(shared % "[{file: users.htpasswd, tenant: acme}]")
    users.write_text(f"alice:{DECOY}\n")
    assert told(shared % "[{file: users.htpasswd, tenant: acme}]") == ""
    assert "whose users are in users.htpasswd" in told(shared % "[users.htpasswd]")
    assert told("authentication: {tenants: [default], htpasswd: [users.htpasswd]}") == ""
    assert "none of tenants" in told(shared % "[{file: users.htpasswd, tenant: other}]")
    assert "No such file" in told(shared % "[{file: none, tenant: acme}]")
    assert "no connection could belong to a tenant" in told("tenant: null")
    assert "mode transparent have no credentials" in told("mode: transparent, authentication: {tenants: [default]}")
    assert "10.0.0.0/8 has two tenants" in told(
        "networks: [{network: 10.0.0.0/8, tenant: a}, {network: 10.0.0.0/8, tenant: b}]"
    )
    assert "did you mean tenants?" in told("authentication: {tennants: [default]}")
    assert "without quotes" in told("authentication: {tenants: [default], realm: 'a\"b'}")
