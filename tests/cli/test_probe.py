from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import click
import pytest

from certs.bypass import Matched
from certs.checklist import ALL
from certs.decision import Reason, Source
from certs.exceptions import HostException, key_fingerprint
from certs.host_patterns import parse_pattern
from certs.names import Host
from certs.origin import Origin, Origins
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
    authors: Mapping[int, str] = field(default_factory=dict)
    group: str | None = "x25519"
    anchor: str = ""
    origins: Origins | None = None
    parent: str | None = None


def as_lines(text: str) -> list[str]:
    """The lines without their indents, and with one blank between the parts of each."""
    return [" ".join(line.split()) for line in text.splitlines()]


def section(text: str, title: str) -> list[str]:
    """The lines below a heading, up to the next empty one."""
    lines = text.splitlines()
    (begins,) = [place for place, line in enumerate(lines) if line.partition(":")[0] == title]
    below = lines[begins + 1 :]
    return below[: below.index("")] if "" in below else below


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
    root = Authority.root("Root")
    chain = root.intermediate("Issuing").leaf("good.example").chain(with_root=True)
    other = Authority.root("Beside").certificate
    origins = Origins((Origin.SENT, Origin.COMPLETED, Origin.COMMON), (other,))
    verdict = replace(Verdict((), tuple(chain)), completed="from http://aia.example/ca.cer")
    asked["found"] = {"verdict": verdict, "anchor": "common store (certifi)", "origins": origins}
    done = run("probe", "good.example")
    assert done.exit_code == 0
    assert "TLSv1.3, TLS_AES_256_GCM_SHA384, x25519" in done.stdout
    tree = section(done.stdout, "Chain")
    places = [next(at for at, line in enumerate(tree) if name in line) for name in
              ("common store (certifi)", "└─ CN=Root", "└─ CN=Issuing", "└─ CN=good.example")]  # fmt: skip
    assert places == sorted(places)
    assert "EC secp256r1, not sent, ends in " in tree[places[1] + 1]
    assert "not sent but found, ends in " in tree[places[2] + 1]
    assert "EC secp256r1, sent, ends in " in tree[places[3] + 1]
    assert tree[-2:] == [
        "  sent, and not needed: CN=Beside",
        "  The server did not send its whole chain; it was completed from http://aia.example/ca.cer.",
    ]
    assert done.stdout.endswith("Nothing is wrong with the server's certificate.\n\nTenant default lets it pass.\n")
    told = json.loads(run("probe", "good.example", "--json").stdout)
    assert [one["from"] for one in told["certificates"]] == ["sent by the server", "completed", "common store"]
    assert [one["subject"] for one in told["beside_the_chain"]] == ["CN=Beside"]
    assert told["anchor"] == "common store (certifi)"


def test_every_check_is_told_with_what_came_of_it(run: Run, asked: dict[str, Any]) -> None:
    chain = Authority.root("Root").leaf("a.example").chain(with_root=True)
    found = Finding(Defect.EXPIRED, "old", "RFC 5280 4.1.2.5", 0, "", "nothing_has_expired")
    verdict = Verdict.of([found], chain, unmade={"nothing_is_revoked": "nobody is asked"})
    asked["found"] = {"verdict": verdict, "action": Action.BLOCK}
    shown = run("probe", "a.example").stdout
    assert f"Checks: {len(ALL) - 2} passed, 1 failed, 1 not made\n" in shown
    lines = as_lines("\n".join(section(shown, "Checks")))
    assert "expired failed no certificate has expired, the anchor's included ✗ 1 RFC 5280 6.1.3 (a)(2)" in lines
    assert "revoked not made no certificate was revoked (a) RFC 5280 6.3; RFC 6960" in lines
    assert lines[-1] == "not made (a): nobody is asked"
    assert "✗ 1 expired" in as_lines(shown)
    told = json.loads(run("probe", "a.example", "--json").stdout)
    assert [one["check"] for one in told["checks"]] == [check.name for check in ALL]
    by_name = {one["check"]: one for one in told["checks"]}
    assert by_name["nothing_has_expired"]["findings"] == [0]
    assert by_name["nothing_has_expired"]["state"] == "failed"
    assert (by_name["nothing_is_revoked"]["state"], by_name["nothing_is_revoked"]["why"]) == (
        "not made", "nobody is asked",
    )  # fmt: skip
    assert by_name["host_is_named"]["state"] == "passed"
    assert told["findings"][0]["check"] == "nothing_has_expired"


