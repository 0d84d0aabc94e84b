"""Bypass rules: what is one, which hosts it covers, until when, and files of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs import bypass
from certs.bypass import BypassRules, PatternList, parse_rule
from certs.names import InvalidHost, parse_host
from tests.harness.pki import NOW

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.com.", "example.com"),
        ("*.Example.com", "*.example.com"),
        (".example.com", ".example.com"),
        (".BÜCHER.example", ".xn--bcher-kva.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("10.0.0.0/08", "10.0.0.0/8"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("2001:db8:0::1/128", "2001:db8::1"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("localhost", "localhost"),
    ],
)
def test_a_rule_is_written_as_rules_are_compared(written: str, rule: str) -> None:
    assert parse_rule(written) == rule
    assert parse_rule(rule) == rule


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("*", "would leave nothing decrypted"),
        ("0.0.0.0/0", "would leave nothing decrypted that is asked for by its address"),
        ("::/0", "would leave nothing decrypted that is asked for by its address"),
        ("10.0.0.1/0", "would leave nothing decrypted that is asked for by its address"),
        ("", "the host name is empty"),
        (".", "the host name is empty"),
        ("*.", "the host name is empty"),
        ("..example.com", "an empty label"),
        ("*example.com", "write *.example.com"),
        ("*.*.example.com", "write *.example.com"),
        (".*.example.com", "write *.example.com"),
        ("a.*.b", "write *.example.com"),
        (".192.0.2.1", "no names below an IP address"),
        ("https://example.com/", "has a scheme"),
        ("example.com/path", "is no network and no host"),
        ("example.com/8", "is no network and no host"),
        ("10.0.0.0/255.0.0.0", "is no network and no host"),
        ("fe80::%1/64", "is no network and no host"),
        ("example.com:443", "has a port"),
        ("[2001:db8::1]:443", "has a port"),
        ("10.0.0.1/8", "write 10.0.0.0/8, or 10.0.0.1"),
        ("10.0.0.0/33", "is no network"),
        ("10.0.0/8", "is no network"),
        ("010.0.0.0/8", "is no network"),
        ("a b", "has the character ' '"),
        ("a..b", "an empty label"),
    ],
)
def test_what_is_no_rule_is_refused_with_what_to_write(written: str, said: str) -> None:
    with pytest.raises(InvalidHost) as caught:
        parse_rule(written)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


COVERED = [
    ("example.com", "example.com"),
    ("*.example.com", "www.example.com"),
    ("*.example.com", "a.b.example.com"),
    (".example.com", "example.com"),
    (".example.com", "a.b.example.com"),
    ("192.0.2.1", "192.0.2.1"),
    ("192.0.2.0/24", "192.0.2.255"),
    ("192.0.0.0/9", "192.127.255.255"),
    ("2001:db8::/32", "2001:db8:1::5"),
    ("2001:db8::1", "2001:DB8:0::1"),
]
NOT_COVERED = [
    ("example.com", "www.example.com"),
    ("*.example.com", "example.com"),
    (".example.com", "badexample.com"),
    (".example.com", "com"),
    ("*.example.com", "example.com.evil.example"),
    ("192.0.2.0/24", "192.0.3.0"),
    ("2001:db8::/32", "2001:db9::1"),
    # Another way to write the address reaches the same server, but was not what somebody meant: it is decrypted.
    ("192.0.2.0/24", "::ffff:192.0.2.1"),
    ("192.0.2.0/24", "192.0.2.1.example"),
]


@pytest.mark.parametrize(("rule", "host"), COVERED)
def test_what_a_rule_covers(rule: str, host: str) -> None:
    others = {"other.example": None, "*.other.example": None, "198.51.100.0/25": None, "2001:db8:f::/48": None}
    assert BypassRules({**others, rule: None}).match(parse_host(host), NOW) == rule
    assert PatternList("\n".join([*others, rule]).encode()).match(parse_host(host)) == rule


@pytest.mark.parametrize(("rule", "host"), NOT_COVERED)
def test_what_a_rule_does_not_cover(rule: str, host: str) -> None:
    assert BypassRules({rule: None}).match(parse_host(host), NOW) is None
    assert PatternList(rule.encode()).match(parse_host(host)) is None


@pytest.mark.parametrize(
    ("closest_first", "host"),
    [
        (["www.example.com", ".www.example.com", "*.example.com", ".example.com", ".com"], "www.example.com"),
        (["10.1.2.3", "10.1.2.0/24", "10.1.0.0/16", "10.0.0.0/8"], "10.1.2.3"),
    ],
)
def test_the_closest_rule_is_the_one_that_is_told(closest_first: list[str], host: str) -> None:
    for place, closest in enumerate(closest_first):
        left = closest_first[place:][::-1]
        assert BypassRules(dict.fromkeys(left)).match(parse_host(host), NOW) == closest
        assert PatternList("\n".join(left).encode()).match(parse_host(host)) == closest


def test_a_rule_ends_at_its_time_and_a_wider_one_goes_on() -> None:
    rules = BypassRules({"www.example.com": NOW, ".example.com": None})
    host = parse_host("www.example.com")
    assert rules.match(host, NOW - SECOND) == "www.example.com"
    assert rules.match(host, NOW) == ".example.com"
    assert BypassRules({"www.example.com": NOW}).match(host, NOW + SECOND) is None


def test_rules_are_the_same_where_they_say_the_same() -> None:
    assert BypassRules({"a.example": NOW}) == BypassRules({"a.example": NOW})
    assert BypassRules({"a.example": NOW}) != BypassRules({"a.example": None})
    assert BypassRules() == BypassRules({})
    assert BypassRules().match(parse_host("a.example"), NOW) is None


LIST = """\ufeff# Banks
bank.example
  *.bank.example\t# what is below it
