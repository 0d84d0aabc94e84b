"""The YAML file as plain values with a place for each: what is read before anything is known about settings.

PyYAML's node graph is used rather than its constructors: a node knows its line, and no tag of the file can make an
object. Everything that a file can do to a reader is bounded here: its size, its depth, what its aliases expand to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from config.problems import ConfigError, Location, Problem, dotted, one_line, shown

LARGEST_FILE = 1 << 20
"""Bytes. A configuration of a thousand listeners is a tenth of it."""
DEEPEST = 20
"""Levels of nesting. The settings need four."""
MOST_VALUES = 100_000
"""Values after every alias is followed, so that a few lines of aliases can't grow into billions."""

_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "value")
}

Plain = str | int | float | bool | list["Plain"] | dict[str, "Plain"] | None


class _TooDeep(yaml.MarkedYAMLError):
    """Nesting that goes on past DEEPEST."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that stops at DEEPEST levels: composing recurses, and Python's stack is finite."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > DEEPEST:
            # PyYAML's parser has no types for its events.
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _TooDeep(problem=f"nested more than {DEEPEST} levels deep", problem_mark=mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


@dataclass(slots=True)
class Document:
    """The values of a file (empty mapping for an empty file), where each stands, and what was wrong so far."""

    values: dict[str, Plain] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    written: dict[Location, str] = field(default_factory=dict)
    """Scalars as the file spells them: ``no`` where YAML means false."""
    spoiled: set[Location] = field(default_factory=set)
    """Where a problem left None in the place of the value: nothing more is to be said about these."""
    _marks: dict[Location, yaml.Mark] = field(default_factory=dict)
    _count: int = 0

    def place(self, location: Location) -> tuple[int, int]:
        """Line and column, from 1, of a location, or of the nearest thing around it that stands in the file."""
        while location and location not in self._marks:
            location = location[:-1]
        mark = self._marks.get(location)
        return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)

    def add(self, location: Location, message: str, at: yaml.Mark | None = None) -> None:
        """Note a problem at a location."""
        line, column = (at.line + 1, at.column + 1) if at is not None else self.place(location)
        self.problems.append(Problem(dotted(location), message, line, column))


def read(file: str, data: bytes) -> Document:
    """Read the file's bytes. Raises ConfigError where nothing can be made of them (not UTF-8, not YAML, too large).

    Duplicate keys, tags and unusable characters are noted in the document, so that the rest is checked too.
    """
    root = _compose(file, data)
    document = Document()
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == "tag:yaml.org,2002:null"):
        return document  # "---" alone is a document that holds nothing, as a file of comments is
    if not isinstance(root, yaml.MappingNode):
        message = f"expected settings as KEY: VALUE lines, got {_kind(root)}"
        raise ConfigError(file, [Problem("", message, root.start_mark.line + 1, root.start_mark.column + 1)])
    try:
        values = _value(document, root, (), ())
    except _Refused as refused:
        raise ConfigError(file, [refused.problem]) from None
    if isinstance(values, dict):  # else the mapping has a tag of its own, which is noted
        document.values = values
    return document


class _Refused(Exception):  # noqa: N818 - carries a problem out of the recursion; never leaves this module
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def _compose(file: str, data: bytes) -> yaml.Node | None:
    if len(data) > LARGEST_FILE:
        raise ConfigError(file, [Problem("", f"the file is larger than {LARGEST_FILE} bytes; expected settings")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(file, [Problem("", "expected UTF-8 text; save the file as UTF-8", line)]) from None
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = "; ".join(part for part in (error.context, error.problem, error.note) if part)
        place = (mark.line + 1, mark.column + 1) if mark is not None else (None, None)
        raise ConfigError(file, [Problem("", f"not valid YAML: {one_line(problem)}", *place)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not valid YAML: the character U+{int(error.character):04X} may not stand in it"
        raise ConfigError(file, [Problem("", message, line)]) from None
    except (ValueError, OverflowError) as error:
        # The scanner computes escapes and %YAML versions without looking: "\U99999999" is no character.
        raise ConfigError(file, [Problem("", f"not valid YAML: {one_line(str(error))}")]) from None


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return shown(node.value)


def _value(document: Document, node: yaml.Node, location: Location, around: tuple[yaml.Node, ...]) -> Plain:
    document._count += 1
    document._marks.setdefault(location, node.start_mark)
    if document._count > MOST_VALUES or any(node is outer for outer in around):
        message = f"aliases (*name) that expand to themselves or to more than {MOST_VALUES} values; write them out"
        mark = node.start_mark
        raise _Refused(Problem(dotted(location), message, mark.line + 1, mark.column + 1))
    if node.tag not in _PLAIN_TAGS:
        document.add(location, f"the tag {shown(node.tag)} is not used here; expected a plain value", node.start_mark)
        document.spoiled.add(location)
        return None
    if isinstance(node, yaml.MappingNode):
        return {
            key: _value(document, child, (*location, key), (*around, node))
            for key, child in _entries(document, node, location)
        }
    if isinstance(node, yaml.SequenceNode):
        return [_value(document, child, (*location, index), (*around, node)) for index, child in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)  # noqa: S101 - the third and last kind of node
    document.written[location] = node.value
    return _scalar(document, node, location)


def _entries(document: Document, node: yaml.MappingNode, location: Location) -> Iterator[tuple[str, yaml.Node]]:
    """The keys as they are written (``no`` and ``8080`` are names like any other) with their values; each key once."""
    first: dict[str, int] = {}
    for key_node, child in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            document.add(location, f"expected a name as key, got {_kind(key_node)}", key_node.start_mark)
            continue
        key = key_node.value
        if key == "<<" and key_node.style is None:
            document.add(location, "merge keys (<<) are not read; write the settings out", key_node.start_mark)
        elif _unusable(key):
            document.add(location, f"the key {shown(key)} holds a character that no setting may", key_node.start_mark)
        elif key in first:
            message = f"given twice, first on line {first[key]}; keep one"
            document.add((*location, key), message, key_node.start_mark)
        else:
            first[key] = key_node.start_mark.line + 1
            # A block mapping begins on the line below its key: the key's line is where a person looks.
            document._marks[(*location, key)] = key_node.start_mark
            yield key, child


def _scalar(document: Document, node: yaml.ScalarNode, location: Location) -> Plain:
    text: str = node.value
    if _unusable(text):
        document.add(location, f"{shown(text)} holds a character that no setting may", node.start_mark)
        document.spoiled.add(location)
        return None
    try:
        match node.tag.rpartition(":")[2]:
            case "null":
                return None
            case "bool":
                return bool(yaml.SafeLoader.bool_values[text.lower()])
            case "int":
                return int(yaml.constructor.SafeConstructor().construct_yaml_int(node))
            case "float":
                return float(yaml.constructor.SafeConstructor().construct_yaml_float(node))
            case _:
                # A date is text too: no setting takes one, and a listener may be named 2026-01-01.
                return text
    except (ValueError, KeyError, OverflowError, IndexError):
        # "!!int many" and "0x_" look like numbers and are none; neither are thousands of digits.
        return text


def _unusable(text: str) -> bool:
    return any(char < " " or char == "\x7f" or "\ud800" <= char <= "\udfff" for char in text)
