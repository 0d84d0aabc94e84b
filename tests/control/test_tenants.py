from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from config.settings import Settings
from control import error_settings, signing_cas, tenants, trusted_cas
from control.errors import Refused
from control.installation import Installation, publish_root
from store import signing_cas as stored_cas
from store import tenants as stored
from tests.control.conftest import kinds_since, last_change, trust
from tests.harness.pki import NOW, Authority


def test_a_new_tenant_has_a_key_and_a_ca_of_its_own(inst: Installation) -> None:
    before = last_change(inst)
    made = tenants.create(inst, "acme", NOW)
    assert (made.name, made.generation) == ("acme", 1)
    assert [tenant.name for tenant in tenants.listing(inst)] == ["acme", "default"]
    assert tenants.listing(inst)[0] == made
    assert kinds_since(inst, before) == ["tenant_created"]
    (root,), (other,) = (signing_cas.part(inst, name, None, "root") for name in ("acme", "default"))
    assert root.public_key() != other.public_key()
    assert "acme" in root.subject.rfc4514_string()
    with inst.store.reading() as c:
        keys = {inst.provider.unwrap(stored.wrapped_key(c, tenant.id), tenant.name) for tenant in stored.listing(c)}
        assert len(stored_cas.issuing_keys(c)) == len(keys) == 2


def test_the_kind_of_its_keys_can_be_chosen(inst: Installation) -> None:
    tenants.create(inst, "old", NOW, algorithm="rsa")
    (root,) = signing_cas.part(inst, "old", None, "root")
    assert root.public_key().key_size == 4096  # type: ignore[union-attr]  # RSA has a size


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a.b", "a b", "ä", "a" * 64, "a\n", "../a", "a/b", "a\0"])
def test_what_cannot_be_a_name_is_refused(inst: Installation, name: str) -> None:
    with pytest.raises(Refused, match="cannot name a tenant; expected 1 to 63 of a-z") as caught:
        tenants.create(inst, name, NOW)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "0", "a-b-", "a" * 63])
def test_what_can_be_a_name_is_taken(inst: Installation, name: str) -> None:
    assert tenants.create(inst, name, NOW).name == name


def test_a_name_that_is_taken_is_refused_and_nothing_announced(inst: Installation) -> None:
    before = last_change(inst)
    with pytest.raises(Refused, match="there is a tenant default already"):
        tenants.create(inst, "default", NOW)
    assert last_change(inst) == before


def test_a_name_that_another_process_takes_meanwhile_is_refused(
    inst: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "by_name", lambda c, name: None)
    with pytest.raises(Refused, match="there is a tenant default already"):
        tenants.create(inst, "default", NOW)


def test_the_details_say_what_belongs_to_a_tenant(inst: Installation) -> None:
    tenants.create(inst, "acme", NOW)
    trust(inst, "acme", "private", Authority.root().pem())
    details = tenants.show(inst, "acme")
    assert (details.tenant.name, details.trusted_cas, details.listeners) == ("acme", 1, ())
    assert details.signing_ca is not None
    assert details.signing_ca.name == "built-in"
    assert tenants.show(inst, "default").listeners == ("explicit",)


def test_an_unknown_tenant_is_refused_everywhere_by_the_same_words(inst: Installation) -> None:
    root = Authority.root().pem()
    tenants.create(inst, "acme", NOW)
    for use in (
        lambda: tenants.show(inst, "nobody"),
        lambda: tenants.delete(inst, "nobody", NOW),
        lambda: trusted_cas.validate(inst, "nobody", [], NOW),
        lambda: trust(inst, "nobody", "private", root),
        lambda: trusted_cas.listing(inst, "nobody"),
        lambda: trusted_cas.show(inst, "nobody", "private"),
        lambda: trusted_cas.delete(inst, "nobody", "private", NOW),
        lambda: signing_cas.listing(inst, "nobody"),
        lambda: signing_cas.show(inst, "nobody"),
        lambda: signing_cas.part(inst, "nobody", None, "chain"),
        lambda: error_settings.show(inst, "nobody"),
        lambda: error_settings.set_action(inst, "nobody", "expired", "allow", NOW),
        lambda: error_settings.unset(inst, "nobody", "expired", NOW),
    ):
        with pytest.raises(Refused) as caught:
            use()
        assert str(caught.value) == "there is no tenant 'nobody'; tenants: acme, default"


def test_a_deleted_tenant_is_gone_with_every_copy_of_its_key(inst: Installation, settings: Settings) -> None:
    tenants.create(inst, "acme", NOW)
    path = publish_root(inst, "acme")
    with inst.store.reading() as c:
        tenant = stored.by_name(c, "acme")
        assert tenant is not None
        ca = stored_cas.active(c, tenant.id)
        assert ca is not None
        secrets = [stored.wrapped_key(c, tenant.id), stored_cas.sealed_key(c, ca.id)]

    def on_disk() -> bytes:
        return b"".join(file.read_bytes() for file in settings.state_dir.rglob("*") if file.is_file())

    assert all(secret in on_disk() for secret in secrets)
    before = last_change(inst)
    tenants.delete(inst, "acme", NOW)
    assert kinds_since(inst, before) == ["tenant_deleted"]
    assert [left.name for left in tenants.listing(inst)] == ["default"]
    assert not path.exists()
    assert not any(secret in on_disk() for secret in secrets)


def test_a_tenant_that_a_listener_uses_is_not_deleted(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "state_dir": str(tmp_path / "var"),
            "listeners": [
                {"name": "office", "bind": "127.0.0.1:8080"},
                {"name": "lab", "bind": "127.0.0.1:8081"},
                {"name": "guests", "bind": "127.0.0.1:8082", "tenant": "guests"},
            ],
        }
    )
    with Installation.open(settings, NOW) as inst:
        tenants.create(inst, "guests", NOW)
        before = last_change(inst)
        with pytest.raises(Refused, match="tenant default is used by listeners office, lab; take that out"):
            tenants.delete(inst, "default", NOW)
        with pytest.raises(Refused, match="tenant guests is used by listener guests;"):
            tenants.delete(inst, "guests", NOW)
        assert last_change(inst) == before
        assert len(tenants.listing(inst)) == 2


def test_the_parts_of_the_built_in_ca(inst: Installation) -> None:
    (ca,) = signing_cas.listing(inst, "default")
    assert signing_cas.show(inst, "default") == signing_cas.show(inst, "default", "built-in") == ca
    issuing, root = signing_cas.part(inst, "default", None, "chain")
    assert signing_cas.part(inst, "default", "built-in", "root") == (root,)
    assert signing_cas.part(inst, "default", None, "intermediate") == (issuing,)
    issuing.verify_directly_issued_by(root)
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 1
    with pytest.raises(Refused, match="tenant default has no signing CA 'other'"):
        signing_cas.show(inst, "default", "other")
