"""What commands say of a CA that is near its end or behind it, or whose key does not open, at a time that is given."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli import clock
from control.shown import expiry
from tests.cli.conftest import Run
from tests.harness.pki import DAY, NOW, Authority

START = NOW - 90 * DAY


def day(moment: timedelta) -> str:
    return f"{NOW + moment:%Y-%m-%d}"


def row(run: Run, noun: str, name: str) -> str:
    """The row of that name in a listing."""
    lines = run(noun, "list").stdout.splitlines()
    return next(line for line in lines if line.startswith(f"{name} "))


def listed(run: Run, noun: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in json.loads(run(noun, "list", "--json").stdout) if one["name"] == name]
    assert {key: found[key] for key in found if key != "certificates"} == {
        key: value
        for key, value in json.loads(run(noun, "show", name, "--json").stdout).items()
        if key not in ("certificates", "key_manager")  # where a key is, one alone tells
    }
    return dict(found)


@pytest.mark.parametrize(
    ("begins", "ends", "text", "state"),
    [
        (START, NOW + 90 * DAY, day(90 * DAY), "fine"),
        (START, NOW + 5 * DAY, f"{day(5 * DAY)} (5 days left)", "near_end"),
        (START, NOW - 6 * DAY, f"{day(-6 * DAY)} (expired 6 days ago)", "expired"),
        (NOW + 2 * DAY, NOW + 90 * DAY, f"{day(90 * DAY)} (begins in 2 days)", "not_yet_valid"),
    ],
)
def test_beside_the_date_stands_what_matters(begins: Any, ends: Any, text: str, state: str) -> None:
    chain = [Authority.root("Root", not_before=begins, not_after=ends).certificate]
    assert expiry.shown(chain, NOW) == text
    assert expiry.as_object(chain, NOW) == {"not_after": f"{ends:%Y-%m-%dT%H:%M:%SZ}", "expiry": state}


def test_a_trusted_ca_ends_with_its_anchor(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Authority.root("Company Root", not_before=START, not_after=NOW + 30 * DAY)
    issuing = root.intermediate("Company Issuing", not_before=START, not_after=NOW + 5 * DAY)
    file = tmp_path / "company.pem"
    file.write_bytes(issuing.pem() + root.pem())
    added = run("trusted-ca", "add", "company", str(file))
    assert (added.exit_code, added.stderr) == (0, "")
    assert f"{day(30 * DAY)}  " in row(run, "trusted-ca", "company")

    for after, text, state in ((25 * DAY, "4 days left", "near_end"), (33 * DAY, "expired 3 days ago", "expired")):
        monkeypatch.setattr(clock, "now", lambda after=after: NOW + after + timedelta(hours=1))
        assert f"{day(30 * DAY)} ({text})" in row(run, "trusted-ca", "company")
        assert f"expires:      {day(30 * DAY)} ({text})\n" in run("trusted-ca", "show", "company").stdout
        told = listed(run, "trusted-ca", "company")
        assert (told["not_after"], told["expiry"]) == (f"{NOW + 30 * DAY:%Y-%m-%dT%H:%M:%SZ}", state)


def test_an_anchor_near_its_end_is_warned_of_when_it_is_validated_and_added(run: Run) -> None:
    old = Authority.root("Old Root", not_before=START, not_after=NOW + 5 * DAY).pem()
    for args in (("validate", "-"), ("add", "old", "-")):
        done = run("trusted-ca", *args, stdin=old)
        assert done.exit_code == 0
        assert done.stderr.startswith("Warning: certificate 1 (Old Root) ends on ")
    told = json.loads(run("trusted-ca", "validate", "-", "--json", stdin=Authority.root().pem() + old).stdout)
    assert "near_end" not in [one["code"] for one in told["findings"]]  # two roots: there is no anchor


def test_a_signing_ca_ends_with_the_first_of_its_chain(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Authority.root("Their Root", not_before=START, not_after=NOW + 30 * DAY)
    issuing = root.intermediate("Their Issuing", not_after=NOW + 400 * DAY)
    (tmp_path / "ca.pem").write_bytes(issuing.chain_pem(with_root=True))
    (tmp_path / "ca.key").write_bytes(issuing.key_pem())
    imported = run("signing-ca", "import", "theirs", "--cert", str(tmp_path / "ca.pem"), "--key",
                   str(tmp_path / "ca.key"), "--activate")  # fmt: skip
    assert imported.exit_code == 0, imported.stderr
    assert f"  {day(30 * DAY)}  " in row(run, "signing-ca", "theirs")
    assert listed(run, "signing-ca", "theirs")["expiry"] == "fine"
    assert f"theirs, expires {day(30 * DAY)}\n" in run("tenant", "show", "default").stdout

    for after, text, state in ((25 * DAY, "4 days left", "near_end"), (33 * DAY, "expired 3 days ago", "expired")):
        monkeypatch.setattr(clock, "now", lambda after=after: NOW + after + timedelta(hours=1))
        assert f"  {day(30 * DAY)} ({text})  " in row(run, "signing-ca", "theirs")
        assert f"expires:      {day(30 * DAY)} ({text})\n" in run("signing-ca", "show", "theirs").stdout
        assert f"theirs, expires {day(30 * DAY)} ({text})\n" in run("tenant", "show", "default").stdout
        told, tenant = (
            listed(run, "signing-ca", "theirs"),
            json.loads(run("tenant", "show", "default", "--json").stdout),
        )
        stamp = f"{NOW + 30 * DAY:%Y-%m-%dT%H:%M:%SZ}"
        assert (told["not_after"], told["expiry"]) == (stamp, state)
        assert (tenant["signing_ca_not_after"], tenant["signing_ca_expiry"]) == (stamp, state)


def test_a_request_ends_never(run: Run) -> None:
    run("signing-ca", "csr", "gateway", "--common-name", "Gateway CA")
    told = listed(run, "signing-ca", "gateway")
    assert (told["not_after"], told["expiry"], told["key_problem"]) == (None, None, None)
    assert "expires" not in run("signing-ca", "show", "gateway").stdout


def test_a_key_that_does_not_open_is_said_wherever_its_ca_is_shown(run: Run, tmp_path: Path) -> None:
    run("tenant", "list")
    with closing(sqlite3.connect(tmp_path / "state" / "sallyport.db", isolation_level=None)) as database:
        database.execute("UPDATE signing_cas SET sealed_key = x'00'")
    assert "active (key unusable)" in row(run, "signing-ca", "built-in")
    assert "problem:      its key cannot be used: " in run("signing-ca", "show", "built-in").stdout
    assert "problem:           its key cannot be used: " in run("tenant", "show", "default").stdout
    assert listed(run, "signing-ca", "built-in")["key_problem"].startswith("its key cannot be used: ")
    tenant = json.loads(run("tenant", "show", "default", "--json").stdout)
    assert tenant["signing_ca_key_problem"].startswith("its key cannot be used: ")
