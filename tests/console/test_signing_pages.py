"""Pages of signing CAs and of key managers, without a browser: what they show, what a change leads to, who may."""

from __future__ import annotations

import asyncio
import html
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from anyio import CapacityLimiter, to_thread
from starlette.testclient import TestClient

from certs.signer import Health, HostHealth
from console.app import create
from console.daemon import KeyManagers, Nobody
from console.web import streams
from console.web.purges import Purge, purges
from control import kmip_forwarding, signing_cas
from control.authorisation import Role
from control.kmip_forwarding import Credentials
from tests.console.conftest import ORIGIN, Console, csrf_of
from tests.control.conftest import PASSWORD
from tests.control.test_signing_cas import imported
from tests.harness.pki import NOW, Authority
from tests.kms.kmip.rig import client as kmip_client
from tests.kms.kmip.rig import root as kmip_root

PAGE = "/t/default/certificates/signing"
KMIP = "/t/default/kmip"
HTMX = {"HX-Request": "true"}
HOSTILE = '<img src=x>"&=1+1/é'
ISSUING = Authority.root("Imported Root").intermediate("<b>Issuing</b>\N{RIGHT-TO-LEFT OVERRIDE}")


def worker(number: int, generation: int, purged: int | None, **more: Any) -> dict[str, Any]:
    """What a worker says of itself, as far as purges go."""
    last = None if purged is None else {"generation": purged, "at": 0.0, "seconds": 0.25 * number}
    served = {"default": {"generation": generation, "purged": last}}
    return {"number": number, "pid": number, "started": 10.0, "tenants": served, **more}


class Told(Nobody):
    """A daemon whose workers say one thing after the other, and the last from then on."""

    def __init__(self, *told: Sequence[Mapping[str, Any]]) -> None:
        self.told = list(told)

    async def health(self) -> Sequence[Mapping[str, Any]]:
        return self.told.pop(0) if len(self.told) > 1 else self.told[0]

    async def key_managers(self, tenants: Sequence[str]) -> KeyManagers:
        down = HostHealth("kms2.example:5696", down_for=7.0, why="<refused>", next_try_in=3.0)
        return KeyManagers({"default": Health((HostHealth("kms1.example:5696", seconds=0.012), down))}, None)


def beside(console: Console, daemon: Nobody) -> TestClient:
    """Somebody who is signed in where that daemon runs."""
    console.signed_in("ann")
    client = TestClient(create(replace(console.parts, daemon=daemon)), ORIGIN, follow_redirects=False)
    assert client.post("/sign-in", data={"name": "ann", "password": PASSWORD}).status_code == 303
    client.headers["X-CSRF-Token"] = csrf_of(client)
    return client


def test_names_and_certificates_are_shown_harmless(console: Console) -> None:
    browser = console.signed_in("ann")
    files = [("certificates", ISSUING.chain_pem(with_root=True)), ("key", ISSUING.key_pem())]
    answer = browser.post(f"{PAGE}/import", data={"name": HOSTILE}, files=files, headers=HTMX)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (200, PAGE), answer.text
    pages = [browser.get(PAGE).text, browser.get(f"{PAGE}/show", params={"name": HOSTILE}).text]
    pages += [browser.get(f"{PAGE}/{what}", params={"name": HOSTILE}).text for what in ("activate", "rename")]
    pages += [browser.get(f"{PAGE}/{what}", params={"names": HOSTILE}).text for what in ("revoke", "delete")]
    for text in pages:
        assert html.escape(HOSTILE, quote=False).replace('"', "&#34;") in text
        for bad in ("<img", "<b>", "\N{RIGHT-TO-LEFT OVERRIDE}", "style=", "PRIVATE KEY", "onclick"):
            assert bad not in text, bad


