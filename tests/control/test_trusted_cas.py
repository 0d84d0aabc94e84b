from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from control import error_settings, tenants, trusted_cas
from control.actor import Actor
from control.errors import Missing, Outdated, Refused, Taken
from control.installation import Installation
from control.trusted_cas import Upload, Wanted
from store import trusted_cas as stored
from store.records import TrustedCa
from tests.control.conftest import kinds_since, last_change, trust
from tests.harness.pki import DAY, NOW, Authority

LATER = NOW + DAY


def unchanged_but_refused(inst: Installation, name: str, data: bytes) -> Refused:
    before, listed = last_change(inst), trusted_cas.listing(inst, "default")
    with pytest.raises(Refused) as caught:
        trust(inst, "default", name, data)
    assert "\n" not in str(caught.value)
    assert last_change(inst) == before
    assert trusted_cas.listing(inst, "default") == listed
    return caught.value


def test_a_chain_is_added_listed_shown_and_announced(inst: Installation) -> None:
    root = Authority.root("Private Root")
    issuing = root.intermediate("Private Issuing")
    before = last_change(inst)
    added, bundle = trust(inst, "default", "Private CA", issuing.pem() + root.pem())
    assert bundle.ok
    assert (added.name, added.active, added.created_at) == ("Private CA", True, NOW)
    assert added.chain == (issuing.raw, root.raw)
    assert trusted_cas.listing(inst, "default") == [added] == [trusted_cas.show(inst, "default", "Private CA")]
    assert kinds_since(inst, before) == ["trusted_ca_added"]


def test_a_file_in_the_other_order_and_another_form_is_put_in_order(inst: Installation) -> None:
    root = Authority.root("Private Root")
    issuing = root.intermediate("Private Issuing")
    added, bundle = trust(inst, "default", "one", root.pem() + issuing.pem(), active=False)
    assert added.chain == (issuing.raw, root.raw)
    assert not added.active
    assert "reordered" in [finding.code for finding in bundle.findings]
    other, _ = trust(inst, "default", "two", Authority.root("Other").certificate.public_bytes(Encoding.DER))
    assert len(other.chain) == 1


def test_validation_says_the_same_and_saves_nothing(inst: Installation) -> None:
    before = last_change(inst)
    old = Authority.root(not_after=NOW - DAY, not_before=NOW - 9 * DAY)
    uploads = [trusted_cas.Upload(name, one.pem()) for name, one in (("good", Authority.root()), ("bad", old))]
    good, bad = trusted_cas.validate(inst, "default", uploads, NOW)
    assert good.ok
    assert [finding.code for finding in bad.findings if finding.level == "error"] == ["expired"]
    assert last_change(inst) == before
    assert trusted_cas.listing(inst, "default") == []


def test_a_bundle_with_errors_is_refused_with_all_of_them(inst: Installation) -> None:
    bad = Authority.root(not_after=NOW - DAY, not_before=NOW - 9 * DAY, key="rsa1024")
    refusal = unchanged_but_refused(inst, "bad", bad.pem())
    errors = [finding for finding in refusal.findings if finding.level == "error"]
    assert {finding.code for finding in errors} == {"expired", "weak_key"}
    for finding in errors:
        assert finding.message in str(refusal)


@pytest.mark.parametrize("data", [b"", b"a letter", b"\xff" * 100])
def test_a_file_without_a_certificate_is_refused(inst: Installation, data: bytes) -> None:
    refusal = unchanged_but_refused(inst, "none", data)
    assert [finding.code for finding in refusal.findings] == ["no_certificate"]


def test_a_private_key_in_the_file_is_refused_and_not_repeated(inst: Installation) -> None:
    root = Authority.root()
    refusal = unchanged_but_refused(inst, "key", root.pem() + root.key_pem())
    assert "private_key" in [finding.code for finding in refusal.findings]
    assert root.key_pem().splitlines()[1].decode() not in str(refusal) + repr(refusal.findings)


