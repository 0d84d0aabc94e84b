"""Chromium without a window, steered over its own protocol (CDP): what a browser says of a server.

with Chromium(tmp_path, trusts=[root], hosts="MAP *.example 127.0.0.1") as browser:
    assert browser.fetch("https://good.example:8443/") == ""
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from websockets.sync.client import ClientConnection, connect

from tests.harness.namespaces import Namespace
from tests.harness.pki import Issued
from tests.harness.processes import wait_for
from tests.harness.programs import need

START_SECONDS = 60
ANSWER_SECONDS = 60
WARNING = "chrome-error://chromewebdata/"
"""Where the browser's own warnings and errors are."""


class Chromium:
    """A browser in a home of its own, whose certificate database (NSS) has the anchors ``trusts``.

    ``hosts`` are its ``--host-resolver-rules``, ``proxy`` is where its proxy listens, with a scheme where that is not
    http, or ``pac`` the address of a file that says so; without either it goes directly. It runs in ``namespace``,
    where one is given. It calls nobody on its own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        trusts: Sequence[Issued | x509.Certificate] = (),
        hosts: str = "",
        proxy: str | None = None,
        pac: str | None = None,
        namespace: Namespace | None = None,
    ) -> None:
        self._namespace = namespace
        self.home = folder / "home"
        self._profile = folder / "profile"
        self._reach = [f"--host-resolver-rules={hosts}"]
        if pac is not None:
            self._reach.append(f"--proxy-pac-url={pac}")
        elif proxy is None:
            self._reach.append("--no-proxy-server")
        else:
            server = proxy if "://" in proxy else f"http://{proxy}"
            self._reach += [f"--proxy-server={server}", "--proxy-bypass-list=<-loopback>"]
        self._trusts = trusts
        self._errors = folder / "chromium.stderr"
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: ClientConnection | None = None
        self._open = contextlib.ExitStack()
        self._session = self._frame = ""
        self._number = 0

    def __enter__(self) -> Self:
        program = need("chromium")
        self._trust()
        inside = self._namespace.prefix if self._namespace is not None else ()
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*inside, program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 f"--user-data-dir={self._profile}", "--window-size=1000,900", *self._reach,
                 "--remote-debugging-port=0", "about:blank"],
                env={**environment, "HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )  # fmt: skip
        try:
            self._attach()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def version(self) -> str:
        """``Chromium 150.0.1.2``."""
        return str(self._call("Browser.getVersion")["product"]).replace("Headless", "").replace("Chrome/", "Chromium ")

    def fetch(self, url: str) -> str:
        """Get it; empty where an answer came, whatever its status, else the browser's error, ``net::ERR_…``."""
        options = {"disableCache": True, "includeCredentials": False}
        told = self._call(
            "Network.loadNetworkResource", session=self._session, frameId=self._frame, url=url, options=options
        )["resource"]
        return "" if told.get("httpStatusCode") else str(told.get("netErrorName") or told)

    def visit(self, url: str, screenshot: Path | None = None) -> tuple[str, str]:
        """Go there: where one ends up (:data:`WARNING` for a warning of the browser's own), and the text that is shown.

        Each visit has a context of its own, so that no page remembers another.
        """
        where, text, _ = self._visit(url, screenshot)
        return where, text

    def ask(self, url: str, script: str, *, dark: bool = False, width: int = 1000) -> Any:
        """Go there, and tell what the script comes to (a promise is waited for), with a page of that width."""
        return self._visit(url, None, script, dark, width)[2]

    def _visit(
        self, url: str, screenshot: Path | None, script: str = "", dark: bool = False, width: int = 0
    ) -> tuple[str, str, Any]:
        context = self._call("Target.createBrowserContext")["browserContextId"]
        target = self._call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

        def loaded() -> tuple[str, str] | None:
            what = "JSON.stringify([location.href, document.readyState, document.body ? document.body.innerText : ''])"
            told = self._call("Runtime.evaluate", session, expression=what)["result"].get("value", '["","",""]')
            where, state, text = json.loads(told)
            return (where, text) if where != "about:blank" and state == "complete" and text.strip() else None

        try:
            self._call("Page.enable", session)
            if dark:
                scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
                self._call("Emulation.setEmulatedMedia", session, features=scheme)
            if width:
                self._call(
                    "Emulation.setDeviceMetricsOverride",
                    session,
                    width=width,
                    height=900,
                    deviceScaleFactor=1,
                    mobile=False,
                )
            self._call("Page.navigate", session, url=url)
            seen = wait_for(f"{url} to load", loaded, timeout=ANSWER_SECONDS)
            assert seen is not None
            if screenshot is not None:
                screenshot.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", session)["data"]))
            value = None
            if script:
                told = self._call("Runtime.evaluate", session, expression=script, awaitPromise=True, returnByValue=True)
                assert "exceptionDetails" not in told, told["exceptionDetails"]
                value = told["result"].get("value")
            return *seen, value
        finally:
            self._call("Target.disposeBrowserContext", browserContextId=context)

    def stop(self) -> None:
        """End it at once."""
        with contextlib.suppress(OSError):
            self._open.close()
        self._socket = None
        if self._process is not None:
            # It is a family of processes, in a session of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _trust(self) -> None:
        database = self.home / ".pki" / "nssdb"
        database.mkdir(parents=True)
        # Newer versions look here.
        newer = self.home / ".local" / "share"
        newer.mkdir(parents=True)
        (newer / "pki").symlink_to(self.home / ".pki")
        certutil = need("certutil")
        where = ["-d", f"sql:{database}"]
        subprocess.run([certutil, "-N", "--empty-password", *where], check=True, timeout=60, stdin=subprocess.DEVNULL)
        lines = []
        for place, anchor in enumerate(self._trusts):
            file = database.parent / f"{place}.der"
            file.write_bytes(anchor.public_bytes(Encoding.DER) if isinstance(anchor, x509.Certificate) else anchor.raw)
            # Of one subject, one nickname: NSS asks for that.
            name = hashlib.sha256(anchor.subject.public_bytes()).hexdigest()[:16]
            lines.append(f'-A -n "{name}" -t C,, -i {file}\n')
        batch = database.parent / "batch"
        batch.write_text("".join(lines))
        if lines:
            command = [certutil, "-B", "-i", str(batch), *where]
            done = subprocess.run(command, timeout=120, capture_output=True, check=False)
            assert done.returncode == 0, f"certutil takes not all of them: {done.stderr.decode()}"

    def _attach(self) -> None:
        told = self._profile / "DevToolsActivePort"
        process = self._process
        assert process is not None

        def ready() -> list[str]:
            assert process.poll() is None, f"chromium ended: {self._errors.read_text('utf-8', 'replace')[-2000:]}"
            lines = told.read_text().split() if told.exists() else []
            return lines if len(lines) == 2 else []

        port, path = wait_for("chromium to listen", ready, timeout=START_SECONDS)
        where = f"ws://127.0.0.1:{port}{path}"
        there = ("127.0.0.1", int(port))
        if self._namespace is None:
            plain = socket.create_connection(there)
        else:
            plain = self._namespace.within(lambda: socket.create_connection(there))
        opened = connect(where, sock=plain, proxy=None, max_size=None, open_timeout=START_SECONDS)
        self._socket = self._open.enter_context(opened)
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._frame = self._call("Page.getFrameTree", session=self._session)["frameTree"]["frame"]["id"]

    def _call(self, method: str, session: str = "", **parameters: object) -> dict[str, Any]:
        assert self._socket is not None
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps({**message, "sessionId": session} if session else message))
        while True:
            answer = json.loads(self._socket.recv(timeout=ANSWER_SECONDS))
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer}"
                result: dict[str, Any] = answer["result"]
                return result
