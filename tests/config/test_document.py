from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from config.document import DEEPEST, LARGEST_FILE, read
from config.loader import load
from config.problems import ConfigError, Problem
from config.settings import Settings


def refused(data: bytes | str) -> Problem:
    with pytest.raises(ConfigError) as caught:
        read("f", data.encode() if isinstance(data, str) else data)
    (problem,) = caught.value.problems
    return problem


def noted(text: str) -> list[tuple[str, int | None, int | None, str]]:
    return [(p.path, p.line, p.column, p.message) for p in read("f", text.encode()).problems]


class TestWhatIsNoYaml:
    def test_a_syntax_error_has_its_line_and_column(self) -> None:
        problem = refused("workers: 1\nlisteners: [1, 2\ntrust: {}\n")
        assert problem.line == 3
        assert problem.message.startswith("not valid YAML: while parsing a flow sequence; ")
        problem = refused("a: 1\n\tb: 2\n")
        assert (problem.line, problem.column) == (2, 1)

    def test_an_unquoted_ipv6_bind_is_a_syntax_error_of_its_line(self) -> None:
        assert refused("a:\n  - bind: [::1]:8080\n").line == 2

    def test_bytes_that_are_no_utf8_have_their_line(self) -> None:
        problem = refused(b"a: 1\nb: \xff\n")
        assert (problem.line, problem.message) == (2, "expected UTF-8 text; save the file as UTF-8")
        assert refused("workers: 1".encode("utf-16")).line == 1

    def test_a_byte_order_mark_is_no_matter(self) -> None:
        assert read("f", b"\xef\xbb\xbfworkers: 3").values == {"workers": 3}

    def test_a_control_character_has_its_line(self) -> None:
        problem = refused("a: 1\n\nb: \x00\n")
        assert (problem.line, problem.message) == (3, "not valid YAML: the character U+0000 may not stand in it")

    def test_an_escape_that_is_no_character(self) -> None:
        assert refused('a: "\\UFFFFFFFF"').message.startswith("not valid YAML: ")

    def test_two_documents(self) -> None:
        assert refused("a: 1\n---\nb: 2\n").line == 2

    @pytest.mark.parametrize(
        ("text", "got"), [("- a\n", "a list"), ("hello", "'hello'"), ("3", "'3'"), ("# x\n\n[]\n", "a list")]
    )
    def test_something_else_than_a_mapping(self, text: str, got: str) -> None:
        assert refused(text).message == f"expected settings as KEY: VALUE lines, got {got}"


class TestBounds:
    def test_a_file_that_is_too_large(self) -> None:
        assert "larger than 1048576 bytes" in refused(b"#" * (LARGEST_FILE + 1)).message
        assert read("f", b"#" * LARGEST_FILE).values == {}

    def test_nesting_is_bounded(self) -> None:
        for text in (
            "[" * 100_000,
            "a: " + "{a: " * 5_000,
            "\n".join(" " * n + "a:" for n in range(1_000)),
            "- " * 9999,
        ):
            assert f"nested more than {DEEPEST} levels deep" in refused(text).message

    def test_aliases_that_multiply_are_refused_in_little_time(self) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 15)]
        began = time.monotonic()
        assert "aliases" in refused("\n".join(lines)).message
        assert time.monotonic() - began < 5

    def test_an_alias_of_what_is_around_it(self) -> None:
        problem = refused("a: 1\nb: &x [*x]\n")
        assert problem.line == 2
        assert "aliases" in problem.message

    def test_a_modest_alias_is_followed(self) -> None:
        assert read("f", b"a: &x [1]\nb: *x\n").values == {"a": [1], "b": [1]}


class TestNotes:
    def test_a_key_given_twice_names_both_lines(self) -> None:
        text = "a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 2\n"
        assert noted(text) == [
            ("b.c", 5, 3, "given twice, first on line 3; keep one"),
            ("a", 6, 1, "given twice, first on line 1; keep one"),
        ]

    def test_tags_make_no_objects(self) -> None:
        (note,) = noted("a: !!python/object/apply:os.system ['true']")
        assert note[0] == "a"
        assert "is not used here" in note[3]
        assert read("f", b"a: !!binary aGk=").problems
        assert read("f", b"a: !!set {x}").problems

    @pytest.mark.parametrize("text", ["!$\n?", "!foo\na: 1", "!!set {a}"])
    def test_a_tag_on_the_whole_file_is_noted_like_any_other(self, text: str) -> None:
        ((path, line, _, message),) = noted(text)
        assert (path, line) == ("", 1)
        assert "is not used here" in message
        assert read("f", text.encode()).values == {}

    @pytest.mark.parametrize("text", ["!!null {a: 1}", "!!null\na: 1"])
    def test_what_is_written_under_a_tag_is_not_passed_over(self, text: str) -> None:
        assert read("f", text.encode()).values == {"a": 1}

    def test_merge_keys_and_keys_that_are_no_names(self) -> None:
        assert noted("a: &x {b: 1}\nc: {<<: *x}\n")[0][:2] == ("c", 2)
        assert noted("? [a]\n: 3\n")[0][3] == "expected a name as key, got a list"

    def test_surrogates_and_escapes_are_no_text(self) -> None:
        for text in ('a: "\\ud800"', 'a: "x\\0y"', 'a: "x\\ny"'):
            assert "holds a character that no setting may" in noted(text)[0][3]


