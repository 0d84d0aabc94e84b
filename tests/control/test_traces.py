"""A verdict's trace with both chains, from what workers tell and what the store has."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from config.settings import Settings
from control import signing_cas, tenants
from control.errors import Refused
from control.installation import Installation
from control.traces import Found, of_connection, of_host
from control.traffic import Event, events_of
from store import leaves, recent_servers
from store import signing_cas as stored_cas
from store.records import NewLeaf, RecentServer
from tests.control.conftest import trust
from tests.harness.pki import DAY, HOUR, NOW, Authority, Issued

COMMON = Authority.root("Common Root")
ISSUING = COMMON.intermediate("Common Issuing")
SITE = ISSUING.leaf(["shop.example", "www.shop.example"])
EXPIRED = {"defect": "expired", "certificate": 0, "explanation": "it expired", "clause": "RFC 5280 4.1.2.5"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The common store is a root of the tests' own."""
    common = tmp_path / "common.pem"
    common.write_bytes(COMMON.pem())
    return Settings.model_validate({"state_dir": str(tmp_path / "var"), "trust": {"common_store": str(common)}})


def entry(issued: Issued, origin: str) -> dict[str, Any]:
    certificate = issued.certificate
    return {
        "subject": certificate.subject.rfc4514_string(), "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}", "sha256": sha256(issued), "from": origin,
        "not_after": f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
    }  # fmt: skip


def sha256(issued: Issued) -> str:
    return hashlib.sha256(issued.raw).hexdigest()


CHAIN = [
    entry(SITE, "sent by the server"), entry(ISSUING, "sent by the server"), entry(COMMON, "common store"),
]  # fmt: skip


def told(event: str = "verdict", id: str = "1d", seconds: float = 0, **fields: Any) -> dict[str, Any]:
    return {
        "seq": 1 + int(seconds), "time": NOW.timestamp() + seconds, "event": event, "id": id, "tenant": "default",
        "host": "shop.example", **fields,
    }  # fmt: skip


def traced(*findings: dict[str, Any], **fields: Any) -> dict[str, Any]:
    trace = {"findings": list(findings), "chain": CHAIN, "anchor": "common store", "tls": "TLSv1.3", "cipher": "AES"}
    defects = [one["defect"] for one in findings]
    return told(port=443, defects=defects, action="block", by=["row expired"], **{"trace": trace, **fields})


def events(*all_told: dict[str, Any]) -> list[Event]:
    return events_of({"token": "7-1", "number": 1, "events": list(all_told)})


def remember(inst: Installation, *chain: Issued, added: tuple[Issued, ...] = (), **fields: Any) -> None:
    row = {
        "host": "shop.example", "port": 443, "last_at": NOW, "shown": True, "anchor_sha256": None, "defects": (),
        "action": "allow", "presented": tuple(one.raw for one in chain), "added": tuple(one.raw for one in added),
    } | fields  # fmt: skip
    with inst.changing("default") as (c, tenant):
        recent_servers.add(c, tenant.id, [RecentServer(**row)])


def show_leaf(inst: Installation, serial: int = 0xAB, *, untrusted: bool = False, tenant: str = "default") -> bytes:
    """A leaf of the active signing CA was shown for the host; its DER."""
    leaf = COMMON.leaf("shop.example", serial=serial).raw
    with inst.changing(tenant) as (c, found):
        active = stored_cas.active(c, found.id)
        assert active is not None
        ca = active
        if untrusted:
            ca = stored_cas.set_untrusted(c, found.id, "untrusted", active.chain[:1], b"sealed", NOW, "test")
        key = leaves.add_key(c, found.id, ca.id, "ecdsa", b"sealed", NOW)
        leaves.record(c, [NewLeaf(found.id, ca.id, key.id, "shop.example", f"{serial:x}", NOW, NOW + DAY, leaf, NOW)])
    return leaf


