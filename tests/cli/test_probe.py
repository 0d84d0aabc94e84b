from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest

from certs.bypass import Matched
from certs.decision import Reason, Source
from certs.exceptions import HostException, key_fingerprint
from certs.host_patterns import parse_pattern
from certs.names import Host
from certs.verdict import Action, Defect, Finding, Verdict
from proxy.probe import ProbeReport
from tests.cli.conftest import Run
from tests.harness.pki import Authority


@dataclass(frozen=True)
class Report:
    """What the data plane reports, as far as the command looks at it."""

    host: Host
    port: int
    verdict: Verdict = field(default_factory=Verdict)
    action: Action = Action.ALLOW
    address: str | None = "192.0.2.1"
    tls_version: str | None = "TLSv1.3"
    cipher: str | None = "TLS_AES_256_GCM_SHA384"
    alpn: str | None = "h2"
    failure: str | None = None
    asked: bool = False
    bypass: Matched | None = None
    elsewhere: tuple[tuple[str, str], ...] = ()
    reasons: tuple[Reason, ...] = ()
    passed_over: tuple[tuple[HostException, str], ...] = ()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the next probe finds; afterwards, what was asked for."""
    given: dict[str, Any] = {}

    def probe(_settings: object, tenant: str, host: Host, port: int, _clock: object) -> Report:
        given["tenant"], given["target"] = tenant, (str(host), port)
        return Report(host, port, **given.get("found", {}))

    module = ModuleType("proxy.probe")
    module.probe = probe  # type: ignore[attr-defined] # a module made here has what is put into it
    monkeypatch.setitem(sys.modules, "proxy.probe", module)
    return given


@pytest.mark.parametrize(
    ("target", "parsed"),
    [
        ("Bücher.example", ("xn--bcher-kva.example", 443)),
        ("example.com:8443", ("example.com", 8443)),
        ("[2001:DB8::1]:443", ("2001:db8::1", 443)),
    ],
)
def test_the_target_is_a_host_and_a_port(run: Run, asked: dict[str, Any], target: str, parsed: tuple[str, int]) -> None:
    assert run("probe", target).exit_code == 0
    assert asked["target"] == parsed
    assert asked["tenant"] == "default"


@pytest.mark.parametrize("target", ["", "a b", "example.com:0", "http://example.com/", "user@example.com"])
def test_a_target_that_is_none_is_two(run: Run, asked: dict[str, Any], target: str) -> None:
    done = run("probe", target)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "target" not in asked


def test_a_good_server_is_explained_and_passes(run: Run, asked: dict[str, Any]) -> None:
    issuing = Authority.root("Root").intermediate("Issuing")
    asked["found"] = {"verdict": Verdict((), issuing.leaf("good.example").chain())}
    done = run("probe", "good.example")
    assert done.exit_code == 0
    assert "CN=good.example" in done.stdout
    assert "Certificate 1 above it" in done.stdout
    assert "CN=Issuing" in done.stdout
    assert "TLSv1.3, TLS_AES_256_GCM_SHA384" in done.stdout
    assert done.stdout.endswith("Nothing is wrong with the server's certificate.\nTenant default lets it pass.\n")


def test_each_finding_is_explained_and_a_blocked_server_is_one(run: Run, asked: dict[str, Any]) -> None:
    findings = (
        Finding(Defect.UNTRUSTED_ROOT, "its root is unknown", "RFC 5280 6.1", 1, "add the CA"),
        Finding(Defect.HOSTNAME_MISMATCH, "no such name", "RFC 9525 6.3", 0, "ask for another name"),
    )
    chain = Authority.root("Root").leaf("a.example").chain(with_root=True)
    asked["found"] = {"verdict": Verdict.of(findings, chain), "action": Action.BLOCK}
    done = run("probe", "b.example")
    assert done.exit_code == 1
    assert "untrusted_root (certificate 2 of the chain): its root is unknown" in done.stdout
    assert "  by      RFC 9525 6.3" in done.stdout
    assert "  remedy  add the CA" in done.stdout
    assert done.stdout.endswith("Tenant default blocks it.\n")
    told = json.loads(run("probe", "b.example", "--json").stdout)
    assert [one["defect"] for one in told["findings"]] == ["untrusted_root", "hostname_mismatch"]
    assert told["action"] == "block"
    assert told["passes"] is False
    assert len(told["certificates"]) == 2


def test_a_defect_that_is_allowed_passes(run: Run, asked: dict[str, Any]) -> None:
    asked["found"] = {"verdict": Verdict.of([Finding(Defect.EXPIRED, "old", "")]), "action": Action.ALLOW}
    done = run("probe", "old.example")
    assert done.exit_code == 0
    assert "expired: old" in done.stdout
    assert done.stdout.endswith("Tenant default lets it pass.\n")


def test_what_decided_about_each_defect_is_told(run: Run, asked: dict[str, Any]) -> None:
    until = datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC)
    lifted = HostException(7, parse_pattern("b.example"), "expired", Action.ALLOW, None, until, "renewed in \x1b May")
    other = HostException(9, parse_pattern("*.example"), "untrusted", Action.ALLOW, b"f" * 32)
    defects = (Defect.WEAK_KEY, Defect.SELF_SIGNED, Defect.EXPIRED, Defect.HOSTNAME_MISMATCH, Defect.PROTOCOL)
    chain = Authority.root("Root").leaf("a.example").chain(with_root=True)
    asked["found"] = {
        "verdict": Verdict.of([Finding(defect, "it is so", "") for defect in defects], chain),
        "action": Action.BLOCK,
        "reasons": (
            Reason(Defect.WEAK_KEY, Action.ALLOW, Source.ROW),
            Reason(Defect.SELF_SIGNED, Action.ALLOW, Source.MASTER),
            Reason(Defect.EXPIRED, Action.ALLOW, Source.EXCEPTION, lifted),
            Reason(Defect.HOSTNAME_MISMATCH, Action.BLOCK, Source.DEFAULT),
            Reason(Defect.PROTOCOL, Action.BLOCK, Source.NOTHING_SHOWN),
        ),
        "passed_over": ((other, "it is pinned to another certificate or key"),),
    }
    done = run("probe", "b.example")
    assert done.stdout.splitlines()[-7:] == [
        "weak_key: allow, by the row weak_key",
        "self_signed: allow, by the row untrusted",
        "expired: allow, by exception 7 (renewed in \\x1b May), until 2027-01-31 23:59 UTC",
        "hostname_mismatch: block, by default",
        "protocol: block, by default: there is no certificate that could be let pass",
        "Exception 9 (untrusted of *.example): it is pinned to another certificate or key.",
        "Tenant default blocks it.",
    ]
    pin = key_fingerprint(chain[0])
    assert pin is not None
    assert f"key sha256:  {pin.hex()}" in done.stdout
    assert done.stdout.count("key sha256:") == 1
    told = json.loads(run("probe", "b.example", "--json").stdout)
    assert told["key_sha256"] == pin.hex()
    assert [one["by"] for one in told["reasons"]] == [
        "row weak_key", "row untrusted", "exception 7", "default", "nothing shown",
    ]  # fmt: skip
    assert told["reasons"][2]["exception"]["expires_at"] == "2027-01-31T23:59:59Z"
    assert told["reasons"][3]["exception"] is None
    assert (told["passed_over"][0]["id"], told["passed_over"][0]["why"]) == (
        9, "it is pinned to another certificate or key",
    )  # fmt: skip


@pytest.mark.parametrize("file", [None, "/etc/lists/banks.txt"])
def test_a_host_that_is_not_decrypted_passes_whatever_it_shows(
    run: Run, asked: dict[str, Any], file: str | None
) -> None:
    found = {"verdict": Verdict.of([Finding(Defect.EXPIRED, "old", "")]), "action": Action.BLOCK}
    asked["found"] = {**found, "bypass": Matched(".bank.example", file)}
    done = run("probe", "bank.example")
    assert done.exit_code == 0
    where = "its own rules" if file is None else f"the list file {file}"
    assert f"Tenant default does not decrypt it, by the bypass rule .bank.example of {where}." in done.stdout
    assert "expired: old" in done.stdout
    assert done.stdout.endswith("Without that rule tenant default blocks it.\n")
    told = json.loads(run("probe", "bank.example", "--json").stdout)
    assert (told["action"], told["passes"]) == ("bypass", True)
    assert told["bypass"] == {"rule": ".bank.example", "file": file, "otherwise": "block"}
    asked["found"] = {"bypass": Matched(".bank.example", file), "address": None, "failure": "connection refused"}
    assert run("probe", "bank.example").exit_code == 1
    # Its handshake with us fails; the client's own may not.
    asked["found"] = {"bypass": Matched(".bank.example", file), "failure": "handshake failure", **found}
    assert run("probe", "bank.example").exit_code == 0


def test_a_server_that_is_not_reached_is_one(run: Run, asked: dict[str, Any]) -> None:
    nothing = {"address": None, "tls_version": None, "cipher": None, "alpn": None}
    asked["found"] = {"failure": "connection refused", **nothing}
    done = run("probe", "down.example")
    assert done.exit_code == 1
    assert done.stdout.endswith("Not reached: connection refused\n")
    assert json.loads(run("probe", "down.example", "--json").stdout)["passes"] is False


def test_another_tenant_is_asked_for_and_an_unknown_one_refused(run: Run, asked: dict[str, Any]) -> None:
    run("tenant", "create", "acme")
    assert run("--tenant", "acme", "probe", "a.example").exit_code == 0
    assert asked.pop("tenant") == "acme"
    done = run("--tenant", "nobody", "probe", "a.example")
    assert done.exit_code == 1
    assert "no tenant 'nobody'" in done.stderr
    assert "tenant" not in asked


def test_what_a_stranger_wrote_is_shown_escaped(run: Run, asked: dict[str, Any]) -> None:
    chain = Authority.root("\x1b[2Jroot").leaf("a.example").chain(with_root=True)
    asked["found"] = {"verdict": Verdict.of([Finding(Defect.EXPIRED, "\x1b[2J", "")], chain), "action": Action.BLOCK}
    told = run("probe", "a.example").stdout
    assert "\x1b" not in told
    assert "\\x1b[2Jroot" in told


def test_the_report_here_has_the_fields_of_the_real_one() -> None:
    assert {one.name for one in fields(Report)} == {one.name for one in fields(ProbeReport)}
