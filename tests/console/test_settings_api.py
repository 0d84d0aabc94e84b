"""Error settings, exceptions, bypass rules, proposals, proxy users and WireGuard peers over the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from certs.verdict import Defect
from control import audit_log, bypass_rules, error_settings
from control.authorisation import Role, Scope
from store import recent_servers, refusals, tenants
from store.records import RecentServer, Refusal
from tests.console.conftest import Console
from tests.harness.pki import DAY, HOUR, NOW, Authority

HERE = "/api/v1/tenants/default"
PRINTER = Authority.root("Printer", san=None).leaf("printer.example")


def remember(console: Console, *hosts: str, tenant: str = "default") -> None:
    """Servers that showed a certificate of nobody, an hour ago."""
    with console.inst.store.transaction() as c:
        found = tenants.by_name(c, tenant)
        assert found is not None
        shown = (PRINTER.raw,)
        recent_servers.add(
            c,
            found.id,
            [
                RecentServer(host, 443, NOW - HOUR, True, None, (Defect.INCOMPLETE_CHAIN.value,), "block", shown)
                for host in hosts
            ],
        )


def refuse(console: Console, host: str, clients: int) -> None:
    """So many clients refuse the host."""
    with console.inst.changing("default") as (c, tenant):
        refusals.add(
            c, tenant.id, [Refusal(host, f"192.0.2.{n}", 2, "alert", NOW - DAY, NOW - HOUR) for n in range(clients)]
        )  # fmt: skip


def changes(console: Console) -> int:
    return len(audit_log.newest(console.inst))


def type_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


# --- error settings


def test_every_row_is_shown_with_what_counts_and_what_can_be_set(console: Console) -> None:
    error_settings.set_action(console.inst, "default", "untrusted", "warn", NOW)
    answer = console.with_token("ann", Scope.READ).get(f"{HERE}/error-settings")
    rows = {row["row"]: row for row in answer.json()["rows"]}
    assert list(rows) == [*Defect, "untrusted"]
    every = ["block", "warn", "bypass", "allow"]
    assert rows["expired"] == {"row": "expired", "action": "block", "set": False, "from": None, "available": every}
    assert rows["self_signed"]["from"] == "untrusted"
    assert rows["own_ca"]["available"] == ["block"]
    assert rows["protocol"]["available"] == ["block", "bypass"]
    assert answer.headers["etag"].startswith('"g')


def test_several_rows_change_at_once_or_not_at_all(console: Console) -> None:
    program = console.with_token("ann")
    answer = program.patch(f"{HERE}/error-settings", json={"rows": {"expired": "allow", "untrusted": "warn"}})
    assert answer.status_code == 200
    assert {row["row"]: row["action"] for row in answer.json()["rows"] if row["set"]} == {
        "expired": "allow", "untrusted": "warn",
    }  # fmt: skip
    before = changes(console)
    for bad in ({"own_ca": "allow"}, {"nothing": "block"}, {"weak_key": "permit"}):
        refused = program.patch(f"{HERE}/error-settings", json={"rows": {"weak_key": "allow", **bad}})
        assert type_of(refused) == (422, "refused")
    assert changes(console) == before
    answer = program.put(f"{HERE}/error-settings", json={"rows": {"weak_key": "bypass"}})
    assert [row["row"] for row in answer.json()["rows"] if row["set"]] == ["weak_key"]
    assert program.patch(f"{HERE}/error-settings", json={"rows": {"weak_key": None}}).status_code == 200
    assert not any(row.is_set for row in error_settings.show(console.inst, "default"))


def test_a_row_is_taken_away_once(console: Console) -> None:
    error_settings.set_action(console.inst, "default", "expired", "allow", NOW)
    program = console.with_token("ann")
    assert program.delete(f"{HERE}/error-settings/expired").status_code == 204
    assert type_of(program.delete(f"{HERE}/error-settings/expired")) == (404, "missing")
    assert type_of(program.delete(f"{HERE}/error-settings/nothing")) == (422, "refused")


def test_a_change_is_tried_on_the_last_days_servers_and_not_saved(console: Console) -> None:
    remember(console, "printer.example", "other.example")
    program = console.with_token("ann")
    before = changes(console)
    changed = {"rows": {"incomplete_chain": "allow"}}
    told = program.patch(f"{HERE}/error-settings", json=changed, params={"dry_run": "true"}).json()
    assert (told["dry_run"], told["servers"], len(told["differing"])) == (True, 2, 1)
    assert told["differing"][0]["host"] == "printer.example"
    assert [told["differing"][0][when]["action"] for when in ("before", "after")] == ["block", "allow"]
    new = {"host": "printer.example", "defect": "untrusted", "action": "allow", "reason": "a printer"}
    tried = program.post(f"{HERE}/exceptions", json=new, params={"dry_run": "true"}, headers={"Idempotency-Key": "k"})
    assert (tried.status_code, len(tried.json()["differing"])) == (200, 1)
    assert program.delete(f"{HERE}/error-settings/expired", params={"dry_run": "true"}).status_code == 404
    assert changes(console) == before
    # The same key is not the same request where it is to be done.
    again = program.post(f"{HERE}/exceptions", json=new, headers={"Idempotency-Key": "k"})
    assert type_of(again) == (422, "key-reused")


def test_nothing_is_tried_where_the_common_store_cannot_be_read(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = console.inst.settings.model_copy(
        update={"trust": console.inst.settings.trust.model_copy(update={"common_store": "/nowhere/secret.pem"})}
    )
    object.__setattr__(console.inst, "settings", settings)
    program = console.with_token("ann")
    answer = program.patch(f"{HERE}/error-settings", json={"rows": {"expired": "allow"}}, params={"dry_run": "1"})
    assert type_of(answer) == (503, "unavailable")
    assert "secret.pem" not in answer.text


def test_what_somebody_else_has_changed_is_not_overwritten(console: Console) -> None:
    program = console.with_token("ann")
    seen = program.get(f"{HERE}/error-settings").headers["etag"]
    error_settings.set_action(console.inst, "default", "expired", "warn", NOW)
    rows = {"rows": {"weak_key": "allow", "expired": "allow"}}
    assert type_of(program.patch(f"{HERE}/error-settings", json=rows, headers={"If-Match": seen})) == (412, "outdated")
    rows = {"rows": {"weak_key": "allow"}}
    assert program.patch(f"{HERE}/error-settings", json=rows, headers={"If-Match": seen}).status_code == 200


# --- exceptions


def test_exceptions_are_made_listed_filtered_and_removed(console: Console) -> None:
    program = console.with_token("ann")
    sha256 = PRINTER.certificate.fingerprint(SHA256()).hex()
    new = {
        "host": "Printer.Example", "defect": "self_signed", "action": "allow", "reason": "its maker, until June",
        "fingerprint": sha256.upper(), "expires_at": "2027-06-30",
    }  # fmt: skip
    answer = program.post(f"{HERE}/exceptions", json=new)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["host"], made["fingerprint"], made["expires_at"]) == (
        "printer.example", sha256, "2027-06-30T23:59:59Z",
    )  # fmt: skip
    assert made["created_by"].startswith("ann (token ")
    assert program.get(answer.headers["location"]).json() == made
    assert type_of(program.post(f"{HERE}/exceptions", json=new)) == (409, "taken")
    short = {**new, "host": "*.lab.example", "fingerprint": None, "expires_at": "2026-11-24T00:00:00Z"}
    console.clock.now = NOW
    assert program.post(f"{HERE}/exceptions", json={**short, "expires_at": f"{NOW + DAY:%Y-%m-%d}"}).status_code == 201
    console.clock.advance(days=3)

    def found(**query: str) -> list[str]:
        return [one["host"] for one in program.get(f"{HERE}/exceptions", params=query).json()["items"]]

    assert found() == ["*.lab.example", "printer.example"]
    assert found(status="expired") == ["*.lab.example"]
    assert found(status="active", defect="self_signed", action="allow") == ["printer.example"]
    assert found(q="june printer") == ["printer.example"]
    assert found(sort="-expires_at") == ["printer.example", "*.lab.example"]
    assert program.delete(answer.headers["location"], params={"dry_run": "true"}).status_code == 200
    assert program.delete(answer.headers["location"]).status_code == 204
    assert type_of(program.delete(answer.headers["location"])) == (404, "missing")
    assert type_of(program.get(answer.headers["location"])) == (404, "missing")


def test_an_exception_that_cannot_be_is_refused(console: Console) -> None:
    program = console.with_token("ann")
    wrong: tuple[dict[str, str], ...] = (
        {"host": "*"}, {"host": "a b"}, {"defect": "rotten"}, {"action": "permit"}, {"reason": ""},
        {"reason": "\u202e"}, {"fingerprint": "12"}, {"expires_at": "yesterday"}, {"expires_at": "2020-01-01"},
        {"defect": "own_ca"}, {"until": "2027"},
    )  # fmt: skip
    before = changes(console)
    for each in wrong:
        new = {"host": "*.a.example", "defect": "expired", "action": "allow", "reason": "x", **each}
        assert program.post(f"{HERE}/exceptions", json=new).status_code == 422, each
    assert changes(console) == before


# --- bypass rules and proposals


def test_bypass_rules_are_added_together_listed_with_files_and_removed(console: Console, tmp_path: Any) -> None:
    program = console.with_token("ann")
    end = NOW + 30 * DAY
    new = {"patterns": [".bank.example", "192.0.2.0/24"], "reason": "council", "expires_at": end.isoformat()}
    answer = program.post(f"{HERE}/bypass-rules", json=new)
    assert answer.status_code == 201, answer.text
    assert [one["pattern"] for one in answer.json()["items"]] == [".bank.example", "192.0.2.0/24"]
    assert type_of(program.post(f"{HERE}/bypass-rules", json={"patterns": ["a.example", "*"]})) == (422, "refused")
    assert type_of(program.post(f"{HERE}/bypass-rules", json={"patterns": [".bank.example"]})) == (409, "taken")
    for expires_at in ("2027-01-01", "2027-01-01T00:00:00", "9999-12-31T23:59:59-10:00", "2020-01-01T00:00:00Z"):
        bad = {"patterns": ["a.example"], "expires_at": expires_at}
        assert program.post(f"{HERE}/bypass-rules", json=bad).status_code == 422, expires_at
    assert len(bypass_rules.listing(console.inst, "default")) == 2
    console.clock.advance(days=31)
    listed = program.get(f"{HERE}/bypass-rules", params={"status": "expired"}).json()["items"]
    assert [(one["pattern"], one["reason"], one["file"]) for one in listed] == [
        (".bank.example", "council", None), ("192.0.2.0/24", "council", None),
    ]  # fmt: skip
    assert program.delete(f"{HERE}/bypass-rules/192.0.2.0/24").status_code == 204
    assert type_of(program.delete(f"{HERE}/bypass-rules/192.0.2.0/24")) == (404, "missing")


def test_what_clients_pin_is_proposed_accepted_and_dismissed(console: Console) -> None:
    refuse(console, "app.example", 3)
    refuse(console, "2001:db8::1", 1)
    program = console.with_token("ann")
    app, other = program.get(f"{HERE}/pinning-proposals").json()["items"]
    assert (app["host"], len(app["clients"]), app["refusals"], app["proposed"]) == ("app.example", 3, 6, True)
    assert (other["host"], other["proposed"]) == ("2001:db8::1", False)
    accepted = program.post(f"{HERE}/pinning-proposals/app.example:accept")
    assert accepted.status_code == 201
    assert accepted.json()["reason"].startswith("pinned: 3 clients")
    assert type_of(program.post(f"{HERE}/pinning-proposals/nobody.example:accept")) == (404, "missing")
    end = (NOW + timedelta(days=7)).isoformat()
    given = {"reason": "its app", "expires_at": end}
    assert program.post(f"{HERE}/pinning-proposals/2001:db8::1:accept", json=given).json()["reason"] == "its app"
    rules = {one["host"]: one["rule"] for one in program.get(f"{HERE}/pinning-proposals").json()["items"]}
    assert rules == {"app.example": "app.example", "2001:db8::1": "2001:db8::1"}
    assert program.post(f"{HERE}/pinning-proposals/app.example:dismiss").status_code == 204
    assert type_of(program.post(f"{HERE}/pinning-proposals/app.example:dismiss")) == (404, "missing")


# --- ways in


def test_a_proxy_users_password_is_told_once_where_it_was_made_here(console: Console) -> None:
    program = console.with_token("ann")
    made = program.post(f"{HERE}/proxy-users", json={"name": "build"})
    assert made.status_code == 201
    assert len(made.json()["password"]) == 24
    given = program.post(f"{HERE}/proxy-users", json={"name": "bob", "password": "a password of his own"})
    assert given.json()["password"] is None
    assert type_of(program.post(f"{HERE}/proxy-users", json={"name": "bob"})) == (409, "taken")
    short = program.post(f"{HERE}/proxy-users", json={"name": "eve", "password": "s3cr3t"})
    assert type_of(short) == (422, "refused")
    assert "s3cr3t" not in short.text
    listed = program.get(f"{HERE}/proxy-users")
    assert [one["name"] for one in listed.json()["items"]] == ["bob", "build"]
    assert "password" not in listed.text
    again = program.post(f"{HERE}/proxy-users/build:password")
    assert again.json()["password"] not in (None, made.json()["password"])
    assert type_of(program.post(f"{HERE}/proxy-users/nobody:password")) == (404, "missing")
    assert program.delete(f"{HERE}/proxy-users/build").status_code == 204
    assert type_of(program.delete(f"{HERE}/proxy-users/build")) == (404, "missing")


def test_a_device_gets_its_configuration_once(console: Console) -> None:
    program = console.with_token("ann")
    assert type_of(program.post(f"{HERE}/wireguard-peers", json={"name": "phone"})) == (422, "refused")
    new = {"name": "ann's phone/2", "endpoint": "gate.example"}
    made = program.post(f"{HERE}/wireguard-peers", json=new)
    assert made.status_code == 201, made.text
    assert "PrivateKey = " in made.json()["configuration"]
    assert "Endpoint = gate.example:51820" in made.json()["configuration"]
    assert made.json()["qr_svg"].startswith("<?xml")
    listed = program.get(f"{HERE}/wireguard-peers")
    assert "configuration" not in listed.text
    (peer,) = listed.json()["items"]
    own = {"name": "router", "endpoint": "gate.example", "public_key": peer["public_key"]}
    assert type_of(program.post(f"{HERE}/wireguard-peers", json=own)) == (422, "refused")
    server = program.get(f"{HERE}/wireguard").json()
    assert server["public_key"] in made.json()["configuration"]
    assert program.delete(f"{HERE}/wireguard-peers/ann's phone/2").status_code == 204
    assert type_of(program.delete(f"{HERE}/wireguard-peers/ann's phone/2")) == (404, "missing")
    with_own_key = program.post(f"{HERE}/wireguard-peers", json=own)
    assert with_own_key.status_code == 201
    assert with_own_key.json()["qr_svg"] is None


# --- who may


CHANGES: tuple[tuple[str, str, Any], ...] = (
    ("PATCH", "error-settings", {"rows": {"expired": "allow"}}), ("PUT", "error-settings", {"rows": {}}),
    ("DELETE", "error-settings/expired", None), ("DELETE", "exceptions/1", None),
    ("POST", "exceptions", {"host": "a.example", "defect": "expired", "action": "allow", "reason": "x"}),
    ("POST", "bypass-rules", {"patterns": ["a.example"]}), ("DELETE", "bypass-rules/a.example", None),
    ("POST", "pinning-proposals/a.example:accept", None), ("POST", "pinning-proposals/a.example:dismiss", None),
    ("POST", "proxy-users", {"name": "bob"}), ("POST", "proxy-users/bob:password", None),
    ("DELETE", "proxy-users/bob", None), ("POST", "wireguard-peers", {"name": "a", "endpoint": "b.example"}),
    ("DELETE", "wireguard-peers/a", None),
)  # fmt: skip


def test_who_may_not_change_does_not(console: Console) -> None:
    console.tenant("acme")
    auditor = console.signed_in("aud", Role.AUDITOR)
    foreign = console.with_token("adm", Scope.WRITE, Role.ADMINISTRATOR, "acme")
    reader = console.with_token("adm", Scope.READ)
    before = changes(console)
    for method, path, body in CHANGES:
        for params in ({}, {"dry_run": "true"}):
            assert type_of(auditor.request(method, f"{HERE}/{path}", json=body, params=params)) == (403, "forbidden")
            assert type_of(foreign.request(method, f"{HERE}/{path}", json=body, params=params)) == (404, "missing")
        assert type_of(reader.request(method, f"/api/v1/tenants/acme/{path}", json=body)) == (403, "forbidden")
    assert changes(console) == before
