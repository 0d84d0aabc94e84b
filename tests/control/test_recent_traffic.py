from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from certs.exceptions import fingerprints
from certs.names import parse_host
from certs.replay import judge_again
from certs.scope import TrustByHost
from certs.verdict import Action, Defect
from config.settings import Settings
from control import audit_log, error_settings, host_exceptions, trusted_cas
from control.errors import Refused
from control.host_exceptions import Wanted
from control.installation import Installation
from control.recent_traffic import hosts_by_ca, last_seen, try_change
from control.trial import NOT_KEPT, NOT_REMEMBERED, Trial
from control.trusted_cas import Upload
from store import recent_servers, tenants, working_set
from store import trusted_cas as stored_cas
from store.records import RecentServer
from tests.control.conftest import trust
from tests.harness.pki import DAY, HOUR, NOW, Authority, Issued

COMMON = Authority.root("Common Root")
PRIVATE = Authority.root("Private Root")
ISSUING = PRIVATE.intermediate("Private Issuing")
BUNDLE = ISSUING.pem() + PRIVATE.pem()
AT = NOW - HOUR


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The common store is a root of the tests' own."""
    common = tmp_path / "common.pem"
    common.write_bytes(COMMON.pem())
    return Settings.model_validate({"state_dir": str(tmp_path / "var"), "trust": {"common_store": str(common)}})


def server(host: str, identity: Issued, *defects: Defect, action: str = "block", **more: Any) -> RecentServer:
    """One that was seen an hour ago."""
    shown = tuple(issued.raw for issued in identity.line())
    found = tuple(defect.value for defect in defects)
    return RecentServer(**{  # type: ignore[arg-type] # as each test says
        "host": host, "port": 443, "last_at": AT, "shown": True, "anchor_sha256": None, "defects": found,
        "action": action, "presented": shown, **more,
    })  # fmt: skip


def remember(inst: Installation, *servers: RecentServer, tenant: str = "default") -> None:
    with inst.store.transaction() as c:
        found = tenants.by_name(c, tenant)
        assert found is not None
        recent_servers.add(c, found.id, servers)


def tried(inst: Installation, change: Callable[[Installation], object], now: Any = NOW) -> Trial:
    return try_change(inst, "default", change, now)[1]


def told(trial: Trial) -> dict[str, tuple[str, str]]:
    """Each host that differs: its defects and action before and after."""
    return {
        one.host: (
            f"{', '.join(one.before.defects) or 'none'}: {one.before.action}",
            f"{', '.join(one.after.defects) or 'none'}: {one.after.action}",
        )
        for one in trial.differing
    }


GOOD = COMMON.leaf("good.example")
BELOW = ISSUING.leaf(["private.example", "other.private.example"])
TRUSTED_NOW = {"private.example": ("incomplete_chain: block", "none: allow")}
BLOCKED_NOW = {"private.example": ("none: allow", "incomplete_chain: block")}


def everything(inst: Installation) -> tuple[object, ...]:
    """What a change would leave behind."""
    with inst.reading("default") as (connection, tenant):
        rows = [
            connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1, 2").all()  # noqa: S608 - names of ours
            for table in (
                "tenants", "trusted_cas", "error_settings", "host_exceptions", "signing_cas", "changes", "audit_log",
            )
        ]  # fmt: skip
    return (tenant.generation, rows, audit_log.newest(inst))


@pytest.fixture
def known(inst: Installation) -> Installation:
    """Some servers were seen: a good one, one below the private CA, and ones with other defects."""
    remember(
        inst,
        server("good.example", GOOD, action="allow"),
        server("private.example", BELOW, Defect.INCOMPLETE_CHAIN),
        server("expired.example", COMMON.leaf("expired.example", not_after=NOW - DAY), Defect.EXPIRED),
        server("self.example", Authority.root("self", san=None).leaf("self.example"), Defect.INCOMPLETE_CHAIN),
    )
    return inst


# --- trusted CAs


