from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from control import tenants, trusted_cas
from control.errors import Refused
from control.installation import Installation
from store import trusted_cas as stored
from tests.control.conftest import kinds_since, last_change
from tests.harness.pki import DAY, NOW, Authority


def unchanged_but_refused(inst: Installation, name: str, data: bytes) -> Refused:
    before, listed = last_change(inst), trusted_cas.listing(inst, "default")
    with pytest.raises(Refused) as caught:
        trusted_cas.add(inst, "default", name, data, NOW)
    assert "\n" not in str(caught.value)
    assert last_change(inst) == before
    assert trusted_cas.listing(inst, "default") == listed
    return caught.value


def test_a_chain_is_added_listed_shown_and_announced(inst: Installation) -> None:
    root = Authority.root("Private Root")
    issuing = root.intermediate("Private Issuing")
    before = last_change(inst)
    added, bundle = trusted_cas.add(inst, "default", "Private CA", issuing.pem() + root.pem(), NOW)
    assert bundle.ok
    assert (added.name, added.active, added.created_at) == ("Private CA", True, NOW)
    assert added.chain == (issuing.raw, root.raw)
    assert trusted_cas.listing(inst, "default") == [added] == [trusted_cas.show(inst, "default", "Private CA")]
    assert kinds_since(inst, before) == ["trusted_ca_added"]


def test_a_file_in_the_other_order_and_another_form_is_put_in_order(inst: Installation) -> None:
    root = Authority.root("Private Root")
    issuing = root.intermediate("Private Issuing")
    added, bundle = trusted_cas.add(inst, "default", "one", root.pem() + issuing.pem(), NOW, active=False)
    assert added.chain == (issuing.raw, root.raw)
    assert not added.active
    assert "reordered" in [finding.code for finding in bundle.findings]
    other, _ = trusted_cas.add(
        inst, "default", "two", Authority.root("Other").certificate.public_bytes(Encoding.DER), NOW
    )
    assert len(other.chain) == 1


def test_validation_says_the_same_and_saves_nothing(inst: Installation) -> None:
    before = last_change(inst)
    good = trusted_cas.validate(inst, "default", Authority.root().pem(), NOW)
    bad = trusted_cas.validate(
        inst, "default", Authority.root(not_after=NOW - DAY, not_before=NOW - 9 * DAY).pem(), NOW
    )
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
    assert trusted_cas.add(inst, "default", name, Authority.root().pem(), NOW)[0].name == name


def test_a_name_that_is_taken_is_refused(inst: Installation) -> None:
    trusted_cas.add(inst, "default", "one", Authority.root("A").pem(), NOW)
    refusal = unchanged_but_refused(inst, "one", Authority.root("B").pem())
    assert str(refusal).startswith("tenant default has a trusted CA 'one' already")


def test_an_anchor_that_is_trusted_already_is_refused_and_named(inst: Installation) -> None:
    root = Authority.root("A")
    trusted_cas.add(inst, "default", "one", root.pem(), NOW)
    refusal = unchanged_but_refused(inst, "two", root.intermediate("I").pem() + root.pem())
    assert [finding.code for finding in refusal.findings if finding.level == "error"] == ["duplicate"]
    assert "'one'" in str(refusal)


def test_an_anchor_that_another_process_adds_meanwhile_is_refused(
    inst: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Authority.root("A").pem()
    trusted_cas.add(inst, "default", "one", root, NOW)
    monkeypatch.setattr(stored, "listing", lambda c, tenant_id: [])
    with pytest.raises(Refused, match="two: tenant default trusts this anchor already, under another name"):
        trusted_cas.add(inst, "default", "two", root, NOW)


def test_what_one_tenant_trusts_is_no_other_tenants_business(inst: Installation) -> None:
    tenants.create(inst, "acme", NOW)
    root = Authority.root("A").pem()
    trusted_cas.add(inst, "default", "one", root, NOW)
    assert trusted_cas.listing(inst, "acme") == []
    trusted_cas.add(inst, "acme", "one", root, NOW)
    trusted_cas.delete(inst, "acme", "one", NOW)
    assert [ca.name for ca in trusted_cas.listing(inst, "default")] == ["one"]


def test_a_deleted_one_is_gone_and_that_is_announced(inst: Installation) -> None:
    root = Authority.root("A").pem()
    trusted_cas.add(inst, "default", "one", root, NOW)
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
    trusted_cas.add(inst, "default", "one", root, NOW)