@pytest.mark.parametrize("name", ["", " a", "a ", "a" * 129, "a\nb", "a\x1b[31m", "a\u202eb", "\ud800"])
def test_what_cannot_be_a_name_is_refused(inst: Installation, name: str) -> None:
    refusal = unchanged_but_refused(inst, name, Authority.root().pem())
    assert "cannot name a trusted CA; expected 1 to 128 printable characters" in str(refusal)
    assert str(refusal).isprintable()


@pytest.mark.parametrize("name", ["a", "Büro CA (2026) — 東京", "a" * 128])
def test_what_can_be_a_name_is_taken(inst: Installation, name: str) -> None:
    assert trust(inst, "default", name, Authority.root().pem())[0].name == name


def test_a_name_that_is_taken_is_refused(inst: Installation) -> None:
    trust(inst, "default", "one", Authority.root("A").pem())
    refusal = unchanged_but_refused(inst, "one", Authority.root("B").pem())
    assert str(refusal).startswith("tenant default has a trusted CA 'one' already")


def test_an_anchor_that_is_trusted_already_is_refused_and_named(inst: Installation) -> None:
    root = Authority.root("A")
    trust(inst, "default", "one", root.pem())
    refusal = unchanged_but_refused(inst, "two", root.intermediate("I").pem() + root.pem())
    assert [finding.code for finding in refusal.findings if finding.level == "error"] == ["duplicate"]
    assert "'one'" in str(refusal)


def test_an_anchor_that_another_process_adds_meanwhile_is_refused(
    inst: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Authority.root("A").pem()
    trust(inst, "default", "one", root)
    monkeypatch.setattr(stored, "listing", lambda c, tenant_id: [])
    with pytest.raises(Refused, match="two: tenant default trusts this anchor already, under another name"):
        trust(inst, "default", "two", root)


def test_what_one_tenant_trusts_is_no_other_tenants_business(inst: Installation) -> None:
    tenants.create(inst, "acme", NOW)
    root = Authority.root("A").pem()
    trust(inst, "default", "one", root)
    assert trusted_cas.listing(inst, "acme") == []
    trust(inst, "acme", "one", root)
    trusted_cas.delete(inst, "acme", "one", NOW)
    assert [ca.name for ca in trusted_cas.listing(inst, "default")] == ["one"]


def test_a_deleted_one_is_gone_and_that_is_announced(inst: Installation) -> None:
    root = Authority.root("A").pem()
    trust(inst, "default", "one", root)
    before = last_change(inst)
    trusted_cas.delete(inst, "default", "one", NOW)
    assert kinds_since(inst, before) == ["trusted_ca_deleted"]
    assert trusted_cas.listing(inst, "default") == []
    for use in (
        lambda: trusted_cas.delete(inst, "default", "one", NOW),
        lambda: trusted_cas.show(inst, "default", "one"),
    ):
        with pytest.raises(Refused, match="tenant default has no trusted CA 'one'"):
            use()
    trust(inst, "default", "one", root)


# --- several at once ---


def test_several_are_added_together(inst: Installation) -> None:
    uploads = [trusted_cas.Upload(name, Authority.root(name).pem()) for name in ("a", "b", "c")]
    before = last_change(inst)
    saved = trusted_cas.add(inst, "default", uploads, NOW)
    assert [ca.name for ca, _ in saved] == ["a", "b", "c"] == [ca.name for ca in trusted_cas.listing(inst, "default")]
    assert kinds_since(inst, before) == ["trusted_ca_added"] * 3


def test_where_one_of_several_is_refused_none_is_added_and_each_error_says_whose_it_is(inst: Installation) -> None:
    old = Authority.root("Old", not_after=NOW - DAY, not_before=NOW - 9 * DAY)
    uploads = [
        trusted_cas.Upload("good", Authority.root("Good").pem()),
        trusted_cas.Upload("old", old.pem()),
        trusted_cas.Upload("none", b""),
    ]
    with pytest.raises(Refused) as caught:
        trusted_cas.add(inst, "default", uploads, NOW)
    errors = [finding.message for finding in caught.value.findings if finding.level == "error"]
    assert [message.partition(":")[0] for message in errors] == ["old", "none"]
    assert trusted_cas.listing(inst, "default") == []


def test_of_several_with_one_anchor_the_second_is_refused(inst: Installation) -> None:
    root = Authority.root("A").pem()
    with pytest.raises(Refused, match=r"two: certificate 1 \(A\) is trusted already, as 'one'"):
        trusted_cas.add(inst, "default", [trusted_cas.Upload(name, root) for name in ("one", "two")], NOW)
    assert trusted_cas.listing(inst, "default") == []


def test_of_several_no_two_have_one_name(inst: Installation) -> None:
    uploads = [trusted_cas.Upload("one", Authority.root(name).pem()) for name in ("A", "B")]
    with pytest.raises(Refused, match="one: 2 of the files are to have this name"):
        trusted_cas.add(inst, "default", uploads, NOW)


# --- for some hosts only ---


def test_host_patterns_are_saved_as_they_are_compared_each_once(inst: Installation) -> None:
    written = ("Intranet.Example.", "*.BÜRO.example", "intranet.example", "192.0.2.7", "[2001:DB8::1]")
    added, _ = trust(inst, "default", "one", Authority.root().pem(), *written)
    assert added.hosts == ("intranet.example", "*.xn--bro-hoa.example", "192.0.2.7", "2001:db8::1")
    assert trusted_cas.show(inst, "default", "one") == added


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "is no host pattern"),
        ("a*.example", "the star of 'a*.example' may only stand alone or as the first label"),
        ("*.192.0.2.7", "there are no names below an IP address"),
        ("https://one.example/", "is no host pattern"),
        ("one.example:443", "is no host pattern"),
    ],
)
def test_what_is_no_host_pattern_is_refused(inst: Installation, pattern: str, why: str) -> None:
    with pytest.raises(Refused, match="one: ") as caught:
        trust(inst, "default", "one", Authority.root().pem(), "good.example", pattern)
    assert why in str(caught.value)
    assert trusted_cas.listing(inst, "default") == []


