"""docs/shipped-inspectors.md: its examples work, and it names every option with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from addons.archive import Archive
from addons.block_url import BlockUrl
from addons.header_policy import HeaderPolicy
from addons.header_rule_file import parse
from addons.url_list import UrlList
from addons.url_paths import forms
from certs.names import parse_host
from tests.addons.mitm import taddons

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "shipped-inspectors.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_list_blocks_what_the_page_says() -> None:
    (lines,) = [text for kind, text in BLOCKS if not kind and text.startswith("# Lines that begin")]
    read = UrlList(lines.encode())
    assert read.problems == []
    private = "This exact path; with private* everything that begins so."
    for host, path, expected in (
        ("malware.example", b"/any", ""),
        ("a.b.malware.example", b"/", ""),
        ("video.example", b"/shorts/1", "Short videos are blocked until five o'clock."),
        ("any.test", b"/x/y.torrent?z", "Ask IT for large files (ticket type 4711)."),
        ("files.example", b"/%70rivate", private),
        ("files.example", b"/x%2F..%2Fprivate", private),
        ("files.example", b"\\private", private),
        ("files.example", b"/%2570rivate", None),
        ("files.example", b"/private/x", None),
        ("video.example", b"/", None),
    ):
        assert read.find(parse_host(host), forms(path)) == expected, path


def test_the_errors_are_what_is_said() -> None:
    (lines,) = [text.splitlines() for kind, text in BLOCKS if "blocked.txt:3:" in text]
    read = UrlList(b"\n\nhttps://a.example\n\n\n\n\n\nc.example:80\n")
    assert [problem.render("/etc/sallyport/blocked.txt") for problem in read.problems] == lines


def test_the_rules_are_rules() -> None:
    files = [text for kind, text in BLOCKS if kind == "yaml" and text.startswith("rules:")]
    assert [len(parse("rules.yaml", text.encode())) for text in files] == [2, 3]


@pytest.mark.parametrize("addon", [BlockUrl(), HeaderPolicy(), Archive()])
def test_every_option_is_there_with_its_default(addon: Any) -> None:
    with taddons.context(loadcore=False) as context:
        before = set(context.options.keys())
        context.master.addons.add(addon)
        added = set(context.options.keys()) - before
        assert added
        for name in added:
            (shown,) = re.findall(rf"^\| `{name}` \| ([^|]+) \|", PAGE, re.MULTILINE)
            default = context.options.default(name)
            assert shown == str(default) or (default == "" and shown in ("none; has to be set", "empty: everything"))