def test_a_ca_that_is_added_lets_the_hosts_below_it_pass_and_no_other(known: Installation) -> None:
    saved, trial = try_change(
        known, "default", lambda inst: trusted_cas.add(inst, "default", [Upload("private", BUNDLE)], NOW), NOW
    )
    assert told(trial) == TRUSTED_NOW
    assert (trial.servers, trial.untried) == (4, ())
    assert trial.differing[0].last_at == AT
    ((record, bundle),) = saved
    assert (record.name, bundle.ok) == ("private", True)


def test_a_ca_that_sends_its_root_along_was_untrusted_root(inst: Installation) -> None:
    shown = (BELOW.raw, ISSUING.raw, PRIVATE.raw)
    remember(inst, server("private.example", BELOW, Defect.UNTRUSTED_ROOT, presented=shown))
    trial = tried(inst, lambda inst: trusted_cas.add(inst, "default", [Upload("private", BUNDLE)], NOW))
    assert told(trial) == {"private.example": ("untrusted_root: block", "none: allow")}


def test_one_that_is_added_inactive_or_for_other_hosts_changes_nothing(known: Installation) -> None:
    for upload in (Upload("p", BUNDLE, active=False), Upload("p", BUNDLE, ("*.private.example",))):
        assert told(tried(known, lambda inst, one=upload: trusted_cas.add(inst, "default", [one], NOW))) == {}  # type: ignore[misc]


def test_deactivating_deleting_and_limiting_block_those_below_it(known: Installation) -> None:
    trust(known, "default", "private", BUNDLE)
    assert told(tried(known, lambda inst: trusted_cas.deactivate(inst, "default", "private", NOW))) == BLOCKED_NOW
    assert told(tried(known, lambda inst: trusted_cas.delete(inst, "default", "private", NOW))) == BLOCKED_NOW

    def limited(*hosts: str) -> dict[str, tuple[str, str]]:
        return told(tried(known, lambda inst: trusted_cas.limit(inst, "default", "private", hosts, NOW)))

    assert limited("elsewhere.example") == BLOCKED_NOW
    assert limited("private.example") == {}
    trusted_cas.limit(known, "default", "private", ["elsewhere.example"], NOW)
    assert limited() == TRUSTED_NOW
    trusted_cas.deactivate(known, "default", "private", NOW)
    assert told(tried(known, lambda inst: trusted_cas.activate(inst, "default", "private", NOW))) == {}
    trusted_cas.limit(known, "default", "private", [], NOW)
    assert told(tried(known, lambda inst: trusted_cas.activate(inst, "default", "private", NOW))) == TRUSTED_NOW


def test_what_else_is_wrong_below_a_ca_is_told(inst: Installation) -> None:
    old = ISSUING.leaf("old.example", not_after=NOW - DAY, key="rsa1024")
    remember(inst, server("old.example", old, Defect.WEAK_KEY, Defect.INCOMPLETE_CHAIN, Defect.EXPIRED))
    trial = tried(inst, lambda inst: trusted_cas.add(inst, "default", [Upload("private", BUNDLE)], NOW))
    assert told(trial) == {"old.example": ("weak_key, incomplete_chain, expired: block", "weak_key, expired: block")}


def test_a_chain_that_was_completed_is_completed_again(inst: Installation) -> None:
    remember(inst, server("private.example", BELOW, presented=(BELOW.raw,), added=(ISSUING.raw,), action="allow"))
    trust(inst, "default", "private", PRIVATE.pem())
    trial = tried(inst, lambda inst: trusted_cas.deactivate(inst, "default", "private", NOW))
    assert told(trial) == BLOCKED_NOW
    assert trial.remarks == ("servers that lack an issuer, which is looked for in a connection and was not here: 1",)


# --- error settings and exceptions


def test_a_row_that_is_set_or_unset(known: Installation) -> None:
    def set_to(row: str, action: str) -> dict[str, tuple[str, str]]:
        return told(tried(known, lambda inst: error_settings.set_action(inst, "default", row, action, NOW)))

    assert set_to("expired", "allow") == {"expired.example": ("expired: block", "expired: allow")}
    assert set_to("expired", "block") == {}
    assert set_to("untrusted", "warn") == {
        "private.example": ("incomplete_chain: block", "incomplete_chain: warn"),
        "self.example": ("incomplete_chain: block", "incomplete_chain: warn"),
    }
    error_settings.set_action(known, "default", "expired", "bypass", NOW)
    trial = tried(known, lambda inst: error_settings.unset(inst, "default", "expired", NOW))
    assert told(trial) == {"expired.example": ("expired: bypass", "expired: block")}


