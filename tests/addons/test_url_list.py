"""The file of block_url: its lines, its errors, its size."""

from __future__ import annotations

import pytest

from addons.url_list import UrlList
from addons.url_paths import forms
from certs.names import parse_host


def text_for(lines: str, host: str, path: str = "/") -> str | None:
    read = UrlList(lines.encode())
    assert read.problems == []
    return read.find(parse_host(host), forms(path.encode()))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("bad.example", ""),
        ("  bad.example  ", ""),
        ("bad.example\r", ""),
        ("\ufeffbad.example", ""),
        ("bad.example/*\tGames, until \tfive.", "Games, until  five."),
        ("bad.example  Ask Ann (ticket #4711).", "Ask Ann (ticket #4711)."),
        ("bad.example  Ask Ann. # since June", "Ask Ann."),
        ("bad.example # since June", ""),
        ("bad.example #since June", ""),
        ("bad.example  <b>no</b>", "<b>no</b>"),
    ],
)
def test_a_line_has_a_pattern_and_may_have_a_text(line: str, text: str) -> None:
    assert text_for(line, "bad.example", "/x") == text


def test_comments_and_empty_lines_say_nothing() -> None:
    lines = "# bad.example\n\n   #\n\t\n#bad.example\n"
    assert text_for(lines, "bad.example") is None


def test_the_line_with_the_closest_host_counts() -> None:
    lines = "*/x all\n*.example/* below\nwww.bad.example/y exact"
    assert text_for(lines, "www.bad.example", "/y") == "exact"
    assert text_for(lines, "www.bad.example", "/z") == "below"
    assert text_for(lines, "192.0.2.1", "/x") == "all"
    assert text_for(lines, "192.0.2.1", "/y") is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("https://bad.example/", "has a scheme; leave it out"),
        ("/path", "has no host; write */path* for every host"),
        ("bad.example:8443/x", "has a port; leave it out"),
        ("[2001:db8::1]:443", "has a port; leave it out"),
        ("bad.example/x?y=1", "has a query, which is not looked at"),
        ("bad.example/x#y", "has a fragment, which is never sent"),
        ("0.0.0.0 bad.example", "looks like a line of a hosts file"),
        ("127.0.0.1\tbad.example", "looks like a line of a hosts file"),
        ("bad*.example", "the star of 'bad*.example' may only stand alone or as the first label"),
        ("*.192.0.2.1", "there are no names below an IP address"),
        ("bad..example", "expected HOST/PATH"),
        ("bad.example\x00/x", "has a character that is not printable"),
        ("bad.example \x1b[2J", "has a character that is not printable"),
        ("bad.example " + "x" * 1001, "the text has 1001 characters"),
    ],
)
def test_a_line_that_is_none_says_what_to_write(line: str, says: str) -> None:
    (problem,) = UrlList(f"good.example\n{line}\n".encode()).problems
    assert problem.line == 2
    assert says in problem.message


def test_all_problems_come_at_once() -> None:
    read = UrlList(b"a..b\ngood.example\n\xff\xfe\nc..d\n")
    assert [problem.line for problem in read.problems] == [1, 3, 4]
    assert "save the file as UTF-8" in read.problems[1].message


def test_a_hundred_thousand_lines_are_found_among() -> None:
    lines = "\n".join(f"host{n}.example/part{n % 7}/* {n}" for n in range(100_000))
    read = UrlList(lines.encode())
    assert read.problems == []
    assert read.find(parse_host("host77777.example"), ("/part0/x",)) == "77777"
    assert read.find(parse_host("host77777.example"), ("/part1/x",)) is None


def test_a_hundred_thousand_paths_of_one_host_are_found_among() -> None:
    read = UrlList("\n".join(f"video.example/channel/{n:06}* {n}" for n in range(100_000)).encode())
    assert read.find(parse_host("video.example"), ("/channel/077777/video",)) == "77777"
    assert read.find(parse_host("video.example"), ("/channel/177777/video",)) is None