def test_a_form_says_what_is_wrong_by_field_and_keeps_no_secret(console: Console) -> None:
    browser = console.signed_in("ann")
    files = [("certificates", b"%%%"), ("key", b"")]
    given = {"name": "", "passphrase": "hunter2 hunter2"}
    answer = browser.post(f"{PAGE}/import", data=given, files=files, headers=HTMX)
    assert answer.status_code == 422
    assert '<a href="#f-name">Name</a>: is needed' in answer.text
    assert "hunter2" not in answer.text
    answer = browser.post(f"{PAGE}/import/validate", data={"passphrase": "hunter2"}, headers=HTMX, files=[
        ("certificates", ISSUING.chain_pem(with_root=True)), ("key", ISSUING.key_pem())])  # fmt: skip
    assert (answer.status_code, "It can be saved" in answer.text) == (200, True)
    answer = browser.post(f"{PAGE}/new", data={"name": "a", "common_name": "A", "country": "1"}, headers=HTMX)
    assert (answer.status_code, "country: is no code" in answer.text) == (422, True)
    answer = browser.post(f"{PAGE}/new", data={"name": "built-in", "common_name": "A"}, headers=HTMX)
    assert (answer.status_code, "already" in answer.text) == (422, True)


def test_a_page_that_is_stale_saves_nothing(console: Console) -> None:
    browser = console.signed_in("ann")
    imported(console.inst, "theirs")
    dialog = browser.get(f"{PAGE}/activate", params={"name": "theirs"}, headers=HTMX).text
    seen = html.unescape(re.findall(r"If-Match&#34;: &#34;(.*?)&#34;\}|If-Match\": \"(.*?)\"\}", dialog)[0][1])
    signing_cas.rename(console.inst, "default", "theirs", "others", NOW)
    stale = {**HTMX, "If-Match": seen.replace('\\"', '"')}
    answer = browser.post(f"{PAGE}/activate", data={"name": "others"}, headers=stale)
    assert (answer.status_code, "was renamed to" in answer.text) == (412, True), answer.text
    answer = browser.post(f"{PAGE}/new", data={"name": "a", "common_name": "A"}, headers={**stale, "If-Match": '"g1"'})
    assert answer.status_code == 200, "what others did to other things is in nobody's way"
    assert signing_cas.show(console.inst, "default").name == "built-in"


def test_a_new_name_can_be_taken_back(console: Console) -> None:
    browser = console.signed_in("ann")
    answer = browser.post(f"{PAGE}/rename", data={"name": "built-in", "new": "ours"}, headers=HTMX)
    assert answer.headers["hx-redirect"] == PAGE
    text = browser.get(PAGE).text
    assert f'<form hx-post="{PAGE}/rename"><input type="hidden" name="name" value="ours">' in text
    assert '<input type="hidden" name="new" value="built-in">' in text
    assert browser.post(f"{PAGE}/rename", data={"name": "ours", "new": ""}, headers=HTMX).status_code == 422


def test_activating_says_what_will_happen_and_then_follows_the_workers(console: Console) -> None:
    imported(console.inst, "theirs")
    before = [worker(0, 1, None), worker(1, 1, None)]
    daemon = Told(before, before)
    with beside(console, daemon) as browser:
        dialog = browser.get(f"{PAGE}/activate", params={"name": "theirs"}).text
        assert "theirs issuing" in dialog
        assert "theirs root" in dialog
        assert "2 workers" in dialog
        answer = browser.post(f"{PAGE}/activate", data={"name": "theirs"}, headers=HTMX)
        address = answer.headers["hx-redirect"]
        generation = int(address.partition("purge=")[2])
        page = browser.get(address).text
        assert f'sse-connect="{PAGE}/purge?purge={generation}"' in page
        daemon.told = [
            before,
            [worker(0, generation, generation), worker(1, generation, None)],
            [worker(0, generation, generation), worker(1, generation + 1, generation + 1)],
        ]
        told = browser.get(f"{PAGE}/purge?purge={generation}")
    assert told.headers["content-type"].startswith("text/event-stream")
    events = re.findall(r"event: (\w+)\n", told.text)
    assert events == ["workers", "workers", "workers", "done"]
    assert told.text.count(">purged<") == 3
    assert "the slowest took 0.250 s" in told.text


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ([], []),
        ([worker(0, 3, None)], [Purge("n", 0, 3, None)]),
        ([worker(0, 3, 2)], [Purge("n", 0, 3, None)]),
        ([worker(1, 4, 4), worker(0, 3, 3)], [Purge("n", 0, 3, 0.0), Purge("n", 1, 4, 0.25)]),
        ([worker(0, 3, None, started=21.0)], [Purge("n", 0, 3, None, fresh=True)]),
        ([worker(0, 2, None, started=21.0)], [Purge("n", 0, 2, None)]),
    ],
    ids=["nobody", "not yet", "for an older one", "in order", "began with it", "began with the one before"],
)
def test_how_far_workers_are(health: list[dict[str, Any]], expected: list[Purge]) -> None:
    assert list(purges([{**each, "node": "n"} for each in health], "default", 3, 20.0)) == expected
    assert list(purges(health, "acme", 3, 20.0)) == []


