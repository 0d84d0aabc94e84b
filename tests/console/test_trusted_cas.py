from __future__ import annotations

import re
import time
from hashlib import sha256
from html import unescape
from typing import Any

from starlette.testclient import TestClient

from certs.formats import LARGEST_FILE
from control import trusted_cas
from control.authorisation import Role
from store import trusted_cas as stored
from tests.console.conftest import Console
from tests.console.test_trusted_cas_api import remembered
from tests.control.conftest import trust
from tests.harness.pki import DAY, NOW, Authority, new_key

AT = "/t/default/certificates/trusted"
HTMX = {"HX-Request": "true"}
HOSTILE = '<img src=x onerror="1">\'\\ &amp; =1+1'
ROOT = Authority.root("Private Root")
OTHER = Authority.root("Other Root")
CHAIN = OTHER.intermediate("Other Issuing").pem() + OTHER.pem()


def kept(console: Console) -> list[tuple[str, bool, tuple[str, ...]]]:
    return [(one.name, one.active, one.hosts) for one in trusted_cas.listing(console.inst, "default")]


def done(browser: TestClient, path: str, **fields: Any) -> str:
    """Do it, and tell what the next page says."""
    answer = browser.post(f"{AT}/{path}", data=fields, headers=HTMX)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (200, AT), answer.text
    page = browser.get(AT).text
    found: list[str] = re.findall(r'<div class="notice \w+" role="status">.*?</div></div>', page, re.DOTALL)
    return found[-1]


def undone(browser: TestClient, notice: str) -> None:
    where = re.search(r'hx-post="([^"]*)"', notice)
    assert where is not None, notice
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', notice)
    answer = browser.post(where[1], data={name: unescape(value) for name, value in fields}, headers=HTMX)
    assert answer.status_code == 200, answer.text


def test_whatever_is_done_with_one_or_several_can_be_undone(console: Console) -> None:
    browser = console.signed_in("ann", Role.ADMINISTRATOR, "default")
    trust(console.inst, "default", HOSTILE, ROOT.pem(), ".a.example")
    trust(console.inst, "default", "b", Authority.root("B", not_after=NOW + DAY).pem())
    before = kept(console)
    both = ["b", HOSTILE]
    for path, fields, told in (
        ("deactivate", {"names": both}, "2 trusted CAs are inactive"),
        ("delete", {"names": both}, "2 trusted CAs are deleted"),
        ("rename", {"name": "b", "new": "c/d"}, "b is now c/d."),
        ("hosts", {"name": "b", "hosts": "x.example, .y.example"}, "b counts for x.example, .y.example"),
    ):
        notice = done(browser, path, **fields)
        assert told in notice
        assert kept(console) != before
        undone(browser, notice)
        assert kept(console) == before, path
    assert "Nothing was changed" in done(browser, "activate", names=both)
    gone = browser.post(f"{AT}/restore", data={"key": "guessed"}, headers=HTMX)
    assert (gone.status_code, "too long ago" in gone.text) == (404, True)


def test_what_cannot_be_is_said_where_it_was_asked(console: Console) -> None:
    browser = console.signed_in("ann")
    trust(console.inst, "default", "a", ROOT.pem())
    trust(console.inst, "default", "b", OTHER.pem())
    answer = browser.post(f"{AT}/rename", data={"name": "a", "new": " b ", "cell": "1"}, headers=HTMX)
    assert (answer.status_code, 'value="b"' in answer.text, "already" in answer.text) == (422, True, True)
    answer = browser.post(f"{AT}/hosts", data={"name": "a", "hosts": "a..b"}, headers=HTMX)
    assert (answer.status_code, "no host pattern" in answer.text) == (422, True)
    seen = re.search(r'"If-Match": "(\\"g\d+\\")"', unescape(browser.get(AT).text))
    assert seen is not None
    trusted_cas.deactivate(console.inst, "default", "a", NOW)
    stale = HTMX | {"If-Match": seen[1].replace("\\", "")}
    for path, fields in (("delete", {"names": "a"}), ("rename", {"name": "a", "new": "c"}), ("hosts", {"name": "a"})):
        answer = browser.post(f"{AT}/{path}", data=fields, headers=stale)
        assert answer.status_code == (412 if path != "hosts" else 200)
    assert browser.post(f"{AT}/delete", data={"names": "b"}, headers=stale).status_code == 200
    for path in ("show?name=x", "download?names=x", "rename?name=x"):
        assert browser.get(f"{AT}/{path}").status_code == 404
    many = ["a"] * 1001
    assert browser.post(f"{AT}/deactivate", data={"names": "\n".join(many)}, headers=HTMX).status_code == 422


