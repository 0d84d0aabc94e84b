from __future__ import annotations

from datetime import datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certs.expiry import Expiry
from control import signing_cas, tenants
from control.errors import Refused
from control.expiring import Expiring, Use, expiring
from control.installation import Installation
from store import kmip, trusted_cas
from store.records import KmipForwarding, KmipSecrets
from tests.control.conftest import trust
from tests.harness.pki import DAY, NOW, Authority, Issued


def private(name: str, days: int) -> Authority:
    """A root of a thousand days that ends in so many."""
    return Authority.root(name, not_before=NOW + (days - 1000) * DAY, not_after=NOW + days * DAY)


def found(inst: Installation, now: datetime = NOW, *, all_of_them: bool = False) -> list[tuple[Use, str, Expiry]]:
    return [(one.use, one.name, one.expiry) for one in expiring(inst, "default", now, all_of_them=all_of_them)]


def key_managers(inst: Installation, client: Issued, above: Issued) -> None:
    made = KmipForwarding((client.raw,), (above.raw,), None, None, NOW, "test")
    with inst.changing("default") as (c, tenant):
        kmip.set_forwarding(c, tenant.id, made, KmipSecrets(b"sealed", None, None), NOW, "test")


def test_what_has_less_than_a_tenth_left_comes_soonest_first(inst: Installation) -> None:
    for name, days in (("soon", 50), ("sooner", 20), ("fine", 500)):
        trust(inst, "default", name, private(name, days).pem())
    client = private("Manager", 900).leaf("client.example", not_before=NOW - 98 * DAY, not_after=NOW + 2 * DAY)
    key_managers(inst, client, private("Manager", 70))
    assert found(inst) == [
        (Use.KMIP_CLIENT, "client.example", Expiry.NEAR_END), (Use.TRUSTED_CA, "sooner", Expiry.NEAR_END),
        (Use.TRUSTED_CA, "soon", Expiry.NEAR_END), (Use.KMIP_SERVER_CA, "Manager", Expiry.NEAR_END),
    ]  # fmt: skip
    everything = found(inst, all_of_them=True)
    assert len(everything) == 6
    assert (Use.TRUSTED_CA, "fine", Expiry.FINE) in everything
    assert found(inst, NOW + 30 * DAY)[:2] == [
        (Use.KMIP_CLIENT, "client.example", Expiry.EXPIRED), (Use.TRUSTED_CA, "sooner", Expiry.EXPIRED),
    ]  # fmt: skip


def test_of_the_signing_ca_that_is_active_it_is_said_what_stops(inst: Installation) -> None:
    ca = signing_cas.show(inst, "default")
    (one,) = expiring(inst, "default", NOW, all_of_them=True)
    assert (one.use, one.name, one.in_use) == (Use.SIGNING_CA, ca.name, True)
    # The first of its chain that ends.
    ends = [each.not_valid_after_utc for each in signing_cas.part(inst, "default", None, "chain")]
    assert one.validity.ends == one.certificate.not_valid_after_utc == min(ends)
    near = one.validity.ends - DAY
    (one,) = expiring(inst, "default", near)
    assert one.what_to_do.startswith("get another signing CA")
    assert "nothing is intercepted" in one.what_to_do
    assert one.certificate.public_bytes(Encoding.DER) in ca.chain


def test_what_is_not_in_use_asks_for_nothing_and_what_can_sign_no_more_is_not_told(inst: Installation) -> None:
    trust(inst, "default", "off", private("off", 20).pem(), active=False)
    (one,) = expiring(inst, "default", NOW)
    assert (one.in_use, one.what_to_do.startswith("nothing")) == (False, True)

    def others() -> list[Expiring]:
        told = expiring(inst, "default", NOW + 9999 * DAY)
        return [each for each in told if each.use is Use.SIGNING_CA and not each.in_use]

    imported = private("Imported", 500)
    upload = signing_cas.Upload((imported.pem(),), imported.key_pem())
    signing_cas.import_(inst, "default", "imported", upload, NOW)
    (other,) = others()
    assert (other.name, other.what_to_do.startswith("nothing")) == ("imported", True)
    signing_cas.revoke(inst, "default", "imported", NOW)
    assert others() == []


def test_a_trusted_cas_anchor_counts_alone(inst: Installation) -> None:
    root = private("Root", 500)
    issuing = root.intermediate("Issuing", not_before=NOW - 900 * DAY, not_after=NOW + 5 * DAY)
    trust(inst, "default", "two", issuing.pem() + root.pem())
    with inst.reading("default") as (c, tenant):
        assert len(trusted_cas.listing(c, tenant.id)[0].chain) == 2
    assert found(inst) == []


def test_a_tenant_sees_its_own(inst: Installation) -> None:
    tenants.create(inst, "acme", NOW)
    trust(inst, "acme", "theirs", private("theirs", 20).pem())
    assert found(inst) == []
    with pytest.raises(Refused, match="there is no tenant 'gone'"):
        expiring(inst, "gone", NOW)
