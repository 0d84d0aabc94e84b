from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.verdict import Action, Defect
from control import audit_log, error_settings, host_exceptions, tenants
from control.actor import Actor
from control.errors import Outdated, Refused
from control.host_exceptions import Wanted
from control.installation import Installation
from store import host_exceptions as stored
from store.records import HostException
from tests.control.conftest import kinds_since, last_change
from tests.harness.pki import DAY, NOW

PIN = "ab" * 32
WANTED = Wanted("printer.example", "expired", "allow", "its maker is gone")
UNCHECKED = ("revoked", "revocation_unknown")


def listed(inst: Installation, tenant: str = "default", now: datetime = NOW) -> list[tuple[HostException, bool]]:
    return [(each.exception, each.expired) for each in host_exceptions.listing(inst, tenant, now)]


def test_an_exception_is_made_announced_listed_and_removed(inst: Installation) -> None:
    before = last_change(inst)
    by_ann = inst.acting(Actor("ann", "a test"))
    wanted = Wanted("*.Bücher.example", "untrusted", "allow", "  an appliance  ", PIN, "2999-01-31")
    made = host_exceptions.add(by_ann, "default", wanted, NOW)
    assert made == HostException(
        made.id, made.tenant_id, "*.xn--bcher-kva.example", "untrusted", "allow", bytes.fromhex(PIN),
        datetime(2999, 1, 31, 23, 59, 59, tzinfo=UTC), "an appliance", NOW, "ann",
    )  # fmt: skip
    assert listed(inst) == [(made, False)]
    assert host_exceptions.remove(by_ann, "default", str(made.id), NOW) == made
    assert listed(inst) == []
    assert kinds_since(inst, before) == ["host_exceptions_changed"] * 2


def test_who_made_and_who_removed_one_is_in_the_audit_log(inst: Installation) -> None:
    made = host_exceptions.add(
        inst.acting(Actor("ann", "here")), "default", replace(WANTED, fingerprint=PIN, expires="2999-12-31"), NOW
    )
    host_exceptions.remove(inst.acting(Actor("bob", "there")), "default", str(made.id), NOW + DAY)
    removed, added = audit_log.newest(inst, 2)
    assert (added.actor, added.action, added.subject, added.before) == (
        "ann", "host_exception.add", "printer.example", None,
    )  # fmt: skip
    told = {
        "id": made.id, "host": "printer.example", "defect": "expired", "action": "allow", "fingerprint": PIN,
        "expires_at": "2999-12-31T23:59:59Z", "reason": "its maker is gone",
    }  # fmt: skip
    assert json.loads(added.after or "") == told
    assert (removed.actor, removed.action, removed.subject, removed.after) == (
        "bob", "host_exception.remove", "printer.example", None,
    )  # fmt: skip
    assert json.loads(removed.before or "") == told


def test_one_that_has_expired_is_listed_as_such_and_gives_way_to_a_new_one(inst: Installation) -> None:
    old = host_exceptions.add(inst, "default", replace(WANTED, expires=f"{NOW + DAY:%Y-%m-%dT%H:%M:%SZ}"), NOW)
    assert old.expires_at == NOW + DAY
    assert listed(inst, now=NOW + DAY - timedelta(seconds=1)) == [(old, False)]
    assert listed(inst, now=NOW + DAY) == [(old, True)]
    with pytest.raises(Refused):
        host_exceptions.add(inst, "default", WANTED, NOW + DAY - timedelta(seconds=1))
    new = host_exceptions.add(inst, "default", WANTED, NOW + DAY)
    assert new.id > old.id
    assert listed(inst, now=NOW + DAY) == [(new, False)]
    entry = audit_log.newest(inst, 1)[0]
    assert (json.loads(entry.before or "")["id"], json.loads(entry.after or "")["id"]) == (old.id, new.id)


@pytest.mark.parametrize("fingerprint", [None, PIN])
def test_there_is_one_for_each_host_defect_and_fingerprint(inst: Installation, fingerprint: str | None) -> None:
    made = host_exceptions.add(inst, "default", replace(WANTED, fingerprint=fingerprint), NOW)
    before = last_change(inst)
    with pytest.raises(Refused) as caught:
        host_exceptions.add(
            inst, "default", replace(WANTED, host="PRINTER.example.", action="block", fingerprint=fingerprint), NOW
        )
    assert str(caught.value) == (
        f"printer.example: exception {made.id} says what is done about its expired already (allow); "
        f"remove it first: sallyport errors unexcept {made.id}"
    )
    assert last_change(inst) == before
    for other in (
        replace(WANTED, host="*.printer.example", fingerprint=fingerprint),
        replace(WANTED, defect="weak_key", fingerprint=fingerprint),
        replace(WANTED, fingerprint="cd" * 32),
    ):
        host_exceptions.add(inst, "default", other, NOW)
    assert len(listed(inst)) == 4


