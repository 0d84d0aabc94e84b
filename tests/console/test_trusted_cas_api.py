from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from certs.formats import LARGEST_FILE
from control import trusted_cas
from control.authorisation import Role, Scope
from store import recent_servers
from store.records import RecentServer
from tests.console.conftest import Console
from tests.control.conftest import trust
from tests.harness.pki import DAY, NOW, Authority

PATH = "/api/v1/tenants/default/trusted-cas"
HARD = '../x:y"<b>\N{HEBREW LETTER ALEF}/=1+1?#'
ROOT = Authority.root("Private Root")
ISSUING = ROOT.intermediate("Private Issuing")
CHAIN = ISSUING.pem() + ROOT.pem()


def pem(authority: Authority) -> str:
    return authority.pem().decode()


def parts(*given: tuple[str, object]) -> list[tuple[str, Any]]:
    """A form: texts as texts, bytes as files."""
    return [(name, ("a.pem", value) if isinstance(value, bytes) else (None, value)) for name, value in given]


def types_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def test_a_ca_is_added_shown_changed_and_deleted(console: Console) -> None:
    program = console.with_token("ann")
    new = {"name": HARD, "pem": CHAIN.decode(), "hosts": [".Corp.example"], "active": False}
    answer = program.post(PATH, json=new)
    assert answer.status_code == 201
    added = answer.json()
    assert (added["name"], added["status"], added["hosts"]) == (HARD, "inactive", [".corp.example"])
    assert [one["common_name"] for one in added["certificates"]] == ["Private Issuing", "Private Root"]
    assert added["findings"] == []
    where = answer.headers["location"]
    shown = program.get(where)
    assert shown.json() | {"findings": []} == added | {"used_by_hosts": 0, "first_hosts": []}
    assert program.post(f"{where}:activate").json()["status"] == "active"
    assert program.post(f"{where}:deactivate").json()["status"] == "inactive"
    changed = program.patch(where, json={"name": "plain", "status": "active", "hosts": []})
    assert [changed.json()[each] for each in ("name", "status", "hosts")] == ["plain", "active", ["*"]]
    assert types_of(program.get(where)) == (404, "missing")
    late = program.delete(f"{PATH}/plain", headers={"If-Match": shown.headers["etag"]})
    assert types_of(late) == (412, "outdated")
    assert program.delete(f"{PATH}/plain", headers={"If-Match": changed.headers["etag"]}).status_code == 204
    assert program.get(PATH).json() == {"items": [], "total": 0, "next": None}


def test_an_action_is_the_last_colons(console: Console) -> None:
    program = console.with_token("ann")
    for name in ("x", "x:deactivate"):
        trust(console.inst, "default", name, Authority.root().pem())
    assert program.get(f"{PATH}/x:deactivate").json()["name"] == "x:deactivate"
    assert program.post(f"{PATH}/x:deactivate:deactivate").json()["name"] == "x:deactivate"
    assert trusted_cas.show(console.inst, "default", "x").active


