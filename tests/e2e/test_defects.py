"""Each defect, made with real certificates on a real server: blocked with its own details, and no request arrives."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtensionOID

from issuer.client import IssuerClient
from tests.e2e.conftest import ISSUING, PRIVATE_ISSUING, PUBLIC
from tests.harness.curl import command, curl
from tests.harness.daemon import Daemon
from tests.harness.origins import OpensslServer
from tests.harness.pki import DAY, NOW, Issued, Raw, self_signed
from tests.harness.processes import wait_for
from tests.harness.programs import need

WEAK = ("-cipher", "DEFAULT@SECLEVEL=0")
COVERED = ("self_signed", "incomplete_chain", "untrusted_root")
CONTACT = "IT help desk, ext. 4711"
CASES: Mapping[str, str] = {
    "duplicate-extension": "malformed",
    "unknown-critical": "malformed",
    "bad-signature": "bad_signature",
    "weak-key": "weak_key",
    "weak-signature": "weak_signature",
    "too-deep": "constraint_violation",
    "excluded-name": "constraint_violation",
    "client-only": "wrong_purpose",
    "ca-as-server": "wrong_purpose",
    "self-signed": "self_signed",
    "incomplete": "incomplete_chain",
    "untrusted": "untrusted_root",
    "expired": "expired",
    "not-yet": "not_yet_valid",
    "wrong-host": "hostname_mismatch",
    "no-forward-secrecy": "protocol",
}


def _servers(folder: Path) -> dict[str, OpensslServer]:
    """One ``openssl s_server`` a case; it prints what it receives."""

    def serve(identity: Issued, *options: str, with_root: bool = False) -> OpensslServer:
        return OpensslServer(folder, identity, options, answer=False, with_root=with_root)

    def host(case: str) -> str:
        return f"{case}.example"

    below = PUBLIC.intermediate("Last", path_length=0).intermediate("One too many")
    allowed = x509.NameConstraints([x509.DNSName("allowed.example")], None)
    named = PUBLIC.intermediate("Named", name_constraints=allowed)
    alone = PUBLIC.intermediate("Not sent").leaf(host("incomplete"))
    return {
        "duplicate-extension": serve(
            ISSUING.leaf(host("duplicate-extension"), duplicate=[ExtensionOID.EXTENDED_KEY_USAGE])
        ),
        "unknown-critical": serve(
            ISSUING.leaf(host("unknown-critical"), extra=[Raw("1.2.3.4.5", b"\x05\x00", critical=True)])
        ),
        "bad-signature": serve(ISSUING.leaf(host("bad-signature"), tamper=True)),
        "weak-key": serve(ISSUING.leaf(host("weak-key"), key="rsa1024"), *WEAK),
        "weak-signature": serve(PUBLIC.intermediate("Old", hash="sha1").leaf(host("weak-signature")), *WEAK),
        "too-deep": serve(below.leaf(host("too-deep"))),
        "excluded-name": serve(named.leaf(host("excluded-name"))),
        "client-only": serve(ISSUING.leaf(host("client-only"), eku=["client"])),
        "ca-as-server": serve(ISSUING.leaf(host("ca-as-server"), ca=True)),
        "self-signed": serve(self_signed(host("self-signed"))),
        "incomplete": serve(Issued(alone.raw, alone.key, alone.subject)),
        "untrusted": serve(PRIVATE_ISSUING.leaf(host("untrusted")), with_root=True),
        "expired": serve(ISSUING.leaf(host("expired"), not_before=NOW - 9 * DAY, not_after=NOW - DAY)),
        "not-yet": serve(ISSUING.leaf(host("not-yet"), not_before=NOW + DAY)),
        "wrong-host": serve(ISSUING.leaf("other.example")),
        "no-forward-secrecy": serve(
            ISSUING.leaf(host("no-forward-secrecy"), key="rsa2048"), "-tls1_2", "-cipher", "AES128-GCM-SHA256"
        ),
        "good": serve(ISSUING.leaf(host("good")), "-www"),
    }


@pytest.fixture(scope="module")
def servers(scratch: Path) -> Iterator[dict[str, OpensslServer]]:
    need("openssl")
    need("curl")
    with ExitStack() as stack:
        made = _servers(scratch)
        for server in made.values():
            stack.enter_context(server)
        yield made


@pytest.fixture(scope="module")
def judging(scratch: Path, servers: dict[str, OpensslServer]) -> Iterator[Daemon]:
    hosts = {f"{case}.example": "127.0.0.1" for case in servers} | {"ours.example": "127.0.0.1"}
    extra = {"block_page": {"contact": CONTACT}}
    with Daemon(scratch / "judging", hosts=hosts, common=PUBLIC, extra=extra) as running:
        yield running


def certificate_error(details: str) -> str:
    kind = "tls_protocol_error" if details == "protocol" else "tls_certificate_error"
    return f'sallyport; error={kind}; details="{details}"'


@pytest.mark.parametrize("case", CASES)
def test_a_defect_is_blocked_with_its_own_details_and_no_request_arrives(
    judging: Daemon, servers: dict[str, OpensslServer], case: str
) -> None:
    for version in ("--http1.1", "--http2"):
        result = curl(judging, servers[case].url(f"{case}.example", "/secret"), version)
        assert result.exit_code == 0, result.error
        assert (result.status, result.proxy_status) == (502, certificate_error(CASES[case]))
        assert result.http_version == ("2" if version == "--http2" else "1.1")
        assert result.headers["cache-control"] == "no-store"
        assert "text/html" in result.headers["content-type"]
        shown = re.findall(r"<code>([0-9a-f]{16})</code>", result.text)
        assert judging.wait_log("refused", host=f"{case}.example", id=shown[-1])[0]["details"] == CASES[case]
    assert "/secret" not in servers[case].log()


def test_a_good_server_passes_beside_them(judging: Daemon, servers: dict[str, OpensslServer]) -> None:
    assert curl(judging, servers["good"].url("good.example")).status == 200


def test_a_program_gets_a_problem_document(judging: Daemon, servers: dict[str, OpensslServer]) -> None:
    result = curl(judging, servers["expired"].url("expired.example"), "-H", "Accept: application/json")
    assert result.headers["content-type"] == "application/problem+json"
    problem = json.loads(result.body)
    assert problem["status"] == 502
    assert problem["details"] == "expired"
    assert problem["contact"] == CONTACT
    assert judging.wait_log("refused", id=problem["id"])


def test_of_several_defects_the_first_that_is_not_allowed_is_named_and_the_log_says_by_what(
    judging: Daemon, servers: dict[str, OpensslServer]
) -> None:
    url = servers["expired"].url("good.example")
    assert curl(judging, url).proxy_status == certificate_error("expired")
    judging.told("errors", "set", "expired", "allow")
    try:
        judging.within(3, lambda: curl(judging, url).proxy_status == certificate_error("hostname_mismatch"))
        problem = json.loads(curl(judging, url, "-H", "Accept: application/json").body)
        assert [(one["defect"], one["allowed"]) for one in problem["findings"]] == [
            ("hostname_mismatch", False), ("expired", True),
        ]  # fmt: skip
        (refused,) = judging.wait_log("refused", id=problem["id"])
        (verdict,) = judging.wait_log("verdict", id=problem["id"])
        assert refused["details"] == "hostname_mismatch"
        assert refused["defects"] == verdict["defects"] == ["expired", "hostname_mismatch"]
        assert refused["by"] == verdict["by"] == ["row expired", "default"]
        assert [one["defect"] for one in verdict["findings"]] == ["expired", "hostname_mismatch"]
        assert judging.wait_log("leaf", id=problem["id"])[0]["level"] == "info"
    finally:
        judging.told("errors", "unset", "expired")
    judging.within(3, lambda: curl(judging, url).proxy_status == certificate_error("expired"))


def test_a_client_that_speaks_no_http_gets_an_alert(judging: Daemon, servers: dict[str, OpensslServer]) -> None:
    done = subprocess.run(
        ["openssl", "s_client", "-proxy", judging.proxy, "-connect", f"expired.example:{servers['expired'].port}",
         "-servername", "expired.example", "-alpn", "imap"],
        input=b"", capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert b"alert access denied" in done.stderr


def test_every_request_on_the_connection_gets_the_answer(judging: Daemon, servers: dict[str, OpensslServer]) -> None:
    url = servers["expired"].url("expired.example")
    for version in ("--http1.1", "--http2"):
        urls = [part for place in range(5) for part in ("-o", "/dev/null", f"{url}{place}")]
        done = subprocess.run(
            [*command(judging, url, "-o", "/dev/null", "--parallel", version, "-w", "%{http_code}\\n"), *urls[:-3]],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.split() == ["502"] * 5, done.stderr


def test_the_master_setting_lets_three_defects_pass_and_blocks_them_again(
    judging: Daemon, servers: dict[str, OpensslServer]
) -> None:
    covered = [case for case, defect in CASES.items() if defect in COVERED]
    assert len(covered) == 3

    def statuses() -> list[int]:
        # s_server without -www answers nothing; what counts is whether the request arrives.
        return [
            curl(judging, servers[case].url(f"{case}.example", "/passes"), "--max-time", "1").status for case in covered
        ]

    try:
        judging.told("errors", "set", "untrusted", "allow")
        for case in covered:
            judging.within(
                1.5,
                lambda case=case: (
                    curl(judging, servers[case].url(f"{case}.example", "/passes"), "--max-time", "1").status != 502
                ),
            )
            wait_for("the request to arrive", lambda case=case: "GET /passes" in servers[case].log())
        assert curl(judging, servers["expired"].url("expired.example")).status == 502
        judging.told("errors", "set", "self_signed", "block")
        judging.within(
            1.5,
            lambda: curl(judging, servers["self-signed"].url("self-signed.example"), "--max-time", "1").status == 502,
        )
    finally:
        judging.told("errors", "set", "untrusted", "block")
        judging.told("errors", "unset", "self_signed")
    judging.within(1.5, lambda: statuses() == [502, 502, 502])


def test_a_server_that_our_own_ca_vouches_for_is_blocked_even_where_our_root_is_trusted(
    judging: Daemon, tmp_path: Path
) -> None:
    """Whoever gets hold of a leaf and its key must not be able to show it to this proxy."""

    async def stolen() -> tuple[bytes, tuple[bytes, ...], bytes]:
        client = IssuerClient(judging.state_dir / "run" / "issuer.sock", 5)
        try:
            leaf = await client.leaf("default", "ours.example", "ecdsa", (NOW + 30 * DAY).timestamp())
            key = await client.leaf_key("default", leaf.leaf_key)
        finally:
            await client.close()
        return leaf.certificate, leaf.chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    certificate, chain, key = asyncio.run(stolen())
    files = {name: tmp_path / name for name in ("leaf.pem", "leaf.key", "chain.pem")}
    files["leaf.pem"].write_bytes(x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM))
    files["chain.pem"].write_bytes(
        b"".join(x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in chain)
    )
    files["leaf.key"].touch(0o600)
    files["leaf.key"].write_bytes(key)
    from tests.harness.processes import free_port

    port = free_port()
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(files["leaf.pem"]),
         "-key", str(files["leaf.key"]), "-cert_chain", str(files["chain.pem"]), "-www"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        judging.told("trusted-ca", "add", "ourselves", str(judging.root))
        url = f"https://ours.example:{port}/"
        for _ in range(2):
            result = wait_for(
                "an answer", lambda: r if (r := curl(judging, url)).proxy_status.count("tls_cert") else None
            )
            assert result is not None
            assert result.proxy_status == certificate_error("own_ca")
            judging.told("errors", "set", "untrusted", "allow")
        assert judging.cli("errors", "set", "own_ca", "allow").returncode == 1
        except_ = ("errors", "except", "--defect", "own_ca", "--action", "allow", "--reason", "a test")
        assert judging.cli(*except_, "*.example").returncode == 1
        judging.told(*except_, "ours.example")
        judging.within(3, lambda: curl(judging, url).status == 200)
    finally:
        server.kill()
        server.wait()
        judging.told("errors", "unset", "untrusted")
        judging.told("trusted-ca", "delete", "ourselves")
        for made in json.loads(judging.told("errors", "exceptions", "--json")):
            judging.told("errors", "unexcept", str(made["id"]))
