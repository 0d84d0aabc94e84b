"""Rules of header_policy: what they do to fields, and the file that they stand in."""

from __future__ import annotations

import pytest

from addons.header_rule_file import parse
from addons.header_rules import FRAMING, Direction, Rule
from certs.host_patterns import HostPattern
from config.problems import ConfigError

FIELDS = ((b"Accept", b"*/*"), (b"X-One", b"1"), (b"x-oNE", b"2"), (b"X_One", b"3"), (b"X-Two", b"4"))


def rule(text: str) -> Rule:
    """The one rule of a file in which ``text`` is the rest of the rule, in YAML's flow style."""
    (found,) = parse("rules.yaml", f"rules:\n  - {{hosts: [a.example], {text}}}".encode())
    return found


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse("rules.yaml", text.encode())
    return str(caught.value).splitlines()


class TestApply:
    def test_set_replaces_every_spelling_and_number(self) -> None:
        assert rule("set: {x-one: new}").apply(FIELDS, lower=False) == (FIELDS[0], FIELDS[4], (b"x-one", b"new"))

    def test_add_leaves_what_is_there(self) -> None:
        assert rule("add: {X-One: [5, no]}").apply(FIELDS, lower=False) == (
            *FIELDS,
            (b"X-One", b"5"),
            (b"X-One", b"no"),
        )

    def test_remove_takes_every_spelling(self) -> None:
        assert rule("remove: [X-ONE, X-Three]").apply(FIELDS, lower=False) == (FIELDS[0], FIELDS[4])

    def test_removing_comes_before_setting_and_that_before_adding(self) -> None:
        made = rule("add: {X-One: last}, set: {X-One: first}, remove: [X-One]")
        assert made.apply(FIELDS, lower=False) == (FIELDS[0], FIELDS[4], (b"X-One", b"first"), (b"X-One", b"last"))

    def test_names_are_in_lower_case_where_they_must_be(self) -> None:
        assert rule("set: {X-Three: A}").apply((), lower=True) == ((b"x-three", b"A"),)

    def test_values_are_what_the_file_spells(self) -> None:
        made = rule('set: {A: 1.10, B: no, C: 0x1F, D: 2026-01-01, E: "", F: a  b}')
        assert [value for _, value in made.apply((), lower=False)] == [
            b"1.10",
            b"no",
            b"0x1F",
            b"2026-01-01",
            b"",
            b"a  b",
        ]


class TestRequire:
    @pytest.mark.parametrize(
        ("required", "lacks"),
        [
            ("{Accept: '*'}", None),
            ("{accept: '*/*'}", None),
            ("{X-Two: [3, 4]}", None),
            ("{X-Two: 4, Accept: '*'}", None),
            ("{X-Three: '*'}", "x-three"),
            ("{X-Two: 5}", "x-two"),
            ("{X-One: 1}", "x-one"),
            ("{X-One: [1, 2]}", "x-one"),
            ("{X-One: [1, 2, 3]}", None),
        ],
    )
    def test_every_value_of_the_field_has_to_be_allowed(self, required: str, lacks: str | None) -> None:
        assert rule(f"require: {required}").lacking(FIELDS) == lacks

    def test_blanks_around_a_value_do_not_count(self) -> None:
        assert rule("require: {X: y}").lacking(((b"x", b" y\t"),)) is None


