"""The YAML file of ``header_policy``, read into rules, with every error at once and its line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from addons.header_rules import FRAMING, Direction, Field, Rule, same
from certs.host_patterns import HostPattern, parse_pattern
from certs.names import InvalidHost
from config.document import Document, Plain, read
from config.problems import ConfigError, Location, shown

KEYS = ("hosts", "direction", "text", "set", "add", "remove", "require")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 5.6.2
_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?")  # RFC 9110 5.5, without tabs and obs-text


def parse(file: str, data: bytes) -> tuple[Rule, ...]:
    """The rules of the file, in its order. Raises ConfigError with all that is wrong."""
    document = read(file, data)
    rules = _Reader(document).rules()
    if document.problems:
        raise ConfigError(file, document.problems)
    return rules


class _Reader:
    """Walks the values, notes problems in the document, and carries on."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._bad = document.add

    def rules(self) -> tuple[Rule, ...]:
        values = self._document.values
        for key in values.keys() - {"rules"}:
            self._bad((key,), "unknown key; expected rules")
        listed = values.get("rules")
        if not isinstance(listed, list) or not listed:
            self._bad(("rules",), "expected a list of rules, each with hosts and what is done to their headers")
            return ()
        return tuple(self._rule(value, ("rules", number)) for number, value in enumerate(listed))

    def _rule(self, value: Plain, at: Location) -> Rule:
        if not isinstance(value, dict):
            self._bad(at, "expected a rule with hosts and one or more of set, add, remove, require")
            return Rule((), Direction.REQUEST)
        for key in value.keys() - set(KEYS):
            self._bad((*at, key), f"unknown key; expected one of {', '.join(KEYS)}")
        if not value.keys() & {"set", "add", "remove", "require"}:
            self._bad(at, "the rule does nothing; give it set, add, remove or require")
        direction = self._direction(value.get("direction", "request"), (*at, "direction"))
        if "require" in value and direction is Direction.RESPONSE:
            self._bad((*at, "require"), "only a request's headers can be required; leave direction: response out")
        replaced = tuple(self._fields(value, "set", at, several=False))
        removed = self._names(value.get("remove", []), (*at, "remove")) if "remove" in value else []
        text = value.get("text", "")
        if not isinstance(text, str):
            self._bad((*at, "text"), f"expected text for people, got {shown(text)}")
        return Rule(
            hosts=tuple(self._hosts(value.get("hosts"), (*at, "hosts"))),
            direction=direction,
            text=str(text),
            required=self._required(value, at),
            removed=frozenset(same(name) for name in removed) | {same(name) for name, _ in replaced},
            replaced=replaced,
            added=tuple(self._fields(value, "add", at, several=True)),
        )

    def _direction(self, value: Plain, at: Location) -> Direction:
        try:
            return Direction(str(value))
        except ValueError:
            self._bad(at, f"expected request or response, got {shown(value)}")
            return Direction.REQUEST

    def _hosts(self, value: Plain, at: Location) -> Iterator[HostPattern]:
        listed: list[Plain] = value if isinstance(value, list) else [value]
        if value is None or not listed:
            self._bad(at, "expected host patterns, such as [login.example.com, '*.example.org']")
            return
        for number, text in enumerate(listed):
            place = (*at, number) if isinstance(value, list) else at
            if not isinstance(text, str):
                self._bad(place, f"expected a host pattern, got {shown(text)}")
                continue
            try:
                yield parse_pattern(text)
            except InvalidHost as error:
                self._bad(place, str(error))

    def _fields(self, rule: dict[str, Plain], key: str, at: Location, several: bool) -> Iterator[Field]:
        """Names and values of ``set`` or ``add``; ``several``: a name may have a list of values."""
        seen: dict[bytes, str] = {}
        for name, value, place in self._mapping(rule, key, at):
            if (encoded := self._settable(name, place)) is None:
                continue
            first = seen.setdefault(same(encoded), name)
            if first != name:
                self._bad(place, f"the same header as {first}; keep one")
            if isinstance(value, list) and not several:
                self._bad(place, "expected one value; a header that is set has one, add gives it more")
                continue
            for text in self._values(value, place):
                yield encoded, text

    def _required(self, rule: dict[str, Plain], at: Location) -> dict[bytes, frozenset[bytes] | None]:
        required: dict[bytes, frozenset[bytes] | None] = {}
        for name, value, place in self._mapping(rule, "require", at):
            if (encoded := self._name(name, place)) is not None:
                required[same(encoded)] = None if value == "*" else frozenset(self._values(value, place))
        return required

    def _mapping(self, rule: dict[str, Plain], key: str, at: Location) -> Iterator[tuple[str, Plain, Location]]:
        value = rule.get(key, {})
        if not isinstance(value, dict) or (key in rule and not value):
            self._bad((*at, key), "expected one or more headers, each as NAME: VALUE")
            return
        for name, item in value.items():
            yield name, item, (*at, key, name)

    def _names(self, value: Plain, at: Location) -> list[bytes]:
        if not isinstance(value, list) or not value:
            self._bad(at, "expected a list of header names")
            return []
        names = (self._settable(str(name), (*at, number)) for number, name in enumerate(value))
        return [name for name in names if name is not None]

    def _settable(self, name: str, at: Location) -> bytes | None:
        if same(name.encode()).decode() in FRAMING:
            self._bad(at, f"{name} frames the message or concerns one hop alone; a policy may not change it")
            return None
        return self._name(name, at)

    def _name(self, name: str, at: Location) -> bytes | None:
        if name.startswith(":"):
            self._bad(at, f"{shown(name)} is a pseudo-header of HTTP/2, which no policy may name; remove it")
        elif _TOKEN.fullmatch(name) is None:
            self._bad(at, f"{shown(name)} is no header name (RFC 9110 5.1); expected letters, digits and hyphens")
        else:
            return name.encode("ascii")
        return None

    def _values(self, value: Plain, at: Location) -> Iterator[bytes]:
        listed: list[Plain] = value if isinstance(value, list) else [value]
        if not listed:
            self._bad(at, "expected one or more values")
        for number, item in enumerate(listed):
            place = (*at, number) if isinstance(value, list) else at
            if (text := self._text(item, place)) is None:
                continue
            if _VALUE.fullmatch(text) is None:
                self._bad(place, f"{shown(text)} cannot be a header's value; expected printable ASCII, trimmed")
            else:
                yield text.encode("ascii")

    def _text(self, value: Plain, at: Location) -> str | None:
        """The value as the file spells it: ``1.10`` and ``no`` are text in a header."""
        if at in self._document.spoiled:
            return None
        if value is None or isinstance(value, (list, dict)):
            self._bad(at, 'expected a value; write "" for an empty one')
            return None
        return self._document.written.get(at, str(value))
