from __future__ import annotations

import ipaddress

import pytest
from pydantic import ValidationError

from config.settings import Listener, Settings, listener_clashes, parse_bind


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[0:0::1]:1", ("::1", 1)),
    ],
)
def test_a_bind_is_an_address_and_a_port(text: str, expected: tuple[str, int]) -> None:
    assert parse_bind(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "8080",
        ":8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1: 80",
        "127.0.0.1:80\n",
        "127.0.0.1:²",
        "127.0.0.1:" + "9" * 5000,
        "localhost:8080",
        "::1:8080",
        "[::1:8080",
        "[127.0.0.1:80",
        "127.0.0.1 :80",
        "1.2.3:80",
    ],
)
def test_what_is_no_bind_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected an? (IP|IPv6)? ?address|^expected ADDRESS:PORT"):
        parse_bind(text)


def test_settings_cross_a_pipe_as_json_and_come_out_the_same() -> None:
    settings = Settings.model_validate(
        {
            "state_dir": "/var/lib/sallyport",
            "listeners": [{"name": "a", "bind": "[::1]:0"}, {"name": "b", "bind": "127.0.0.1:0", "tenant": "t-1"}],
            "egress": {"allow": ["127.0.0.0/8", "::1/128"], "deny": ["10.0.0.1"]},
            "resolver": {"hosts": {"a.example": "192.0.2.1"}},
            "log": {"file": "/var/log/s.json"},
        }
    )
    again = Settings.model_validate_json(settings.model_dump_json())
    assert again == settings
    assert again.egress.allow == (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    assert again.egress.deny == (ipaddress.ip_network("10.0.0.1/32"),)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().workers = 3  # type: ignore[misc] # that it is refused is the test


def clashes(*binds: str) -> list[tuple[int, str]]:
    return [(place, key) for place, key, _ in listener_clashes([(str(n), bind) for n, bind in enumerate(binds)])]


@pytest.mark.parametrize(
    ("binds", "expected"),
    [
        (("127.0.0.1:80", "127.0.0.1:80"), [(1, "bind")]),
        (("127.0.0.1:80", "127.0.0.1:81"), []),
        (("127.0.0.1:80", "127.0.0.2:80"), []),
        (("127.0.0.1:0", "127.0.0.1:0"), []),
        (("0.0.0.0:80", "127.0.0.1:80"), [(1, "bind")]),
        (("127.0.0.1:80", "0.0.0.0:80"), [(1, "bind")]),
        (("0.0.0.0:80", "[::]:80"), []),
        (("[::1]:80", "[0::1]:80"), [(1, "bind")]),
        (("[::]:80", "[::1]:80"), [(1, "bind")]),
        (("127.0.0.1:80", "127.0.0.1:80", "127.0.0.1:80"), [(1, "bind"), (2, "bind")]),
    ],
)
def test_two_listeners_can_not_have_one_port(binds: tuple[str, ...], expected: list[tuple[int, str]]) -> None:
    assert clashes(*binds) == expected


def test_two_listeners_can_not_have_one_name() -> None:
    with pytest.raises(ValidationError, match=r"listeners\[1\]\.name: 'a' is the name of listeners\[0\] too"):
        Settings(listeners=(Listener(name="a", bind="127.0.0.1:0"), Listener(name="a", bind="127.0.0.1:0")))
