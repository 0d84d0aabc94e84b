"""A client that was told all: how long it is listened to, and for what."""

from __future__ import annotations

from typing import Any, cast

from proxy.lanes.linger import MOST_DECRYPTED, MOST_DROPPED, Linger
from proxy.session import State


class Leg:
    """Counts what it has to decrypt."""

    def __init__(self) -> None:
        self.ended = False
        self.received = 0

    def receive(self, data: bytes) -> bytes:
        self.received += len(data)
        return data

    def end(self) -> None: ...

    def half_close(self) -> None: ...


class Client:
    """A session as far as a lingering client has one."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def to(self, state: State, seconds: float, phase: object) -> None: ...

    def resume(self) -> None: ...

    def close(self, reason: str) -> None:
        self.ends.append(f"closed: {reason}")

    def abort(self, reason: str) -> None:
        self.ends.append(f"aborted: {reason}")


def lingering() -> tuple[Linger, Client, Leg]:
    client, leg = Client(), Leg()
    linger = Linger(cast("Any", client), cast("Any", leg), "refused")
    linger.begin()
    return linger, client, leg


def test_a_goodbye_is_heard() -> None:
    linger, client, leg = lingering()
    leg.ended = True
    linger.data(b"close_notify")
    assert client.ends == ["closed: refused"]


def test_one_who_goes_on_is_not_decrypted_for_long() -> None:
    linger, client, leg = lingering()
    for _ in range(MOST_DROPPED // 65_536):
        linger.data(b"x" * 65_536)
    assert leg.received <= MOST_DECRYPTED
    assert not client.ends
    linger.data(b"x")
    assert client.ends == ["aborted: refused; the client went on and on"]


def test_fin_is_enough_behind_that() -> None:
    linger, client, _ = lingering()
    linger.data(b"x" * (MOST_DECRYPTED + 1))
    assert linger.ended() is False
    assert client.ends == ["closed: refused"]
