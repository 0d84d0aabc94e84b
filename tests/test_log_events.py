"""docs/operations.md tells every event of the log and its fields: what the source logs is compared with its tables."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from proxy.reload import KINDS

HERE = Path(__file__).parents[1]
PACKAGES = ("cli", "control", "proxy", "issuer")
BY_SESSION = {"log", "stage"}
"""Methods of a session: their lines have its id, its tenant and its client."""
OF_LOG = {"event", "_line"}
ELSEWHERE = {"request", "lane", "connection", "refused", "verdict"}
"""Events whose fields are not all written out where they are logged."""


def logged() -> Iterator[tuple[str, str, str, set[str]]]:
    """Each call that logs: where, by what, the event's name, the fields that it writes out."""
    for package in PACKAGES:
        for path in sorted((HERE / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                function = node.func
                by = (
                    function.attr
                    if isinstance(function, ast.Attribute)
                    else function.id
                    if isinstance(function, ast.Name)
                    else ""
                )
                place = 0 if by in ("log_event", "stage") else 1 if by in OF_LOG | {"log"} else None
                if by == "ours" and isinstance(node.args[0], ast.Attribute) and node.args[0].attr in OF_LOG:
                    place = 2  # the method is an argument itself, and those that it gets come behind it
                if place is None or len(node.args) <= place:
                    continue
                for name in names_in(node.args[place]):
                    fields = {keyword.arg for keyword in node.keywords if keyword.arg is not None}
                    for given in node.args[place + 1 :]:
                        if isinstance(given, ast.Dict):
                            fields |= {str(key.value) for key in given.keys if isinstance(key, ast.Constant)}
                    yield f"{path.relative_to(HERE)}:{node.lineno}", by, name, fields - {"began", "level", "more"}


def names_in(name: ast.expr) -> list[str]:
    """The events that the expression can be: written out, one of two, or one for each kind of reload."""
    if isinstance(name, ast.IfExp):
        return names_in(name.body) + names_in(name.orelse)
    if isinstance(name, ast.JoinedStr):
        match name.values:
            case [ast.FormattedValue(value=ast.Name(id="kind")), ast.Constant(value=str(rest))]:
                return [f"{kind}{rest}" for kind in KINDS]
        raise AssertionError(f"line {name.lineno}: which events are these?")
    return [name.value] if isinstance(name, ast.Constant) and isinstance(name.value, str) else []


def documented() -> dict[str, tuple[str, set[str]]]:
    """Of each event, the table that it stands in and its fields."""
    found: dict[str, tuple[str, set[str]]] = {}
    text = (HERE / "docs" / "operations.md").read_text()
    for section in re.split(r"^##+ ", text, flags=re.MULTILINE):
        title = section.partition("\n")[0]
        if not title.startswith("Of "):
            continue
        for row in re.findall(r"^\| (`.*?)\|(.*?)\|(.*?)\|.*\|$", section, re.MULTILINE):
            for event in re.findall(r"`([^`]+)`", row[0]):
                assert event not in found, f"{event} stands there twice"
                found[event] = (title, set(re.findall(r"`([^`]+)`", row[2])))
    return found


def test_every_event_of_the_source_is_in_a_table_and_no_other() -> None:
    in_source = {event for _, _, event, _ in logged()} | {"request"}
    assert len(in_source) > 30
    assert in_source == documented().keys()


def test_every_field_of_an_event_is_in_its_row() -> None:
    tables = documented()
    for where, by, event, fields in logged():
        title, told = tables[event]
        always = {"ms"} if by == "stage" else set()
        common = {"id", "tenant", "client"} if title == "Of a connection" else set()
        assert fields | always <= told | common, f"{where}: {event}: {sorted((fields | always) - told - common)}"


def test_every_field_of_a_row_is_logged_somewhere() -> None:
    written: dict[str, set[str]] = defaultdict(set)
    for _, by, event, fields in logged():
        written[event] |= fields | ({"ms"} if by == "stage" else set())
    for event, (_, told) in documented().items():
        if event not in ELSEWHERE:
            assert told <= written[event], f"{event}: {sorted(told - written[event])}"


def test_what_a_verdicts_line_has_beside_is_in_its_row() -> None:
    """It is put together in a module of its own: the names are the literals of its dictionaries' keys."""
    source = ast.parse((HERE / "proxy" / "verdict_trace.py").read_text())
    made: set[str] = set()
    for function in (node for node in source.body if isinstance(node, ast.FunctionDef)):
        if function.name in ("told", "_chain", "_tls"):
            for node in ast.walk(function):
                if isinstance(node, ast.Dict):
                    made |= {str(key.value) for key in node.keys if isinstance(key, ast.Constant)}
    written = {field for _, _, event, fields in logged() if event == "verdict" for field in fields}
    assert (made - {"from"}) | written | {"ms"} == documented()["verdict"][1]


def test_what_a_session_logs_is_in_the_table_of_connections() -> None:
    tables = documented()
    for where, by, event, _ in logged():
        title = tables[event][0]
        if by in BY_SESSION:
            assert title == "Of a connection", f"{where}: {event}"
        if by == "log_event":
            assert title == "Of the issuer", f"{where}: {event}"


def test_a_request_lines_fields_are_those_of_its_row() -> None:
    from proxy.lanes.exchange import Exchange
    from proxy.log import Log

    lines: list[str] = []
    log = Log(2, "info", "worker 1", lambda: 1.0)
    log._put = lines.append  # type: ignore[method-assign] # the line itself is what is looked at
    more = {"query": "a", "request_headers": {"a": "b"}, "response_headers": {"a": "b"}}
    log.request("", Exchange("HTTP/1.1", "GET", "h", "/", 200, 1, 1, 1.0, 2.0, 3.0, "complete", more))
    fields = set(re.findall(r'"(\w+)":', lines[0])) - {"time", "level", "event", "from", "a"}
    assert fields | {"sampled"} == documented()["request"][1]