def test_colours_are_for_terminals_and_only_where_they_are_wanted(
    run: Run, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked["found"] = {"verdict": Verdict.of([Finding(Defect.EXPIRED, "old", "")]), "action": Action.BLOCK}
    plain = run("probe", "a.example").stdout
    assert "\x1b" not in plain
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    coloured = run("probe", "a.example", color=True).stdout
    assert "\x1b[31m" in coloured
    # On a terminal lines are broken at its edge, but nothing is said by its colour alone.
    words = " ".join(click.unstyle(coloured).split())
    for text in (f"{len(ALL)} passed", "malformed passed the server sent", "1 expired old", "blocks it"):
        assert text in words
    assert "\x1b" not in run("probe", "a.example", "--json", color=True).stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("probe", "a.example", color=True).stdout


def test_each_finding_is_explained_and_a_blocked_server_is_one(run: Run, asked: dict[str, Any]) -> None:
    findings = (
        Finding(Defect.UNTRUSTED_ROOT, "its root is unknown", "RFC 5280 6.1", 1, "add the CA"),
        Finding(Defect.HOSTNAME_MISMATCH, "no such name", "RFC 9525 6.3", 0, "ask for another name"),
    )
    chain = Authority.root("Root").leaf("a.example").chain(with_root=True)
    asked["found"] = {"verdict": Verdict.of(findings, chain), "action": Action.BLOCK}
    done = run("probe", "b.example")
    assert done.exit_code == 1
    assert section(done.stdout, "What is wrong") == [
        "  1 untrusted_root",
        "    its root is unknown (RFC 5280 6.1)",
        "    remedy: add the CA",
        "  2 hostname_mismatch",
        "    no such name (RFC 9525 6.3)",
        "    remedy: ask for another name",
    ]
    tree = as_lines("\n".join(section(done.stdout, "Chain")))
    assert tree.index("│ ✗ 1 untrusted_root") < tree.index("└─ CN=a.example") < tree.index("✗ 2 hostname_mismatch")
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
    assert section(done.stdout, "What is wrong") == ["  1 expired", "    old"]
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
        "authors": {7: "ann", 9: "bob"},
    }
    done = run("probe", "b.example")
    assert section(done.stdout, "What is done, and why") == [
        "  weak_key           allow   by the row weak_key",
        "  self_signed        allow   by the row untrusted",
        "  expired            allow   by exception 7 (renewed in \\x1b May), made by ann, until 2027-01-31 23:59 UTC",
        "  hostname_mismatch  block   by default",
        "  protocol           block   by default: there is no certificate that could be let pass",
        "  Exception 9 (untrusted of *.example) does not count: it is pinned to another certificate or key.",
    ]
    pin = key_fingerprint(chain[0])
    assert pin is not None
    assert f"key sha256 {pin.hex()}" in done.stdout
    assert done.stdout.count("key sha256") == 1
    told = json.loads(run("probe", "b.example", "--json").stdout)
    assert told["key_sha256"] == pin.hex()
    assert [one["by"] for one in told["reasons"]] == [
        "row weak_key", "row untrusted", "exception 7", "default", "nothing shown",
    ]  # fmt: skip
    assert told["reasons"][2]["exception"]["expires_at"] == "2027-01-31T23:59:59Z"
    assert told["reasons"][2]["exception"]["created_by"] == "ann"
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
    assert "1 expired" in done.stdout
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
