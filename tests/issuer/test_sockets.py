"""The socket's file: its mode, a path of any length, and who is on the other side."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from issuer.sockets import bind_unix, connect_unix, is_ours, peer_uid


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A path that fits into no socket address, which holds 108 bytes."""
    folder = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8)
    folder.mkdir(parents=True)
    assert len(str(folder)) > 200
    return folder / "issuer.sock"


def test_a_path_may_be_longer_than_a_socket_address(deep: Path) -> None:
    with bind_unix(deep) as listener, connect_unix(deep) as ours:
        theirs, _ = listener.accept()
        with theirs:
            ours.send(b"hello")
            assert theirs.recv(5) == b"hello"


def test_only_its_user_may_connect_whatever_the_umask(deep: Path) -> None:
    before = os.umask(0)
    try:
        with bind_unix(deep):
            found = deep.lstat()
    finally:
        os.umask(before)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600


def test_a_socket_that_was_left_behind_is_replaced(deep: Path) -> None:
    bind_unix(deep).close()
    with pytest.raises(ConnectionRefusedError):
        connect_unix(deep)
    with bind_unix(deep) as listener, connect_unix(deep):
        listener.accept()[0].close()


def test_a_file_that_is_no_socket_is_left_alone(deep: Path) -> None:
    deep.write_text("mine")
    with pytest.raises(FileExistsError, match="in the way"):
        bind_unix(deep)
    assert deep.read_text() == "mine"


def test_no_descriptor_stays_open(deep: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        connect_unix(deep)
    bind_unix(deep).close()
    with pytest.raises(ConnectionRefusedError):
        connect_unix(deep)
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_peer_is_known_by_its_user() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_uid(one) == os.geteuid()
    assert is_ours(os.geteuid())
    assert is_ours(0)
    assert not is_ours(os.geteuid() + 1)
