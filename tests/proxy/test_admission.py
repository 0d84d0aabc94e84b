"""Which addresses may be connected to, and how names become addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from typing import Any

import pytest

from certs.names import parse_host
from proxy.admission import Egress, ResolveError, Resolver

NET = ipaddress.ip_network


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "169.254.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "100.100.100.200",
        "168.63.129.16",
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "64:ff9b:1::7f00:1",
        "::ffff:0:127.0.0.1",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
        "fd20:ce::254",
        "no address",
        "",
    ],
)
def test_addresses_of_the_machine_and_of_its_cloud_are_denied(address: str) -> None:
    assert not Egress((), ()).permits(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "10.1.2.3", "192.168.0.1", "100.64.0.1", "2001:db8::1", "fd00::1", "::ffff:10.0.0.1"]
)
def test_other_addresses_are_permitted(address: str) -> None:
    assert Egress((), ()).permits(address)


def test_allow_opens_what_is_denied_by_default_and_nothing_beside_it() -> None:
    egress = Egress((NET("127.0.0.0/31"),), ())
    assert egress.permits("127.0.0.1")
    assert egress.permits("::ffff:127.0.0.1")
    assert not egress.permits("127.0.0.2")
    assert not egress.permits("::1")


def test_deny_wins_over_allow() -> None:
    egress = Egress((NET("10.0.0.0/8"),), (NET("10.1.0.0/16"),))
    assert egress.permits("10.2.0.1")
    assert not egress.permits("10.1.0.1")
    assert not egress.permits("::ffff:10.1.0.1")


async def _resolved(resolver: Resolver, name: str) -> tuple[str, ...]:
    try:
        return await resolver.resolve(parse_host(name), "192.0.2.9")
    finally:
        resolver.close()


def test_configured_names_and_literals_are_answered_at_once() -> None:
    resolver = Resolver({"Bank.Example.": "192.0.2.7"}, 1)
    assert resolver.at_once(parse_host("bank.example")) == ("192.0.2.7",)
    assert resolver.at_once(parse_host("[2001:db8::1]")) == ("2001:db8::1",)
    assert resolver.at_once(parse_host("other.example")) is None
    assert asyncio.run(_resolved(resolver, "BANK.example")) == ("192.0.2.7",)


def test_the_systems_resolver_is_asked_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(name: str, *_: Any, **__: Any) -> list[Any]:
        assert name == "two.example"
        return [
            (0, 0, 0, "", ("192.0.2.1", 0)),
            (0, 0, 0, "", ("192.0.2.1", 0)),
            (0, 0, 0, "", ("fe80::1%lo", 0, 0, 1)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert asyncio.run(_resolved(Resolver({}, 1), "two.example")) == ("192.0.2.1", "fe80::1")


def test_a_name_without_an_address_is_an_error_with_the_resolvers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(ResolveError, match="Name or service not known") as caught:
        asyncio.run(_resolved(Resolver({}, 1), "none.example"))
    assert not caught.value.timed_out


def test_a_resolver_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(10) and [])
    resolver = Resolver({}, 0.05)
    threading.Timer(1, release.set).start()
    with pytest.raises(ResolveError, match=r"within 0\.05 s") as caught:
        asyncio.run(_resolved(resolver, "slow.example"))
    assert caught.value.timed_out


def test_names_that_hang_take_no_more_than_a_clients_share_of_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    asked: list[str] = []

    def getaddrinfo(name: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(name)
        if name.startswith("slow"):
            release.wait(10)
        return [(0, 0, 0, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def scenario() -> None:
        resolver = Resolver({}, 0.2, threads=4, most_each=2)
        slow = [resolver.resolve(parse_host(f"slow{number}.example"), "192.0.2.1") for number in (1, 1, 2, 3)]
        found = await asyncio.gather(*slow, return_exceptions=True)
        assert all(isinstance(one, ResolveError) for one in found)
        assert asked == ["slow1.example", "slow2.example"]
        # Its threads are still bound; another client's name is looked up all the same.
        with pytest.raises(ResolveError, match="too many"):
            await resolver.resolve(parse_host("good.example"), "192.0.2.1")
        assert await resolver.resolve(parse_host("good.example"), "192.0.2.2") == ("192.0.2.1",)
        release.set()
        await asyncio.sleep(0.1)
        assert await resolver.resolve(parse_host("good.example"), "192.0.2.1") == ("192.0.2.1",)
        resolver.close()

    try:
        asyncio.run(scenario())
    finally:
        release.set()


def test_the_proxys_own_name_is_asked_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it was asked for"))
    resolver = Resolver({}, 5, own="own.example")
    with pytest.raises(ResolveError, match="the proxy's own"):
        asyncio.run(resolver.resolve(parse_host("OWN.example."), "c"))
    resolver.close()