def test_what_one_tenant_excepts_is_no_other_tenants_business(inst: Installation) -> None:
    tenants.create(inst, "acme", NOW)
    made = host_exceptions.add(inst, "acme", WANTED, NOW)
    assert listed(inst) == []
    with pytest.raises(Refused, match=f"tenant default has no exception {made.id}; see: sallyport errors exceptions"):
        host_exceptions.remove(inst, "default", str(made.id), NOW)
    assert listed(inst, "acme") == [(made, False)]
    with pytest.raises(Refused, match="no tenant 'nobody'"):
        host_exceptions.listing(inst, "nobody", NOW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"host": "a b"}, "'a b' is no host pattern: "),
        ({"host": ""}, "'' is no host pattern: the host name is empty"),
        ({"host": "pri*.example"}, "'pri*.example' is no host pattern: the star of"),
        ({"host": "*.192.0.2.1"}, "'*.192.0.2.1' is no host pattern: there are no names below an IP address"),
        ({"host": "h" * 500}, f"'{'h' * 80}...' is no host pattern: "),
        ({"host": "*"}, "* is every host, so this is no exception; set what is done about it for all: "
                        "sallyport errors set expired allow"),
        ({"host": "*", "defect": "own_ca"}, "own_ca: only an exception for one host can lift it"),
        ({"host": "*.example", "defect": "own_ca"}, "own_ca: only an exception for one host can lift it; name"),
        ({"defect": "rotten"}, "'rotten' is no defect; expected one of malformed, "),
        ({"defect": "protocol"}, "protocol: only block or bypass can be set: a failed handshake"),
        ({"action": "permit"}, "'permit' is no action; expected "),
        ({"fingerprint": ""}, "'' is no SHA-256 fingerprint; expected the 64 hexadecimal digits"),
        ({"fingerprint": "ab" * 20}, f"'{'ab' * 20}' is no SHA-256 fingerprint"),
        ({"fingerprint": "xy" * 32}, "'xyxy"),
        ({"fingerprint": f"sha256:{PIN}"}, "'sha256:abab"),
        ({"fingerprint": f"{PIN}\n"}, "'abab"),
        ({"fingerprint": f"a:b{PIN[2:]}"}, "'a:bab"),
        ({"expires": "31.12.2999"}, "'31.12.2999' is no date; expected one like 2027-01-31"),
        ({"expires": "2999-12-31T10:00:00"}, "'2999-12-31T10:00:00' is no date; expected one like"),
        ({"expires": "2999-02-30"}, "'2999-02-30' is no date: day"),
        ({"expires": "2999-12-31T25:00:00Z"}, "'2999-12-31T25:00:00Z' is no date: hour"),
        ({"expires": "9999-12-31T23:59:59-01:00"}, "'9999-12-31T23:59:59-01:00' is no date: "),
        ({"expires": "0000-01-01"}, "'0000-01-01' is no date: year"),
        ({"expires": "20991231"}, "'20991231' is no date"),
        ({"expires": "tomorrow"}, "'tomorrow' is no date"),
        ({"expires": "2001-01-01"}, "'2001-01-01' is over already; expected when the exception is to end"),
        ({"expires": f"{NOW:%Y-%m-%dT%H:%M:%SZ}"}, "'2"),
        ({"reason": ""}, "'' is no reason; expected why the exception is made"),
        ({"reason": "   "}, "'   ' is no reason"),
        ({"reason": "a\nb"}, r"'a\nb' is no reason"),
        ({"reason": "a\u202eb"}, r"'a\u202eb' is no reason"),
        ({"reason": "r" * 201}, f"'{'r' * 80}...' is no reason; expected why the exception is made, for whoever comes "
                                "later: 1 to 200 printable characters"),
    ],
)  # fmt: skip
def test_what_cannot_be_excepted_is_refused_with_its_own_words(
    inst: Installation, change: dict[str, str], message: str
) -> None:
    before = last_change(inst)
    with pytest.raises(Refused) as caught:
        host_exceptions.add(inst, "default", replace(WANTED, **change), NOW)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert last_change(inst) == before


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("defect", [*Defect, "untrusted"])
def test_what_can_be_set_for_every_host_can_be_excepted_and_own_ca_beside(
    inst: Installation, defect: str, action: Action
) -> None:
    """So what becomes available for the one becomes available for the other."""

    def settable() -> bool:
        try:
            error_settings.set_action(inst, "default", str(defect), action, NOW)
        except Refused:
            return False
        return True

    def excepted() -> bool:
        try:
            host_exceptions.add(inst, "default", replace(WANTED, defect=str(defect), action=action), NOW)
        except Refused:
            return False
        return True

    if defect == Defect.OWN_CA:
        assert settable() is (action is Action.BLOCK)
        assert excepted() is (action in error_settings.AVAILABLE)
    else:
        assert settable() is excepted()
        assert settable() is (action in error_settings.AVAILABLE) or defect in ("protocol", *UNCHECKED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2999-12-31", datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2999-12-31T10:20:30Z", datetime(2999, 12, 31, 10, 20, 30, tzinfo=UTC)),
        ("2999-12-31t10:20:30z", datetime(2999, 12, 31, 10, 20, 30, tzinfo=UTC)),
        ("2999-12-31 10:20:30.987654321+01:30", datetime(2999, 12, 31, 8, 50, 30, tzinfo=UTC)),
    ],
)
def test_an_end_is_a_date_or_a_time_with_its_zone(inst: Installation, text: str, expected: datetime) -> None:
    assert host_exceptions.add(inst, "default", replace(WANTED, expires=text), NOW).expires_at == expected