def test_several_files_are_added_together_or_none(console: Console) -> None:
    program = console.with_token("ann")
    der = Authority.root("Other").certificate.public_bytes(Encoding.DER)
    bad = Authority.root("Old", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    sent = parts(("file", CHAIN), ("file", bad.pem()), ("name", "a"), ("name", "b"))
    answer = program.post(PATH, files=sent)
    assert types_of(answer) == (422, "refused")
    assert answer.json()["findings"][0]["code"] == "expired"
    assert answer.json()["findings"][0]["message"].startswith("b: ")
    assert program.get(PATH).json()["total"] == 0
    hosts = [("hosts", ".a.example, b.example"), ("hosts", "")]
    sent = parts(("file", CHAIN), ("file", der), ("name", "a"), ("name", "b"), *hosts, ("active", "false"))
    answer = program.post(PATH, files=sent)
    assert answer.status_code == 201
    told = [(one["name"], one["hosts"], one["status"]) for one in answer.json()["items"]]
    assert told == [("a", [".a.example", "b.example"], "inactive"), ("b", ["*"], "inactive")]


def test_what_is_not_as_documented_is_told_where(console: Console) -> None:
    program = console.with_token("ann")
    forms = [
        (parts(("name", "a")), "#/file"),
        (parts(("file", CHAIN)), "#/name"),
        (parts(("file", CHAIN), ("name", "a"), ("name", "b")), "#/name"),
        (parts(("file", CHAIN), ("name", CHAIN)), "#/name"),
        (parts(("file", "text"), ("name", "a")), "#/file/0"),
        (parts(("file", CHAIN), ("name", "a"), ("active", "yes")), "#/active"),
        (parts(("file", CHAIN), ("name", "a"), ("hosts", "x"), ("hosts", "y")), "#/hosts"),
        (parts(("file", CHAIN), ("name", "a"), ("nmae", "a")), "#/nmae"),
    ]
    bodies: list[tuple[dict[str, Any], str]] = [
        ({"name": "a"}, "#"),
        ({"name": "a", "pem": "x", "data": "eA=="}, "#"),
        ({"pem": "x"}, "#/name"),
        ({"name": "a", "data": "!"}, "#/data"),
        ({"name": "a" * 129, "pem": "x"}, "#/name"),
        ({"name": "a", "pem": "x", "activ": True}, "#/activ"),
        ({"name": "a", "pem": "x", "hosts": ["a.example"] * 101}, "#/hosts"),
    ]
    answers = [(program.post(PATH, files=sent), pointer) for sent, pointer in forms]
    answers += [(program.post(PATH, json=sent), pointer) for sent, pointer in bodies]
    for answer, pointer in answers:
        assert types_of(answer) == (422, "invalid"), pointer
        assert pointer in [one["pointer"] for one in answer.json()["errors"]]
    assert types_of(program.post(PATH, content=b"name=a", headers={"Content-Type": "text/plain"})) == (415, "invalid")
    assert types_of(program.post(PATH, json={"name": "a\u202eb", "pem": pem(ROOT)})) == (422, "refused")


def test_what_a_file_must_not_be_is_refused_and_not_repeated(console: Console) -> None:
    program = console.with_token("ann")
    key = ROOT.key_pem().decode()
    bad = ((pem(ROOT) + key, "private_key"), ("x" * (LARGEST_FILE + 1), "too_large"), ("", "no_certificate"))
    for data, code in bad:
        answer = program.post(PATH, json={"name": "a", "pem": data})
        assert types_of(answer) == (422, "refused")
        assert [one["code"] for one in answer.json()["findings"]] == [code]
        assert key.splitlines()[1] not in answer.text
    answer = program.post(PATH, json={"name": "a", "pem": 5, "data": key})
    assert key.splitlines()[1] not in answer.text


def test_validation_tells_of_each_file_and_saves_nothing(console: Console) -> None:
    program = console.with_token("ann")
    trust(console.inst, "default", "Private Root", Authority.root().pem())
    sent = parts(("file", CHAIN), ("file", b"nonsense"), ("hosts", "a..b"))
    first, second = (answer := program.post(f"{PATH}:validate", files=sent)).json()["files"]
    assert answer.json()["ok"] is False
    assert (first["file"], first["proposed_name"], first["findings"]) == ("a.pem", "Private Root", [])
    assert ["already" in first["objections"][0], "'a..b'" in first["objections"][1], first["ok"]] == [True, True, False]
    assert (second["proposed_name"], second["findings"][0]["code"]) == ("a", "no_certificate")
    data = base64.b64encode(ROOT.certificate.public_bytes(Encoding.DER)).decode()
    answer = program.post(f"{PATH}:validate", json={"name": "new", "data": data})
    assert answer.json()["ok"] is True
    assert len(trusted_cas.listing(console.inst, "default")) == 1


def test_who_may_only_look_changes_nothing_and_others_see_nothing(console: Console) -> None:
    trust(console.inst, "default", "one", ROOT.pem())
    console.tenant("acme")
    auditor = console.signed_in("aud", Role.AUDITOR)
    stranger = console.with_token("bob", Scope.WRITE, Role.ADMINISTRATOR, "acme")
    changes: list[tuple[str, str, Any]] = [
        ("POST", PATH, {"name": "x", "pem": pem(ROOT)}),
        ("POST", f"{PATH}:validate", {"pem": pem(ROOT)}),
        ("POST", f"{PATH}/one:deactivate?dry_run=true", None),
        ("POST", f"{PATH}/one:activate", None),
        ("PATCH", f"{PATH}/one", {"name": "x"}),
        ("DELETE", f"{PATH}/one", None),
    ]
    for method, path, body in changes:
        assert types_of(auditor.request(method, path, json=body)) == (403, "forbidden"), path
        assert types_of(stranger.request(method, path, json=body)) == (404, "missing"), path
    for path in (PATH, f"{PATH}/one", f"{PATH}/one?format=pem"):
        assert auditor.get(path).status_code == 200
        assert stranger.get(path).status_code == 404


def test_a_download_is_named_harmlessly_whatever_the_ca_is_called(console: Console) -> None:
    program = console.with_token("ann")
    trust(console.inst, "default", HARD, CHAIN)
    path = f"{PATH}/{quote(HARD, safe='')}"
    answer = program.get(path, params={"format": "pem"})
    assert answer.content == CHAIN
    assert answer.headers["content-type"] == "application/x-pem-file"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"_x_y__b____1_1__.pem\"; filename*=UTF-8''_x_y__b_%D7%90__1_1__.pem"
    )
    assert program.get(path, params={"format": "der"}).content == ROOT.raw
    both = pkcs7.load_der_pkcs7_certificates(program.get(path, params={"format": "p7b"}).content)
    assert {one.public_bytes(Encoding.DER) for one in both} == {ISSUING.raw, ROOT.raw}
    assert types_of(program.get(path, params={"format": "p12"})) == (422, "invalid")


