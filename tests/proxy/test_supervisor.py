"""How long a dead child waits, and what the supervisor says where it cannot listen."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from config.settings import Listener, Settings
from proxy.supervisor import LONGEST_WAIT, StartError, address, bind, lock, next_wait


def test_a_child_that_was_well_is_back_at_once_and_one_that_keeps_dying_waits_longer_each_time() -> None:
    waits, after = [], 0.0
    for _ in range(10):
        wait, after = next_wait(after, steady=False)
        waits.append(wait)
    assert waits[:5] == [0.0, 0.2, 0.4, 0.8, 1.6]
    assert waits[-1] == LONGEST_WAIT
    assert next_wait(after, steady=True) == (0.0, 0.0)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_port_that_is_taken_is_an_error_that_names_the_setting(host: str) -> None:
    first = bind(Listener(name="one", bind=f"{host}:0"), 0)
    with first, pytest.raises(StartError, match=r"listeners\[3\]\.bind: cannot listen on .*: Address already in use"):
        bind(Listener(name="two", bind=address(first)), 3)
    assert first.family in (socket.AF_INET, socket.AF_INET6)


def test_a_state_directory_has_one_daemon(tmp_path: Path) -> None:
    import os

    settings = Settings(state_dir=tmp_path)
    held = lock(settings)
    with pytest.raises(StartError, match=rf"another Sallyport \(process {os.getpid()}\) uses {tmp_path}"):
        lock(settings)
    os.close(held)
    os.close(lock(settings))
