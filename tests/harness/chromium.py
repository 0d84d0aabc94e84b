"""Chromium from the distribution, headless, through a proxy: what a person would be shown.

It verifies certificates as it does for people, with the given roots added to its own. It is told what to do by the
DevTools protocol; each visit has a browsing context of its own, so that no page remembers another.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

START_SECONDS = 60.0
VISIT_SECONDS = 60.0
WARNING = "chrome-error://chromewebdata/"
"""Where Chromium's own warnings and errors are."""
_LISTENS = re.compile(r"DevTools listening on (ws://\S+)")


class Chromium:
    """``roots`` are PEM files that it trusts beside its own; ``proxy`` is ``HOST:PORT``, None for none."""

    def __init__(self, folder: Path, roots: Sequence[Path], proxy: str | None, *options: str) -> None:
        self.home = folder
        self.options = options
        self.proxy = proxy
        store = folder / ".pki" / "nssdb"
        store.mkdir(parents=True, exist_ok=True)
        _certutil("-N", "--empty-password", "-d", f"sql:{store}")
        for place, root in enumerate(roots):
            _certutil("-A", "-d", f"sql:{store}", "-n", f"root {place}", "-t", "C,,", "-i", str(root))
        self._process: subprocess.Popen[bytes] | None = None
        self._link: ClientConnection | None = None
        self._last = 0

    def __enter__(self) -> Self:
        reach = [f"--proxy-server=http://{self.proxy}", "--proxy-bypass-list=<-loopback>"] if self.proxy else []
        log = self.home / "chromium.log"
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [
                    "chromium", "--headless", "--remote-debugging-port=0", f"--user-data-dir={self.home / 'profile'}",
                    # It runs as whoever runs the tests, often root, for whom it has no sandbox.
                    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
                    "--disable-component-update", "--no-first-run", "--window-size=1000,900", *reach, *self.options,
                    "about:blank",
                ],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
                env={**os.environ, "HOME": str(self.home), "LANG": "C.UTF-8"},
            )  # fmt: skip
        until = time.monotonic() + START_SECONDS
        while (found := _LISTENS.search(log.read_text("utf-8", "replace"))) is None:
            assert self._process.poll() is None, log.read_text("utf-8", "replace")[-2000:]
            assert time.monotonic() < until, "Chromium did not start"
            time.sleep(0.05)
        self._link = connect(found[1], max_size=None, open_timeout=START_SECONDS, proxy=None, legacy=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._link is not None:
            self._link.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def visit(self, url: str, screenshot: Path | None = None) -> tuple[str, str]:
        """Where one ends up (:data:`WARNING` for a warning of Chromium's own), and the text that is shown there."""
        context = self._ask("Target.createBrowserContext")["browserContextId"]
        target = self._ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        try:
            self._ask("Page.enable", session)
            self._ask("Page.navigate", session, url=url)
            until = time.monotonic() + VISIT_SECONDS
            while True:
                where, state, text = self._evaluate(session)
                if where != "about:blank" and state == "complete" and text.strip():
                    break
                assert time.monotonic() < until, f"{url} did not load"
                time.sleep(0.05)
            if screenshot is not None:
                taken = self._ask("Page.captureScreenshot", session)
                screenshot.write_bytes(base64.b64decode(taken["data"]))
            return where, text
        finally:
            self._ask("Target.disposeBrowserContext", browserContextId=context)

    def _evaluate(self, session: str) -> tuple[str, str, str]:
        what = "JSON.stringify([location.href, document.readyState, document.body ? document.body.innerText : ''])"
        found = self._ask("Runtime.evaluate", session, expression=what)["result"].get("value", '["about:blank","",""]')
        where, state, text = json.loads(found)
        return where, state, text

    def _ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        assert self._link is not None
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        self._link.send(json.dumps(message))
        while True:
            answer = json.loads(self._link.recv(timeout=VISIT_SECONDS))
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result


def _certutil(*arguments: str) -> None:
    done = subprocess.run(["certutil", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
