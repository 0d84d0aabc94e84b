"""What the console shows its clients: when a leaf is asked for again, what outlives a failure, files that change."""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certs.names import InvalidHost
from cli.console_names import base_url, names_of, problem_of_names
from cli.console_tls import GivenFiles, OwnLeaves, check
from cli.preflight import problems
from config.settings import Console, ConsoleTls, Settings
from issuer.client import IssuedLeaf, IssuerUnavailable, PrivateKey
from tests.harness.pki import NOW, Authority, Issued

ROOT = Authority.root("Console Root")
NEXT = Authority.root("Next Root")
LASTS, DUE = 1000.0, 600.0


@dataclass
class FakeIssuer:
    """The issuer, whose faults a test chooses. Each leaf has a key of its own."""

    ca: Authority = field(default_factory=lambda: ROOT)
    generation: int = 1
    now: float = 0.0
    down: str | None = None
    refused: str | None = None
    refused_name: str | None = None
    asked: list[str] = field(default_factory=list)
    keys: list[Issued] = field(default_factory=list)

    async def check(self, tenant: str) -> int:
        if self.down is not None:
            raise IssuerUnavailable(self.down, "the issuer is away")
        if self.refused is not None:
            raise IssuerUnavailable(self.refused, "the CA has expired")
        return self.generation

    async def leaf(self, tenant: str, host: str, key: str, server_not_after: float | None) -> IssuedLeaf:
        self.asked.append(host)
        if self.refused is not None or host == self.refused_name:
            raise IssuerUnavailable(self.refused or "invalid_host", f"no leaf for {host}")
        made = self.ca.leaf(host)
        self.keys.append(made)
        return IssuedLeaf(made.raw, (), len(self.keys), 1, self.now + LASTS, self.now + DUE, self.generation)

    async def leaf_key(self, tenant: str, leaf_key: int) -> PrivateKey:
        key: Any = self.keys[leaf_key - 1].key
        return key


CONSOLE = Console(bind="127.0.0.1:9443", names=("console.example",))
NAMES = ["console.example", "127.0.0.1", "localhost", "gate"]


def made(issuer: FakeIssuer, console: Console = CONSOLE) -> OwnLeaves:
    return OwnLeaves(console, issuer, "Gate", lambda: issuer.now)


def look(leaves: OwnLeaves | GivenFiles) -> bool:
    return asyncio.run(leaves.look())


def shown(context: ssl.SSLContext | None, name: str | None, roots: list[Authority]) -> str:
    """The issuer's common name, or why there is no handshake, of a client that trusts these roots."""
    assert context is not None
    client = ssl.create_default_context(cadata="".join(root.pem().decode() for root in roots))
    client.check_hostname = name is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return error.reason or "error"
    found: Any = theirs.getpeercert()
    return str(dict(part[0] for part in found["issuer"])["commonName"])


def test_there_is_a_leaf_for_each_name_and_no_other() -> None:
    issuer = FakeIssuer()
    leaves = made(issuer)
    assert leaves.certificate("127.0.0.1") is None
    assert look(leaves)
    assert issuer.asked == NAMES
    context = leaves.certificate("127.0.0.1")
    for name in NAMES:
        assert shown(context, name, [ROOT]) == "Console Root"
    assert shown(context, "CONSOLE.example", [ROOT]) == "Console Root"
    assert shown(context, "evil.example", [ROOT]) == "CALLBACK_FAILED"
    # Without a name: that of the address that was reached, or the first.
    assert shown(context, None, [ROOT]) == "Console Root"
    assert leaves.certificate("192.0.2.1") is leaves.certificate("not a name")
    assert not look(leaves)
    assert issuer.asked == NAMES


@pytest.mark.parametrize("why", ["another generation", "due"])
def test_leaves_are_asked_for_again(why: str) -> None:
    issuer = FakeIssuer()
    leaves = made(issuer)
    look(leaves)
    before = leaves.certificate("127.0.0.1")
    issuer.ca = NEXT
    if why == "due":
        issuer.now += DUE
    else:
        issuer.generation += 1
    assert look(leaves)
    after = leaves.certificate("127.0.0.1")
    assert shown(after, "localhost", [NEXT]) == "Next Root"
    # A connection that began a moment before is shown the new one, too.
    assert shown(before, "localhost", [NEXT]) == "Next Root"
    assert not look(leaves)


@pytest.mark.parametrize("fault", ["down", "refused"])
def test_what_is_there_is_shown_to_its_end_when_no_other_can_be_had(fault: str) -> None:
    issuer = FakeIssuer()
    leaves = made(issuer)
    look(leaves)
    setattr(issuer, fault, "timeout" if fault == "down" else "ca_expired")
    issuer.now += DUE
    assert not look(leaves)
    assert leaves.problem in ("the issuer is away", "the CA has expired")
    context = leaves.certificate("127.0.0.1")
    assert shown(context, "localhost", [ROOT]) == "Console Root"
    issuer.now += LASTS
    look(leaves)
    assert leaves.certificate("127.0.0.1") is None
    assert shown(context, "localhost", [ROOT]) == "CALLBACK_FAILED"
    issuer.down = issuer.refused = None
    assert look(leaves)
    assert leaves.problem is None
    assert leaves.certificate("127.0.0.1") is not None


def test_a_name_that_gets_no_leaf_leaves_the_others() -> None:
    issuer = FakeIssuer(refused_name="console.example")
    leaves = made(issuer)
    look(leaves)
    assert leaves.problem == "console.example: no leaf for console.example"
    context = leaves.certificate("192.0.2.1")
    assert shown(context, "localhost", [ROOT]) == "Console Root"
    assert shown(context, "console.example", [ROOT]) == "CALLBACK_FAILED"
    issuer.refused_name = None
    assert look(leaves)
    assert leaves.problem is None