\r
BÜCHER.example
.health.example  #
#comment.example
10.0.0.0/8
bank.example
"""


def test_a_file_has_a_rule_a_line_comments_and_blank_lines() -> None:
    for text in (LIST, LIST.replace("\n", "\r\n"), LIST.rstrip("\n")):
        read = PatternList(text.encode())
        assert (read.problems, read.count) == ([], 5)
        hosts = {"bank.example": "bank.example", "a.bank.example": "*.bank.example", "10.1.2.3": "10.0.0.0/8",
                 "health.example": ".health.example", "xn--bcher-kva.example": "xn--bcher-kva.example",
                 "comment.example": None, "banks": None}  # fmt: skip
        assert {host: read.match(parse_host(host)) for host in hosts} == hosts


def test_an_empty_file_has_no_rule() -> None:
    for data in (b"", b"\n", b"# nothing\n\n", b"\xef\xbb\xbf"):
        read = PatternList(data)
        assert (read.problems, read.count, read.match(parse_host("a.example"))) == ([], 0, None)


def test_every_bad_line_is_told_with_its_number() -> None:
    data = b"good.example\n*\n\n0.0.0.0 ads.example\nhttps://a.example\n\xff.example\n" + b"a" * 2000 + b"\na#b\n*.x"
    read = PatternList(data)
    assert [number for number, _ in read.problems] == [2, 4, 5, 6, 7, 8]
    said = " ".join(message for _, message in read.problems)
    for part in ("nothing decrypted", "more than one pattern", "has a scheme", "not UTF-8", "2000 bytes", "'#'"):
        assert part in said, part
    many = PatternList(b"a b\n" * 1000)
    assert (len(many.problems), many.wrong) == (bypass.MOST_PROBLEMS, 1000)


def test_more_rules_than_there_may_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bypass, "MOST_RULES", 3)
    assert PatternList(b"# a\na\nb\n\nc\nb\n").problems == []
    assert PatternList(b"a\nb\nc\nd\ne\n").problems == [(4, "more than 3 rules; split the file")]


def test_a_long_file_is_found_through_and_takes_little_memory() -> None:
    names = [f"{'*.' if number % 3 else ''}host-{number}.example" for number in range(30_000)]
    data = "\n".join(names).encode()
    read = PatternList(data)
    assert read.count == 30_000
    assert all(read.match(parse_host(f"x.{name[2:]}" if name[0] == "*" else name)) == name for name in names[::7])
    assert read.match(parse_host("host-30000.example")) is None
    assert len(read._text) + read._table.itemsize * len(read._table) < 2 * len(data)


NAMES = st.text("abcx019-_.*#: /ü", max_size=12) | st.from_regex(
    r"(\*?\.)?([a-c0x]{1,3}\.){0,3}(xn--[a-z]{1,4}|[a-c0-9x]{1,4})\.?", fullmatch=True
)


@given(NAMES)
def test_a_line_of_a_file_is_read_just_as_a_rule_alone(text: str) -> None:
    line = text.encode()
    read = PatternList(line)
    alone = text.strip()
    if not alone or "#" in alone:
        return
    try:
        rule = parse_rule(alone)
    except InvalidHost:
        assert read.problems
        return
    assert (read.problems, read.count) == ([], 1)
    assert bytes(read._text) == f"\n{rule}\n".encode()
