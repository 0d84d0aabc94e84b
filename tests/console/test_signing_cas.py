"""The API of signing CAs and KMIP forwarding: who may, and what comes out, which is never a key.

What the use cases do is tested by themselves.
"""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.testclient import TestClient

from control import signing_cas
from control.authorisation import Role
from tests.console.conftest import Console
from tests.control.test_signing_cas import root_above, signed
from tests.harness.pki import Authority
from tests.kms.kmip.rig import client as kmip_client
from tests.kms.kmip.rig import root as kmip_root

CAS = "/api/v1/tenants/default/signing-cas"
KMIP = "/api/v1/tenants/default/kmip-forwarding"
PASSPHRASE = "a passphrase that nobody sees"
ODD = "a/b:activate <é> =1+1"
ISSUING = Authority.root("Imported Root").intermediate("Imported Issuing")


def imported(program: TestClient, name: str = "theirs", **more: object) -> dict[str, object]:
    given = {
        "name": name,
        "certificates": [ISSUING.chain_pem(with_root=True).decode()],
        "key": ISSUING.key_pem().decode(),
        **more,
    }
    answer = program.post(f"{CAS}:import", json=given)
    assert answer.status_code == 201, answer.text
    found: dict[str, object] = answer.json()
    return found


def test_a_request_is_completed_activated_and_revoked(console: Console, tmp_path: Path) -> None:
    program = console.with_token("ann")
    given = {"name": "gateway", "common_name": "Example Gateway CA", "country": "CH"}
    made = program.post(f"{CAS}:csr", json=given)
    assert (made.status_code, made.json()["status"]) == (201, "requested")
    assert made.headers["location"] == f"{CAS}/gateway"
    file = program.get(f"{CAS}/gateway/request")
    assert file.text == made.json()["request"]
    assert file.headers["content-disposition"].startswith('attachment; filename="gateway.csr"')
    root = root_above(tmp_path)
    console.clock.advance(days=1)  # openssl's certificates begin now
    certificate = signed(tmp_path, x509.load_pem_x509_csr(file.content).public_bytes(Encoding.DER))
    files = [
        certificate.decode(),
        base64.b64encode(x509.load_pem_x509_certificate(root).public_bytes(Encoding.DER)).decode(),
    ]
    judged = program.post(f"{CAS}:validate", json={"name": "gateway", "certificates": files}).json()
    assert (judged["ok"], judged["steps"]) == (True, [])
    assert program.get(f"{CAS}/gateway").json()["status"] == "requested"
    saved = program.post(f"{CAS}/gateway:complete", json={"certificates": files})
    assert (saved.status_code, saved.json()["status"]) == (200, "inactive")
    activated = program.post(f"{CAS}/gateway:activate")
    assert (activated.json()["status"], activated.headers["etag"] > saved.headers["etag"]) == ("active", True)
    assert program.get(f"{CAS}/certificates").content == x509.load_pem_x509_certificate(root).public_bytes(Encoding.PEM)
    revoked = program.post(f"{CAS}/gateway:revoke").json()
    assert (revoked["status"], revoked["successor"]) == ("revoked", "built-in")
    assert program.delete(f"{CAS}/gateway").status_code == 200
    assert program.get(f"{CAS}/gateway").status_code == 404


