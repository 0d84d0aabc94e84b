"""What the log tells of a verdict is bounded, says what was left out, and costs nothing where nobody wants to know."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.decision import ErrorSettings
from certs.mentions import Mentions
from certs.names import parse_host
from certs.scope import OwnCa, TrustByHost
from certs.verdict import Action, Defect, Verdict
from certs.verify import handshake_of, judge
from proxy.log import MAX_LINE, Log
from proxy.session import Judged, Session
from proxy.snapshot import Snapshot
from proxy.upstream import ServerLeg
from proxy.verdict_trace import shortened, told, within
from tests.harness.memory_tls import server_context, shake_hands
from tests.harness.pki import NOW, Authority, Issued

HOST = parse_host("good.example")
ROOT = Authority.root("Root")
ISSUING = ROOT.intermediate("Issuing")


def snapshot(common: list[Authority], own: list[Authority] | None = None) -> Snapshot:
    cas = tuple(OwnCa((authority.raw,)) for authority in own or ())
    trust = TrustByHost([authority.certificate for authority in common], cas)
    names = tuple((f"ca{place}", cast("Any", None)) for place in range(len(cas)))
    return Snapshot("default", 1, trust, ErrorSettings({}), frozenset(), 1, False, cas, trusted_validity=names)


def traced(leaf: Issued, behind: list[Issued], working_set: Snapshot) -> tuple[Verdict, dict[str, Any]]:
    """After a handshake with OpenSSL on both sides."""
    trust = working_set.trust.at(HOST)
    connection, seen = shake_hands(trust.context, server_context(leaf, [one.raw for one in behind]), HOST.text)
    verdict = judge(handshake_of(connection, seen), HOST, trust.store, NOW)
    server = cast("ServerLeg", SimpleNamespace(leg=SimpleNamespace(tls=connection, established=True)))
    return verdict, told(verdict, HOST, working_set, server)


def line_of(fields: dict[str, Any]) -> str:
    lines: list[str] = []
    log = Log(2, "info", "worker 1", lambda: 1.0)
    log._put = lines.append  # type: ignore[method-assign] # the line itself is what is looked at
    log.event(20, "verdict", **fields)
    return lines[0]


def test_the_chain_is_told_with_where_it_is_from_what_it_ends_in_and_what_is_beside() -> None:
    verdict, fields = traced(ISSUING.leaf(), [ISSUING, Authority.root("Beside")], snapshot([ROOT]))
    assert verdict.ok
    assert [(one["subject"], one["issuer"], one["from"]) for one in fields["chain"]] == [
        ("CN=good.example", "CN=Issuing", "sent by the server"),
        ("CN=Issuing", "CN=Root", "sent by the server"),
        ("CN=Root", "CN=Root", "common store"),
    ]
    leaf = verdict.chain[0]
    assert (fields["chain"][0]["serial"], fields["chain"][0]["sha256"]) == (
        f"{leaf.serial_number:x}", leaf.fingerprint(SHA256()).hex(),
    )  # fmt: skip
    assert fields["chain"][0]["not_after"] == f"{leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    assert (fields["anchor"], fields["sent_beside"], fields["tls"]) == ("common store", 1, "TLSv1.3")
    assert fields["findings"] is fields["chain_left_out"] is fields["findings_left_out"] is None


def test_a_trusted_ca_is_told_by_its_name() -> None:
    _, fields = traced(ISSUING.leaf(), [ISSUING], snapshot([], [Authority.root("Other"), ROOT]))
    assert fields["anchor"] == "trusted CA ca1"
    assert fields["chain"][-1]["from"] == "trusted CA"


def test_a_server_that_sends_a_hundred_certificates_with_endless_names_gets_one_line_that_is_whole() -> None:
    below = Authority.root("\U0001f600" * 16)
    line = [below]
    for place in range(8):
        below = below.intermediate("\x1b[2J\U0001f600" * 7 + str(place))
        line.append(below)
    many = [Authority.root(f"{place} " * 20) for place in range(60)]
    working_set = snapshot([])
    verdict, fields = traced(below.leaf("other.example", serial=1 << 4000), [*line[::-1], *many], working_set)
    assert Defect.MALFORMED in verdict.defects
    said = {"host": "h" * 253, "by": ["exception 1234567"] * len(verdict.defects), "defects": verdict.defects}
    text = line_of(said | fields)
    assert len(text) <= MAX_LINE
    assert "\x1b" not in text
    whole = json.loads(text)
    assert "cut" not in whole
    assert whole["chain"][0]["serial"].endswith("...")
    assert len(whole["chain"]) + whole["chain_left_out"] == len(verdict.chain)
    assert len(whole["findings"]) + whole.get("findings_left_out", 0) == len(verdict.findings)
    assert whole["sent_beside"] > 50


@settings(max_examples=200)
@given(st.text(), st.integers(1, 300))
def test_a_text_is_cut_by_what_it_takes_in_the_line(text: str, most: int) -> None:
    kept = shortened(text, most)
    assert len(json.dumps(kept)) - 2 <= most + 3
    assert kept == text or (kept.endswith("...") and text.startswith(kept[:-3]))


def test_the_first_is_kept_whatever_it_takes_and_the_others_are_counted() -> None:
    assert within([{"a": "x" * 100}, {"b": "y"}], 2, 10) == ([{"a": "x" * 100}], 1)
    assert within([{"a": 1}, {"b": 2}], 2, 1000) == ([{"a": 1}, {"b": 2}], 0)
    assert within([], 0, 10) == ([], 0)


@pytest.mark.parametrize("level", [20, 30])
def test_of_a_clean_connection_nothing_is_put_together_where_nobody_follows_it(level: int) -> None:
    counted: list[tuple[object, ...]] = []
    kept: list[tuple[object, ...]] = []
    worker = SimpleNamespace(
        metrics=SimpleNamespace(verdict=lambda *labels: counted.append(labels)),
        figures=SimpleNamespace(judged=lambda *judged: counted.append(judged)),
        log=SimpleNamespace(level=level, never=Mentions(["secret.example"])),
    )
    session = SimpleNamespace(
        worker=worker, tenant_name="default", followed=False, peer="192.0.2.1", _keep=lambda *event: kept.append(event),
        disclosure=SimpleNamespace(requests=True),
    )  # fmt: skip
    host, secret = parse_host("a.example"), parse_host("secret.example")
    # Whatever else of the session it touched would raise.
    for one in (host, secret):
        Session.judged(cast("Session", session), Verdict(), Action.ALLOW, Judged(one, 443, source="kept"))
    session.disclosure.requests = False
    Session.judged(cast("Session", session), Verdict(), Action.ALLOW, Judged(host, 443, source="kept"))
    assert counted == [
        ("default", "none", "allow"), ("default", "192.0.2.1", host, "none", Action.ALLOW),
        ("default", "none", "allow"), ("default", "192.0.2.1", secret, "none", Action.ALLOW),
        ("default", "none", "allow"), ("default", "192.0.2.1", host, "none", Action.ALLOW),
    ]  # fmt: skip
    assert kept == [("verdict", {"host": "a.example", "port": 443, "action": "allow", "source": "kept"})]
