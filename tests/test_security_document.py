"""docs/security.md names the test that shows each thing: here it is seen that there are such tests."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
DOCUMENT = (HERE / "docs/security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)))
ROWS = [line.split("|")[1:-1] for line in DOCUMENT.splitlines() if re.match(r"\| \d", line)]
REQUIREMENTS = {
    "5.1": (1,), "5.2": (1, 2, 3), "5.3": (1, 2), "5.4": (1, 2, 3),
    "6.1": (1, 2, 3), "6.2": tuple(range(1, 13)), "6.3": (1, 2, 3, 4), "6.4": (1, 2, 3, 4), "6.5": (1, 2, 3, 4, 5),
    "6.6": (1, 2, 3), "6.8": (1, 2, 3, 4),
    "7.1": (1, 2, 3), "7.2": (1, 2, 3, 4), "7.3": (1, 2), "7.4": (1, 2, 3, 4, 5), "7.5": (1, 2), "7.6": (1, 2),
    "8.1": (1, 2), "8.2": (1, 2, 3), "8.3": (1,), "8.4": (1,),
}  # fmt: skip
"""Of levels 1 and 2, by section."""


@cache
def named_in(path: str) -> frozenset[str]:
    """The names of the tests in a module, those in its classes included."""
    tree = ast.parse((HERE / path).read_text())
    functions = (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(each.name for each in functions if each.name.startswith("test_"))


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_each_test_that_is_named_is_there(path: str) -> None:
    assert {name for module, name in NAMED if module == path} - named_in(path) == set()


def test_each_requirement_has_a_row_that_says_how_it_is_met_or_why_not() -> None:
    expected = [f"{section}.{number}" for section, numbers in REQUIREMENTS.items() for number in numbers]
    assert [row[0].strip() for row in ROWS] == expected
    for row in ROWS:
        shown = row[-1].strip()
        assert "::" in shown or shown.startswith(("not met, because", "does not apply:", "document:")), row[0]
