"""Paths in every form that a server may read them in, and patterns against them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.url_paths import PathIndex, forms, pattern_forms


def blocks(pattern: str, target: bytes) -> bool:
    index: PathIndex[str] = PathIndex()
    index.add(pattern, "found")
    return index.find(forms(target)) == "found"


@pytest.mark.parametrize(
    "target",
    [
        b"/games/chess",
        b"/games/chess?move=1",
        b"/games/chess#board",
        b"/%67ames/chess",
        b"/%67%61%6d%65%73/%63hess",
        b"/%67%61%6D%65%73/chess",
        b"/./games/chess",
        b"/games/./chess",
        b"/x/../games/chess",
        b"/x/%2e%2e/games/chess",
        b"/x/%2E./games/chess",
        b"/../../games/chess",
        b"/games//chess",
        b"//games/chess",
        b"/games\\chess",
        b"/games%2Fchess",
        b"/games%5cchess",
        b"/a//../games/chess",
        b"/a/..\\games/chess",
        b"/games/chess;x=1",
        b"/games;x=1/chess;",
        b"/games/chess%3Bx=1",
        b"/games/chess;a%2Fb",
        b"/games/chess;a%2Fb%00",
        b"/;/games/chess",
        b"/x/..;/games/chess",
        b"/x/..;a=b/games/chess",
        b"/x/%2e%2e;/games/chess",
        b"/x/..%3b/games/chess",
        b"/games/chess/..;/chess",
        b"/games/.;/chess",
        b"/games/chess/.",
        b"/games/chess/%2e",
        b"/games/chess/.;",
        b"/games/chess/x/..",
        b"/games/chess/x/..;",
        b"/games/chess%00",
        b"/games/chess%00.png",
        b"/games/chess%00/../../x;",
        b"/games/chess;x%00",
        b"/games/chess%00;x",
        b"games/chess",
    ],
)
def test_no_other_spelling_gets_around_a_pattern(target: bytes) -> None:
    assert blocks("/games/chess", target)


@pytest.mark.parametrize(
    "target",
    [b"/", b"/games", b"/games/", b"/games/ches", b"/games/chess/", b"/games/chess1", b"/Games/chess",
     b"/?/games/chess", b"/x/games/chess", b"/x;/games/chess", b"/games;/chess/x", b"/games/chess1;", b"/games/ches;s",
     b"/games/chess;/../x", b"/games;chess", b"/games%00/chess", b"/games/che%00ss", b"/games/chess/x/.",
     b"/games/chess/...", b"/games/chess/x/../y", b"/games/;chess", b"/?;/games/chess", b"/x/..;games/chess/y",
     b"/games/%63%68%65%73%53", b"/games/%2563hess", b"/games/chess/.."],
)  # fmt: skip
def test_another_path_is_another_path(target: bytes) -> None:
    assert not blocks("/games/chess", target)


@pytest.mark.parametrize(
    ("pattern", "target"),
    [
        ("*", b"/anything"),
        ("/*", b""),
        ("/games/*", b"/games/"),
        ("/games/*", b"/games/a/b?c"),
        ("*.exe", b"/a/b/setup.exe"),
        ("*.exe", b"/setup%2eexe?x=1"),
        ("/a*c*e", b"/abcde"),
        ("/a*a", b"/aa"),
        ("/a**b", b"/ab"),
        ("/ä/*", "/ä/1".encode()),
        ("/ä/*", b"/%c3%a4/1"),
        ("/a b", b"/a%20b"),
        ("/a|b", b"/a%7Cb"),
        ("/[x]", b"/%5bx%5d"),
        ("/%2a", b"/%2A"),
        ("/x%2Fy", b"/x%2fy"),
        ("/100%", b"/100%25"),
        ("/admin/*", b"/admin;a/b"),
        ("/admin/*", b"/admin;/"),
        ("/a;v=1/*", b"/a;v=1/b"),
        ("/a;v=1", b"/a%3Bv=1"),
    ],
)
def test_a_star_stands_for_any_characters(pattern: str, target: bytes) -> None:
    assert blocks(pattern, target)


@pytest.mark.parametrize(
    ("pattern", "target"),
    [
        ("/games/*", b"/games"),
        ("*.exe", b"/setup.exe.txt"),
        ("*.exe", b"/?file=setup.exe"),
        ("/a*a", b"/a"),
        ("/a*bc*c", b"/abc"),
        ("/%2a", b"/anything"),
        ("/a%2Ab", b"/axb"),
        ("/admin/*", b"/admin;a"),
        ("/a;v=1", b"/a;v=2"),
        ("/a;v=1", b"/a"),
    ],
)
def test_a_star_stands_for_no_less_than_that(pattern: str, target: bytes) -> None:
    assert not blocks(pattern, target)


def test_a_server_that_takes_an_escaped_slash_literally_is_not_forgotten() -> None:
    # One server reads /x%2F..%2Fgames as a file below /, another as /games.
    assert blocks("/x*", b"/x%2F..%2Fgames")
    assert blocks("/games", b"/x%2F..%2Fgames")


def test_the_closest_pattern_counts_and_of_equal_ones_the_first() -> None:
    index: PathIndex[str] = PathIndex()
    for place, pattern in enumerate(("*", "/a*", "/a/b*", "/a/b/c", "/a/b/c", "/*", "/a*")):
        index.add(pattern, f"{place} {pattern}")
    found = [index.find(forms(path)) for path in (b"/x", b"/ax", b"/a/bx", b"/a/b/c")]
    assert found == ["0 *", "1 /a*", "2 /a/b*", "3 /a/b/c"]


def test_many_stars_take_no_more_than_one_pass() -> None:
    assert not blocks("/" + "a*" * 5000 + "b", b"/" + b"a" * 60_000 + b"c")


@given(st.binary(max_size=60))
def test_every_target_has_forms_and_they_are_their_own(target: bytes) -> None:
    found = forms(target)
    assert 1 <= len(found) <= 20
    for form in found:
        assert form.startswith("/")
        assert form.isascii()
        assert form.isprintable()
    assert found[0] in forms(found[0].encode())


@given(st.text(st.sampled_from("ab/.*"), max_size=12), st.text(st.sampled_from("ab/."), max_size=12))
def test_matching_is_what_a_regular_expression_would_say(pattern: str, path: str) -> None:
    expected = any(
        re.fullmatch(".*".join(map(re.escape, one.split("*"))), form)
        for one in pattern_forms("/" + pattern)
        for form in forms(b"/" + path.encode())
    )
    assert blocks("/" + pattern, b"/" + path.encode()) == bool(expected)
