"""Each defect, made with real certificates on a real server: blocked with its own details, and no request arrives.

And each with each action that there is, as docs/verdicts.md says it.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID

from certs.verdict import Action, Defect
from config.loader import load
from control import error_settings, host_exceptions
from control.errors import Refused
from control.host_exceptions import Wanted
from control.installation import DEFAULT_TENANT, Installation
from issuer.client import IssuerClient
from tests.e2e.conftest import ISSUING, PRIVATE_ISSUING, PUBLIC
from tests.harness.curl import command, curl
from tests.harness.daemon import Daemon
from tests.harness.origins import OpensslServer
from tests.harness.pki import DAY, NOW, Issued, Raw, self_signed
from tests.harness.processes import wait_for
from tests.harness.programs import need
from tests.harness.raw_http import open_tunnel
from tests.harness.revocation import crl

WEAK = ("-cipher", "DEFAULT@SECLEVEL=0")
COVERED = ("self_signed", "incomplete_chain", "untrusted_root")
CONTACT = "IT help desk, ext. 4711"
CASES: Mapping[str, str] = {
    "duplicate-extension": "malformed",
    "unknown-critical": "malformed",
    "bad-signature": "bad_signature",
    "revoked": "revoked",
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
UNREAD = ("malformed", "untrusted", "hostname_mismatch")
"""What is wrong with a server whose certificate, or what it says, cannot be read: whom it is from and for, too."""


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
        "revoked": serve(ISSUING.leaf(host("revoked"))),
        "unlisted": serve(PUBLIC.intermediate("Unlisted").leaf(host("unlisted"))),
        "unread": serve(ISSUING.leaf(host("unread"), version=4)),
        "good": serve(ISSUING.leaf(host("good")), "-www"),
    }


def _lists(folder: Path, servers: Mapping[str, OpensslServer]) -> Path:
    """The operator's CRLs: of everybody whom a server here leads to, but of one."""
    folder.mkdir()
    issuers = {one.raw: one for server in servers.values() for one in server.identity.line(with_root=True)[1:]}
    for place, issuer in enumerate(issuers.values()):
        if issuer.subject != servers["unlisted"].identity.parent.subject:  # type: ignore[union-attr]
            revoked = [servers["revoked"].identity] if issuer is ISSUING else []
            (folder / f"{place}.crl").write_bytes(crl(issuer, revoked))
    return folder


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
    verification = {"revocation": "soft", "crl_directory": str(_lists(scratch / "lists", servers))}
    extra = {"verification": verification, "block_page": {"contact": CONTACT}}
    listeners = (("explicit", "default"), ("second", "other"))
    with Daemon(scratch / "judging", hosts=hosts, common=PUBLIC, listeners=listeners, extra=extra) as running:
        yield running


@pytest.fixture(scope="module")
def ours(scratch: Path, judging: Daemon) -> Iterator[OpensslServer]:
    """A server with a leaf of the proxy's own, and its key: what somebody has who got hold of both.

    It is of another tenant: what our clients are shown for the host is another leaf then, and can be told from it.
    """

    async def stolen() -> Issued:
        client = IssuerClient(judging.state_dir / "run" / "issuer.sock", 5)
        try:
            leaf = await client.leaf("other", "ours.example", "ecdsa", (NOW + 30 * DAY).timestamp())
            key = await client.leaf_key("other", leaf.leaf_key)
        finally:
            await client.close()
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        parent: Issued | None = None
        for der in reversed(leaf.chain):
            parent = Issued(der, key, x509.load_der_x509_certificate(der).subject, parent)
        return Issued(leaf.certificate, key, x509.load_der_x509_certificate(leaf.certificate).subject, parent)

    with OpensslServer(scratch, asyncio.run(stolen()), answer=False, with_root=True) as server:
        yield server


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
    judging: Daemon, ours: OpensslServer
) -> None:
    """Whoever gets hold of a leaf and its key must not be able to show it to this proxy."""

    url = ours.url("ours.example")
    try:
        judging.told("trusted-ca", "add", "ourselves", str(judging.root_of("other")))
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
        judging.within(3, lambda: curl(judging, url, "--max-time", "1").status != 502)
        wait_for("the request to arrive", lambda: "GET / " in ours.log())
    finally:
        judging.told("errors", "unset", "untrusted")
        judging.told("trusted-ca", "delete", "ourselves")
        for made in json.loads(judging.told("errors", "exceptions", "--json")):
            judging.told("errors", "unexcept", str(made["id"]))


# --- each action on each defect ---

TURNS = tuple(Action)
WITH_WORDS = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nthe site"


@contextmanager
def changing(daemon: Daemon) -> Iterator[Installation]:
    """The use cases that the commands are made of, at once; afterwards the daemon has followed."""
    with Installation.open(load(daemon.config, {}, daemon.folder).settings, NOW) as inst:
        yield inst
        with inst.reading(DEFAULT_TENANT) as (_, tenant):
            generation = tenant.generation
    daemon.wait_log("working set replaced", timeout=20, generation=generation)


def excepted(inst: Installation, host: str, defect: str, action: Action) -> None:
    host_exceptions.add(inst, DEFAULT_TENANT, Wanted(host, defect, action.value, "a test"), NOW)