def test_both_chains_with_what_was_found_in_which_certificate(inst: Installation) -> None:
    remember(inst, SITE, ISSUING)
    leaf = show_leaf(inst)
    whole = {"defect": "revocation_unknown", "explanation": "nobody says", "clause": "RFC 6960"}
    found = of_connection(inst, "default", "1d", events(
        told("request", "other", 5), traced(EXPIRED, whole), told("leaf", serial="ab", seconds=1)), NOW,
    )  # fmt: skip
    assert (found.host, found.port, found.id, found.at, found.action) == ("shop.example", 443, "1d", NOW, "block")
    assert (found.defects, found.by) == (("expired", "revocation_unknown"), ("row expired",))
    assert (found.anchor, found.tls, found.remarks) == ("common store", "TLSv1.3, AES", ())
    assert [event.kind for event in found.events] == ["verdict", "leaf"]
    assert [link.certificate for link in found.server] == [one.certificate for one in (SITE, ISSUING, COMMON)]
    assert [link.origin for link in found.server] == ["sent by the server", "sent by the server", "common store"]
    assert found.server[0].names == ("shop.example", "www.shop.example")
    assert (found.server[0].begins, found.server[0].sha256) == (SITE.certificate.not_valid_before_utc, sha256(SITE))
    assert [link.findings for link in found.server] == [(Found("expired", "it expired", "RFC 5280 4.1.2.5"),), (), ()]
    assert found.findings == (Found("revocation_unknown", "nobody says", "RFC 6960"),)
    ours = [link.certificate for link in found.ours]
    assert ours[0] == x509.load_der_x509_certificate(leaf)
    assert tuple(ours[1:]) == signing_cas.part(inst, "default", None, "chain")
    assert (found.signing_ca, found.untrusted) == ("built-in", False)


def test_before_the_server_is_remembered_its_chain_is_told_without_certificates(inst: Installation) -> None:
    found = of_connection(inst, "default", "1d", events(traced(EXPIRED)), NOW)
    first = found.server[0]
    assert (first.certificate, first.begins, first.subject) == (None, None, "CN=shop.example")
    assert first.ends == SITE.certificate.not_valid_after_utc
    assert first.findings[0].defect == "expired"
    assert found.server[-1].certificate == COMMON.certificate
    assert found.ours == ()
    assert found.remarks == ("certificates of the server are missing: they are remembered a few seconds after a visit",)


def test_what_the_server_shows_by_now_is_not_taken_for_what_was_judged(inst: Installation) -> None:
    remember(inst, ISSUING.leaf("shop.example"), ISSUING)
    found = of_connection(inst, "default", "1d", events(traced(EXPIRED)), NOW)
    assert [link.certificate is None for link in found.server] == [True, False, False]


def test_what_there_was_no_room_for_is_said_and_no_finding_is_lost(inst: Installation) -> None:
    trace = {
        "findings": [EXPIRED, {**EXPIRED, "certificate": 1}], "findings_left_out": 3, "chain": CHAIN[:1],
        "chain_left_out": 2,
    }  # fmt: skip
    found = of_connection(inst, "default", "1d", events(traced(EXPIRED, trace=trace)), NOW)
    assert len(found.server[0].findings) == len(found.findings) == 1
    assert {"findings that there was no room for: 3", "certificates of the chain that there was no room for: 2"} <= set(
        found.remarks
    )


def test_without_findings_the_chain_is_what_is_remembered(inst: Installation) -> None:
    extra = Authority.root("Of Nobody")
    remember(inst, SITE, extra, added=(ISSUING,), anchor_sha256=bytes.fromhex(sha256(COMMON)))
    found = of_connection(inst, "default", "1d", events(told(port=443, action="allow")), NOW)
    assert [link.certificate for link in found.server] == [one.certificate for one in (SITE, ISSUING, COMMON)]
    assert [link.origin for link in found.server] == ["sent by the server", "completed", "common store"]
    assert (found.action, found.anchor, found.findings, found.remarks) == ("allow", "common store", (), ())


def test_an_anchor_of_the_tenants_own_has_its_name(inst: Installation) -> None:
    private = Authority.root("Private Root")
    trust(inst, "default", "private", private.pem())
    remember(inst, private.leaf("shop.example"), anchor_sha256=bytes.fromhex(sha256(private)))
    found = of_host(inst, "default", "shop.example", [], NOW)
    assert (found.anchor, found.server[-1].origin) == ("trusted CA private", "trusted CA")


def test_of_a_host_it_is_the_last_verdict(inst: Installation) -> None:
    first = traced(EXPIRED, id="first")
    last = traced({**EXPIRED, "defect": "self_signed"}, id="last", seconds=9)
    theirs = {**traced(EXPIRED, id="theirs", seconds=99), "tenant": "acme"}
    elsewhere = {**traced(EXPIRED, id="elsewhere", seconds=99), "host": "a.example"}
    found = of_host(inst, "default", "Shop.Example.", events(first, last, theirs, elsewhere), NOW)
    assert (found.id, found.defects) == ("last", ("self_signed",))


