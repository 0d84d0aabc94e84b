"""The log: whole lines of JSON, gathered, never waited for, and what is lost is said."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy import log as module
from proxy.lanes.exchange import Exchange
from proxy.log import DEBUG, INFO, MAX_LINE, WARNING, Log, members, open_log_file


class Later:
    """A loop's ``call_later`` that a test lets happen."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def __call__(self, seconds: float, work: Callable[[], None]) -> None:
        assert seconds == module.GATHER_SECONDS
        self.due.append(work)

    def happen(self) -> None:
        due, self.due = self.due, []
        for work in due:
            work()


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def open_log(path: Path, level: str = "info") -> Log:
    return Log(open_log_file(str(path)), level, "worker 1", lambda: 12.3456)


def test_a_file_is_made_for_its_user_alone_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(2):
        open_log(path).event(INFO, "started", pid=7, nothing=None, empty="")
    assert path.stat().st_mode & 0o777 == 0o600
    assert lines(path) == [{"time": 12.346, "level": "info", "event": "started", "from": "worker 1", "pid": 7}] * 2


def test_what_is_below_the_level_is_not_written(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log", "info")
    log.event(DEBUG, "connection")
    assert lines(tmp_path / "log") == []


def test_lines_are_gathered_and_written_together(tmp_path: Path) -> None:
    path, later = tmp_path / "log", Later()
    log = open_log(path)
    log.start(later)
    for number in range(5):
        log.event(INFO, "request", number=number)
    assert len(later.due) == 1
    assert path.read_text() == ""
    later.happen()
    log.stop()
    assert [line["number"] for line in lines(path)] == [0, 1, 2, 3, 4]


def test_a_line_break_in_what_a_stranger_sent_stays_within_its_line(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    log.event(INFO, "request", path='/\n{"event":"forged"}\u2028\x1b[31m')
    assert len((tmp_path / "log").read_bytes().splitlines()) == 1
    assert b"\x1b" not in (tmp_path / "log").read_bytes()
    assert lines(tmp_path / "log")[0]["event"] == "request"


def exchange(**fields: Any) -> Exchange:
    known = {"protocol": "HTTP/1.1", "method": "GET", "host": "a.example", "path": "/", "started": 1.0, "ended": 1.5}
    return Exchange(**(known | fields))


def test_a_requests_line_says_what_there_is_to_say(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    about = members({"id": "12ab", "tenant": None, "client": "192.0.2.1"})
    log.request(about, exchange(status=200, first_byte=1.25, request_bytes=3, response_bytes=4))
    log.request(about, exchange(protocol="bytes", method="", path="", outcome="cut", ended=0.0))
    full, scant = lines(tmp_path / "log")
    assert full["time"] == 1.5
    assert {name: full[name] for name in full if name not in ("time", "from")} == {
        "level": "info", "event": "request", "id": "12ab", "client": "192.0.2.1", "protocol": "HTTP/1.1",
        "method": "GET", "host": "a.example", "path": "/", "status": 200, "request_bytes": 3, "response_bytes": 4,
        "first_byte_ms": 250.0, "ms": 500.0, "outcome": "complete",
    }  # fmt: skip
    assert not {"method", "path", "status", "first_byte_ms", "ms"} & scant.keys()
    assert scant["outcome"] == "cut"


def test_a_request_is_not_logged_where_only_more_is(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    log.level = WARNING
    log.request("", exchange())
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize("field", ["host", "path", "method"])
def test_what_a_stranger_sent_stays_text_in_a_requests_line(tmp_path: Path, field: str) -> None:
    log = open_log(tmp_path / "log")
    evil = '","outcome":"forged\n\u2028\x1b[31m' + "z" * 5000
    log.request("", exchange(**{field: evil}))
    (line,) = (tmp_path / "log").read_bytes().splitlines()
    assert len(line) <= MAX_LINE
    assert json.loads(line)["cut"] is True
    assert evil.startswith(json.loads(line)[field])
    assert json.loads(line)["outcome"] == "complete"


@pytest.mark.parametrize("fields", [{"path": "x" * 10_000}, {f"field{i}": "y" * 250 for i in range(40)}])
def test_a_line_that_is_too_long_is_cut_and_still_json(tmp_path: Path, fields: dict[str, str]) -> None:
    log = open_log(tmp_path / "log")
    log.event(INFO, "request", **fields)
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert len(line) <= MAX_LINE
    assert json.loads(line)["cut"] is True


def test_a_reader_that_is_too_slow_costs_lines_and_not_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 10_000)
    reading, writing = os.pipe()
    later = Later()
    log = Log(writing, "info", "worker 1", lambda: 1.0)
    log.start(later)
    for number in range(2000):
        log.event(INFO, "request", number=number, filler="z" * 100)
        later.happen()
    assert log.dropped > 0
    received = bytearray()
    reader = threading.Thread(target=lambda: received.extend(_all(reading)))
    reader.start()
    while log.waiting or log._backlog:
        later.happen()
    log.event(INFO, "request", number=-1)
    log.stop()
    os.close(writing)
    reader.join(10)
    told = [json.loads(line) for line in bytes(received).splitlines()]
    dropped = [line["count"] for line in told if line["event"] == "log lines dropped"]
    assert dropped
    assert sum(line["event"] == "request" for line in told) == 2001 - sum(dropped)


def test_what_waits_is_counted_to_the_last_character(tmp_path: Path) -> None:
    """Lines about dropped lines too: what is miscounted would let the log grow, or end it."""
    later = Later()
    log = open_log(tmp_path / "log")
    log.start(later)
    log.dropped = 3
    log.event(INFO, "request", number=1)
    later.happen()
    log.stop()
    assert [line["event"] for line in lines(tmp_path / "log")] == ["request", "log lines dropped"]
    assert log._backlog == 0


def _all(fd: int) -> bytes:
    whole = b""
    while piece := os.read(fd, 65536):
        whole += piece
    os.close(fd)
    return whole
