from __future__ import annotations

import re
import shlex

import pytest

from certs.device_guides import GUIDES, filled, guide, guide_for
from certs.download import FILES

SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Version/17.0 Mobile/15E148"
CHROME_ON_ANDROID = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 Chrome/150.0.0.0 Mobile Safari/537.36"


@pytest.mark.parametrize(
    ("agent", "key"),
    [
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/150.0 Edg/150.0",
            "windows",
        ),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0", "windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 Version/17.5 Safari/605.1.15", "macos"),
        (SAFARI, "ios"),
        ("Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) AppleWebKit/605.1.15", "ios"),
        (CHROME_ON_ANDROID, "android"),
        ("Mozilla/5.0 (Android 14; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0", "android"),
        ("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "firefox"),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/150.0.0.0 Safari/537.36", "chromium"),
        ("Mozilla/5.0 (X11; Fedora; Linux x86_64) Epiphany/45", "fedora"),
        ("Wget/1.21.3 (linux-gnu)", "debian"),
        ("curl/7.88.1", "curl"),
        ("python-requests/2.34.2", "python"),
        ('pip/24.2 {"distro":{"name":"Debian"},"system":{"name":"Linux"}}', "python"),
        ("npm/11.17.0 node/v24.19.0 linux x64", "node"),
        ("git/2.39.5", "git"),
        ("Java/21.0.4", "java"),
        ("docker/27.1 go/go1.21 os/linux", "docker"),
        ("", "windows"),
        ("x" * 100_000 + "iPhone", "windows"),
        ("\0\xff<script>", "windows"),
    ],
)
def test_a_device_is_told_by_what_it_says_of_itself(agent: str, key: str) -> None:
    assert guide_for(agent).key == key


def test_every_guide_names_a_file_that_there_is_and_has_an_address_of_its_own() -> None:
    assert len({each.key for each in GUIDES}) == len(GUIDES)
    for each in GUIDES:
        assert each.file in FILES
        assert re.fullmatch("[a-z]+", each.key)
        assert each.steps
        assert guide(each.key) is each
    assert guide("") is guide("nothing") is None


@pytest.mark.parametrize("proxy", ["", "http://proxy.example:8080"])
def test_commands_are_filled_completely_and_a_shell_can_read_them(proxy: str) -> None:
    for each in GUIDES:
        for step in each.steps:
            text = filled(step.command, "http://sallyport.local", proxy)
            assert "{" not in text
            for line in text.splitlines():
                assert shlex.split(line)
            if "root.pem" in text and "curl" in text:
                assert ("--proxy http://proxy.example:8080" in text) == bool(proxy)
