from __future__ import annotations

import pytest

from config.settings import Listener, Onboarding, Settings
from console.problems import Problem
from console.web.devices import reached_at
from tests.console.conftest import Console


def test_the_pac_file_is_there_for_everybody(console: Console) -> None:
    stranger = console.client()
    answer = stranger.get("/proxy.pac")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ns-proxy-autoconfig")
    assert '"PROXY 127.0.0.1:8080"' in answer.text
    assert '"sallyport.local"' in answer.text
    assert stranger.get("/proxy.pac?listener=explicit").text == answer.text
    assert stranger.get("/proxy.pac?listener=nobody").status_code == 404


@pytest.mark.parametrize(
    ("bind", "host", "expected"),
    [
        ("192.0.2.1:8080", "console.example:9443", "192.0.2.1:8080"),
        ("0.0.0.0:8080", "console.example:9443", "console.example:8080"),
        ("[::]:8080", "[2001:db8::1]:9443", "[2001:db8::1]:8080"),
        ("[2001:db8::2]:8080", "console.example", "[2001:db8::2]:8080"),
    ],
)
def test_a_listener_is_named_as_devices_reach_it(bind: str, host: str, expected: str) -> None:
    assert reached_at(Settings(), Listener(name="a", bind=bind), host) == expected


def test_what_the_settings_say_counts_and_a_host_that_is_none_is_refused() -> None:
    listener = Listener(name="a", bind="0.0.0.0:8080")
    told = Settings(listeners=(listener,), onboarding=Onboarding(addresses={"a": "proxy.example:3128"}))
    assert reached_at(told, listener, "x") == "proxy.example:3128"
    with pytest.raises(Problem, match="Host cannot be read"):
        reached_at(Settings(), listener, 'evil"; alert(1); "')