# --- files ---


def given(folder: Path, leaf: Issued, **more: Any) -> Console:
    certificate, key = leaf.write(folder, "console")
    return Console(tls=ConsoleTls(certificate=str(certificate), key=str(key)), **more)


def at(moment: datetime) -> float:
    return moment.timestamp()


def test_files_are_read_again_and_bad_ones_leave_what_is_there(tmp_path: Path) -> None:
    console = given(tmp_path, ROOT.leaf("console.example"), names=("console.example",))
    files = GivenFiles(console, lambda: at(NOW))
    assert files.problem is None
    assert not look(files)
    given(tmp_path, NEXT.leaf("console.example"))
    assert look(files)
    assert shown(files.certificate(""), "console.example", [NEXT]) == "Next Root"
    (tmp_path / "console.pem").write_bytes(ROOT.leaf("console.example").chain_pem())
    assert not look(files)
    assert "no certificate in it is for the key of console.tls.key" in str(files.problem)
    assert shown(files.certificate(""), "console.example", [NEXT]) == "Next Root"
    (tmp_path / "console.pem").unlink()
    assert not look(files)
    assert "No such file" in str(files.problem)
    given(tmp_path, ROOT.leaf("console.example"))
    assert look(files)
    assert files.problem is None


def test_a_certificate_for_other_names_and_one_that_has_expired_are_told_of(tmp_path: Path) -> None:
    console = given(
        tmp_path, ROOT.leaf("a.example"), names=("a.example", "B.example"), public_url="https://c.example:1"
    )
    moment = [at(NOW)]
    files = GivenFiles(console, lambda: moment[0])
    assert str(files.problem).endswith("console.pem: it is not for b.example, c.example")
    assert files.invalid is None
    moment[0] += timedelta(days=365).total_seconds()
    assert "it has expired on" in str(files.problem)
    assert files.certificate("") is not None
    moment[0] = 0.0
    assert "it is not valid before" in str(files.problem)


def test_a_start_with_files_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    real = datetime.now(UTC)  # noqa: TID251 - what a start does
    good = {"not_before": real - timedelta(days=1), "not_after": real + timedelta(days=1)}
    console = given(tmp_path, ROOT.leaf("a.example", **good))  # type: ignore[arg-type] # by name
    assert check(console) is None
    settings = Settings(state_dir=tmp_path, console=console)
    assert problems(settings) == []
    ended = {"not_before": real - timedelta(days=2), "not_after": real - timedelta(days=1)}
    given(tmp_path, ROOT.leaf("a.example", **ended))  # type: ignore[arg-type] # by name
    (problem,) = problems(settings)
    assert problem.startswith(f"console.tls.certificate: {tmp_path / 'console.pem'}: it has expired on ")
    ROOT.leaf("a.example").write(tmp_path, "other")
    (tmp_path / "other.key").rename(tmp_path / "console.key")
    (problem,) = problems(settings)
    assert problem.endswith("no certificate in it is for the key of console.tls.key")
    (tmp_path / "console.key").chmod(0o604)
    (problem,) = problems(settings)
    assert "everybody can use this file" in problem
    os.unlink(tmp_path / "console.key")
    (problem,) = problems(settings)
    assert problem == f"console.tls.key: {tmp_path / 'console.key'}: No such file or directory"
    off = Console(enabled=False, tls=console.tls)
    assert problems(Settings(state_dir=tmp_path, console=off)) == []


# --- names ---


@pytest.mark.parametrize(
    ("console", "host_name", "names"),
    [
        (Console(), "gate", ["127.0.0.1", "localhost", "gate"]),
        (Console(bind="[::1]:1"), "localhost", ["::1", "localhost"]),
        (Console(bind="0.0.0.0:1", names=("10.0.0.5",)), "a b", ["10.0.0.5", "127.0.0.1", "localhost"]),
        (Console(bind="[::]:1", public_url="https://C.example"), "g", ["c.example", "::1", "localhost", "g"]),
        (Console(names=("bücher.example",)), "g", ["xn--bcher-kva.example", "127.0.0.1", "localhost", "g"]),
    ],
)
def test_the_names(console: Console, host_name: str, names: list[str]) -> None:
    assert list(names_of(console, host_name)) == names


def test_a_name_that_is_none_is_refused() -> None:
    for name in ("*.example", "a b", ""):
        console = Console(names=("good.example", name))
        assert str(problem_of_names(console)).startswith(f"console.names[1]: {name!r}: ")
        with pytest.raises(InvalidHost):
            names_of(console, "g")
    assert problem_of_names(CONSOLE) is None


@pytest.mark.parametrize(
    ("console", "address", "url"),
    [
        (Console(), "127.0.0.1:9443", "https://127.0.0.1:9443"),
        (Console(bind="127.0.0.1:443"), "127.0.0.1:443", "https://127.0.0.1"),
        (Console(bind="[::1]:9443"), "[::1]:9443", "https://[::1]:9443"),
        (Console(bind="0.0.0.0:9443", names=("c.example",)), "0.0.0.0:9443", "https://c.example:9443"),
        (Console(bind="[::]:9443", names=("fd00::1",)), "[::]:9443", "https://[fd00::1]:9443"),
        (Console(public_url="https://c.example/"), "127.0.0.1:9443", "https://c.example"),
        (Console(bind="0.0.0.0:9443", public_url="https://c.example"), "0.0.0.0:9443", "https://c.example"),
    ],
)
def test_what_a_link_begins_with(console: Console, address: str, url: str) -> None:
    assert base_url(console, address) == url
