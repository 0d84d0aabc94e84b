"""How long a dead child waits."""

from __future__ import annotations

from proxy.children import LONGEST_WAIT, next_wait


def test_a_child_that_was_well_is_back_at_once_and_one_that_keeps_dying_waits_longer_each_time() -> None:
    waits, after = [], 0.0
    for _ in range(10):
        wait, after = next_wait(after, steady=False)
        waits.append(wait)
    assert waits[:5] == [0.0, 0.2, 0.4, 0.8, 1.6]
    assert waits[-1] == LONGEST_WAIT
    assert next_wait(after, steady=True) == (0.0, 0.0)