class TestValues:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1", 1),
            ("0x10", 16),
            ("1_000", 1000),
            ("1.5", 1.5),
            ("yes", True),
            ("Off", False),
            ("~", None),
            ("", None),
            ("2026-01-01", "2026-01-01"),
            ("2026-99-99", "2026-99-99"),
            ("'1'", "1"),
            ("!!int many", "many"),
            ("0x_", "0x_"),
            ("9" * 5000, "9" * 5000),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("::1", "::1"),
            ("=", "="),
        ],
    )
    def test_scalars(self, text: str, value: object) -> None:
        document = read("f", f"a: {text}".encode())
        assert document.values == {"a": value}
        assert document.problems == []

    def test_keys_are_names_whatever_yaml_makes_of_them(self) -> None:
        assert read("f", b"no: 1\n8080: 2\n~: 3\n").values == {"no": 1, "8080": 2, "~": 3}


TOKENS = st.sampled_from(
    [
        *Settings.model_fields,
        *(
            ": ",
            "\n",
            "\n  ",
            "\n    - ",
            "- ",
            "{",
            "}",
            "[",
            "]",
            ", ",
            "&a ",
            "*a ",
            "!!int ",
            "!x ",
            "'",
            '"',
            "# ",
        ),
        *("name", "bind", "127.0.0.1:1", "enabled", "true", "~", "1", "-1.5", ".nan", "1e999", "0o9", "2026-02-31"),
        *("<<", "? ", "|\n", ">-\n ", "---\n", "...\n", "%YAML 9.9\n", "%TAG ! x\n", "\\", "\t", "\x85", "\ufeff", "é"),
    ]
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)
LISTENER = st.dictionaries(st.sampled_from(["name", "bind", "mode", "tenant"]), PLAIN | st.just("127.0.0.1:1"))
NEAR = st.dictionaries(
    st.sampled_from(list(Settings.model_fields)),
    PLAIN
    | st.lists(LISTENER, max_size=3)
    | st.dictionaries(st.sampled_from(["enabled", "allow", "hosts", "file", "provider", "common_store"]), PLAIN),
)


def either_loads_or_says_why(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "s.yaml"
        file.write_bytes(data)
        try:
            settings = load(file, {}, Path(folder)).settings
        except ConfigError as error:
            refusal = error
        else:
            assert Settings.model_validate_json(settings.model_dump_json()) == settings
            return
    breaks = sum(data.count(each) for each in (b"\n", b"\r", b"\xe2\x80", b"\xc2\x85"))
    assert refusal.problems
    for problem in refusal.problems:
        assert problem.message
        assert problem.line is None or 1 <= problem.line <= breaks + 2
    lines = str(refusal).split("\n")
    assert len(lines) == len(refusal.problems)
    assert all(line.isprintable() for line in lines)


@given(st.binary(max_size=200))
@example(b"")
@example(b"%YAML 1")
@example(b"a: !!float x")
@example(b"!!map x")
@example(b"!!seq {}")
@example(b"a: !!map [1]")
@example(b"a: !!seq {a: 1}")
@example(b"a: !!str [1]")
@example(b"a: !!null {a: 1}")
def test_bytes_load_or_are_refused(data: bytes) -> None:
    either_loads_or_says_why(data)


@given(st.lists(TOKENS, max_size=40))
def test_what_looks_like_yaml_loads_or_is_refused(tokens: list[str]) -> None:
    either_loads_or_says_why("".join(tokens).encode())


@given(NEAR)
def test_what_looks_like_settings_loads_or_is_refused(values: dict[str, Any]) -> None:
    either_loads_or_says_why(yaml.safe_dump(values).encode())