def test_where_nobody_answers_the_page_says_so(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.web.purges.SILENT_SECONDS", 0.0)
    browser = console.signed_in("ann")
    told = browser.get(f"{PAGE}/purge?purge=2").text
    assert "No worker answers" in told
    assert told.endswith("event: done\ndata: \n\n")


def test_several_are_revoked_and_deleted_and_what_is_refused_is_told(console: Console) -> None:
    browser = console.signed_in("ann")
    imported(console.inst, "a", active=True)
    imported(console.inst, "b")
    chains = browser.get(f"{PAGE}/chains", params={"names": ["a", "b"]})
    assert chains.text.count("BEGIN CERTIFICATE") == 4
    assert "<strong>a is the active one</strong>" in browser.get(f"{PAGE}/revoke", params={"names": ["a", "b"]}).text
    answer = browser.post(f"{PAGE}/revoke", data={"names": ["a", "b"]}, headers=HTMX)
    assert "?purge=" in answer.headers["hx-redirect"]
    assert "built-in is active in its place" in browser.get(PAGE).text
    answer = browser.post(f"{PAGE}/delete", data={"names": ["a", "built-in"]}, headers=HTMX)
    assert answer.status_code == 422
    assert "a is deleted." in answer.text
    assert "is the active one" in answer.text
    assert [ca.name for ca in signing_cas.listing(console.inst, "default")] == ["b", "built-in"]


def test_steps_are_told_once_and_to_who_asked_for_them(console: Console) -> None:
    browser = console.signed_in("ann")
    files = [("intermediate", ISSUING.chain_pem(with_root=True))]
    given = {"key_name": "proxy", "primary": "kms.example"}
    begun = browser.post(f"{PAGE}/connect/validate", data=given, files=files, headers=HTMX)
    assert begun.status_code == 200, begun.text
    found = re.search(r'sse-connect="([^"]+)"', begun.text)
    assert found is not None
    assert console.signed_in("bob").get(found[1]).status_code == 204
    told = browser.get(found[1]).text
    assert "event: outcome" in told
    assert "has no client certificate for its key manager" in told
    assert browser.get(found[1]).status_code == 204


def test_what_fails_is_said_behind_what_was_told_before() -> None:
    def work(tell: streams.Tell) -> None:
        tell("step", "one")
        raise ZeroDivisionError

    async def follow() -> None:
        told = streams.told_by(work)
        assert await anext(told) == ("step", "one")
        assert await anext(told) == ("outcome", streams.FAILED)
        with pytest.raises(ZeroDivisionError):
            await anext(told)

    asyncio.run(follow())


def test_work_that_waits_for_a_thread_is_not_done_for_a_page_that_was_left() -> None:
    done: list[str] = []
    go = threading.Event()

    def first(tell: streams.Tell) -> None:
        tell("step", "one")
        go.wait(20)
        done.append("first")

    async def follow() -> None:
        threads = CapacityLimiter(1)
        busy = streams.told_by(first, threads)
        assert await anext(busy) == ("step", "one")
        left = streams.told_by(lambda _: done.append("left"), threads)
        waiting = asyncio.ensure_future(anext(left))
        for _ in range(20):
            await asyncio.sleep(0)
        assert threads.statistics().tasks_waiting == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        go.set()
        assert [each async for each in busy] == []
        await to_thread.run_sync(done.append, "last", limiter=threads)  # its turn is behind what waited

    asyncio.run(follow())
    assert done == ["first", "last"]


@pytest.mark.parametrize("limit", ["MOST", "MOST_OF_ONE"])
def test_only_so_many_follow_at_a_time(console: Console, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(streams, limit, 0)
    answer = console.signed_in("ann").get(f"{PAGE}/purge?purge=2", headers=HTMX)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_key_managers_are_shown_without_secrets(console: Console) -> None:
    credentials = Credentials(
        kmip_client().chain_pem(), kmip_root().pem(), kmip_client().key_pem(), None, "proxy", "hunter2 hunter2"
    )
    with beside(console, Told([])) as browser:
        assert "not set" in browser.get(KMIP).text
        kmip_forwarding.set_(console.inst, "default", credentials, NOW)
        page = browser.get(KMIP).text
        for text in ("proxy, with a password", "sallyport", "Key Manager Root", "kmip.source_address"):
            assert text in page
        assert "hunter2" not in page
        health = browser.get(f"{KMIP}/health").text
        assert ">well<" in health
        assert "&lt;refused&gt;" in health
        answer = browser.post(f"{KMIP}/request", data={"common_name": "sallyport"}, headers=HTMX)
        assert answer.headers["hx-redirect"] == KMIP
        assert "BEGIN CERTIFICATE REQUEST" in browser.get(KMIP).text
        assert browser.get(f"{KMIP}/request").text.startswith("-----BEGIN CERTIFICATE REQUEST")
        files = [("client_certificate", kmip_client().pem()), ("server_ca", kmip_root().pem())]
        answer = browser.post(KMIP, data={"password": "hunter2 hunter2"}, files=files, headers=HTMX)
        assert (answer.status_code, "hunter2" in answer.text) == (422, False)


def test_an_auditor_looks_and_another_tenants_administrator_does_not(console: Console) -> None:
    console.tenant("acme")
    auditor = console.signed_in("eve", Role.AUDITOR)
    other = console.signed_in("bob", Role.ADMINISTRATOR, "acme")
    looks = (PAGE, f"{PAGE}/show?name=built-in", f"{PAGE}/download", KMIP, f"{KMIP}/health")
    for path in looks:
        assert auditor.get(path).status_code == 200, path
        assert other.get(path).status_code == 404, path
    assert "Activate" not in auditor.get(PAGE).text
    asks = [f"{PAGE}/{each}" for each in ("new", "import", "connect", "complete?name=built-in", "steps/x")]
    asks += [f"{PAGE}/{each}=built-in" for each in ("activate?name", "rename?name", "revoke?names", "delete?names")]
    for path in asks:
        assert auditor.get(path).status_code == 403, path
        assert other.get(path).status_code == 404, path
    changes = [f"{PAGE}/{each}" for each in ("new", "import", "connect", "complete?name=built-in")]
    changes += [f"{PAGE}/{each}/validate" for each in ("import", "connect")]
    changes += [f"{PAGE}/{each}" for each in ("activate", "rename", "revoke", "delete")]
    for path in (*changes, f"{PAGE}/complete/validate?name=built-in", KMIP, f"{KMIP}/request", f"{KMIP}/test"):
        given = {"name": "built-in", "names": "built-in", "new": "x", "common_name": "x"}
        assert auditor.post(path, data=given).status_code == 403, path
        assert other.post(path, data=given).status_code == 404, path
