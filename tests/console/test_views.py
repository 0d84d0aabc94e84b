from __future__ import annotations

import asyncio

import pytest

from console import following
from console.app import create
from console.parts import Parts
from console.problems import Problem
from control.authorisation import Role
from tests.console.conftest import Console
from tests.console.fakes import Telling

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def telling() -> Telling:
    daemon = Telling()
    daemon.serves("default", 1)
    return daemon


@pytest.fixture
def daemon(console: Console, telling: Telling) -> Telling:
    at = console.clock.now.timestamp()
    telling.tells(
        "verdict", at - 60, host="blocked.example", port=443, client="192.0.2.1", action="block", defects=["expired"]
    )
    telling.tells("refused", at - 60, host="blocked.example", client="192.0.2.1", status=502, details="expired")
    telling.tells(
        "request", at - 30, host="fine.example", client="192.0.2.2", method="GET", path=f"/{EVIL}", status=200
    )
    telling.tells("request", at - 20, host="other.example", client="192.0.2.3", status=200, tenant="acme")
    return telling


def test_the_last_events_are_told_and_filtered(console: Console, daemon: Telling) -> None:
    program = console.with_token("ann")
    everything = program.get("/api/v1/events?tenant=default").json()["items"]
    assert [one["event"] for one in everything] == ["verdict", "refused", "request"]
    blocked = program.get("/api/v1/tenants/default/events?blocked=true&host=.example").json()["items"]
    assert [one["event"] for one in blocked] == ["verdict", "refused"]
    assert len(program.get("/api/v1/tenants/default/events?most=1").json()["items"]) == 1
    answer = program.get("/api/v1/tenants/default/events?client=nonsense")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:sallyport:problem:invalid")


def test_nobody_sees_traffic_and_nodes_of_another_tenant(console: Console, daemon: Telling) -> None:
    console.tenant("acme")
    daemon.serves("acme", 1)
    other = console.signed_in("bob", Role.ADMINISTRATOR, "acme")
    for path in (
        "/api/v1/events?tenant=default",
        "/api/v1/tenants/default/events",
        "/t/default/traffic",
        "/t/default/nodes",
    ):
        assert other.get(path).status_code == 404, path
    assert [one["host"] for one in other.get("/api/v1/events?tenant=acme").json()["items"]] == ["other.example"]
    assert {one["tenant"] for one in other.get("/api/v1/nodes").json()["items"]} == {"acme"}
    assert "blocked.example" not in other.get("/t/acme/traffic").text


def test_what_strangers_wrote_is_text_on_the_page(console: Console, daemon: Telling) -> None:
    text = console.signed_in("ann").get("/t/default/traffic").text
    assert "&lt;script&gt;" in text
    assert EVIL not in text


def test_rows_come_as_they_happen_and_a_page_that_only_listens_keeps_no_session_alive(
    console: Console, daemon: Telling
) -> None:
    browser = console.signed_in("ann")
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    console.clock.advance(minutes=10)
    rows = asyncio.run(_streamed(console.parts, daemon, cookie))
    assert "new.example" in rows
    assert "blocked.example" not in rows  # that was there before
    console.clock.advance(minutes=25)
    assert browser.get("/t/default/").status_code == 303


async def _streamed(parts: Parts, daemon: Telling, cookie: str) -> str:
    """What the stream says until a row has come, which happens once somebody listens."""
    said, come = bytearray(), asyncio.Event()

    async def receive() -> dict[str, object]:
        await come.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        body = message.get("body", b"")
        assert isinstance(body, bytes)
        said.extend(body)
        if b"begun" in body:
            asyncio.get_running_loop().call_later(
                0.2, lambda: daemon.tells("verdict", 1.0, host="new.example", action="block", defects=["expired"])
            )
        if b"new.example" in said:
            come.set()

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "https",
        "path": "/t/default/traffic/stream", "raw_path": b"", "query_string": b"", "client": ("192.0.2.9", 1),
        "server": ("console.example", 443), "root_path": "",
        "headers": [(b"host", b"console.example"), (b"cookie", cookie.encode()), (b"accept", b"text/event-stream")],
    }  # fmt: skip
    async with asyncio.timeout(60):
        await create(parts)(scope, receive, send)  # type: ignore[arg-type]
    return said.decode()


def test_a_worker_that_is_behind_or_in_trouble_is_said_to_be(console: Console, daemon: Telling) -> None:
    browser = console.signed_in("ann")
    assert "up to date" in browser.get("/t/default/nodes").text
    daemon.serves("default", 0)
    daemon.problem = "the database is locked"
    daemon.unsigned = {"default": "the signing CA has expired", "acme": "another tenant's key"}
    text = browser.get("/t/default/nodes").text
    assert "behind" in text
    assert "the database is locked" in text
    assert "no leaf can be made: the signing CA has expired" in text
    assert "another tenant" not in text
    table = browser.get("/t/default/nodes", headers={"HX-Request": "true"}).text
    assert "<html" not in table
    assert "behind" in table


def test_an_installation_in_which_nothing_has_happened_says_what_to_do(console: Console) -> None:
    text = console.signed_in("ann").get("/t/default/").text
    assert "To see something here" in text
    assert "http://sallyport.local/" in text


def test_one_account_keeps_nobody_else_from_following(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MOST_OF_ONE", 1)
    monkeypatch.setattr(following, "MOST", 2)
    followers = following.Followers()
    with followers.one("ann"):
        with pytest.raises(Problem, match="close one"):
            followers.admit("ann")
        with followers.one("bob"), pytest.raises(Problem, match="follow the traffic already"):
            followers.admit("eve")
        followers.admit("bob")
    followers.admit("ann")


@pytest.mark.parametrize("path", ["/t/default/traffic/stream", "/api/v1/tenants/default/events"])
def test_who_follows_too_much_is_told_so_before_an_answer_begins(
    console: Console, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(following, "MOST_OF_ONE", 0)
    answer = console.signed_in("ann").get(path, headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
