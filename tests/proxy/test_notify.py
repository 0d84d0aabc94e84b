"""What the service manager is told."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import pytest

from proxy import notify


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_told_in_datagrams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"@sallyport-{secrets.token_hex(8)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        manager.settimeout(5)
        monkeypatch.setenv(notify.VARIABLE, name)
        notify.ready("2 workers")
        assert manager.recv(1000) == b"READY=1\nSTATUS=2 workers\n"
        notify.reloading()
        assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        notify.stopping()
        assert manager.recv(1000) == b"STOPPING=1\n"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_without_anybody_to_tell_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv(notify.VARIABLE, address)
    notify.ready("2 workers")