def test_an_exception_that_is_made_or_removed(known: Installation) -> None:
    leaf = BELOW.certificate.fingerprint(SHA256()).hex()

    def excepted(host: str, fingerprint: str | None = None) -> dict[str, tuple[str, str]]:
        wanted = Wanted(host, "untrusted", "allow", "because", fingerprint)
        return told(tried(known, lambda inst: host_exceptions.add(inst, "default", wanted, NOW)))

    passes = {"private.example": ("incomplete_chain: block", "incomplete_chain: allow")}
    assert excepted("private.example") == passes
    assert excepted("private.example", leaf) == passes
    assert excepted("private.example", "0" * 64) == {}
    assert excepted("*.private.example") == {}
    made = host_exceptions.add(known, "default", Wanted("private.example", "untrusted", "allow", "x"), NOW)
    trial = tried(known, lambda inst: host_exceptions.remove(inst, "default", str(made.id), NOW))
    assert told(trial) == {"private.example": ("incomplete_chain: allow", "incomplete_chain: block")}


def test_only_the_change_makes_a_difference_and_not_the_day_that_has_passed(inst: Installation) -> None:
    """It was good when it was seen, and has expired since: under both settings."""
    short = COMMON.leaf("short.example", not_after=NOW - timedelta(minutes=1))
    remember(inst, server("short.example", short, action="allow"))
    assert tried(inst, lambda inst: error_settings.set_action(inst, "default", "revoked", "warn", NOW)).differing == ()
    trial = tried(inst, lambda inst: error_settings.set_action(inst, "default", "expired", "warn", NOW))
    assert told(trial) == {"short.example": ("expired: block", "expired: warn")}


# --- what cannot be found out again


def test_a_handshake_that_failed_counts_as_it_was(inst: Installation) -> None:
    failed = RecentServer("ftp.example", 21, AT, False, None, ("protocol",), "block")
    remember(inst, failed)
    assert told(tried(inst, lambda inst: trusted_cas.add(inst, "default", [Upload("p", BUNDLE)], NOW))) == {}
    trial = tried(inst, lambda inst: error_settings.set_action(inst, "default", "protocol", "bypass", NOW))
    assert told(trial) == {"ftp.example": ("protocol: block", "protocol: bypass")}
    assert trial.differing[0].port == 21


def test_a_server_that_asks_for_a_certificate_goes_on_asking(inst: Installation) -> None:
    remember(inst, server("private.example", BELOW, Defect.INCOMPLETE_CHAIN, Defect.PROTOCOL))
    trial = tried(inst, lambda inst: trusted_cas.add(inst, "default", [Upload("p", BUNDLE)], NOW))
    assert told(trial) == {"private.example": ("incomplete_chain, protocol: block", "protocol: block")}


def test_a_revoked_certificate_stays_revoked_for_as_long_as_its_ca_is_trusted(inst: Installation) -> None:
    trust(inst, "default", "private", BUNDLE)
    remember(inst, server("private.example", BELOW, Defect.REVOKED))
    trial = tried(inst, lambda inst: error_settings.set_action(inst, "default", "revoked", "warn", NOW))
    assert told(trial) == {"private.example": ("revoked: block", "revoked: warn")}
    trial = tried(inst, lambda inst: trusted_cas.deactivate(inst, "default", "private", NOW))
    assert told(trial) == {"private.example": ("revoked: block", "incomplete_chain: block")}


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_what_nobody_tells_of_revocation_counts_where_it_is_asked_for(inst: Installation, mode: str) -> None:
    verification = inst.settings.verification.model_copy(update={"revocation": mode})
    object.__setattr__(inst, "settings", inst.settings.model_copy(update={"verification": verification}))
    remember(inst, server("good.example", GOOD, Defect.REVOCATION_UNKNOWN))
    unknown = ("revocation_unknown: block", "revocation_unknown: warn")
    trial = tried(inst, lambda inst: error_settings.set_action(inst, "default", "revocation_unknown", "warn", NOW))
    assert told(trial) == {"good.example": unknown if mode == "hard" else ("none: allow", unknown[1])}
    remember(inst, server("good.example", GOOD, action="allow"))
    trial = tried(inst, lambda inst: error_settings.set_action(inst, "default", "revocation_unknown", "warn", NOW))
    assert trial.differing == ()
    said = ("servers that were never looked at for revocation_unknown, as nothing was set for it: 1",)
    assert trial.remarks == (said if mode == "soft" else ())


