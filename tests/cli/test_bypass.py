from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli import clock
from tests.cli.conftest import Run
from tests.harness.pki import NOW


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The time of the commands, which a test may set."""
    times = [NOW]
    monkeypatch.setattr(clock, "now", lambda: times[0])
    return times


def refused(run: Run, *args: str, status: int = 1) -> str:
    done = run("bypass", *args)
    assert (done.exit_code, done.stdout) == (status, ""), done.output
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_rules_are_added_listed_and_removed(run: Run) -> None:
    assert run("bypass", "list").stdout == "Tenant default has no bypass rule of its own.\n"
    assert json.loads(run("bypass", "list", "--json").stdout) == []
    added = run(
        "bypass", "add", ".Bank.example", "192.0.2.0/24", "--reason", "pins its keys", "--expires", "2999-12-31"
    )
    assert added.exit_code == 0, added.stderr
    assert added.stdout == (
        "Tenant default: .bank.example is not decrypted, from the next connection on, until 2999-12-31 23:59 UTC.\n"
        "Tenant default: 192.0.2.0/24 is not decrypted, from the next connection on, until 2999-12-31 23:59 UTC.\n"
    )
    assert run("bypass", "add", "one.example").stdout == (
        "Tenant default: one.example is not decrypted, from the next connection on.\n"
    )
    heading, *rows = run("bypass", "list").stdout.splitlines()
    assert heading.split() == ["PATTERN", "STATUS", "EXPIRES", "ADDED", "REASON"]
    assert [row.split()[:3] for row in rows] == [
        [".bank.example", "active", "2999-12-31"], ["192.0.2.0/24", "active", "2999-12-31"],
        ["one.example", "active", "never"],
    ]  # fmt: skip
    assert rows[0].endswith("pins its keys")
    bank, _, one = json.loads(run("--json", "bypass", "list").stdout)
    assert {name: bank[name] for name in ("pattern", "status", "reason", "expires_at", "file")} == {
        "pattern": ".bank.example", "status": "active", "reason": "pins its keys",
        "expires_at": "2999-12-31T23:59:59Z", "file": None,
    }  # fmt: skip
    assert (one["reason"], one["expires_at"]) == (None, None)
    removed = run("bypass", "remove", "ONE.example", ".bank.example")
    assert "the bypass rule one.example is removed" in removed.stdout
    assert [one["pattern"] for one in json.loads(run("bypass", "list", "--json").stdout)] == ["192.0.2.0/24"]
    assert "no bypass rule one.example; it was removed by" in refused(run, "remove", "one.example")
    assert "bypass.remove" in run("audit-log").stdout


def test_a_rule_that_has_expired_is_shown_as_such(run: Run, now: list[datetime]) -> None:
    assert run("bypass", "add", "a.example", "--expires", "2999-12-31T18:30").exit_code == 0
    now[0] = datetime(2999, 12, 31, 18, 29, tzinfo=UTC)
    assert json.loads(run("bypass", "list", "--json").stdout)[0]["status"] == "active"
    now[0] = datetime(2999, 12, 31, 18, 30, tzinfo=UTC)
    assert json.loads(run("bypass", "list", "--json").stdout)[0]["status"] == "expired"
    assert run("bypass", "list").stdout.splitlines()[1].split()[:2] == ["a.example", "expired"]


@pytest.mark.parametrize(
    ("text", "expires_at"),
    [
        ("2999-12-31", "2999-12-31T23:59:59Z"),
        ("2999-12-31T18:30", "2999-12-31T18:30:00Z"),
        ("2999-12-31T18:30:05Z", "2999-12-31T18:30:05Z"),
        ("2999-12-31T18:30+02:00", "2999-12-31T16:30:00Z"),
    ],
)
def test_an_end_is_a_date_or_a_moment(run: Run, text: str, expires_at: str) -> None:
    told = json.loads(run("bypass", "add", "a.example", "--expires", text, "--json").stdout)
    assert told[0]["expires_at"] == expires_at


@pytest.mark.parametrize("text", ["", "tomorrow", "31.12.2999", "2999-13-01", "9999-12-31T23:59-23:00"])
def test_an_end_that_is_no_date_is_two(run: Run, text: str) -> None:
    assert "is no date; expected one like 2027-01-31" in refused(run, "add", "a.example", "--expires", text, status=2)


def test_an_end_that_is_past_and_what_is_no_rule_are_one(run: Run) -> None:
    assert "is past" in refused(run, "add", "a.example", "--expires", "2020-01-01")
    assert "'*' is no bypass rule: * would leave nothing decrypted" in refused(run, "add", "*")
    assert run("bypass", "add").exit_code == 2


def test_list_files_are_listed_with_how_much_they_hold(run: Run, config: Path, tmp_path: Path) -> None:
    (tmp_path / "banks.txt").write_text("a.example\n# b.example\n*.c.example\n")
    (tmp_path / "one.txt").write_text("a.example\n")
    (tmp_path / "bad.txt").write_text("a.example\n\n*\n")
    config.write_text(config.read_text() + "bypass: {files: [banks.txt, one.txt, bad.txt]}\n")
    run("bypass", "add", "own.example")
    told = run("bypass", "list").stdout.splitlines()
    assert told[2] == f"List file {tmp_path}/banks.txt: 2 rules"
    assert told[3] == f"List file {tmp_path}/one.txt: 1 rule"
    assert told[4].startswith(f"List file {tmp_path}/bad.txt: {tmp_path}/bad.txt:3: * would leave nothing decrypted")
    own, banks, _, bad = json.loads(run("bypass", "list", "--json").stdout)
    assert own.keys() == banks.keys()
    assert (own["pattern"], own["rules"], own["file"]) == ("own.example", 1, None)
    assert (banks["pattern"], banks["rules"], banks["file"]) == (None, 2, f"{tmp_path}/banks.txt")
    assert (bad["status"], bad["rules"]) == ("unusable", 0)

    checked = run("check-config")
    assert checked.exit_code == 2
    assert f"bypass.files: {tmp_path}/bad.txt:3: * would leave nothing decrypted" in checked.stderr
    told = json.loads(run("check-config", "--json").stdout)
    assert [one["path"] for one in told["problems"]] == ["bypass.files"]
    (tmp_path / "bad.txt").write_text("")
    assert run("check-config").exit_code == 0
