from __future__ import annotations

import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certs.verdict import Action, Defect
from control import audit_log, error_settings, tenants
from control.error_settings import ROWS, ErrorRow
from control.errors import Outdated, Refused
from control.installation import Installation
from store import signing_cas
from store.engine import StoreError
from tests.control.conftest import kinds_since, last_change
from tests.harness.pki import DAY, NOW

SETTABLE = [row for row in ROWS if row not in {"own_ca", "protocol"}]


def rows(inst: Installation, tenant: str = "default") -> dict[str, ErrorRow]:
    return {row.row: row for row in error_settings.show(inst, tenant)}


def test_by_default_everything_is_blocked_and_nothing_is_set(inst: Installation) -> None:
    shown = error_settings.show(inst, "default")
    assert [row.row for row in shown] == [*Defect, "untrusted"]
    assert {row.action for row in shown} == {Action.BLOCK}
    assert not any(row.is_set or row.inherited_from for row in shown)


@pytest.mark.parametrize("row", SETTABLE)
def test_a_row_is_set_announced_and_unset(inst: Installation, row: str) -> None:
    before = last_change(inst)
    error_settings.set_action(inst, "default", row, "allow", NOW)
    assert rows(inst)[row] == ErrorRow(row, Action.ALLOW, is_set=True)
    assert error_settings.unset(inst, "default", row, NOW)
    assert rows(inst)[row] == ErrorRow(row, Action.BLOCK, is_set=False)
    assert kinds_since(inst, before) == ["error_settings_changed"] * 2


def test_the_master_row_covers_three_and_their_own_rows_win(inst: Installation) -> None:
    error_settings.set_action(inst, "default", "untrusted", "allow", NOW)
    error_settings.set_action(inst, "default", "self_signed", "block", NOW)
    shown = rows(inst)
    assert shown["untrusted"] == ErrorRow("untrusted", Action.ALLOW, is_set=True)
    assert shown["self_signed"] == ErrorRow("self_signed", Action.BLOCK, is_set=True)
    for row in ("untrusted_root", "incomplete_chain"):
        assert shown[row] == ErrorRow(row, Action.ALLOW, is_set=False, inherited_from="untrusted")
    assert {row for row, found in shown.items() if found.action is Action.ALLOW} == {
        "untrusted", "untrusted_root", "incomplete_chain",
    }  # fmt: skip


def test_what_changes_nothing_is_not_announced(inst: Installation) -> None:
    error_settings.set_action(inst, "default", "expired", "allow", NOW)
    before = last_change(inst)
    error_settings.set_action(inst, "default", "expired", "allow", NOW)
    assert not error_settings.unset(inst, "default", "weak_key", NOW)
    assert last_change(inst) == before


def test_what_one_tenant_sets_is_no_other_tenants_business(inst: Installation) -> None:
    tenants.create(inst, "acme", NOW)
    error_settings.set_action(inst, "acme", "expired", "allow", NOW)
    assert rows(inst)["expired"].action is Action.BLOCK
    assert not error_settings.unset(inst, "default", "expired", NOW)
    assert rows(inst, "acme")["expired"].action is Action.ALLOW


@pytest.mark.parametrize(
    ("row", "action", "message"),
    [
        ("rotten", "allow", "'rotten' is no defect; expected one of malformed, bad_signature, own_ca, revoked, "),
        ("EXPIRED", "allow", "'EXPIRED' is no defect"),
        ("", "allow", "'' is no defect"),
        ("a\nb", "allow", r"'a\nb' is no defect"),
        ("expired", "permit", "'permit' is no action; expected block, warn, bypass or allow"),
        ("expired", "ALLOW", "'ALLOW' is no action"),
        ("own_ca", "allow", "own_ca: only block can be set"),
        ("own_ca", "warn", "own_ca: only block can be set"),
        (
            "protocol",
            "allow",
            "protocol: only block or bypass can be set: a failed handshake leaves nothing to allow or to warn of",
        ),
    ],
)
def test_what_cannot_be_set_is_refused_with_its_own_words(
    inst: Installation, row: str, action: str, message: str
) -> None:
    before, shown = last_change(inst), error_settings.show(inst, "default")
    with pytest.raises(Refused) as caught:
        error_settings.set_action(inst, "default", row, action, NOW)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert last_change(inst) == before
    assert error_settings.show(inst, "default") == shown


def test_the_first_warning_makes_a_ca_that_nobody_sees(inst: Installation) -> None:
    before = last_change(inst)
    for row in ("expired", "self_signed"):
        error_settings.set_action(inst, "default", row, "warn", NOW)
    assert kinds_since(inst, before) == ["untrusted_ca_made", *["error_settings_changed"] * 2]
    assert rows(inst)["expired"] == ErrorRow("expired", Action.WARN, is_set=True)
    with inst.reading("default") as (c, tenant):
        made = signing_cas.untrusted(c, tenant.id)
        active = signing_cas.active(c, tenant.id)
        assert made is not None
        assert active is not None
        assert signing_cas.issuing(c, tenant.id) == {active.id, made.id}
        assert [ca.name for ca in signing_cas.listing(c, tenant.id)] == ["built-in"]
        assert signing_cas.by_name(c, tenant.id, made.name) is None
    certificate = x509.load_der_x509_certificate(made.certificate)
    assert "CN=Sallyport UNTRUSTED CA (default" in certificate.subject.rfc4514_string()
    (entry,) = [one for one in audit_log.newest(inst) if one.action == "untrusted_ca.make"]
    assert json.loads(entry.after or "") == {"sha256": certificate.fingerprint(SHA256()).hex()}


