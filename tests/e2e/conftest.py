"""What the tests through a running daemon share: a public PKI, a private one, and one nginx with good sites."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx, Site, WebSocketEcho
from tests.harness.pki import Authority
from tests.harness.programs import need

PUBLIC = Authority.root("Public Root")
ISSUING = PUBLIC.intermediate("Public Issuing")
PRIVATE = Authority.root("Private Root")
PRIVATE_ISSUING = PRIVATE.intermediate("Private Issuing")


@pytest.fixture(autouse=True)
def settled() -> Iterator[None]:
    """What a test has put back is so for the next, whatever its order: each daemon goes by its store."""
    yield
    for running in list(Daemon.running):
        running.settle()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="module")
def origin(scratch: Path) -> Iterator[Nginx]:
    """Good sites, one that only a private CA vouches for, and one over IPv6."""
    need("nginx")
    need("curl")
    with WebSocketEcho() as echo:
        sites = [
            Site("good.example", ISSUING.leaf("good.example"), websocket=echo.where),
            Site("old.example", ISSUING.leaf("old.example", key="rsa2048"), protocols="TLSv1.2"),
            Site("private.example", PRIVATE_ISSUING.leaf("private.example")),
            Site("literal", ISSUING.leaf("127.0.0.1")),
            Site("six.example", ISSUING.leaf(["six.example", "::1"]), address="::1"),
            Site("xn--bcher-kva.example", ISSUING.leaf("xn--bcher-kva.example")),
            Site("plain.example", None),
        ]
        with Nginx(scratch, sites) as nginx:
            yield nginx


@pytest.fixture(scope="module")
def daemon(scratch: Path, origin: Nginx) -> Iterator[Daemon]:
    """A daemon that takes the public root as its common store, with two tenants."""
    hosts = {name: "127.0.0.1" for name in origin.sites if name != "six.example"} | {"six.example": "::1"}
    del hosts["literal"]
    hosts["fronted.example"] = "127.0.0.1"
    with Daemon(
        scratch / "daemon", hosts=hosts, common=PUBLIC, listeners=(("explicit", "default"), ("second", "other"))
    ) as running:
        yield running