def test_the_table_and_one_in_full_show_hostile_names_harmlessly(console: Console) -> None:
    browser = console.signed_in("aud", Role.AUDITOR)
    trust(console.inst, "default", HOSTILE, CHAIN, ".a.example")
    remembered(console, "used.example", OTHER)
    every = "&".join(f"column={each}" for each in ("name", "hosts", "used_by", "sha256", "changed_by", "created_at"))
    chosen = browser.get(f"{AT}?columns=set&{every}")
    shown = browser.get(f"{AT}/show", params={"name": HOSTILE}, headers=HTMX)
    for text in (chosen.text, browser.get(AT).text, shown.text):
        assert "<img" not in text
        assert 'onerror="' not in text
        for button in ("Deactivate", "Delete", "Rename", "New Trusted Cert", "Save hosts"):
            assert button not in text
    assert "1 host" in browser.get(AT).text  # the columns are remembered
    assert "1 host in the last 24 hours: used.example" in shown.text
    assert shown.text.index("Other Root") < shown.text.index("Other Issuing")
    both = browser.get(f"{AT}/download", params={"names": [HOSTILE], "format": "pem"})
    assert both.content == CHAIN
    assert "None of the trusted CAs match" in browser.get(f"{AT}?q=nothing").text


def test_who_may_only_look_is_refused_and_a_stranger_sees_nothing(console: Console) -> None:
    trust(console.inst, "default", "a", ROOT.pem())
    console.tenant("acme")
    auditor = console.signed_in("aud", Role.AUDITOR)
    stranger = console.signed_in("bob", Role.ADMINISTRATOR, "acme")
    sent = {"names": "a", "name": "a", "new": "b", "hosts": "", "verb": "delete", "key": "x"}
    posts = ("activate", "deactivate", "delete", "restore", "rename", "hosts", "hosts/try", "try", "new", "new/examine")
    before = kept(console)
    for path in (*posts, "new/validate"):
        assert auditor.post(f"{AT}/{path}", data=sent, headers=HTMX).status_code == 403, path
        assert stranger.post(f"{AT}/{path}", data=sent, headers=HTMX).status_code == 404, path
    for path in ("", "/show?name=a", "/download?names=a", "/name?name=a"):
        assert auditor.get(f"{AT}{path}").status_code == 200
        assert stranger.get(f"{AT}{path}").status_code == 404
    assert auditor.get(f"{AT}/new").status_code == 403
    assert kept(console) == before


def sent(*files: tuple[str, bytes]) -> Any:
    return [("files", file) for file in files]


