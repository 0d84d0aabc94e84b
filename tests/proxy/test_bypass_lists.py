"""List files in a worker: read at its start, followed, and never half used."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certs.bypass import BypassRules, Matched
from certs.names import parse_host
from config import list_files
from config.settings import BypassList
from proxy import bypass_lists
from proxy.bypass_lists import BypassLists, matching, problems_of
from proxy.log import Log
from tests.harness.pki import DAY, NOW

A, B = parse_host("a.example"), parse_host("b.example")


class Following:
    """Two lists: the first for everybody, the second for the tenant ``other``."""

    def __init__(self, folder: Path, log: Log) -> None:
        self.first, self.second = folder / "first.txt", folder / "second.txt"
        self.first.write_text("a.example\n")
        self.second.write_text("b.example\n")
        self._log = folder / "log"
        self.entries = [BypassList(file=str(self.first)), BypassList(file=str(self.second), tenants=("other",))]
        self.lists = BypassLists(self.entries, log)

    def look(self, times: int = 2) -> None:
        """A change counts when it looks the same twice."""
        for _ in range(times):
            asyncio.run(self.lists.look())

    def rule(self, host: str, tenant: str = "default") -> str | None:
        found = self.lists.match(tenant, parse_host(host))
        return None if found is None else found.rule

    def said(self, event: str) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [entry for entry in entries if entry["event"] == event]


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Following]:
    with (tmp_path / "log").open("wb") as file:
        made = Following(tmp_path, Log(file.fileno(), "info", "test", lambda: 0.0))
        made.lists.load()
        yield made


def test_a_list_counts_for_the_tenants_that_it_is_for(following: Following) -> None:
    assert following.lists.match("default", A) == Matched("a.example", str(following.first))
    assert following.lists.match("other", B) == Matched("b.example", str(following.second))
    assert following.lists.match("default", B) is None
    assert [(entry["file"], entry["rules"]) for entry in following.said("bypass list read")] == [
        (str(following.first), 1), (str(following.second), 1),
    ]  # fmt: skip


def test_a_change_counts_once_the_file_rests(following: Following) -> None:
    following.look()
    following.first.write_text("128.0.0.0/1")  # the beginning of 128.0.0.0/16
    following.look(1)
    assert following.rule("a.example") == "a.example"
    following.first.write_text("128.0.0.0/16\nc.example\n")
    following.look(1)
    assert following.rule("a.example") == "a.example"
    following.look(1)
    assert [following.rule(host) for host in ("a.example", "c.example", "128.1.0.0")] == [None, "c.example", None]
    assert following.said("bypass list read")[-1]["rules"] == 2
    count = len(following.said("bypass list read"))
    following.look(3)
    assert len(following.said("bypass list read")) == count


def test_a_file_that_another_took_the_place_of_is_read(following: Following, tmp_path: Path) -> None:
    (tmp_path / "next").write_text("c.example\n")
    (tmp_path / "next").rename(following.first)
    following.look()
    assert [following.rule(host) for host in ("a.example", "c.example")] == [None, "c.example"]


@pytest.mark.parametrize("how", ["bad line", "gone", "folder", "too large"])
def test_a_file_that_cannot_be_used_leaves_what_was_read_in_force_and_is_said_once(
    following: Following, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    match how:
        case "bad line":
            following.first.write_text("c.example\n*\n")
        case "gone":
            following.first.unlink()
        case "folder":
            following.first.unlink()
            following.first.mkdir()
        case _:
            following.first.write_text("c.example\n" * 10)
            monkeypatch.setattr(list_files, "LARGEST_LIST", 50)
    following.look(5)
    assert (following.rule("a.example"), following.rule("c.example")) == ("a.example", None)
    (said,) = following.said("bypass list not used")
    assert (said["level"], said["file"]) == ("error", str(following.first))
    assert said["effect"] == "what was read of it before stays in force"
    assert str(following.first) in said["reason"]
    if how == "bad line":
        assert said["reason"].startswith(f"{following.first}:2: * would leave nothing decrypted")
    monkeypatch.undo()
    if how == "folder":
        following.first.rmdir()
    following.first.write_text("d.example\n")
    following.look()
    assert (following.rule("a.example"), following.rule("d.example")) == (None, "d.example")
    assert len(following.said("bypass list not used")) == 1


def test_a_worker_that_starts_with_a_bad_file_has_none_of_its_rules_and_the_others(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        following = Following(tmp_path, Log(file.fileno(), "info", "test", lambda: 0.0))
        following.first.write_text("a.example\n*\n")
        following.lists.load()
    assert following.rule("a.example") is None
    assert following.rule("b.example", "other") == "b.example"
    (said,) = following.said("bypass list not used")
    assert said["effect"] == "none of its rules counts"
    assert [line.partition(": ")[0] for line in problems_of(following.entries)] == [f"{following.first}:2"]


def test_asked_for_all_are_read_at_once_and_whether_all_can_be_used_is_told(following: Following) -> None:
    following.first.write_text("c.example\n")
    assert asyncio.run(following.lists.reread())
    assert following.rule("c.example") == "c.example"
    following.first.write_text("*\n")
    following.second.write_text("d.example\n")
    assert not asyncio.run(following.lists.reread())
    assert following.rule("c.example") == "c.example"
    assert following.rule("d.example", "other") == "d.example"


def test_a_file_that_is_written_to_while_it_is_read_is_looked_at_again(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    following.look()
    os.utime(following.first, ns=(1, 1))
    real = list_files.read

    def busy(path: str) -> tuple[bytes, list_files.Look]:
        if path == str(following.first):
            raise list_files.ListFileBusyError(f"{path} was changed while it was read")
        return real(path)

    monkeypatch.setattr(bypass_lists, "read", busy)
    following.look(4)
    assert following.said("bypass list not used") == []
    following.first.write_text("c.example\n")
    monkeypatch.undo()
    following.look()
    assert following.rule("c.example") == "c.example"
    monkeypatch.setattr(bypass_lists, "read", busy)
    assert not asyncio.run(following.lists.reread())
    assert "was changed while it was read" in following.said("bypass list not used")[0]["reason"]


def test_a_tenants_own_rules_come_before_the_lists_and_end_by_themselves(following: Following) -> None:
    own = BypassRules({".a.example": NOW + DAY})

    def matched(days: int, *hosts: str) -> Matched | None:
        clock = NOW + days * DAY
        return matching(own, following.lists, "default", [parse_host(host) for host in hosts], lambda: clock)

    assert matched(0, "a.example") == Matched(".a.example")
    assert matched(1, "a.example") == Matched("a.example", str(following.first))
    assert matched(0, "192.0.2.1", "www.a.example") == Matched(".a.example")
    assert matched(1, "192.0.2.1", "www.a.example") is None
    assert matched(0) is None
