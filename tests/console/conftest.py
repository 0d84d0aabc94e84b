"""The console's application over a real installation, and browsers of a kind: clients that keep a session."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from config.settings import Console as Section
from config.settings import Settings
from console.app import create
from console.daemon import Daemon, Nobody
from console.parts import Parts
from console.visit import CSRF_HEADER
from control import api_tokens, tenants
from control.authorisation import Role, Scope
from control.installation import Installation
from tests.control.conftest import CHEAP, PASSWORD, account
from tests.harness.pki import NOW

ORIGIN = "https://console.example"
REQUIRING = Section(second_factor="required")
"""Where everybody has to have a second factor: for the fixture ``section``."""


@dataclass
class Clock:
    """Tells the time that a test sets."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **delta: float) -> None:
        """Let time pass."""
        self.now += timedelta(**delta)


@dataclass
class Console:
    """The application, and ways to be somebody."""

    inst: Installation
    clock: Clock
    parts: Parts
    client: Callable[[], TestClient]
    made: dict[str, int] = field(default_factory=dict)

    def signed_in(self, name: str, role: Role = Role.OWNER, *of: str) -> TestClient:
        """A browser in which somebody is signed in; the account is made where there is none."""
        if name not in self.made:
            self.made[name] = account(self.inst, name, role, *of).id
        client = self.client()
        answer = client.post("/sign-in", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        client.headers[CSRF_HEADER] = csrf_of(client)
        return client

    def with_token(self, name: str, scope: Scope = Scope.WRITE, role: Role = Role.OWNER, *of: str) -> TestClient:
        """A program with an API token of somebody's."""
        if name not in self.made:
            self.made[name] = account(self.inst, name, role, *of).id
        _, text = api_tokens.create(self.inst, f"{name}-{len(self.made)}-{scope}", name, self.clock.now, scope)
        client = self.client()
        client.headers["Authorization"] = f"Bearer {text}"
        return client

    def tenant(self, name: str) -> None:
        """Make a tenant."""
        tenants.create(self.inst, name, self.clock.now)


def csrf_of(client: TestClient) -> str:
    """The CSRF token that pages carry."""
    page = client.get("/me", headers={"Accept": "text/html"}, follow_redirects=True)
    found = re.search(r"X-CSRF-Token&#34;: &#34;([0-9a-f]{64})|X-CSRF-Token\": \"([0-9a-f]{64})", page.text)
    assert found is not None, page.text
    return found[1] or found[2]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation, to be copied: to make one takes a second."""
    folder = tmp_path_factory.mktemp("console") / "state"
    Installation.open(Settings(state_dir=folder), NOW).close()
    return folder


@pytest.fixture
def telling() -> Daemon:
    """What the console asks of the running daemon: there is none, where a test module says nothing else."""
    return Nobody()


@pytest.fixture
def section() -> Section:
    """The settings of the console: the defaults, where a test module says nothing else."""
    return Section()


@pytest.fixture
def console(tmp_path: Path, made: Path, telling: Daemon, section: Section) -> Iterator[Console]:
    """The console over a fresh installation."""
    settings = Settings(state_dir=tmp_path / "state", console=section)
    shutil.copytree(made, settings.state_dir)
    clock = Clock()
    with ExitStack() as stack:
        inst = stack.enter_context(Installation.open(settings, NOW))
        parts = Parts(inst, clock, telling, CHEAP)
        app = create(parts)

        def client() -> TestClient:
            return stack.enter_context(TestClient(app, ORIGIN, follow_redirects=False))

        yield Console(inst, clock, parts, client)