def test_too_many_host_patterns_are_refused(inst: Installation) -> None:
    with pytest.raises(Refused, match="one: 101 host patterns; at most 100"):
        trust(inst, "default", "one", Authority.root().pem(), *(f"h{number}.example" for number in range(101)))


def test_it_is_limited_to_hosts_and_freed_again(inst: Installation) -> None:
    trust(inst, "default", "one", Authority.root().pem())
    before = last_change(inst)
    assert trusted_cas.limit(inst, "default", "one", ["*.corp.example"], LATER).hosts == ("*.corp.example",)
    assert trusted_cas.limit(inst, "default", "one", ["*.CORP.example"], LATER).changed_at == LATER
    assert kinds_since(inst, before) == ["trusted_ca_changed"]  # the same once more is no change
    assert trusted_cas.limit(inst, "default", "one", ["*.corp.example", "*"], LATER).hosts == ()
    with pytest.raises(Refused, match="has no trusted CA 'two'"):
        trusted_cas.limit(inst, "default", "two", [], LATER)


# --- two administrators at once ---


def generation(inst: Installation) -> int:
    return tenants.show(inst, "default").tenant.generation


def test_who_comes_second_is_told_what_was_changed(inst: Installation) -> None:
    trust(inst, "default", "one", Authority.root("A").pem())
    second = inst.having_seen(generation(inst))
    first = inst.acting(Actor("ann", "console from 192.0.2.1"))
    trusted_cas.limit(first, "default", "one", ["*.corp.example"], LATER)
    trusted_cas.deactivate(first, "default", "one", LATER)
    seen = last_change(inst)
    for change in (
        lambda: trusted_cas.activate(second, "default", "one", LATER),
        lambda: trusted_cas.rename(second, "default", "one", "other", LATER),
        lambda: trusted_cas.limit(second, "default", "one", [], LATER),
        lambda: trusted_cas.delete(second, "default", "one", LATER),
    ):
        with pytest.raises(Outdated) as caught:
            change()
        assert str(caught.value) == (
            f"one: changed after generation {generation(inst) - 2}, now {generation(inst)}: "
            f"it was limited to other hosts by ann on {LATER:%Y-%m-%d at %H:%M:%S} UTC; "
            f"it was deactivated by ann on {LATER:%Y-%m-%d at %H:%M:%S} UTC; look at it again"
        )
    assert last_change(inst) == seen
    assert trusted_cas.activate(inst.having_seen(generation(inst)), "default", "one", LATER).active


