"""The issuer's own log keeps to the level, and to the hosts of which nothing is logged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from config.settings import Log
from issuer import events
from issuer.events import log_event


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    events.configure(Log())


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    log_event("leaf_issued", "debug", id="ab")
    log_event("ready")
    events.set_level("debug")
    log_event("leaf_issued", "debug", id="ab", serial="", tenant=None)
    events.set_level("error")
    log_event("peer_garbage", "warning")
    first, second = written(capsys)
    assert first["event"] == "ready"
    assert {name: second[name] for name in second if name != "time"} == {
        "level": "debug", "event": "leaf_issued", "from": "issuer", "id": "ab",
    }  # fmt: skip


def test_what_names_a_host_of_which_nothing_is_logged_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    events.configure(Log.model_validate({"level": "debug", "never_log": ["*.bank.example"]}))
    log_event("leaf_issued", "debug", host="www.bank.example")
    log_event("request_failed", "error", message="no leaf for www.bank.example: the CA has expired")
    log_event("request_failed", "error", message="no leaf for www.shop.example: the CA has expired")
    assert [entry["message"] for entry in written(capsys)] == ["no leaf for www.shop.example: the CA has expired"]
