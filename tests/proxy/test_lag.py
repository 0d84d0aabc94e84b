"""The longest lag of the last measurements."""

from __future__ import annotations

from proxy.lag import KEPT, Lag


def test_the_longest_is_forgotten_when_it_is_long_ago() -> None:
    lag = Lag()
    assert lag.longest == 0
    lag.saw(0.3)
    lag.saw(0.1)
    assert lag.longest == 0.3
    for _ in range(KEPT - 1):
        lag.saw(0.05)
    assert lag.longest == 0.1
    lag.saw(0.05)
    assert lag.longest == 0.05