def test_what_others_do_to_other_things_is_no_conflict(inst: Installation) -> None:
    trust(inst, "default", "one", Authority.root("A").pem())
    trust(inst, "default", "two", Authority.root("B").pem())
    second = inst.having_seen(generation(inst))
    trusted_cas.deactivate(inst, "default", "two", LATER)
    error_settings.set_action(inst, "default", "expired", "allow", LATER)
    assert not trusted_cas.deactivate(second, "default", "one", LATER).active
    with pytest.raises(Outdated, match=r"expired: changed after generation .*: it was set by sallyport"):
        error_settings.set_action(second, "default", "expired", "block", LATER)


def test_a_name_that_another_thing_has_got_meanwhile_is_a_conflict(inst: Installation) -> None:
    trust(inst, "default", "one", Authority.root("A").pem())
    trust(inst, "default", "two", Authority.root("B").pem())
    second = inst.having_seen(generation(inst))
    trusted_cas.delete(inst, "default", "one", LATER)
    trusted_cas.rename(inst, "default", "two", "one", LATER)
    with pytest.raises(Outdated, match=r"it was deleted by .*; 'two' was renamed to 'one' by"):
        trusted_cas.delete(second, "default", "one", LATER)


def test_a_generation_of_another_history_is_refused(inst: Installation) -> None:
    trust(inst, "default", "one", Authority.root("A").pem())
    for seen, why in ((generation(inst) + 1, "is not to come before"), (-1, "is not all known")):
        with pytest.raises(Outdated, match=why):
            trusted_cas.deactivate(inst.having_seen(seen), "default", "one", LATER)
    assert trusted_cas.show(inst, "default", "one").active


def test_what_was_changed_before_generations_were_recorded_is_unknown(inst: Installation) -> None:
    trust(inst, "default", "one", Authority.root("A").pem())
    second = inst.having_seen(generation(inst))
    trusted_cas.deactivate(inst, "default", "one", LATER)
    with inst.store.transaction() as c:
        c.exec_driver_sql("UPDATE audit_log SET generation = NULL")
    with pytest.raises(Outdated, match="is not all known"):
        trusted_cas.activate(second, "default", "one", LATER)


@pytest.mark.parametrize(
    ("first", "second", "conflict"),
    [
        ("untrusted", "self_signed", True),
        ("self_signed", "untrusted", True),
        ("self_signed", "incomplete_chain", False),
        ("untrusted", "expired", False),
    ],
)
def test_the_master_row_is_of_those_that_it_covers(inst: Installation, first: str, second: str, conflict: bool) -> None:
    knowing = inst.having_seen(generation(inst))
    error_settings.set_action(inst, "default", first, "allow", LATER)
    if conflict:
        with pytest.raises(Outdated):
            error_settings.set_action(knowing, "default", second, "allow", LATER)
    else:
        error_settings.set_action(knowing, "default", second, "allow", LATER)


def test_a_limited_one_counts_for_nothing_to_a_process_that_knows_of_no_limits(inst: Installation) -> None:
    trust(inst, "default", "one", Authority.root("A").pem(), "*.corp.example")
    trust(inst, "default", "two", Authority.root("B").pem(), "*.corp.example", active=False)

    def as_before() -> list[tuple[str, int]]:
        with inst.reading("default") as (c, _):
            return [tuple(row) for row in c.exec_driver_sql("SELECT name, active FROM trusted_cas ORDER BY name")]

    def now() -> list[bool]:
        return [ca.active for ca in trusted_cas.listing(inst, "default")]

    assert (as_before(), now()) == ([("one", 0), ("two", 0)], [True, False])
    trusted_cas.limit(inst, "default", "one", [], LATER)
    assert (as_before(), now()) == ([("one", 1), ("two", 0)], [True, False])
    trusted_cas.limit(inst, "default", "one", ["a.example"], LATER)
    assert (as_before(), now()) == ([("one", 0), ("two", 0)], [True, False])
    trusted_cas.activate(inst, "default", "two", LATER)
    trusted_cas.deactivate(inst, "default", "one", LATER)
    trusted_cas.rename(inst, "default", "two", "three", LATER)
    assert (as_before(), now()) == ([("one", 0), ("three", 0)], [False, True])


