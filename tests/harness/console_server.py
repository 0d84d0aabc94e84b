"""The console on a port of its own, over TLS, in a thread: for browsers. And a browser, steered by playwright.

The daemon's own console process is tested by itself; here it is what pages do that is looked at.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from console.app import create
from console.parts import Parts
from tests.harness.pki import Authority
from tests.harness.processes import wait_for
from tests.harness.programs import need

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 860}
SHOTS = os.environ.get("SHOTS")
"""A folder in which to keep what pages look like; nothing is kept where it is not set."""


@contextmanager
def serving(parts: Parts, folder: Path) -> Iterator[str]:
    """Serve the console, and tell its address."""
    certificate, key = Authority.root("Console").leaf("localhost").write(folder, "console")
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        create(parts), lifespan="off", log_level="warning", ssl_certfile=str(certificate), ssl_keyfile=str(key)
    )  # fmt: skip
    config.load()
    assert isinstance(config.ssl, ssl.SSLContext)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        wait_for("the console to serve", lambda: server.started)
        yield f"https://localhost:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(10)
        listening.close()


@contextmanager
def browsing() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(browser: Browser, address: str, **more: Any) -> Iterator[Page]:
    """A page of a browser that has been nowhere yet; what it says on its console and what fails in it ends the test."""
    context: BrowserContext = browser.new_context(
        base_url=address, ignore_https_errors=True, viewport=more.pop("viewport", DESK), **more
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    try:
        yield page
        assert not faults, "\n".join(faults)
    finally:
        context.close()


def shots(page: Page, name: str) -> None:
    """Keep what the page looks like: light, dark, and on a phone. Only where ``SHOTS`` is set."""
    if SHOTS is None:
        return
    folder = Path(SHOTS)
    folder.mkdir(parents=True, exist_ok=True)
    for look, scheme, size in (("light", "light", DESK), ("dark", "dark", DESK), ("phone", "light", PHONE)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] # these two are its words
        page.set_viewport_size(size)  # type: ignore[arg-type] # it has its own class for the same
        # To hide the caret leaves an empty style on fields, which htmx would take over, and the policy refuse.
        page.screenshot(path=str(folder / f"{name}-{look}.png"), full_page=True, caret="initial", timeout=120_000)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(DESK)  # type: ignore[arg-type]


def accessible(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA, and its own best practices."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def seen(page: Page, name: str) -> None:
    """Keep what the page looks like as it is now; axe-core finds nothing on it."""
    shots(page, name)
    assert accessible(page) == [], name
