"""What the tests of the ICAP inspector share: scans by its client, and flows through its hooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from mitmproxy import http

from addons.icap import Icap
from addons.icap_answer import Answer
from addons.icap_client import Client, Limits
from addons.icap_heads import IcapError
from addons.icap_messages import Scan
from tests.addons.mitm import configured, tflow, tutils
from tests.harness.icap_fake import UNCHANGED, Answering, Asked, Conversation, FakeIcap

GET = b"GET https://good.example/a.txt HTTP/1.1\r\nHost: good.example\r\n\r\n"
FOUND = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
BLOCKED = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: 999\r\n\r\n"
BIG = b"x" * 3_000_000
PATIENT = Limits(timeout=20)
"""Longer than anything takes: what is nonsense has to be recognised as such, and not by its deadline."""


def scan(body: bytes = b"hello", path: str = "/a.txt") -> Scan:
    """A response to be scanned."""
    return Scan("RESPMOD", GET, FOUND, body, path)


def run[T](do: Callable[[], Awaitable[T]]) -> T:
    """Run it on a loop of its own, where tasks start eagerly as in mitmdump. What hangs fails the test."""

    async def bounded() -> T:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with asyncio.timeout(60):
            return await do()

    return asyncio.run(bounded())


async def until(true: Callable[[], bool]) -> None:
    """Wait for it; what hangs is ended by :func:`run`."""
    while not true():  # noqa: ASYNC110 - what is waited for happens in parts that know of no event
        await asyncio.sleep(0.01)


@asynccontextmanager
async def client(fake: FakeIcap, limits: Limits = PATIENT) -> AsyncIterator[Client]:
    """A running server and a client for it."""
    async with fake:
        made = Client([fake.url], limits)
        try:
            yield made
        finally:
            made.close()


def asked(fake: FakeIcap, *scans: Scan, limits: Limits = PATIENT) -> list[Answer | None]:
    """What a client makes of that server, one scan after the other."""

    async def ask() -> list[Answer | None]:
        async with client(fake, limits) as asking:
            return [await asking.scan(fake.url, one) for one in scans or (scan(),)]

    return run(ask)


def failed(fake: FakeIcap, *scans: Scan, limits: Limits = PATIENT) -> str:
    """The text of the exception that it leads to, which names the server."""
    with pytest.raises(IcapError) as caught:
        asked(fake, *scans, limits=limits)
    assert str(caught.value).startswith(f"ICAP server icap://127.0.0.1:{fake.port}/scan: ")
    return str(caught.value)


@asynccontextmanager
async def inspector(**settings: str | int) -> AsyncIterator[Icap]:
    """The inspector, configured as a script is."""
    icap = Icap()
    with configured(icap, **settings):
        try:
            yield icap
        finally:
            icap.done()


def through(fake: FakeIcap, flow: http.HTTPFlow, **settings: str | int) -> http.HTTPFlow:
    """That flow after the inspector: its request before there is a response, then what the server answered."""

    async def ask() -> None:
        async with fake, inspector(icap_url=fake.url.text, **settings) as icap:
            response, flow.response = flow.response, None
            await icap.request(flow)
            if flow.response is None:
                flow.response = response
            if flow.response is not None:
                await icap.response(flow)

    run(ask)
    return flow


def post() -> http.HTTPFlow:
    """A POST that is yet to be answered."""
    headers = http.Headers([(b"Host", b"good.example"), (b"Content-Type", b"text/plain")])
    request = tutils.treq(
        method=b"POST", scheme=b"https", host="good.example", port=443, path=b"/form", headers=headers, content=b"a=1"
    )
    return tflow.tflow(req=request)


def closing(answer: bytes) -> Answering:
    """Says that and ends the connection."""

    async def answering(conversation: Conversation, _asked: Asked) -> None:
        await conversation.send(answer)
        conversation.writer.close()

    return answering


def only(method: str, answer: bytes) -> Answering:
    """Gives that answer to one method, 204 to the other."""

    async def answering(conversation: Conversation, asked: Asked) -> None:
        await conversation.send(answer if asked.method == method else UNCHANGED)

    return answering


async def silent(_conversation: Conversation, _asked: Asked) -> None:
    """Never answers."""
    await asyncio.sleep(3600)


async def resetting(conversation: Conversation, _asked: Asked) -> None:
    """Resets the connection."""
    conversation.writer.transport.abort()