def test_today_is_a_date_that_is_still_to_come(inst: Installation) -> None:
    noon = datetime(2027, 5, 6, 12, tzinfo=UTC)
    made = host_exceptions.add(inst, "default", replace(WANTED, expires="2027-05-06"), noon)
    assert made.expires_at == datetime(2027, 5, 6, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize("text", [PIN, PIN.upper(), ":".join(["ab"] * 32), ":".join(["AB"] * 32)])
def test_a_fingerprint_is_hexadecimal_with_or_without_colons(inst: Installation, text: str) -> None:
    made = host_exceptions.add(inst, "default", replace(WANTED, fingerprint=text), NOW)
    assert made.fingerprint == bytes.fromhex(PIN)


def test_there_are_a_thousand_at_the_most_and_one_that_expired_can_still_be_renewed(inst: Installation) -> None:
    with inst.store.transaction() as c:
        tenant = tenants.show(inst, "default").tenant
        for number in range(host_exceptions.MOST):
            end = NOW - DAY if number < 3 else None
            stored.add(c, tenant.id, f"h{number}.example", "expired", "allow", None, end, "because", NOW, "ann")
    with pytest.raises(Refused) as caught:
        host_exceptions.add(inst, "default", WANTED, NOW)
    assert str(caught.value).startswith("tenant default has 1000 exceptions, 3 of them expired; at most 1000, ")
    host_exceptions.add(inst, "default", replace(WANTED, host="h1.example"), NOW)
    gone = next(each for each, over in listed(inst) if over)
    host_exceptions.remove(inst, "default", str(gone.id), NOW)
    host_exceptions.add(inst, "default", WANTED, NOW)
    assert len(listed(inst)) == host_exceptions.MOST


def test_who_names_a_host_in_place_of_a_number_is_told_the_numbers(inst: Installation) -> None:
    first = host_exceptions.add(inst, "default", WANTED, NOW)
    second = host_exceptions.add(inst, "default", replace(WANTED, defect="weak_key"), NOW)
    for which, message in (
        ("Printer.example", f"'Printer.example' is no number of an exception; those for printer.example: {first.id} "
                            f"(expired), {second.id} (weak_key)"),
        ("other.example", "'other.example' is no number of an exception; see: sallyport errors exceptions"),
        ("-1", "'-1' is no number of an exception"),
        ("99", "tenant default has no exception 99; see: sallyport errors exceptions"),
        ("9" * 5000, f"tenant default has no exception {'9' * 80}; see"),
    ):  # fmt: skip
        with pytest.raises(Refused) as caught:
            host_exceptions.remove(inst, "default", which, NOW)
        assert str(caught.value).startswith(message)
    assert len(listed(inst)) == 2


def test_who_has_not_seen_what_others_did_to_the_same_hosts_is_told(inst: Installation) -> None:
    seen = tenants.show(inst, "default").tenant.generation
    made = host_exceptions.add(inst.acting(Actor("ann", "here")), "default", WANTED, NOW)
    late = inst.having_seen(seen)
    host_exceptions.add(late, "default", replace(WANTED, host="other.example"), NOW)
    with pytest.raises(Outdated, match=r"printer\.example: changed after generation .* it was added by ann"):
        host_exceptions.remove(late, "default", str(made.id), NOW)
    with pytest.raises(Outdated):
        host_exceptions.add(late, "default", replace(WANTED, defect="weak_key"), NOW)
    assert [each.pattern for each, _ in listed(inst)] == ["other.example", "printer.example"]


@given(st.text(max_size=40))
def test_an_end_that_nobody_can_read_is_refused_and_breaks_nothing(text: str) -> None:
    try:
        end = host_exceptions._end(text, datetime(2026, 1, 1, tzinfo=UTC))
    except Refused:
        return
    assert end > datetime(2026, 1, 1, tzinfo=UTC)
    assert end.microsecond == 0
