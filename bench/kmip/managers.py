"""The key managers of the scenarios: PyKMIP's server, and the fake, each a process with the same key."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol, Self

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.kmip import fake
from tests.harness.command import REPOSITORY
from tests.harness.kmip_server import KmipServer
from tests.harness.processes import wait_for
from tests.kms.kmip.rig import SIGNING_KEY, root, server_identity

KEY_NAME = "signing"


class Manager(Protocol):
    """A key manager that runs, and that can be made not to."""

    port: int

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def start(self) -> None:
        """Start it, on the port that it had before where it had one."""

    def kill(self) -> None:
        """SIGKILL to all of its processes."""

    def stop(self) -> None:
        """Let it hang."""

    def go_on(self) -> None:
        """Let it go on."""

    def signed(self) -> int:
        """How many signatures it was asked for."""


class PyKmip(KmipServer):
    """PyKMIP's server with the key in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, server_identity(), root())

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.register(KEY_NAME, SIGNING_KEY)
        except BaseException:
            self.kill()
            raise
        return self


class Fake:
    """The fake, on loopback. ``hangs`` is how it does, once it is told to: ``fake.SILENT`` or ``fake.NO_SIGNATURE``."""

    def __init__(self, folder: Path, hangs: signal.Signals = fake.SILENT) -> None:
        self.folder = folder
        self.port = 0
        self._hangs = hangs
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        server_identity().write(folder, "server")
        (folder / "clients.pem").write_bytes(root().pem())
        (folder / "signing.key").touch(0o600)
        (folder / "signing.key").write_bytes(
            SIGNING_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """See :class:`Manager`."""
        told = self.folder / "port"
        told.unlink(missing_ok=True)
        with (self.folder / "stderr").open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "bench.kmip.fake", str(self.folder), str(self.port)],
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        try:
            wait_for("the fake key manager to listen", told.exists, 30)
        except BaseException:
            self.kill()
            raise
        self.port = int(told.read_text())

    def kill(self) -> None:
        """See :class:`Manager`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """See :class:`Manager`."""
        self._tell(self._hangs)

    def go_on(self) -> None:
        """See :class:`Manager`."""
        self._tell(fake.WELL)

    def signed(self) -> int:
        """See :class:`Manager`."""
        try:
            return os.stat(self.folder / "signed").st_size
        except FileNotFoundError:
            return 0

    def _tell(self, number: signal.Signals) -> None:
        assert self._process is not None, "it does not run"  # noqa: S101 - a mistake of the caller
        self._process.send_signal(number)
        behaves = self.folder / "behaves"
        wait_for("the fake to act on it", lambda: behaves.exists() and behaves.read_text() == str(number.value))
