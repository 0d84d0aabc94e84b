"""The log: whole lines of JSON, gathered, never waited for, and what is lost is said."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certs.mentions import Mentions
from config.settings import Log as Settings
from proxy import log as module
from proxy.lanes.exchange import Exchange
from proxy.log import DEBUG, ERROR, INFO, MAX_LINE, WARNING, Log, members, open_log_file
from proxy.log_limits import FloodGate, Sampler
from tests.harness.processes import wait_for


class Later:
    """A loop's ``call_later`` that a test lets happen."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, seconds: float, work: Callable[[], None]) -> None:
        assert seconds in (module.GATHER_SECONDS, module.LEFT_OUT_SECONDS)
        self.due.append((seconds, work))

    def happen(self, seconds: float = module.GATHER_SECONDS) -> None:
        due, self.due = self.due, [each for each in self.due if each[0] > seconds]
        for after, work in due:
            if after <= seconds:
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


def test_the_level_changes_while_it_runs(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log", "info")
    told: list[int] = []
    log.level_changed.append(told.append)
    log.event(DEBUG, "admission")
    log.set_level("debug")
    log.event(DEBUG, "verdict")
    log.set_level("warning")
    log.event(INFO, "passed")
    log.request("", exchange())
    with pytest.raises(ValueError, match="no level of the log: 'loud'; expected one of debug, info, warning, error"):
        log.set_level("loud")
    assert [line["event"] for line in lines(tmp_path / "log")] == ["verdict"]
    assert told == [DEBUG, WARNING]


def test_what_else_is_told_of_a_request_is_in_its_line(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    log.request("", exchange(more={"query": "a&b", "request_headers": {"user-agent": 'x"y'}}))
    (line,) = lines(tmp_path / "log")
    assert line["query"] == "a&b"
    assert line["request_headers"] == {"user-agent": 'x"y'}
    assert "sampled" not in line


def test_under_load_a_share_of_the_requests_is_written_and_every_refusal(tmp_path: Path) -> None:
    later = Later()
    log = Log(open_log_file(str(tmp_path / "log")), "info", "worker 1", lambda: 1.0, sampler=Sampler(10))
    log.start(later)
    for _ in range(110):
        log.request("", exchange(ended=5.5))
        log.event(WARNING, "refused")
    log.request("", exchange(ended=6.5))
    later.happen()
    log.stop()
    written = lines(tmp_path / "log")
    requests = [line for line in written if line["event"] == "request"]
    assert len(requests) == 10 + 9 + 1
    assert sum(int(str(line.get("sampled", 1))) for line in requests) == 111
    assert sum(line["event"] == "refused" for line in written) == 110


def test_of_a_flood_of_one_event_the_number_is_said(tmp_path: Path) -> None:
    later, now = Later(), [1.0]
    log = Log(open_log_file(str(tmp_path / "log")), "debug", "worker 1", lambda: now[0], flood=FloodGate(2))
    log.start(later)
    for _ in range(5):
        log.event(WARNING, "refused", host="a.example")
        log.event(DEBUG, "verdict")
    log.event(ERROR, "fault")
    assert sorted(seconds for seconds, _ in later.due) == [module.GATHER_SECONDS, module.LEFT_OUT_SECONDS]
    later.happen(module.LEFT_OUT_SECONDS)
    now[0] = 2.0
    for _ in range(4):
        log.event(WARNING, "refused", host="a.example")
    log.stop()
    written = lines(tmp_path / "log")
    assert sum(line["event"] == "refused" for line in written) == 4
    assert sum(line["event"] == "verdict" for line in written) == 5
    assert sum(line["event"] == "fault" for line in written) == 1
    left_out = [line for line in written if line["event"] == "log lines left out"]
    assert [(line["level"], line["of"], line["count"]) for line in left_out] == [
        ("warning", "refused", 3), ("warning", "refused", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "bank.example"},
        {"reason": "TLS with bank.example:443 failed"},
        {"where": ["a.py:3", "https://bank.example/x"]},
        {"message": "GET https%3A%2F%2Fbank.example%2F"},
    ],
)
def test_an_event_that_names_a_host_that_is_never_logged_is_not_written(tmp_path: Path, fields: dict[str, Any]) -> None:
    log = Log(open_log_file(str(tmp_path / "log")), "debug", "w", lambda: 1.0, never=Mentions(["bank.example"]))
    log.event(ERROR, "inspector failed", **fields)
    log.event(ERROR, "inspector failed", **{name: str(value).replace("bank", "shop") for name, value in fields.items()})
    assert len(lines(tmp_path / "log")) == 1
    assert "bank" not in (tmp_path / "log").read_text()
    assert log.withheld == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "bank.example"},
        {"host": "bank.example:8443"},
        {"path": "/go/https://bank.example/"},
        {"more": {"query": "u=https%3A%2F%2Fbank.example"}},
        {"more": {"request_headers": {"referer": "https://bank.example"}}},
    ],
)
def test_a_request_that_names_a_host_that_is_never_logged_is_not_written(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    log = Log(open_log_file(str(tmp_path / "log")), "debug", "w", lambda: 1.0, never=Mentions(["bank.example"]))
    log.request("", exchange(**fields))
    log.request("", exchange())
    assert [line["host"] for line in lines(tmp_path / "log")] == ["a.example"]
    assert log.withheld == 1


def test_a_log_is_made_as_it_is_configured(tmp_path: Path) -> None:
    settings = Settings.model_validate({"file": str(tmp_path / "log"), "level": "error", "never_log": ["bank.example"]})
    log = module.open_log(settings, "worker 3", lambda: 1.0)
    log.event(ERROR, "fault", reason="bank.example")
    log.event(ERROR, "fault", reason="shop.example")
    assert [(line["from"], line["reason"]) for line in lines(tmp_path / "log")] == [("worker 3", "shop.example")]
    with pytest.raises(ValueError, match=r"^log\.never_log: a_b\.\.example: "):
        module.never_logged(Settings.model_validate({"never_log": ["a_b..example"]}))


def _all(fd: int) -> bytes:
    whole = b""
    while piece := os.read(fd, 65536):
        whole += piece
    os.close(fd)
    return whole


def test_other_settings_count_from_the_next_line_and_what_was_left_out_before_is_said(tmp_path: Path) -> None:
    later = Later()
    first = Settings.model_validate({"file": str(tmp_path / "log"), "flood_above": 1})
    log = module.open_log(first, "supervisor", lambda: 1.0)
    told: list[int] = []
    log.level_changed.append(told.append)
    log.start(later)
    for _ in range(3):
        log.event(WARNING, "refused", host="bank.example")
    log.apply(first.model_copy(update={"flood_above": None, "level": "debug", "never_log": ("bank.example",)}))
    log.event(WARNING, "refused", host="bank.example")
    for _ in range(2):
        log.event(DEBUG, "verdict")
    log.stop()
    assert [(line["event"], line.get("count")) for line in lines(tmp_path / "log")] == [
        ("refused", None), ("log lines left out", 2), ("verdict", None), ("verdict", None),
    ]  # fmt: skip
    assert told == [DEBUG]


def test_settings_that_cannot_be_followed_change_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    with pytest.raises(ValueError, match=r"^log\.never_log: "):
        log.apply(Settings.model_validate({"level": "error", "never_log": ["a_b..example"]}))
    log.event(INFO, "started")
    assert len(lines(tmp_path / "log")) == 1


def test_what_is_said_between_a_stop_and_another_start_is_written(tmp_path: Path) -> None:
    log, later = open_log(tmp_path / "log"), Later()
    log.start(Later())
    log.stop()
    log.event(WARNING, "process ended")
    log.start(later)
    log.event(INFO, "upgrade refused")
    later.happen()
    log._queue.put(None)  # the thread ends when it has written what came before
    assert log._thread is not None
    log._thread.join()
    assert [line["event"] for line in lines(tmp_path / "log")] == ["process ended", "upgrade refused"]


def test_another_file_is_written_to_from_the_next_line_on(tmp_path: Path) -> None:
    log = open_log(tmp_path / "before")
    log.event(INFO, "started")
    log.write_to(str(tmp_path / "after"))
    log.event(INFO, "stopping")
    assert [line["event"] for name in ("before", "after") for line in lines(tmp_path / name)] == ["started", "stopping"]
    assert len(lines(tmp_path / "after")) == 1


def test_a_log_that_is_rotated_goes_on_in_a_new_file(tmp_path: Path) -> None:
    settings = Settings(file=str(tmp_path / "log"))
    log = module.open_log(settings, "worker 1", lambda: 1.0)
    later = Later()
    log.start(later)

    def say(event: str) -> None:
        log.event(INFO, event)
        later.happen()
        wait_for("it to be written", lambda: not log._backlog)

    say("before")
    (tmp_path / "log").rename(tmp_path / "log.1")
    say("after")
    (tmp_path / "log").unlink()
    say("removed")
    folder = tmp_path / "log"
    folder.rename(tmp_path / "log.2")
    folder.mkdir()  # no file can be there: what it has goes on
    say("in the way")
    say("still")
    os.mkfifo(tmp_path / "fifo")  # nobody reads it
    folder.rmdir()
    (tmp_path / "fifo").rename(folder)
    say("no reader")
    log.write_to(str(tmp_path / "other"))
    say("other")
    log.stop()
    assert [line["event"] for line in lines(tmp_path / "log.1")] == ["before"]
    assert [line["event"] for line in lines(tmp_path / "log.2")] == [
        "removed", "log not followed", "in the way", "still", "no reader",
    ]  # fmt: skip
    assert [line["event"] for line in lines(tmp_path / "other")] == ["other"]
    assert (tmp_path / "log.2").stat().st_mode & 0o777 == 0o600