@pytest.mark.parametrize("form", [False, True], ids=["JSON", "form"])
def test_what_is_imported_gives_no_key_out(console: Console, form: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    program = console.with_token("ann")
    if form:
        files = [("certificates", ("../../etc/passwd", ISSUING.chain_pem(with_root=True)))]
        files.append(("key", ("key\r\n.pem", ISSUING.key_pem())))
        answer = program.post(
            f"{CAS}:import", data={"name": "theirs", "activate": "true", "passphrase": ""}, files=files
        )
        assert (answer.status_code, answer.json()["status"]) == (201, "active"), answer.text
        told = answer.text
    else:
        told = json.dumps(imported(program))
    told += program.get(f"{CAS}/theirs").text + program.get(CAS).text + caplog.text
    told += program.get(f"{CAS}/theirs/certificates?part=chain").text
    assert "PRIVATE KEY" not in told
    assert base64.b64encode(ISSUING.key_pem()).decode()[:40] not in told


@pytest.mark.parametrize(
    "given",
    [
        {"key": 7, "passphrase": [PASSPHRASE]},
        {"key": PASSPHRASE, "passphrase": {"is": PASSPHRASE}},
        {"key": PASSPHRASE * 40_000, "passphrase": PASSPHRASE},
        {"key": "-----BEGIN PRIVATE KEY-----\n" + PASSPHRASE, "passphrase": PASSPHRASE},
        {"passphrase": PASSPHRASE * 100},
        {"password": PASSPHRASE},
        {"activate": PASSPHRASE},
    ],
)
def test_no_error_has_anything_of_a_key_or_passphrase(
    console: Console, given: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    program = console.with_token("ann")
    whole = {"name": "theirs", "certificates": [ISSUING.chain_pem(with_root=True).decode()], **given}
    for answer in (
        program.post(f"{CAS}:import", json=whole),
        program.post(f"{CAS}:validate", json={**whole, "activate": given.get("activate", False)}),
        program.put(KMIP, json={"server_ca": "", "client_certificate": "x", "client_key": given.get("key"), **given}),
    ):
        assert answer.status_code in (200, 422)
        assert answer.status_code == 422 or not answer.json()["ok"]
        assert PASSPHRASE[:12] not in answer.text
        assert "input" not in answer.json()
    assert PASSPHRASE[:12] not in caplog.text


def test_a_file_is_bounded_and_told_of_by_its_field(console: Console) -> None:
    program = console.with_token("ann")
    for given, pointer, said in (
        ({"certificates": ["%%%"]}, "#/certificates/0", "neither PEM nor Base64"),
        ({"certificates": [base64.b64encode(b"x" * ((1 << 20) + 1)).decode()]}, "#/certificates/0", "more than 1 MiB"),
        ({"certificates": []}, "#/certificates", "at least 1 item"),
    ):
        answer = program.post(f"{CAS}:import", json={"name": "theirs", **given})
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["pointer"] == pointer
        assert said in error["detail"]
    answer = program.post(f"{CAS}:import", data={"name": "a"}, files={"certificates": ("a", b"x" * ((1 << 20) + 1))})
    assert (answer.status_code, "more than 1 MiB" in answer.text) == (422, True)
    assert program.post(f"{CAS}:import", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    assert program.post(f"{CAS}:import", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415


def test_a_create_that_is_sent_again_is_done_once(console: Console) -> None:
    program = console.with_token("ann")
    files = {"certificates": ("ca.pem", ISSUING.chain_pem(with_root=True)), "key": ("key.pem", ISSUING.key_pem())}
    request = program.build_request("POST", f"{CAS}:import", data={"name": "theirs"}, files=files)
    headers = {**request.headers, "Idempotency-Key": "1"}
    first, again = (program.post(f"{CAS}:import", content=request.read(), headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201), first.text
    assert again.headers["idempotency-replayed"] == "true"
    assert first.json() == again.json()


def test_any_name_can_be_shown_renamed_activated_and_deleted(console: Console) -> None:
    program = console.with_token("ann")
    imported(program, ODD)
    at = f"{CAS}/{quote(ODD, safe='')}"
    assert program.get(at).json()["name"] == ODD
    file = program.get(f"{at}/certificates?part=intermediate&format=der")
    assert file.headers["content-type"] == "application/pkix-cert"
    assert x509.load_der_x509_certificate(file.content) == ISSUING.certificate
    assert "/" not in file.headers["content-disposition"].split("filename=")[1].split(";")[0]
    assert program.get(f"{at}/certificates?part=chain&format=der").status_code == 422
    assert program.post(f"{at}:activate").json()["status"] == "active"
    assert program.delete(at).status_code == 422, "the active one stays"
    assert program.patch(at, json={"name": "plain"}).json()["name"] == "plain"
    assert program.post(f"{CAS}/built-in:activate").status_code == 200
    assert program.delete(f"{CAS}/plain").json() == {"remains": []}


def test_lists_are_filtered_and_sorted(console: Console) -> None:
    program = console.with_token("ann")
    imported(program)
    names = [one["name"] for one in program.get(f"{CAS}?sort=-name").json()["items"]]
    assert names == ["theirs", "built-in"]
    assert [one["kind"] for one in program.get(f"{CAS}?kind=imported").json()["items"]] == ["imported"]
    assert program.get(f"{CAS}?status=revoked").json()["total"] == 0
    assert program.get(f"{CAS}?q=imported+issuing").json()["total"] == 1


def test_who_has_seen_something_older_is_told(console: Console) -> None:
    program = console.with_token("ann")
    seen = program.get(f"{CAS}/built-in").headers["etag"]
    program.patch(f"{CAS}/built-in", json={"name": "first"})
    answer = program.patch(f"{CAS}/first", json={"name": "second"}, headers={"If-Match": seen})
    assert (answer.status_code, answer.json()["type"]) == (412, "urn:sallyport:problem:outdated")


CHANGES = (
    ("POST", f"{CAS}:csr", {"name": "a", "common_name": "A"}),
    ("POST", f"{CAS}:import", {}),
    ("POST", f"{CAS}:connect", {}),
    ("POST", f"{CAS}:validate", {}),
    ("POST", f"{CAS}/built-in:complete", {}),
    ("POST", f"{CAS}/built-in:activate", {}),
    ("POST", f"{CAS}/built-in:revoke", {}),
    ("PATCH", f"{CAS}/built-in", {"name": "b"}),
    ("DELETE", f"{CAS}/built-in", None),
    ("PUT", KMIP, {}),
    ("POST", f"{KMIP}:csr", {"common_name": "A"}),
    ("POST", f"{KMIP}:test", {"signing_ca": "built-in"}),
)


def test_an_auditor_changes_nothing_and_another_tenants_administrator_sees_nothing(console: Console) -> None:
    console.tenant("acme")
    auditor = console.signed_in("eve", Role.AUDITOR)
    other = console.signed_in("bob", Role.ADMINISTRATOR, "acme")
    for method, path, body in CHANGES:
        assert auditor.request(method, path, json=body).status_code == 403, path
        assert other.request(method, path, json=body).status_code == 404, path
    for path in (CAS, f"{CAS}/built-in", f"{CAS}/certificates", f"{CAS}/built-in/certificates", KMIP):
        assert auditor.get(path).status_code == 200, path
        assert other.get(path).status_code == 404, path
    assert [ca.status for ca in signing_cas.listing(console.inst, "default")] == ["active"]


def test_kmip_forwarding_is_set_and_shown_without_its_secrets(console: Console) -> None:
    program = console.with_token("ann")
    nothing = program.get(KMIP).json()
    assert (nothing["client_certificates"], nothing["changed_at"]) == ([], None)
    given = {"client_certificate": kmip_client().chain_pem().decode(), "server_ca": kmip_root().pem().decode()}
    secret = {"client_key": kmip_client().key_pem().decode(), "username": "proxy", "password": PASSPHRASE}
    answer = program.put(KMIP, json={**given, **secret})
    assert answer.status_code == 200, answer.text
    shown = program.get(KMIP)
    assert shown.json() == answer.json()
    assert shown.json()["username"] == "proxy"
    assert PASSPHRASE not in shown.text
    assert "PRIVATE KEY" not in shown.text
    made = program.post(f"{KMIP}:csr", json={"common_name": "sallyport"})
    assert made.status_code == 201
    files = {"client_certificate": ("c.pem", kmip_client().pem()), "server_ca": ("s.pem", kmip_root().pem())}
    refused = program.put(KMIP, files=files)
    assert (refused.status_code, "does not belong to the key" in refused.text) == (422, True)
    assert program.post(f"{KMIP}:test", json={"signing_ca": "built-in"}).status_code == 404


def test_the_document_has_every_route_and_how_files_come(console: Console) -> None:
    paths = console.with_token("ann").get("/api/openapi.json").json()["paths"]
    at = "/api/v1/tenants/{tenant}/signing-cas"
    colons = ("csr", "import", "connect", "validate")
    wanted = [at, *(f"{at}:{each}" for each in colons), *(f"{at}/{{name}}:{each}" for each in ("complete", "activate"))]
    assert [path for path in wanted if path not in paths] == []
    content = paths[f"{at}:import"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    assert content["application/json"]["schema"]["properties"]["key"]["anyOf"][0]["type"] == "string"
