from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.preflight import is_fresh, missing_tenants, problems
from cli.serve import curl_command, greeting, shown
from config.settings import Console, ConsoleTls, Listener, Onboarding, Settings


def settings(state_dir: Path, *listeners: Listener) -> Settings:
    listeners = listeners or (Listener(name="a", bind="127.0.0.1:0"),)
    # On a port that nobody has: the fixed one may be a daemon's.
    return Settings(state_dir=state_dir, listeners=listeners, console=Console(bind="127.0.0.1:0"))


def test_the_greeting_says_where_and_gives_a_curl_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "var" / "certs" / "default-root.pem"
    listener = Listener(name="explicit", bind="127.0.0.1:0")
    lines = greeting(settings(tmp_path, listener), [(listener, "127.0.0.1:4711")], {"default": root})
    assert lines[0] == "Sallyport listens on http://127.0.0.1:4711  (listener explicit, tenant default)"
    assert "Root certificate: var/certs/default-root.pem" in lines
    command = "curl --proxy http://127.0.0.1:4711 --cacert var/certs/default-root.pem https://example.com/"
    assert lines[-1].strip() == command
    assert not any("console" in line.lower() for line in lines)
    assert "For devices, through the proxy: http://sallyport.local/" in lines


def test_the_greeting_names_no_page_where_there_is_none(tmp_path: Path) -> None:
    listener = Listener(name="explicit", bind="127.0.0.1:0")
    without = settings(tmp_path, listener).model_copy(update={"onboarding": Onboarding(enabled=False)})
    assert "sallyport.local" not in "".join(greeting(without, [(listener, "127.0.0.1:1")], {"default": tmp_path}))


def test_the_greeting_has_the_console_and_the_link_where_there_is_one(tmp_path: Path) -> None:
    listener = Listener(name="explicit", bind="127.0.0.1:0")
    more = [(listener, "127.0.0.1:4711")], {"default": tmp_path / "r.pem"}, None, "127.0.0.1:9443"
    lines = greeting(settings(tmp_path, listener), *more)
    assert "Console and REST API: https://127.0.0.1:9443/" in lines
    assert not any("/setup/" in line for line in lines)
    lines = greeting(settings(tmp_path, listener), *more, "spl_x")
    assert "Make the first account (works once, for a day): https://127.0.0.1:9443/setup/spl_x" in lines


def test_two_tenants_are_told_apart(tmp_path: Path) -> None:
    one = Listener(name="one", bind="127.0.0.1:0")
    two = Listener(name="two", bind="127.0.0.1:0", tenant="acme")
    roots = {"default": tmp_path / "d.pem", "acme": tmp_path / "a.pem"}
    lines = greeting(settings(tmp_path, one, two), [(one, "127.0.0.1:1"), (two, "127.0.0.1:2")], roots)
    assert f"Root certificate of tenant acme: {tmp_path / 'a.pem'}" in lines
    assert lines[1].endswith("(listener two, tenant acme)")


@pytest.mark.parametrize(
    ("address", "reached"),
    [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("[2001:db8::1]:80", "[2001:db8::1]:80")],
)
def test_the_curl_command_reaches_a_wildcard_address(address: str, reached: str) -> None:
    assert f"--proxy http://{reached} " in curl_command(address, Path("/r.pem"))


def test_a_path_with_a_space_is_quoted() -> None:
    assert "--cacert '/a b/r.pem'" in curl_command("127.0.0.1:1", Path("/a b/r.pem"))


def test_a_path_elsewhere_is_shown_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert shown(tmp_path / "here" / "x") == "x"
    assert shown(tmp_path / "x") == str(tmp_path.resolve() / "x")


def test_a_folder_without_anything_is_fresh_and_one_with_something_is_not(tmp_path: Path) -> None:
    assert is_fresh(tmp_path / "none")
    (tmp_path / "state").mkdir()
    assert is_fresh(tmp_path / "state")
    (tmp_path / "state" / "x").touch()
    assert not is_fresh(tmp_path / "state")
    assert not is_fresh(tmp_path / "state" / "x")


def test_a_listener_of_no_tenant_is_named_with_what_to_do(tmp_path: Path) -> None:
    two = Listener(name="two", bind="127.0.0.1:0", tenant="acme")
    found = missing_tenants(settings(tmp_path, Listener(name="one", bind="127.0.0.1:0"), two), ["default"])
    assert found == [
        "listeners[1]: there is no tenant acme; create it with: sallyport tenant create acme",
    ]
    console = Console(tenant="beta")
    found_more = missing_tenants(settings(tmp_path).model_copy(update={"console": console}), ["default"])
    assert found_more == ["console.tenant: there is no tenant beta; create it with: sallyport tenant create beta"]
    given = Console(tenant="beta", tls=ConsoleTls(certificate="/c.pem", key="/k.pem"))
    assert missing_tenants(settings(tmp_path).model_copy(update={"console": given}), ["default"]) == []
    assert problems(settings(tmp_path / "none", two)) == [found[0].replace("[1]", "[0]")]


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user takes root")
def test_a_start_that_looks_for_problems_stays_who_it_is(tmp_path: Path) -> None:
    """Files that another user's processes will read are read as that user, in a process apart."""
    asked = """
import os, sys
import os
import subprocess
import sys
from pathlib import Path
from cli.preflight import problems
from config.settings import Console, Settings
from proxy.privileges import Account
nobody = Account("nobody", 65534, 65534, (65534,))
off = {"listeners": ({"name": "a", "bind": "127.0.0.1:0"},), "metrics": {"enabled": False}, "state_dir": sys.argv[1]}
closed = sys.argv[2]
for console in (
    {"bind": "127.0.0.1:0"},
    {"tls": {"certificate": closed, "key": closed}},
    {"bind": "127.0.0.1:0", "breached_passwords": closed},
):
    print(problems(Settings.model_validate(off | {"console": console}), nobody), os.geteuid())
"""
    closed = tmp_path / "closed.pem"
    closed.touch(0o600)
    command = [sys.executable, "-c", asked, str(tmp_path), str(closed)]
    none, tls, breached = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    assert (none, tls) == ("[] 0", f"['console.tls.certificate: {closed}: Permission denied'] 0")
    assert breached.startswith(f"['console.breached_passwords: {closed}: Permission denied; expected SHA-1 hashes")
    assert breached.endswith("] 0")
