from __future__ import annotations

import pytest

from control.on_premises import key_at
from control.shown.kmip import ADVICE, step_as_object
from control.shown.signing_cas import key_as_object
from kms.kmip.validation import Found, Step
from tests.kms.kmip.rig import at


def test_each_step_that_failed_comes_with_what_to_do() -> None:
    assert list(ADVICE) == [step.value for step in Step]
    for step in Step:
        failed, passed = (step_as_object(at(5696), Found(step, each, "as it was")) for each in (False, True))
        assert failed["advice"]
        assert passed["advice"] is None
        assert (failed["host"], failed["text"]) == ("kms.example:5696", "as it was")
        assert failed["meaning"]


@pytest.mark.parametrize(
    ("primary", "alternate", "shown"),
    [
        ("kms.example", None, ("kms.example:5696", None)),
        ("kms.example:1", "192.0.2.1", ("kms.example:1", "192.0.2.1:1")),
        ("[2001:db8::1]", "[2001:db8::2]:7", ("[2001:db8::1]:5696", "[2001:db8::2]:7")),
    ],
)
def test_where_a_key_is_can_be_typed_again(primary: str, alternate: str | None, shown: tuple[str, str | None]) -> None:
    key = key_at("proxy", primary, alternate, pss=True)
    found = key_as_object(key)
    assert found is not None
    assert (found["primary"], found["alternate"]) == shown
    assert key_at(found["key_name"], found["primary"], found["alternate"], pss=found["pss"]) == key
    assert key_as_object(None) is None