def test_it_is_said_that_nobody_was_asked_about_servers_that_were_blocked(known: Installation) -> None:
    verification = known.settings.verification.model_copy(update={"revocation": "soft"})
    object.__setattr__(known, "settings", known.settings.model_copy(update={"verification": verification}))
    trial = tried(known, lambda inst: trusted_cas.add(inst, "default", [Upload("p", BUNDLE)], NOW))
    assert told(trial) == TRUSTED_NOW
    said = "servers that are blocked and would pass, about whose revocation nobody was asked yet: 1"
    assert said in trial.remarks


def test_what_cannot_be_tried_is_said(inst: Installation) -> None:
    remember(
        inst,
        server("large.example", GOOD, presented=None),
        server("odd.example", GOOD, presented=(b"no certificate",)),
        server("good.example", GOOD),
    )
    trial = tried(inst, lambda inst: error_settings.set_action(inst, "default", "expired", "warn", NOW))
    assert (trial.servers, trial.differing) == (3, ())
    assert [(one.host, one.why == NOT_KEPT) for one in trial.untried] == [
        ("large.example", True), ("odd.example", False),
    ]  # fmt: skip


def test_where_nothing_is_remembered_that_is_said_and_the_change_is_validated(tmp_path: Path) -> None:
    settings = Settings.model_validate({"state_dir": str(tmp_path), "verification": {"remember_servers": False}})
    with Installation.open(settings, NOW) as inst:
        remember(inst, server("good.example", GOOD))
        trial = tried(inst, lambda inst: error_settings.set_action(inst, "default", "expired", "warn", NOW))
        assert trial == Trial(0, remarks=(NOT_REMEMBERED,))
        assert hosts_by_ca(inst, "default", NOW) is None
        with pytest.raises(Refused):
            tried(inst, lambda inst: error_settings.set_action(inst, "default", "expired", "no", NOW))


# --- nothing is saved


CHANGES: dict[str, Callable[[Installation], object]] = {
    "add": lambda inst: trusted_cas.add(inst, "default", [Upload("new", COMMON.pem())], NOW),
    "deactivate": lambda inst: trusted_cas.deactivate(inst, "default", "private", NOW),
    "limit": lambda inst: trusted_cas.limit(inst, "default", "private", ["a.example"], NOW),
    "delete": lambda inst: trusted_cas.delete(inst, "default", "private", NOW),
    "set": lambda inst: error_settings.set_action(inst, "default", "expired", "warn", NOW),
    "unset": lambda inst: error_settings.unset(inst, "default", "malformed", NOW),
    "except": lambda inst: host_exceptions.add(inst, "default", Wanted("a.example", "expired", "warn", "x"), NOW),
    "unexcept": lambda inst: host_exceptions.remove(inst, "default", "1", NOW),
}


@pytest.fixture
def settled(known: Installation) -> Installation:
    """With something to change."""
    trust(known, "default", "private", BUNDLE)
    error_settings.set_action(known, "default", "malformed", "allow", NOW)
    host_exceptions.add(known, "default", Wanted("b.example", "expired", "allow", "x"), NOW)
    return known


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_that_is_tried_leaves_nothing_behind(
    settled: Installation, change: Callable[[Installation], object]
) -> None:
    before = everything(settled)
    tried(settled, change)
    assert everything(settled) == before
    change(settled)  # what was tried can be done
    assert everything(settled) != before