def three(inst: Installation) -> list[str]:
    names = ["one", "two", "three"]
    for name in names:
        trust(inst, "default", name, Authority.root(name).pem())
    return names


def test_several_are_switched_together_and_those_are_told_that_were_otherwise(inst: Installation) -> None:
    names = three(inst)
    trusted_cas.deactivate(inst, "default", "two", LATER)
    changed = trusted_cas.switch_all(inst, "default", [*names, "one"], False, LATER)
    assert [ca.name for ca in changed] == ["one", "three"]
    assert not any(ca.active for ca in trusted_cas.listing(inst, "default"))
    before = last_change(inst)
    with pytest.raises(Missing, match="four"):
        trusted_cas.switch_all(inst, "default", ["one", "four"], True, LATER)
    assert last_change(inst) == before
    assert not trusted_cas.show(inst, "default", "one").active


def test_name_hosts_and_status_change_together_or_not_at_all(inst: Installation) -> None:
    three(inst)
    before = last_change(inst)
    with pytest.raises(Taken):
        trusted_cas.change(inst, "default", "one", Wanted("two", False, ("a.example",)), LATER)
    assert last_change(inst) == before
    changed = trusted_cas.change(inst, "default", "one", Wanted("ONE", False, ("A.example",)), LATER)
    assert (changed.name, changed.active, changed.hosts) == ("ONE", False, ("a.example",))
    assert kinds_since(inst, before) == ["trusted_ca_changed"] * 3
    # Whoever had seen it as it was changes all three: his own first change is in nobody's way.
    seen = inst.having_seen(inst.tenants()[0].generation)
    assert trusted_cas.change(seen, "default", "ONE", Wanted("one", True, ()), LATER).hosts == ()


def test_what_was_deleted_comes_back_as_it_was(inst: Installation) -> None:
    ends = Authority.root("Ends", not_after=NOW + DAY)
    trust(inst, "default", "ends", ends.pem(), ".a.example", active=True)
    three(inst)
    trusted_cas.deactivate(inst, "default", "two", NOW)
    were = trusted_cas.listing(inst, "default")
    gone = trusted_cas.delete_all(inst, "default", [ca.name for ca in were], NOW)
    assert trusted_cas.listing(inst, "default") == []
    much_later = NOW + 9 * DAY
    trusted_cas.restore(inst, "default", gone, much_later)

    def told(ca: TrustedCa) -> tuple[object, ...]:
        return ca.name, ca.active, ca.hosts, ca.chain, ca.created_at

    assert [told(ca) for ca in trusted_cas.listing(inst, "default")] == [told(ca) for ca in were]
    trusted_cas.delete_all(inst, "default", ["one", "two"], NOW)
    trust(inst, "default", "two", Authority.root("another").pem())
    with pytest.raises(Taken):
        trusted_cas.restore(inst, "default", [ca for ca in gone if ca.name in ("one", "two")], NOW)
    assert [ca.name for ca in trusted_cas.listing(inst, "default")] == ["ends", "three", "two"]


def test_what_is_wrong_with_names_and_hosts_is_told_of_each(inst: Installation) -> None:
    trust(inst, "default", "taken", Authority.root().pem())
    uploads = [Upload(name, b"", hosts) for name, hosts in (
        ("good", ()), ("taken", ("a..b",)), ("twice", ()), ("twice", ()), ("", ()),
    )]  # fmt: skip
    told = trusted_cas.objections(inst, "default", uploads)
    assert [len(each) for each in told] == [0, 2, 1, 1, 1]
    assert "already" in told[1][0]
    assert "'a..b' is no host pattern" in told[1][1]