def test_files_are_judged_named_and_saved_together(console: Console) -> None:
    browser = console.signed_in("ann")
    remembered(console, "blocked.example", OTHER, "untrusted_root")
    files = sent(("a.pem", CHAIN), ("b.pem", ROOT.pem()), ("again.pem", ROOT.pem()))
    looked = browser.post(f"{AT}/new/examine", files=files, headers=HTMX).text
    assert looked.count("can be saved") == 2
    assert re.findall(r'name="names" type="text" value="([^"]*)"', looked) == ["Other Root", "Private Root"]
    digests = re.findall(r'name="of" value="(\w{64})"', looked)
    assert digests == [sha256(data).hexdigest() for data in (CHAIN, ROOT.pem())]
    assert "What it would do" not in looked
    # The other way round: what was typed stays with its file.
    typed = {"of": digests[::-1], "names": ["p", "o"], "hosts": ["", ".o.example blocked.example"], "active": "true"}
    tried = browser.post(f"{AT}/new/validate", files=files, data=typed, headers=HTMX).text
    assert "1 would be let through" in tried
    assert "blocked.example" in tried
    assert kept(console) == []
    answer = browser.post(f"{AT}/new", files=files, data=typed, headers=HTMX)
    assert answer.headers["hx-redirect"] == AT
    assert kept(console) == [("o", True, (".o.example", "blocked.example")), ("p", True, ())]


def test_what_is_wrong_with_a_file_is_said_beside_it_and_nothing_is_saved(console: Console) -> None:
    browser = console.signed_in("ann")
    trust(console.inst, "default", "Private Root", Authority.root("Another").pem())
    key = ROOT.key_pem().decode()
    files = sent(
        ("good.pem", CHAIN),
        ("taken.pem", ROOT.pem()),
        ("key.pem", Authority.root().pem() + key.encode()),
        ("old.pem", Authority.root("Old", not_before=NOW - 9 * DAY, not_after=NOW - DAY).pem()),
        ("<b>\u202e.pem", b"nonsense"),
        ("large.pem", b"x" * (LARGEST_FILE + 1)),
    )
    answer = browser.post(f"{AT}/new", files=files, data={"active": "true"}, headers=HTMX)
    assert answer.status_code == 422
    cards = answer.text.split("<section")[1:]
    cards = [card for card in cards if 'class="card"' in card]
    for card, said in zip(
        cards,
        ("can be saved", "already", "a private key", "expired on", "holds no certificate", "at most 1048576"),
        strict=True,
    ):
        assert said in card
    assert "Nothing was saved" in answer.text
    assert key.splitlines()[1] not in answer.text
    assert "<b>" not in answer.text
    assert "\u202e" not in answer.text
    assert len(kept(console)) == 1
    nothing = browser.post(f"{AT}/new", files=[("files", ("", b""))], headers=HTMX)
    assert (nothing.status_code, "at least one file" in nothing.text) == (422, True)


def test_what_an_action_would_do_is_shown_before_it_is_done(console: Console) -> None:
    browser = console.signed_in("ann")
    trust(console.inst, "default", "a", ROOT.pem())
    remembered(console, "used.example", ROOT)
    before = kept(console)
    for verb in ("deactivate", "delete"):
        answer = browser.post(f"{AT}/try", data={"names": "a", "verb": verb}, headers=HTMX)
        assert "1 would be blocked" in answer.text
        assert f'hx-post="{AT}/{verb}"' in answer.text
    answer = browser.post(f"{AT}/hosts/try", data={"name": "a", "hosts": "x.example"}, headers=HTMX)
    assert "1 would be blocked" in answer.text
    assert kept(console) == before


def test_a_page_of_a_thousand_cas_is_made_in_a_moment(console: Console) -> None:
    key = new_key()
    with console.inst.changing("default") as (connection, tenant):
        for number in range(1000):
            raw = Authority.root(f"Example {number}", key=key).raw
            stored.add(connection, tenant.id, f"CA {number}", True, [raw], sha256(raw).digest(), NOW, "ann")
    browser = console.signed_in("ann")
    program = console.with_token("ann")
    spent = {}
    for path in (f"{AT}?sort=-expires", f"{AT}?sort=common_name", "/api/v1/tenants/default/trusted-cas?sort=expires"):
        asked = program if path.startswith("/api") else browser
        for _ in range(2):
            begun = time.process_time()
            assert "1000" in asked.get(path).text
            spent[path] = time.process_time() - begun
    print({path: f"{seconds * 1000:.0f} ms" for path, seconds in spent.items()})  # noqa: T201 - for who measures
    assert max(spent.values()) < 5