def test_what_is_refused_is_refused_when_it_is_tried(settled: Installation) -> None:
    before = everything(settled)
    for refused in (
        lambda inst: trusted_cas.add(inst, "default", [Upload("private", COMMON.pem())], NOW),
        lambda inst: trusted_cas.deactivate(inst, "default", "nobody", NOW),
        lambda inst: error_settings.set_action(inst, "default", "own_ca", "allow", NOW),
    ):
        with pytest.raises(Refused):
            tried(settled, refused)
    with pytest.raises(Refused, match="no tenant"):
        try_change(settled, "nobody", CHANGES["set"], NOW)
    assert everything(settled) == before


# --- which hosts use a trusted CA


def test_a_trusted_ca_is_used_by_the_hosts_whose_chains_end_in_it(inst: Installation) -> None:
    trust(inst, "default", "private", BUNDLE)
    trust(inst, "default", "unused", COMMON.pem(), active=False)
    anchor = PRIVATE.certificate.fingerprint(SHA256())
    remember(
        inst,
        server("private.example", BELOW, anchor_sha256=anchor, action="allow"),
        server("private.example", BELOW, anchor_sha256=anchor, action="allow", port=8443),
        server("expired.example", BELOW, Defect.EXPIRED, anchor_sha256=anchor),
        server("old.example", BELOW, anchor_sha256=anchor, last_at=NOW - 2 * DAY),
        server("good.example", GOOD, action="allow"),
    )
    assert hosts_by_ca(inst, "default", NOW) == {"private": ("expired.example", "private.example"), "unused": ()}
    assert hosts_by_ca(inst, "default", NOW + DAY) == {"private": (), "unused": ()}


def test_hosts_are_judged_by_their_own_scope_whatever_their_form(inst: Installation) -> None:
    leaf = ISSUING.leaf(["2001:db8::1", "192.0.2.1"])
    chain = Defect.INCOMPLETE_CHAIN
    remember(inst, server(parse_host("2001:db8::1").text, leaf, chain), server("192.0.2.1", leaf, chain))
    trial = tried(inst, lambda inst: trusted_cas.add(inst, "default", [Upload("p", BUNDLE, ("2001:db8::1",))], NOW))
    assert told(trial) == {"2001:db8::1": ("incomplete_chain: block", "none: allow")}


def test_what_is_tried_is_what_is_then_judged(known: Installation) -> None:
    """The verdicts of a trial are those of the same certificates once the change is saved."""
    trial = tried(known, lambda inst: trusted_cas.add(inst, "default", [Upload("private", BUNDLE)], NOW))
    trust(known, "default", "private", BUNDLE)
    with known.reading("default") as (connection, tenant):
        own = working_set.own_cas(stored_cas.listing(connection, tenant.id))
    host = parse_host("private.example")
    trusts = TrustByHost([COMMON.certificate], own).at(host)
    assert trial.differing[0].after.defects == judge_again((BELOW.raw, ISSUING.raw), (), host, trusts, NOW).defects
    assert trial.differing[0].after.action is Action.ALLOW


def test_what_a_host_showed_last_is_known_for_a_day(inst: Installation) -> None:
    remember(
        inst,
        server("good.example", GOOD, action="allow", last_at=NOW - 2 * HOUR),
        server("good.example", BELOW, Defect.INCOMPLETE_CHAIN, port=8443),
        server("good.example", BELOW, port=8444, presented=None),
        server("good.example", BELOW, port=8445, presented=(b"no certificate",)),
        server("other.example", GOOD),
    )
    seen = last_seen(inst, "default", " Good.Example. ", NOW)
    assert [(one.port, one.fingerprint) for one in seen] == [
        (8443, BELOW.certificate.fingerprint(SHA256()).hex()), (443, GOOD.certificate.fingerprint(SHA256()).hex()),
    ]  # fmt: skip
    pinned = fingerprints(GOOD.certificate)
    assert {bytes.fromhex(seen[1].fingerprint), bytes.fromhex(seen[1].key_fingerprint or "")} == pinned
    for host in ("*.example", "", "nowhere.example"):
        assert last_seen(inst, "default", host, NOW) == []
    assert last_seen(inst, "default", "good.example", NOW + DAY) == []