def test_of_a_host_that_workers_do_not_tell_of_it_is_what_was_remembered(inst: Installation) -> None:
    remember(inst, SITE, defects=("expired",), action="block")
    remember(inst, SITE, ISSUING, port=8443, last_at=NOW - HOUR)
    show_leaf(inst)
    found = of_host(inst, "default", "shop.example", [], NOW + HOUR)
    assert (found.id, found.at, found.port, found.action) == (None, NOW, 443, "block")
    assert found.findings == (Found("expired"),)
    assert [link.subject for link in found.server] == ["CN=shop.example"]
    assert len(found.ours) > 1
    assert found.remarks == (
        "workers tell of no connection to it any more: this is how it was when it was last looked at",
    )


def test_the_leaf_is_the_one_that_was_shown_and_not_the_last(inst: Installation) -> None:
    leaf = show_leaf(inst, 0xAB)
    show_leaf(inst, 0xCD)
    found = of_connection(inst, "default", "1d", events(traced(EXPIRED), told("leaf", serial="ab")), NOW)
    assert found.ours[0].certificate is not None
    assert found.ours[0].certificate.public_bytes(Encoding.DER) == leaf
    for event in (told("leaf", serial="ff"), told("leaf", serial="no number"), told("request")):
        found = of_connection(inst, "default", "1d", events(traced(EXPIRED), event), NOW)
        assert found.ours[0].serial == "cd"


def test_a_leaf_by_which_the_client_is_warned_is_of_the_untrusted_ca(inst: Installation) -> None:
    show_leaf(inst, untrusted=True)
    found = of_connection(inst, "default", "1d", events({**traced(EXPIRED), "action": "warn"}), NOW)
    assert (found.untrusted, found.signing_ca, len(found.ours)) == (True, "", 2)


def test_where_nothing_is_decrypted_we_show_nothing(inst: Installation) -> None:
    show_leaf(inst)
    found = of_connection(inst, "default", "1d", events({**traced(EXPIRED), "action": "bypass"}), NOW)
    assert found.ours == ()


@pytest.mark.parametrize(
    "trace",
    [
        {"findings": [3, {"defect": 7}], "chain": ["text", {"sha256": "no hex", "not_after": "soon"}, {}]},
        {"findings": "text", "chain": {"a": 1}, "anchor": 3, "findings_left_out": "x"},
    ],
)
def test_what_a_worker_says_that_is_not_as_it_should_be_does_no_harm(inst: Installation, trace: dict[str, Any]) -> None:
    found = of_connection(inst, "default", "1d", events(traced(EXPIRED, trace=trace)), NOW)
    assert all(link.certificate is None for link in found.server)


def test_what_is_not_known_is_refused(inst: Installation) -> None:
    with pytest.raises(Refused, match="no event of a connection 1d of tenant default"):
        of_connection(inst, "default", "1d", [], NOW)
    with pytest.raises(Refused, match="no server was judged on connection 1d; its events: refused"):
        of_connection(inst, "default", "1d", events(told("refused")), NOW)
    with pytest.raises(Refused, match="nothing is known of shop"):
        of_host(inst, "default", "shop.example", [], NOW)
    with pytest.raises(Refused, match="not a host"):
        of_host(inst, "default", "not a host", [], NOW)
    remember(inst, SITE)
    with pytest.raises(Refused, match="nothing is known of shop"):
        of_host(inst, "default", "shop.example", [], NOW + recent_servers.AGE + timedelta(seconds=1))


def test_nothing_of_another_tenant_is_told(inst: Installation) -> None:
    tenants.create(inst, "acme", NOW)
    show_leaf(inst)
    remember(inst, SITE)
    mine = events(traced(EXPIRED))
    with pytest.raises(Refused, match="no event of a connection 1d of tenant acme"):
        of_connection(inst, "acme", "1d", mine, NOW)
    with pytest.raises(Refused, match="nothing is known"):
        of_host(inst, "acme", "shop.example", mine, NOW)
    theirs = events({**traced(EXPIRED), "tenant": "acme"})
    found = of_host(inst, "acme", "shop.example", theirs, NOW)
    assert found.ours == ()
    assert found.server[0].certificate is None
