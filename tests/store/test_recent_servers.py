from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from store import recent_servers
from store.engine import Store
from store.records import RecentServer, Tenant
from tests.harness.pki import NOW
from tests.store.conftest import add_tenant

SINCE = NOW - recent_servers.AGE
ANCHOR, OTHER = b"a" * 32, b"b" * 32


def server(host: str, seconds: float = 0, *chain: bytes, port: int = 443, anchor: bytes | None = None) -> RecentServer:
    at = NOW + timedelta(seconds=seconds)
    return RecentServer(host, port, at, True, anchor, ("expired",), "block", chain or (b"leaf", b"issuer"))


def known(store: Store, tenant: Tenant) -> list[RecentServer]:
    with store.reading() as c:
        return recent_servers.listing(c, tenant.id, SINCE)


def chains(store: Store) -> int:
    with store.reading() as c:
        return int(c.exec_driver_sql("SELECT count(*) FROM recent_chains").scalar_one())


def test_a_server_comes_back_as_it_was_seen_last(store: Store, tenant: Tenant) -> None:
    first = replace(server("a.example", anchor=ANCHOR), added=(b"above",))
    failed = RecentServer("b.example", 8443, NOW, False, None, ("protocol",), "block")
    with store.transaction() as c:
        recent_servers.add(c, tenant.id, [first, failed])
    assert known(store, tenant) == [first, failed]
    later = replace(server("a.example", 60, b"another"), defects=(), action="allow")
    with store.transaction() as c:
        recent_servers.add(c, tenant.id, [later])
        recent_servers.add(c, tenant.id, [server("a.example", 30, b"another worker's")])
    assert known(store, tenant) == [later, failed]
    assert chains(store) == 1


def test_what_several_servers_show_is_kept_once_and_goes_with_the_last(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        recent_servers.add(c, tenant.id, [server("a.example"), server("b.example"), server("a.example", port=8443)])
    assert [one.presented for one in known(store, tenant)] == [(b"leaf", b"issuer")] * 3
    assert chains(store) == 1
    with store.transaction() as c:
        recent_servers.forget_hosts(c, ["a.example", "of.nobody"])
    assert [one.host for one in known(store, tenant)] == ["b.example"]
    assert chains(store) == 1
    with store.transaction() as c:
        assert recent_servers.hosts(c) == ["b.example"]
        recent_servers.forget_hosts(c, ["b.example"])
    assert chains(store) == 0


def test_certificates_that_are_told_apart_by_where_one_ends_are_other_ones(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        recent_servers.add(c, tenant.id, [server("a.example", 0, b"ab", b"c"), server("b.example", 0, b"a", b"bc")])
        recent_servers.add(c, tenant.id, [replace(server("c.example", 0, b"ab"), added=(b"c",))])
    assert [one.presented for one in known(store, tenant)] == [(b"ab", b"c"), (b"a", b"bc"), (b"ab",)]


def test_a_larger_chain_is_not_kept_and_its_server_is(store: Store, tenant: Tenant) -> None:
    large = server("a.example", 0, b"l" * recent_servers.LARGEST, b"x")
    with store.transaction() as c:
        recent_servers.add(c, tenant.id, [large, server("b.example", 0, b"l" * recent_servers.LARGEST)])
    first, second = known(store, tenant)
    assert first == replace(large, presented=None)
    assert second.presented is not None


def test_it_ends_in_a_day(store: Store, tenant: Tenant) -> None:
    day = recent_servers.AGE.total_seconds()
    with store.transaction() as c:
        recent_servers.add(c, tenant.id, [server("old.example", -day - 1, b"old"), server("a.example", -day)])
    assert [one.host for one in known(store, tenant)] == ["a.example"]
    with store.transaction() as c:
        recent_servers.forget_before(c, SINCE)
    assert [one.host for one in known(store, tenant)] == ["a.example"]
    assert chains(store) == 1
    with store.transaction() as c:
        recent_servers.forget_all(c)
    assert known(store, tenant) == []
    assert chains(store) == 0


def test_of_many_servers_those_seen_last_stay(store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_servers, "MOST", 5)
    with store.transaction() as c:
        other = add_tenant(c, "other")
        recent_servers.add(c, other.id, [server("of-another.example", -60)])
        for second in range(8):
            recent_servers.add(c, tenant.id, [server(f"h{second}.example", second)])
        recent_servers.add(c, tenant.id, [server("h3.example", 9)])
        recent_servers.add(c, tenant.id, [server("new.example", 10)])
    assert [one.host for one in known(store, tenant)] == [
        "h3.example", "h5.example", "h6.example", "h7.example", "new.example",
    ]  # fmt: skip
    assert len(known(store, other)) == 1


def test_of_many_certificates_those_seen_last_stay(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_servers, "MOST_BYTES", 20)
    with store.transaction() as c:
        for second in range(4):
            recent_servers.add(c, tenant.id, [server(f"h{second}.example", second, b"%08d" % second)])
        recent_servers.add(c, tenant.id, [server("again.example", 9, b"%08d" % 2)])
    kept = {one.host: one.presented is not None for one in known(store, tenant)}
    assert kept == {
        "h0.example": False, "h1.example": False, "h2.example": True, "h3.example": True, "again.example": True,
    }  # fmt: skip


def test_which_hosts_an_anchor_vouches_for(store: Store, tenant: Tenant) -> None:
    with store.transaction() as c:
        other = add_tenant(c, "other")
        recent_servers.add(c, other.id, [server("of-another.example", anchor=ANCHOR)])
        recent_servers.add(c, tenant.id, [
            server("b.example", anchor=ANCHOR), server("a.example", anchor=ANCHOR), server("c.example", anchor=OTHER),
            server("a.example", port=8443, anchor=ANCHOR), server("none.example"),
            server("old.example", -recent_servers.AGE.total_seconds() - 1, anchor=ANCHOR),
        ])  # fmt: skip
    with store.reading() as c:
        found = recent_servers.hosts_by_anchor(c, tenant.id, SINCE)
    assert found == {ANCHOR: ["a.example", "b.example"], OTHER: ["c.example"]}
