from __future__ import annotations

import json

import pytest

from control.shown.audit_log import Difference, differences
from store.records import AuditEntry
from tests.harness.pki import NOW


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, None, []),
        (None, {"name": "a"}, [Difference("name", None, "a")]),
        ({"name": "a", "on": True}, None, [Difference("name", "a", None), Difference("on", "yes", None)]),
        (
            {"name": "a", "tenants": None, "hosts": ["x", "y"]},
            {"name": "a", "tenants": ["b"], "hosts": ["x"]},
            [Difference("tenants", "none", "b"), Difference("hosts", "x, y", "x"), Difference("name", "a", "a")],
        ),
        ({"row": {"expired": "block"}}, {"row": {"expired": "warn"}}, [Difference("row: expired", "block", "warn")]),
        ([1], "x", [Difference("", "1", "x")]),
    ],
)
def test_what_is_different_comes_first(before: object, after: object, expected: list[Difference]) -> None:
    told = [None if each is None else json.dumps(each) for each in (before, after)]
    entry = AuditEntry(1, None, NOW, "ann", "here", "a.b", "c", told[0], told[1], None)
    assert differences(entry) == expected
