"""``--dry-run``, and which hosts use a trusted CA, on an installation in which servers were seen."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import click.testing
import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from cli import clock, dry_run
from store import recent_servers, tenants
from store.engine import DATABASE_FILE, Store
from store.records import RecentServer
from tests.cli.conftest import Run
from tests.harness.pki import Authority

GUESTS = ("first.example", "second.example")


@pytest.fixture
def seen(config: Path, run: Run, company: tuple[Authority, Authority]) -> Path:
    """Two hosts below the company's CA, and one of which nothing was kept, seen a minute ago; the database."""
    run("tenant", "list")
    root, issuing = company
    at = clock.now() - timedelta(minutes=1)
    servers = [
        RecentServer(
            host, 443, at, True, root.certificate.fingerprint(SHA256()), ("incomplete_chain",), "block",
            (issuing.leaf(host).raw, issuing.raw),
        )
        for host in GUESTS
    ]  # fmt: skip
    servers.append(RecentServer("large.example", 8443, at, True, None, ("malformed",), "block"))
    database = config.parent / "state" / DATABASE_FILE
    with Store.open(database, create=False) as store, store.transaction() as c:
        tenant = tenants.by_name(c, "default")
        assert tenant is not None
        recent_servers.add(c, tenant.id, servers)
    return database


def state(run: Run) -> tuple[str, ...]:
    """What a change would be seen by."""
    asked = (("tenant", "show", "default"), ("audit-log",), ("trusted-ca", "list"), ("errors", "show"))
    return tuple(run(*command, "--json").stdout for command in (*asked, ("errors", "exceptions")))


def lines(result: click.testing.Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_a_ca_that_is_to_be_added_is_tried_and_nothing_is_saved(seen: Path, run: Run, bundle: Path) -> None:
    before = state(run)
    told = lines(run("trusted-ca", "add", "company", str(bundle), "--dry-run"))
    assert told[:3] == [
        "Nothing is saved.",
        "Of 3 servers that were judged in the last 24 hours, 2 would be judged otherwise (block to allow: 2).",
        "HOST PORT LAST SEEN AS IT IS AS IT WOULD BE",
    ]
    for host, line in zip(GUESTS, told[3:5], strict=True):
        assert line.startswith(f"{host} 443 20")
        assert line.endswith("incomplete_chain: block no defect: allow")
    assert told[5:] == [
        "It could not be tried on 1 of them:",
        "HOST PORT WHY",
        "large.example 8443 what it showed was not kept: it was too large, or cannot be read",
    ]
    assert state(run) == before


def test_as_json(seen: Path, run: Run, bundle: Path) -> None:
    before = state(run)
    result = run("trusted-ca", "add", "company", str(bundle), "--host", "first.example", "--dry-run", "--json")
    said = json.loads(result.stdout)
    (one,) = said.pop("differing")
    assert one.pop("last_at").endswith("Z")
    assert one == {
        "host": "first.example", "port": 443, "before": {"defects": ["incomplete_chain"], "action": "block"},
        "after": {"defects": [], "action": "allow"},
    }  # fmt: skip
    (untried,) = said.pop("not_tried")
    assert (untried["host"], untried["port"]) == ("large.example", 8443)
    assert said == {"dry_run": True, "servers": 3, "remarks": []}
    assert state(run) == before


CHANGES = {
    "deactivate": (("trusted-ca", "deactivate", "company"), 2),
    "delete": (("trusted-ca", "delete", "company"), 2),
    "limit": (("trusted-ca", "limit", "company", "first.example"), 1),
    "activate": (("trusted-ca", "activate", "company"), 0),
    "set": (("errors", "set", "untrusted", "allow"), 0),
    "unset": (("errors", "unset", "untrusted"), 0),
    "except": (("errors", "except", "first.example", "--defect", "expired", "--action", "warn", "--reason", "x"), 0),
    "unexcept": (("errors", "unexcept", "1"), 0),
}


@pytest.mark.parametrize(("command", "differing"), CHANGES.values(), ids=CHANGES)
def test_every_command_that_changes_verdicts_can_be_tried(
    seen: Path, run: Run, bundle: Path, command: tuple[str, ...], differing: int
) -> None:
    assert run("trusted-ca", "add", "company", str(bundle)).exit_code == 0
    made = ("errors", "except", "b.example", "--defect", "expired", "--action", "allow", "--reason", "x")
    assert run(*made).exit_code == 0
    before = state(run)
    result = run(*command, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["differing"]) == differing
    assert lines(run(*command, "--dry-run"))[0] == "Nothing is saved."
    assert state(run) == before
    # Without it the change is made, and told as JSON where that is wanted.
    done = run(*command, "--json")
    assert done.exit_code == 0, done.output
    assert isinstance(json.loads(done.stdout), dict)


def test_what_is_refused_is_refused(seen: Path, run: Run, bundle: Path, company: tuple[Authority, Authority]) -> None:
    assert run("trusted-ca", "add", "company", str(bundle)).exit_code == 0
    before = state(run)
    for command in (
        ("trusted-ca", "add", "company", str(bundle)),
        ("trusted-ca", "delete", "nobody"),
        ("errors", "set", "own_ca", "allow"),
        ("errors", "unexcept", "7"),
    ):
        result = run(*command, "--dry-run")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: ")
    assert state(run) == before


def test_where_no_server_was_seen_that_is_said(run: Run, config: Path) -> None:
    said = lines(run("errors", "set", "expired", "allow", "--dry-run"))
    assert said[1] == "No server is known that was judged in the last 24 hours, so there is nothing to try it on."
    config.write_text(config.read_text() + "verification: {remember_servers: false}\n")
    result = run("errors", "set", "expired", "allow", "--dry-run")
    assert result.stderr == "Note: verification.remember_servers is off, so no server is known to try it on.\n"


def test_a_table_for_people_ends_somewhere(seen: Path, run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "MOST_SHOWN", 1)
    told = lines(run("trusted-ca", "add", "company", str(bundle), "--dry-run"))
    assert told[3].startswith("first.example ")
    assert told[4] == "... and 1 more; --json has them all"


# --- used by


def test_list_and_show_tell_how_many_hosts_a_ca_vouched_for(seen: Path, run: Run, bundle: Path, config: Path) -> None:
    assert run("trusted-ca", "add", "company", str(bundle)).exit_code == 0
    heading, row = lines(run("trusted-ca", "list"))
    assert "USED BY (24 H)" in heading
    assert row.startswith("company active Company Root all hosts 20")
    assert row.endswith(" 2 hosts")
    assert "used by: 2 hosts in the last 24 hours" in lines(run("trusted-ca", "show", "company"))
    (listed,) = json.loads(run("trusted-ca", "list", "--json").stdout)
    assert listed["used_by_hosts"] == 2
    shown = json.loads(run("trusted-ca", "show", "company", "--json").stdout)
    assert (shown["used_by_hosts"], shown["first_hosts"]) == (2, list(GUESTS))
    config.write_text(config.read_text() + "verification: {remember_servers: false}\n")
    assert json.loads(run("trusted-ca", "show", "company", "--json").stdout)["used_by_hosts"] is None
    assert "used by: not known: verification.remember_servers is off" in lines(run("trusted-ca", "show", "company"))
    assert lines(run("trusted-ca", "list"))[1].endswith(" -")