def test_one_that_ends_soon_is_replaced_and_its_key_destroyed(inst: Installation) -> None:
    error_settings.set_action(inst, "default", "expired", "warn", NOW)
    with inst.reading("default") as (c, tenant):
        first = signing_cas.untrusted(c, tenant.id)
    error_settings.set_action(inst, "default", "expired", "warn", NOW + 9.5 * 365 * DAY)  # the same once more
    with inst.reading("default") as (c, tenant):
        second = signing_cas.untrusted(c, tenant.id)
        assert first is not None
        assert second is not None
        assert second.id != first.id
        with pytest.raises(KeyError):
            signing_cas.sealed_key(c, first.id)


def test_the_database_itself_keeps_it_from_becoming_active(inst: Installation) -> None:
    error_settings.set_action(inst, "default", "expired", "warn", NOW)
    with inst.reading("default") as (c, tenant):
        made = signing_cas.untrusted(c, tenant.id)
    assert made is not None
    for statement in (
        "UPDATE tenants SET active_signing_ca_id = ?",
        "UPDATE signing_cas SET state = 'ready' WHERE id = ?",
    ):
        with pytest.raises(StoreError), inst.store.transaction() as c:
            c.exec_driver_sql(statement, (made.id,))


def test_several_rows_change_together_each_with_its_entry(inst: Installation) -> None:
    error_settings.set_action(inst, "default", "weak_key", "warn", NOW)
    error_settings.set_action(inst, "default", "malformed", "allow", NOW)
    before = last_change(inst)
    changes = {"expired": "allow", "weak_key": None, "malformed": "allow", "revoked": None, "untrusted": "bypass"}
    assert error_settings.change(inst, "default", changes, NOW) == ["expired", "weak_key", "untrusted"]
    assert kinds_since(inst, before) == ["error_settings_changed"] * 3
    told = [(one.action, one.subject, one.before, one.after) for one in audit_log.newest(inst, 3)]
    assert told[::-1] == [
        ("errors.set", "expired", None, '{"action": "allow"}'),
        ("errors.unset", "weak_key", '{"action": "warn"}', None),
        ("errors.set", "untrusted", None, '{"action": "bypass"}'),
    ]


def test_of_several_rows_none_changes_where_one_cannot(inst: Installation) -> None:
    before, shown = last_change(inst), error_settings.show(inst, "default")
    for bad in ({"rotten": "allow"}, {"own_ca": "allow"}, {"rotten": None}, {"weak_key": "permit"}):
        with pytest.raises(Refused):
            error_settings.change(inst, "default", {"expired": "allow", **bad}, NOW)
    assert (last_change(inst), error_settings.show(inst, "default")) == (before, shown)


def test_who_has_not_seen_a_row_as_it_is_changes_none(inst: Installation) -> None:
    with inst.reading("default") as (_, tenant):
        seen = tenant.generation
    error_settings.set_action(inst, "default", "expired", "warn", NOW)
    behind = inst.having_seen(seen)
    with pytest.raises(Outdated, match="expired"):
        error_settings.change(behind, "default", {"weak_key": "allow", "expired": "allow"}, NOW)
    assert not rows(inst)["weak_key"].is_set
    assert error_settings.change(behind, "default", {"weak_key": "allow", "malformed": "warn"}, NOW)


@pytest.mark.parametrize("row", ["own_ca", "protocol"])
def test_block_can_be_set_where_nothing_else_can(inst: Installation, row: str) -> None:
    error_settings.set_action(inst, "default", row, "block", NOW)
    assert rows(inst)[row] == ErrorRow(row, Action.BLOCK, is_set=True)


@pytest.mark.parametrize("row", ["rotten", "REVOKED"])
def test_what_cannot_be_set_cannot_be_unset(inst: Installation, row: str) -> None:
    with pytest.raises(Refused, match=row):
        error_settings.unset(inst, "default", row, NOW)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(SETTABLE), st.sampled_from(["allow", "block", None])), max_size=12))
def test_the_last_word_on_a_row_counts(inst: Installation, steps: list[tuple[str, str | None]]) -> None:
    for row in SETTABLE:
        error_settings.unset(inst, "default", row, NOW)
    expected: dict[str, str] = {}
    for row, action in steps:
        if action is None:
            assert error_settings.unset(inst, "default", row, NOW) == (expected.pop(row, None) is not None)
        else:
            error_settings.set_action(inst, "default", row, action, NOW)
            expected[row] = action
    assert {row.row: row.action.value for row in error_settings.show(inst, "default") if row.is_set} == expected