def remembered(console: Console, host: str, anchor: Authority, *defects: str) -> None:
    """A server that was judged an hour ago."""
    issued = anchor.leaf(host)
    digest = None if defects else sha256(anchor.raw).digest()
    server = RecentServer(host, 443, NOW, True, digest, defects, "block" if defects else "allow", (issued.raw,))
    with console.inst.changing("default") as (connection, tenant):
        recent_servers.add(connection, tenant.id, [server])


def test_what_a_change_would_do_to_the_last_days_traffic(console: Console) -> None:
    program = console.with_token("ann")
    trust(console.inst, "default", "one", ROOT.pem())
    remembered(console, "trusted.example", ROOT)
    other = Authority.root("Other")
    remembered(console, "other.example", other, "untrusted_root")
    before = trusted_cas.listing(console.inst, "default")

    def told(answer: Any) -> list[tuple[str, str, str]]:
        assert answer.status_code == 200, answer.text
        assert answer.json()["servers"] == 2
        return [(one["host"], one["before"]["action"], one["after"]["action"]) for one in answer.json()["differing"]]

    gone, come = [("trusted.example", "allow", "block")], [("other.example", "block", "allow")]
    assert told(program.post(f"{PATH}?dry_run=true", json={"name": "two", "pem": pem(other)})) == come
    assert told(program.post(f"{PATH}/one:deactivate?dry_run=true")) == gone
    assert told(program.post(f"{PATH}/one:activate?dry_run=true")) == []
    assert told(program.patch(f"{PATH}/one?dry_run=true", json={"hosts": ["x.example"]})) == gone
    assert told(program.delete(f"{PATH}/one?dry_run=true")) == gone
    assert trusted_cas.listing(console.inst, "default") == before
    listed = program.get(PATH).json()["items"][0]
    assert (listed["used_by_hosts"], listed["first_hosts"]) == (1, ["trusted.example"])


def test_a_list_is_filtered_and_sorted_by_every_column(console: Console) -> None:
    program = console.with_token("ann")
    soon = Authority.root("Zulu", not_before=NOW - 99 * DAY, not_after=NOW + DAY)
    trust(console.inst, "default", "a", soon.pem(), "x.example")
    trust(console.inst, "default", "b", ROOT.pem(), active=False)

    def names(query: str) -> list[str]:
        return [one["name"] for one in program.get(f"{PATH}?{query}").json()["items"]]

    assert names("sort=-name") == ["b", "a"]
    assert (names("sort=common_name"), names("sort=expires")) == (["b", "a"], ["a", "b"])
    assert (names("status=inactive"), names("expiry=near_end"), names("q=private")) == (["b"], ["a"], ["b"])
    assert names(f"q={sha256(ROOT.raw).hexdigest()}") == ["b"]
    for column in ("status", "changed_at", "hosts", "used_by", "sha256", "changed_by", "created_at"):
        assert sorted(names(f"sort={column}")) == ["a", "b"]
    assert types_of(program.get(f"{PATH}?sort=colour")) == (422, "invalid")
