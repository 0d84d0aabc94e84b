"""A real ICAP server for tests: c-icap with its echo service and its virus scanner, and a ClamAV daemon of its own.

    with IcapServer(tmp_path, identity=issuing.leaf("127.0.0.1")) as icap:
        icap.url("avscan"); icap.secure_url("echo"); icap.requests()

Nothing of the system's configuration or of its signatures is read. The daemon knows two signatures: that of the EICAR
test file, and :data:`MARK` anywhere in a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.harness.pki import Issued
from tests.harness.processes import free_port, wait_for
from tests.harness.programs import in_ci, need

MARK = b"a mark that no clean file has"


def eicar() -> bytes:
    """The file that every scanner takes for a virus. In two halves, so that no scanner takes this one for it."""
    return (r"X5O!P%@AP[4\PZX54(P^)7CC)7}" + "$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*").encode()


def _modules() -> Path:
    """The folder of c-icap's modules, with the virus scanner in it; else the test is skipped (in CI: fails)."""
    need("c-icap")
    for found in Path("/usr").glob("lib*/**/c_icap/virus_scan.so"):
        return found.parent
    message = "c-icap has no virus_scan.so; install libc-icap-mod-virus-scan"
    if in_ci():
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


class IcapServer:
    """c-icap with the services ``echo`` and ``avscan``. With an ``identity`` it listens for ``icaps`` too."""

    def __init__(self, folder: Path, identity: Issued | None = None) -> None:
        self.folder = folder / "icap"
        self.port = self.secure_port = 0
        self._identity = identity
        self._clamd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        for part in ("database", "temp"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    def url(self, service: str) -> str:
        """The URL of a service."""
        return f"icap://127.0.0.1:{self.port}/{service}"

    def secure_url(self, service: str) -> str:
        """The same over TLS."""
        return f"icaps://127.0.0.1:{self.secure_port}/{service}"

    def requests(self, method: str = "") -> list[str]:
        """What c-icap logged, oldest first: ``METHOD SERVICE STATUS``; of one method where given."""
        log = self.folder / "access.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.startswith(method)]

    def __enter__(self) -> Self:
        try:
            self._start_clamd()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        _end(self._clamd)
        self._clamd = None

    def start(self) -> None:
        """Start c-icap (again), on new ports the first time and on the same ones afterwards."""
        again = bool(self.port)
        for attempt in range(5):
            if not again:
                self.port, self.secure_port = free_port(), free_port()
            try:
                self._start_server()
            except AssertionError:
                self.stop()
                # Between the search for a free port and the bind, another test may have taken it.
                if again or attempt == 4:
                    raise
            else:
                return

    def stop(self) -> None:
        """End c-icap, with its children."""
        _end(self._server)
        self._server = None

    def _start_clamd(self) -> None:
        program = need("clamd")
        test_file = eicar()
        database = self.folder / "database"
        (database / "tests.hdb").write_text(f"{hashlib.md5(test_file).hexdigest()}:{len(test_file)}:Test.Eicar\n")  # noqa: S324 - the form of a .hdb file
        (database / "tests.ndb").write_text(f"Test.Mark:0:*:{MARK.hex()}\n")
        config = self.folder / "clamd.conf"
        lines = [
            f"LocalSocket {self.folder}/clamd.sock",
            f"DatabaseDirectory {database}",
            f"TemporaryDirectory {self.folder}/temp",
            "Foreground yes",
            "SelfCheck 0",
            *(["User root"] if os.geteuid() == 0 else []),
        ]
        config.write_text("\n".join(lines) + "\n")
        with (self.folder / "clamd.log").open("ab") as log:
            self._clamd = process = subprocess.Popen(
                [program, f"--config-file={config}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for("clamd to listen", lambda: self._alive(process, "clamd.log") and self._clamd_listens(), timeout=60)

    def _clamd_listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(self.folder / "clamd.sock"))
            return True
        return False

    def _start_server(self) -> None:
        config = self.folder / "c-icap.conf"
        config.write_text(self._config(_modules()))
        with (self.folder / "server.log").open("ab") as log:
            self._server = process = subprocess.Popen(
                [need("c-icap"), "-N", "-D", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        wait_for("c-icap to answer", lambda: self._alive(process, "server.log") and self._answers(), timeout=30)

    def _alive(self, process: subprocess.Popen[bytes], log: str) -> bool:
        assert process.poll() is None, f"it ended: {(self.folder / log).read_text()[-2000:]}"
        return True

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            probe.settimeout(5)
            probe.sendall(b"OPTIONS icap://127.0.0.1/echo ICAP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            return probe.recv(4096).startswith(b"ICAP/1.0 200")
        return False

    def _config(self, modules: Path) -> str:
        tls = ""
        if self._identity is not None:
            certificate = self.folder / "server.pem"
            certificate.touch(0o600)
            certificate.write_bytes(self._identity.chain_pem() + self._identity.key_pem())
            tls = f"TlsPort 127.0.0.1:{self.secure_port} cert={certificate}"
        return f"""
PidFile {self.folder}/c-icap.pid
CommandsSocket {self.folder}/c-icap.ctl
ServerName icap.test
Port 127.0.0.1:{self.port}
{tls}
KeepAliveTimeout 3
StartServers 1
MaxServers 2
MinSpareThreads 2
MaxSpareThreads 20
ThreadsPerChild 20
TmpDir {self.folder}/temp
ModulesDir {modules}
ServicesDir {modules}
TemplateDir /usr/share/c_icap/templates/
LoadMagicFile /etc/c-icap/c-icap.magic
ServerLog {self.folder}/server.log
LogFormat tests "%im %iu %is"
AccessLog {self.folder}/access.log tests
Service echo srv_echo.so
Service antivirus_module virus_scan.so
ServiceAlias avscan virus_scan?allow204=on&sizelimit=off&mode=simple
virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE GIF JPEG MSOFFICE
virus_scan.MaxObjectSize 20M
Module common clamd_mod.so
clamd_mod.ClamdSocket {self.folder}/clamd.sock
"""


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        # c-icap first waits for its clients to be done. The group is its own, made at its start.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
