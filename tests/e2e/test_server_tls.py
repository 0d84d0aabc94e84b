"""TLS with servers that are other: old ones, and those that ask for a client certificate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.upstream import MANY_CERTIFICATES
from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import OpensslServer
from tests.harness.pki import Authority, Issued, issuer_at, self_signed
from tests.harness.programs import need
from tests.harness.publisher import Publisher

CLIENTS = Authority.root("Clients")
OLD = ("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
SEEN = """
    def response(flow):
        flow.response.headers["x-seen"] = "yes"
"""


@pytest.fixture(scope="module")
def publisher() -> Iterator[Publisher]:
    with Publisher() as running:
        yield running


def incomplete(publisher: Publisher, name: str) -> Issued:
    """A server certificate whose issuer is not sent, and is where it says."""
    issuing = PUBLIC.intermediate(f"Not Sent for {name}")
    path = f"/{name}.cer"
    if "nowhere" not in name:
        publisher.answers[path] = issuing.raw
    alone = issuing.leaf(name, extra=[issuer_at(publisher.url(path))])
    return Issued(alone.raw, alone.key, alone.subject)


def long(name: str) -> Issued:
    """A server certificate with as many certificates above it as make a chain costly to judge."""
    issuing = PUBLIC
    for number in range(MANY_CERTIFICATES - 1):
        issuing = issuing.intermediate(f"Long {number}")
    return issuing.leaf(name)


@pytest.fixture(scope="module")
def servers(scratch: Path, publisher: Publisher) -> Iterator[dict[str, OpensslServer]]:
    need("openssl")
    need("curl")
    (scratch / "clients.pem").write_bytes(CLIENTS.pem())
    asks = ("-CAfile", str(scratch / "clients.pem"), "-verify_return_error", "-www")
    made = {
        "old.example": (*OLD, "-www"),
        "too-old.example": (*OLD, "-www"),
        "may.example": ("-verify", "2", *asks),
        "blocked.example": ("-verify", "2", *asks),
        "must.example": ("-Verify", "2", *asks),
        "must-12.example": ("-Verify", "2", "-tls1_2", *asks),
        "must-seen.example": ("-Verify", "2", *asks),
        "without.example": ("-Verify", "2", *asks),
        "without-12.example": ("-Verify", "2", "-tls1_2", *asks),
        "seen.example": ("-Verify", "2", *asks),
        "own.example": ("-Verify", "2", *asks),
        "own-12.example": ("-Verify", "2", "-tls1_2", *asks),
    }
    chains = {name: ISSUING.leaf(name) for name in made}
    waited = {"must-incomplete.example": (), "must-incomplete-12.example": ("-tls1_2",), "must-nowhere.example": ()}
    chains |= {name: incomplete(publisher, name) for name in waited}
    chains["must-long.example"] = long("must-long.example")
    made |= {name: ("-Verify", "2", *more, *asks, "-state") for name, more in waited.items()}
    made["must-long.example"] = ("-Verify", "2", *asks)
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(OpensslServer(scratch, chains[name], options, answer=False))
            for name, options in made.items()
        }


@pytest.fixture(scope="module")
def daemon(scratch: Path, servers: dict[str, OpensslServer], publisher: Publisher) -> Iterator[Daemon]:
    scripts = Scripts(scratch / "server-tls")
    scripts.add("seen", SEEN, hosts=["seen.example", "must-seen.example"])
    folder = scratch / "server-tls-daemon"
    folder.mkdir()
    leaf = CLIENTS.intermediate("Client Issuing").leaf("gateway", eku=["client"])
    (folder / "client.pem").write_bytes(leaf.chain_pem())
    (folder / "client.key").touch(0o600)
    (folder / "client.key").write_bytes(leaf.key_pem())
    must = [name for name in servers if name.startswith("must")]
    extra = {
        "verification": {"fetch": {"ports": [publisher.port], "private": ["127.0.0.0/8"]}},
        "inspection": {"addons": scripts.addons},
        "tls": {
            "servers": [
                {"hosts": ["old.example"], "minimum": "1.0"},
                {"hosts": must, "certificate": "client.pem", "key": "client.key"},
                {"hosts": ["blocked.example"], "client_certificate": "block"},
                {"hosts": ["own.example", "own-12.example"], "client_certificate": "bypass"},
            ]
        },
    }
    with Daemon(
        folder, hosts=dict.fromkeys([*servers, "pki.example"], "127.0.0.1"), common=PUBLIC, extra=extra
    ) as running:
        yield running


def test_an_old_server_is_reached_where_it_is_named_and_no_other(
    daemon: Daemon, servers: dict[str, OpensslServer]
) -> None:
    assert curl(daemon, servers["old.example"].url("old.example")).status == 200
    refused = curl(daemon, servers["too-old.example"].url("too-old.example"))
    assert (refused.status, refused.proxy_status) == (502, 'sallyport; error=tls_protocol_error; details="protocol"')
    assert "it speaks no version of TLS from 1.2 on" in refused.text


@pytest.mark.parametrize("name", ["must.example", "must-12.example", "must-seen.example"])
def test_a_server_that_must_have_a_certificate_is_shown_the_configured_one(
    daemon: Daemon, servers: dict[str, OpensslServer], name: str
) -> None:
    result = curl(daemon, servers[name].url(name))
    assert (result.status, result.headers.get("x-seen")) == (200, "yes" if "seen" in name else None)
    assert "CN=gateway" in result.text.replace(" ", "")


@pytest.mark.parametrize("name", ["must-incomplete.example", "must-incomplete-12.example", "must-long.example"])
def test_the_handshake_waits_where_it_takes_long_to_find_out_whether_the_server_may_be_shown_it(
    daemon: Daemon, servers: dict[str, OpensslServer], name: str
) -> None:
    for _ in range(2):
        result = curl(daemon, servers[name].url(name))
        assert result.status == 200, result.text
        assert "CN=gateway" in result.text.replace(" ", "")


def test_a_server_whose_issuer_cannot_be_had_is_shown_nothing(
    daemon: Daemon, servers: dict[str, OpensslServer], publisher: Publisher
) -> None:
    server = servers["must-nowhere.example"]
    result = curl(daemon, server.url("must-nowhere.example"))
    assert (result.status, "incomplete_chain" in (result.proxy_status or "")) == (502, True)
    assert publisher.asked.count("GET /must-nowhere.example.cer") == 1
    assert "gateway" not in server.log()


@pytest.mark.parametrize("name", ["without.example", "without-12.example", "seen.example"])
def test_where_none_is_configured_the_refusal_says_that_it_wants_one(
    daemon: Daemon, servers: dict[str, OpensslServer], name: str
) -> None:
    result = curl(daemon, servers[name].url(name))
    assert result.status == 502
    if name != "seen.example":  # there the server ends it when HTTP is under way already
        assert "it asked for a client certificate" in result.text


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("name", ["must.example", "must-seen.example"])
def test_whoever_only_claims_to_be_the_server_is_shown_no_certificate(
    daemon: Daemon, servers: dict[str, OpensslServer], scratch: Path, name: str, version: str
) -> None:
    asks = ("-Verify", "2", version, "-CAfile", str(scratch / "clients.pem"), "-state")
    with OpensslServer(scratch, self_signed(name), asks, answer=False) as impostor:
        result = curl(daemon, impostor.url(name))
        said = impostor.log()
    assert result.status == 502
    if "seen" not in name:
        assert result.proxy_status == 'sallyport; error=tls_certificate_error; details="self_signed"'
    assert "gateway" not in said


@pytest.mark.parametrize("name", ["own.example", "own-12.example"])
def test_a_client_may_show_its_own_where_that_is_configured(
    daemon: Daemon, servers: dict[str, OpensslServer], tmp_path: Path, name: str
) -> None:
    leaf = CLIENTS.leaf("the client itself", eku=["client"])
    for file, content in (("c.pem", leaf.pem()), ("c.key", leaf.key_pem()), ("public.pem", PUBLIC.pem())):
        (tmp_path / file).touch(0o600)
        (tmp_path / file).write_bytes(content)
    shown = ("--cert", str(tmp_path / "c.pem"), "--key", str(tmp_path / "c.key"))
    result = curl(daemon, servers[name].url(name), "--cacert", str(tmp_path / "public.pem"), *shown)
    assert (result.status, "the client itself" in result.text) == (200, True)
    assert daemon.wait_log("bypassed", host=name)[-1]["reason"] == "the server asks for a client certificate"


def test_who_only_asks_is_reached_without_and_it_is_logged(daemon: Daemon, servers: dict[str, OpensslServer]) -> None:
    for name in ("may.example", "must.example"):
        assert curl(daemon, servers[name].url(name)).status == 200
    assert daemon.wait_log("server asks for a certificate", host="may.example")[-1]["answer"] == "none"
    assert daemon.wait_log("server asks for a certificate", host="must.example")[-1]["answer"] == "shown"


def test_who_asks_is_blocked_where_that_is_configured(daemon: Daemon, servers: dict[str, OpensslServer]) -> None:
    result = curl(daemon, servers["blocked.example"].url("blocked.example", "/never"))
    assert (result.status, result.proxy_status) == (502, 'sallyport; error=tls_protocol_error; details="protocol"')
    assert "the server asks for a client certificate, and none is configured for it" in result.text
    assert "/never" not in servers["blocked.example"].log()


def test_probe_tells_of_it(daemon: Daemon, servers: dict[str, OpensslServer]) -> None:
    for name, asks, action in (("may.example", True, "allow"), ("blocked.example", True, "block"),
                               ("old.example", False, "allow")):  # fmt: skip
        told = json.loads(daemon.cli("probe", "--json", f"{name}:{servers[name].port}").stdout)
        assert (told["asks_for_certificate"], told["action"]) == (asks, action), name
