from __future__ import annotations

from datetime import timedelta
from typing import Any

from cryptography import x509

from control import accounts, tenants
from control.authorisation import Role, Scope
from tests.console.conftest import Console
from tests.control.conftest import CHEAP, PASSWORD
from tests.harness.leaves import record
from tests.harness.pki import NOW

LOG = "/api/v1/audit-log"


def subjects(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [f"{one['action']} {one['subject']}" for one in answer.json()["items"]]


def test_the_audit_log_is_paged_by_number_so_that_new_entries_shift_nothing(console: Console) -> None:
    owner = console.with_token("ann")
    for name in ("a", "b", "c"):
        console.tenant(name)
    first = owner.get(LOG, params={"limit": 2, "action": "tenant"})
    assert subjects(first) == ["tenant.create c", "tenant.create b"]
    console.tenant("d")
    following = first.json()["next"]
    assert first.headers["link"] == f'<{following}>; rel="next"'
    rest = owner.get(following)
    assert subjects(rest) == ["tenant.create a", "tenant.create default"]
    assert rest.json()["next"] is None


def test_the_audit_log_is_narrowed_by_who_what_whom_and_when(console: Console) -> None:
    owner = console.with_token("ann")
    console.tenant("acme")
    console.clock.advance(hours=1)
    made = owner.post("/api/v1/tenants", json={"name": "beta"})
    assert made.status_code == 201
    assert subjects(owner.get(LOG, params={"actor": "ANN"})) == ["tenant.create beta"]
    assert subjects(owner.get(LOG, params={"actor": "%"})) == []
    assert subjects(owner.get(LOG, params={"action": "tenant.create", "subject": "cm"})) == ["tenant.create acme"]
    assert subjects(owner.get(LOG, params={"action": "tenant.creat"})) == []
    later = (NOW + timedelta(minutes=30)).isoformat()
    assert subjects(owner.get(LOG, params={"since": later})) == ["tenant.create beta"]
    assert "tenant.create beta" not in subjects(owner.get(LOG, params={"until": later}))
    (entry,) = owner.get(LOG, params={"tenant": "beta"}).json()["items"]
    assert entry["after"]
    assert entry["before"] is None
    assert entry["origin"] == "API from testclient"
    assert owner.get(LOG, params={"since": "yesterday"}).status_code == 422


def test_nobody_reads_of_tenants_and_accounts_that_are_not_there_for_him(console: Console) -> None:
    for name in ("acme", "beta"):
        console.tenant(name)
    everything = console.signed_in("ann")
    assert any("session.begin" in one for one in subjects(everything.get(LOG)))
    administrator = console.with_token("eve", Scope.WRITE, Role.ADMINISTRATOR)
    found = subjects(administrator.get(LOG))
    assert "tenant.create beta" in found
    assert [one for one in found if one.split(".")[0] in ("admin", "session", "token")] == []
    of_acme = console.signed_in("bob", Role.AUDITOR, "acme")
    assert subjects(of_acme.get(LOG)) == ["tenant.create acme"]
    assert subjects(of_acme.get(LOG, params={"tenant": "beta"})) == []
    assert subjects(of_acme.get("/api/v1/tenants/acme/audit-log")) == ["tenant.create acme"]
    assert of_acme.get("/api/v1/tenants/beta/audit-log").status_code == 404


def test_a_tenant_that_is_gone_is_read_of_by_who_sees_all_and_by_nobody_of_the_next_of_that_name(
    console: Console,
) -> None:
    console.tenant("acme")
    tenants.delete(console.inst, "acme", NOW)
    console.clock.advance(days=1)
    console.tenant("acme")
    owner = console.with_token("ann")
    assert len(subjects(owner.get(LOG, params={"tenant": "acme"}))) == 3
    of_the_new = console.signed_in("bob", Role.ADMINISTRATOR, "acme")
    for path in (LOG, "/api/v1/tenants/acme/audit-log"):
        assert subjects(of_the_new.get(path)) == ["tenant.create acme"]


def test_the_issuance_log_has_every_leaf_of_the_tenants_that_one_sees(console: Console) -> None:
    console.tenant("acme")
    record(console.inst, "default", "www.example.com", "mail.example.com")
    record(console.inst, "acme", "acme.example")
    owner = console.with_token("ann", Scope.READ)
    hosts = [one["host"] for one in owner.get("/api/v1/issuance-log").json()["items"]]
    assert hosts == ["acme.example", "mail.example.com", "www.example.com"]
    page = owner.get("/api/v1/issuance-log", params={"limit": 1, "host": "EXAMPLE.com"})
    (one,) = page.json()["items"]
    assert (one["host"], one["tenant"]) == ("mail.example.com", "default")
    assert [each["host"] for each in owner.get(page.json()["next"]).json()["items"]] == ["www.example.com"]
    whole = owner.get(f"/api/v1/tenants/default/issuance-log/{one['id']}").json()
    assert f"{x509.load_pem_x509_certificate(whole['pem'].encode()).serial_number:x}" == one["serial"]
    of_acme = console.signed_in("bob", Role.AUDITOR, "acme")
    assert [each["host"] for each in of_acme.get("/api/v1/issuance-log").json()["items"]] == ["acme.example"]
    assert of_acme.get("/api/v1/issuance-log", params={"tenant": "default"}).json()["items"] == []
    assert of_acme.get(f"/api/v1/tenants/acme/issuance-log/{one['id']}").status_code == 404
    assert of_acme.get("/api/v1/tenants/default/issuance-log").status_code == 404


def test_the_audit_log_has_no_password_though_one_was_set(console: Console) -> None:
    owner = console.signed_in("ann")
    accounts.create(console.inst, "bob", PASSWORD, Role.AUDITOR, None, NOW, CHEAP, own=True)
    assert PASSWORD not in owner.get(LOG).text