@contextmanager
def rows(daemon: Daemon, chosen: Mapping[Defect, Action], of_unread: Action) -> Iterator[set[tuple[Defect, Action]]]:
    """A row for each defect; those that are refused. An exception lifts ``own_ca``, others all that is unread."""
    refused = set()
    with changing(daemon) as inst:
        for defect, action in chosen.items():
            try:
                error_settings.set_action(inst, DEFAULT_TENANT, defect, action, NOW)
            except Refused:
                refused.add((defect, action))
        excepted(inst, "ours.example", "own_ca", chosen[Defect.OWN_CA])
        excepted(inst, "ours.example", "untrusted", Action.ALLOW)
        for host, defect in product(("unread.example", "duplicate-extension.example"), UNREAD):
            excepted(inst, host, defect, of_unread)
    try:
        yield refused
    finally:
        with changing(daemon) as inst:
            for defect in Defect:
                error_settings.unset(inst, DEFAULT_TENANT, defect, NOW)
            for one in host_exceptions.listing(inst, DEFAULT_TENANT, NOW):
                host_exceptions.remove(inst, DEFAULT_TENANT, str(one.exception.id), NOW)


def what_a_client_gets(daemon: Daemon, server: OpensslServer, host: str, path: str) -> tuple[Action, str]:
    """The action that a client sees done, and the details of a page. One client trusts our root alone, one anybody."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    anybody.set_ciphers("ALL:@SECLEVEL=0")

    def asked(context: ssl.SSLContext) -> tuple[bytes, bytes]:
        """The certificate that is shown, and the answer."""
        with context.wrap_socket(open_tunnel(daemon.proxy, host, server.port), server_hostname=host) as tls:
            tls.sendall(request)
            # The site answers once the request is there; a page comes by itself.
            tls.settimeout(0.05)
            answer, spoken = b"", False
            for _ in range(400):
                if answer == WITH_WORDS:
                    break  # s_server does not end what it is not told to
                try:
                    piece = tls.recv(65536)
                except TimeoutError:
                    if not spoken and path in server.log():
                        spoken = True
                        server.say(WITH_WORDS)
                    continue
                except ssl.SSLEOFError:
                    break
                if not piece:
                    break
                answer += piece
            return tls.getpeercert(binary_form=True) or b"", answer

    refused = False
    try:
        shown, answer = asked(ssl.create_default_context(cafile=str(daemon.root)))
    except ssl.SSLError:
        refused = True
        assert path not in server.log()
        shown, answer = asked(anybody)
        assert answer == WITH_WORDS
    if refused:
        if shown == server.identity.raw:
            return Action.BYPASS, ""
        assert "UNTRUSTED" in x509.load_der_x509_certificate(shown).issuer.rfc4514_string()
        return Action.WARN, ""
    if answer == WITH_WORDS:
        return Action.ALLOW, ""
    head, _, page = answer.decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 502 "), head
    assert "<html" in page
    assert path not in server.log()
    kind = r'Proxy-Status: sallyport; error=tls_(?:certificate|protocol)_error; details="([a-z_]+)"'
    details = re.search(kind, head, re.IGNORECASE)
    assert details is not None, head
    return Action.BLOCK, details[1]


@pytest.mark.parametrize("turn", range(len(TURNS)))
def test_each_action_on_each_defect_is_what_a_client_sees(
    judging: Daemon, servers: dict[str, OpensslServer], ours: OpensslServer, turn: int
) -> None:
    """In each turn every defect has another action than its neighbours, so that no row can stand in for another."""
    chosen = {defect: TURNS[(place + turn) % len(TURNS)] for place, defect in enumerate(Defect)}
    cases = {case: (servers[case], Defect(defect)) for case, defect in CASES.items()}
    cases |= {"ours": (ours, Defect.OWN_CA), "unlisted": (servers["unlisted"], Defect.REVOCATION_UNKNOWN)}
    assert {defect for _, defect in cases.values()} == set(Defect)
    cases["unread"] = servers["unread"], Defect.MALFORMED
    expected = {case: chosen[defect] for case, (_, defect) in cases.items()}
    if expected["no-forward-secrecy"] is not Action.BYPASS:
        expected["no-forward-secrecy"] = Action.BLOCK  # there is nothing to go on with, whoever may
    expected["duplicate-extension"] = TURNS[turn]
    # Nor is there where the certificate itself cannot be read.
    expected["unread"] = TURNS[turn] if TURNS[turn] is Action.BYPASS else Action.BLOCK
    with rows(judging, chosen, of_unread=TURNS[turn]) as refused:
        seen = {
            case: what_a_client_gets(judging, server, f"{case}.example", f"/turn-{turn}-{case}")
            for case, (server, _) in cases.items()
        }
    assert {case: action for case, (action, _) in seen.items()} == expected
    assert {case: details for case, (_, details) in seen.items() if details} == {
        case: cases[case][1].value for case, action in expected.items() if action is Action.BLOCK
    }
    assert refused == {
        (defect, action)
        for defect, action in chosen.items()
        if (defect is Defect.OWN_CA and action is not Action.BLOCK)
        or (defect is Defect.PROTOCOL and action in {Action.ALLOW, Action.WARN})
    }
