"""PAC files as text. What they answer is asked of a real engine in tests/e2e/test_onboarding.py."""

from __future__ import annotations

import json
import re

import pytest

from config import pac
from config.settings import LOCAL, Mode


def value(text: str, name: str) -> object:
    (found,) = re.findall(rf"^  var {name} = (.*);$", text, re.MULTILINE)
    return json.loads(found)


@pytest.mark.parametrize(
    ("mode", "said", "url"),
    [
        ("explicit", "PROXY proxy.example:8080", "http://proxy.example:8080"),
        ("explicit-tls", "HTTPS proxy.example:8080", "https://proxy.example:8080"),
        ("socks5", "SOCKS5 proxy.example:8080; SOCKS proxy.example:8080", "socks5h://proxy.example:8080"),
        ("transparent", "DIRECT", ""),
        ("tproxy", "DIRECT", ""),
        ("wireguard", "DIRECT", ""),
    ],
)
def test_each_mode_has_its_word_and_none_goes_on_past_the_proxy(mode: Mode, said: str, url: str) -> None:
    assert pac.named(mode, "proxy.example:8080") == said
    assert pac.url(mode, "proxy.example:8080") == url


def test_what_is_gone_to_directly_is_sorted_by_kind() -> None:
    text = pac.pac(
        "PROXY a:1", "own.example", ["<local>", "*.below.example", ".both.example", "one.example", "10.1.2.3"]
    )
    assert value(text, "local") is True
    assert value(text, "exact") == ["both.example", "one.example"]
    assert value(text, "below") == [".below.example", ".both.example"]
    assert value(text, "networks") == [[[0x0A01, 0x0203], [0xFFFF, 0xFFFF]]]
    assert value(pac.pac("PROXY a:1", "own.example", []), "local") is False


def test_masks_cover_addresses_of_both_families() -> None:
    networks = value(pac.pac("PROXY a:1", "own.example", ["172.16.0.0/12", "fc00::/7"]), "networks")
    assert networks == [[[0xAC10, 0], [0xFFF0, 0]], [[0xFC00, *[0] * 7], [0xFE00, *[0] * 7]]]


@pytest.mark.parametrize("evil", ['";alert(1);"', "</script><script>", "\\", "\n", "a$b${c}", "ü\u2028"])
def test_nothing_that_is_filled_in_can_end_its_string(evil: str) -> None:
    text = pac.pac(evil, evil, [evil])
    assert (value(text, "proxy"), value(text, "own"), value(text, "exact")) == (evil, evil, [evil])
    assert text.isascii()
    assert "</" not in text
    assert text.count("\n") == pac.pac("", "", [""]).count("\n")


def test_it_is_es5_and_calls_nothing_that_asks_dns() -> None:
    text = pac.pac("PROXY a:1", "own.example", LOCAL)
    code = re.sub(r"//.*", "", text)
    assert not re.search(r"=>|`|\b(let|const|class|isInNet|dnsResolve|isResolvable|myIpAddress|includes)\b", code)