class TestFile:
    def test_a_rule_as_it_is_written(self) -> None:
        (made,) = parse("rules.yaml", b"rules: [{hosts: '*.a.example', direction: response, text: Why, remove: [B_c]}]")
        assert made == Rule((HostPattern("a.example", below=True),), Direction.RESPONSE, "Why", {}, frozenset({b"b-c"}))

    @pytest.mark.parametrize("name", sorted(FRAMING))
    @pytest.mark.parametrize("how", ["set: {%s: x}", "add: {%s: x}", "remove: [%s]"])
    def test_what_frames_a_message_is_nobodys_to_change(self, name: str, how: str) -> None:
        for spelled in (name.title(), name.replace("-", "_")):
            (said,) = problems(f"rules:\n  - hosts: a.example\n    {how % spelled}")
            assert said.startswith("rules.yaml:3: rules[0].")
            assert f"{spelled} frames the message" in said

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "rules.yaml:1: rules: expected a list of rules"),
            ("rules: []", "rules.yaml:1: rules: expected a list of rules"),
            ("rules: [1]", "rules[0]: expected a rule with hosts"),
            ("- a", "expected settings as KEY: VALUE lines"),
            ("rules: [", "not valid YAML"),
            ("rules:\n- {set: {A: b}}", "rules.yaml:2: rules[0].hosts: expected host patterns"),
            ("rules:\n- {hosts: [], set: {A: b}}", "rules[0].hosts: expected host patterns"),
            ("rules:\n- {hosts: [1], set: {A: b}}", "rules[0].hosts[0]: expected a host pattern, got 1"),
            ("rules:\n- {hosts: [a*b], set: {A: b}}", "rules[0].hosts[0]: the star of 'a*b' may only stand"),
            ("rules:\n- {hosts: a.example}", "rules[0]: the rule does nothing"),
            ("rules:\n- {hosts: a.example, set: {}}", "rules[0].set: expected one or more headers"),
            ("rules:\n- {hosts: a.example, sett: {A: b}, set: {A: b}}", "rules[0].sett: unknown key; expected one of"),
            ("rules:\n- {hosts: a.example, direction: both, set: {A: b}}", "direction: expected request or response"),
            ("rules:\n- {hosts: a.example, direction: response, require: {A: b}}", "only a request's headers"),
            ("rules:\n- {hosts: a.example, set: {A: [b, c]}}", "rules[0].set.A: expected one value"),
            ("rules:\n- {hosts: a.example, set: {A-b: c, a_B: d}}", "rules[0].set.a_B: the same header as A-b"),
            ("rules:\n- {hosts: a.example, set: {A: }}", "rules[0].set.A: expected a value"),
            ("rules:\n- {hosts: a.example, set: {A: {b: c}}}", "rules[0].set.A: expected a value"),
            ("rules:\n- {hosts: a.example, set: {'A b': c}}", "'A b' is no header name"),
            ("rules:\n- {hosts: a.example, set: {Ä: c}}", "is no header name"),
            ("rules:\n- {hosts: a.example, set: {':path': c}}", "is a pseudo-header of HTTP/2"),
            ("rules:\n- {hosts: a.example, require: {':path': c}}", "is a pseudo-header of HTTP/2"),
            ('rules:\n- {hosts: a.example, set: {A: "b\\r\\nC: d"}}', "holds a character that no setting may"),
            ('rules:\n- {hosts: a.example, set: {A: "b\\nd"}}', "holds a character that no setting may"),
            ('rules:\n- {hosts: a.example, set: {A: "b\\0"}}', "holds a character that no setting may"),
            ("rules:\n- {hosts: a.example, set: {A: ü}}", "cannot be a header's value"),
            ("rules:\n- {hosts: a.example, set: {A: ' b'}}", "cannot be a header's value"),
            ("rules:\n- {hosts: a.example, remove: A}", "rules[0].remove: expected a list of header names"),
            ("rules:\n- {hosts: a.example, require: {A: []}}", "rules[0].require.A: expected one or more values"),
            ("other: 1\nrules:\n- {hosts: a.example, set: {A: b}}", "rules.yaml:1: other: unknown key"),
        ],
    )
    def test_what_is_refused(self, text: str, says: str) -> None:
        said = problems(text)
        assert len(said) == 1, said
        assert says in said[0]

    def test_everything_wrong_comes_at_once_with_its_line(self) -> None:
        text = "rules:\n  - hosts: [a.example, b..c]\n    set:\n      Host: x\n      A: ü\n  - nothing: here\n"
        assert [line.split(":")[1] for line in problems(text)] == ["2", "4", "5", "6", "6", "6"]
