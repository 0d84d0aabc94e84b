from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from config.settings import Settings
from control import audit_log, bypass_rules, tenants
from control.actor import Actor
from control.errors import Outdated, Refused
from control.installation import Installation
from tests.control.conftest import kinds_since, last_change
from tests.harness.pki import DAY, NOW

HOUR = timedelta(hours=1)


def patterns(inst: Installation, tenant: str = "default") -> list[str]:
    return [rule.pattern for rule in bypass_rules.listing(inst, tenant)]


def refused(inst: Installation, *written: str, now: object = NOW, **more: object) -> str:
    before, listed = last_change(inst), bypass_rules.listing(inst, "default")
    with pytest.raises(Refused) as caught:
        bypass_rules.add(inst, "default", written, now, **more)  # type: ignore[arg-type] # as the tests below give them
    assert (last_change(inst), bypass_rules.listing(inst, "default")) == (before, listed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rules_are_saved_as_they_are_compared_announced_and_logged(inst: Installation) -> None:
    before = last_change(inst)
    ann = inst.acting(Actor("ann", "here"))
    end = NOW + DAY
    added = bypass_rules.add(
        ann, "default", [".BANK.example", "192.0.2.0/24", ".bank.example."], NOW, " pins its keys ", end
    )
    assert [rule.pattern for rule in added] == [".bank.example", "192.0.2.0/24"]
    assert bypass_rules.listing(inst, "default") == sorted(added, key=lambda rule: rule.pattern)
    rule = added[0]
    assert (rule.reason, rule.created_at, rule.created_by, rule.expires_at) == ("pins its keys", NOW, "ann", end)
    assert kinds_since(inst, before) == ["bypass_rule_added"] * 2
    entry = audit_log.newest(inst)[0]
    assert (entry.actor, entry.action, entry.subject, entry.before) == ("ann", "bypass.add", "192.0.2.0/24", None)
    assert entry.after is not None
    assert json.loads(entry.after) == {
        "pattern": "192.0.2.0/24", "reason": "pins its keys", "expires_at": end.isoformat(),
    }  # fmt: skip


def test_rules_are_removed_all_or_none(inst: Installation) -> None:
    bypass_rules.add(inst, "default", ["a.example", "b.example", "c.example"], NOW)
    before = last_change(inst)
    with pytest.raises(Refused, match=r"^tenant default has no bypass rule d.example; see: sallyport bypass list$"):
        bypass_rules.remove(inst, "default", ["a.example", "d.example"], NOW)
    assert patterns(inst) == ["a.example", "b.example", "c.example"]
    assert last_change(inst) == before
    removed = bypass_rules.remove(inst, "default", ["A.example", "b.example"], NOW)
    assert [rule.pattern for rule in removed] == ["a.example", "b.example"]
    assert patterns(inst) == ["c.example"]
    assert kinds_since(inst, before) == ["bypass_rule_removed"] * 2
    with pytest.raises(Refused, match=r"no bypass rule a.example; it was removed by .* on "):
        bypass_rules.remove(inst, "default", ["a.example"], NOW)


def test_each_tenant_has_rules_of_its_own(inst: Installation) -> None:
    tenants.create(inst, "other", NOW)
    bypass_rules.add(inst, "other", ["a.example"], NOW)
    assert (patterns(inst), patterns(inst, "other")) == ([], ["a.example"])
    bypass_rules.add(inst, "default", ["a.example"], NOW)
    bypass_rules.remove(inst, "other", ["a.example"], NOW)
    assert (patterns(inst), patterns(inst, "other")) == (["a.example"], [])
    with pytest.raises(Refused, match="there is no tenant 'nobody'"):
        bypass_rules.add(inst, "nobody", ["a.example"], NOW)


@pytest.mark.parametrize("written", ["*", "0.0.0.0/0", "a b", "https://a.example/", "a.example:443", "\ud800", "a\nb"])
def test_what_is_no_rule_is_refused_and_nothing_of_the_others_is_saved(inst: Installation, written: str) -> None:
    assert "is no bypass rule: " in refused(inst, "good.example", written)


def test_a_rule_that_counts_is_not_replaced_and_one_that_has_expired_is(inst: Installation) -> None:
    bypass_rules.add(inst, "default", ["a.example"], NOW, "for a day", NOW + DAY)
    said = refused(inst, "b.example", "a.example", now=NOW + DAY - HOUR)
    assert "has the bypass rule a.example already" in said
    assert "remove it first to change it" in said
    (again,) = bypass_rules.add(inst, "default", ["a.example"], NOW + DAY, "for good")
    assert (again.reason, again.expires_at) == ("for good", None)
    entry = audit_log.newest(inst)[0]
    assert entry.before is not None
    assert json.loads(entry.before)["reason"] == "for a day"
    assert not bypass_rules.expired(again, NOW + 100 * DAY)


def test_an_end_that_is_past_is_refused(inst: Installation) -> None:
    for end in (NOW, NOW - HOUR):
        assert "is past" in refused(inst, "a.example", expires_at=end)


@pytest.mark.parametrize("reason", ["x" * 501, "a\nb", "a\x1b[31m", "\u202eabc", "\ud800"])
def test_a_reason_that_cannot_be_shown_is_refused(inst: Installation, reason: str) -> None:
    assert "the reason cannot be saved" in refused(inst, "a.example", reason=reason)


def test_more_rules_than_there_may_be_are_refused(inst: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bypass_rules, "MOST_RULES", 2)
    bypass_rules.add(inst, "default", ["a.example", "b.example"], NOW)
    assert "put them into a list file" in refused(inst, "c.example")


def test_a_change_of_what_somebody_else_changed_is_refused(inst: Installation) -> None:
    with inst.reading("default") as (_, tenant):
        seen = tenant.generation
    bypass_rules.add(inst, "default", ["a.example"], NOW)
    late = inst.having_seen(seen)
    with pytest.raises(Outdated, match=r"a\.example: changed after generation .*: it was added by"):
        bypass_rules.remove(late, "default", ["a.example"], NOW)
    bypass_rules.add(late, "default", ["b.example"], NOW)
    assert patterns(inst) == ["a.example", "b.example"]


def test_list_files_are_counted_for_whom_they_are(inst: Installation, tmp_path: Path) -> None:
    for name, text in (("all", "a.example\nb.example\n"), ("other", "c.example"), ("bad", "a.example\n*\na b\n")):
        (tmp_path / name).write_text(text)
    files = [
        str(tmp_path / "all"), {"file": str(tmp_path / "other"), "tenants": ["other"]}, str(tmp_path / "bad"),
        str(tmp_path / "none"),
    ]  # fmt: skip
    settings = Settings.model_validate({"state_dir": str(inst.state_dir), "bypass": {"files": files}})
    with Installation.open(settings, NOW) as listed:
        good, bad, none = bypass_rules.files(listed, "default")
        assert (good.path, good.rules, good.problem) == (str(tmp_path / "all"), 2, None)
        assert bad.rules == 0
        assert bad.problem is not None
        assert bad.problem.startswith(f"{tmp_path / 'bad'}:2: * would leave nothing decrypted")
        assert f"; {tmp_path / 'bad'}:3: " in bad.problem
        assert none.problem is not None
        assert "No such file" in none.problem
        assert [one.rules for one in bypass_rules.files(listed, "other")][:2] == [2, 1]
