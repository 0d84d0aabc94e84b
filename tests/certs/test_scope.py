from __future__ import annotations

import pytest

from certs.names import InvalidHost, parse_host
from certs.scope import KEPT, MOST, OwnCa, TrustByHost
from tests.harness.pki import Authority

COMMON, EVERYWHERE, CORPORATE, ONE = (Authority.root(name) for name in ("Common", "Everywhere", "Corporate", "One"))
BELOW = CORPORATE.intermediate("Below")


def by_host(*own: OwnCa) -> TrustByHost:
    return TrustByHost([COMMON.certificate], own)


SEVERAL = by_host(
    OwnCa((EVERYWHERE.raw,)),
    OwnCa((BELOW.raw, CORPORATE.raw), ("*.corp.example", "intranet", "192.0.2.7")),
    OwnCa((ONE.raw,), ("one.corp.example",)),
)


@pytest.mark.parametrize(
    ("host", "counting"),
    [
        ("public.example", [EVERYWHERE]),
        ("corp.example", [EVERYWHERE]),
        ("a.corp.example", [EVERYWHERE, CORPORATE]),
        ("A.b.CORP.example.", [EVERYWHERE, CORPORATE]),
        ("notcorp.example", [EVERYWHERE]),
        ("corp.example.evil.example", [EVERYWHERE]),
        ("intranet", [EVERYWHERE, CORPORATE]),
        ("x.intranet", [EVERYWHERE]),
        ("one.corp.example", [EVERYWHERE, CORPORATE, ONE]),
        ("192.0.2.7", [EVERYWHERE, CORPORATE]),
        ("192.0.2.8", [EVERYWHERE]),
    ],
)
def test_a_ca_counts_for_its_hosts_alone(host: str, counting: list[Authority]) -> None:
    store = SEVERAL.at(parse_host(host)).store
    assert {anchor.certificate for anchor in store.anchors} == {ca.certificate for ca in [COMMON, *counting]}
    assert list(store.helpers) == ([BELOW.certificate] if CORPORATE in counting else [])
    for ca in (EVERYWHERE, CORPORATE, ONE):
        found = store.anchor(ca.certificate)
        assert (found is not None) is (ca in counting)


def test_hosts_with_the_same_cas_share_what_was_made() -> None:
    first = SEVERAL.at(parse_host("a.corp.example"))
    assert SEVERAL.at(parse_host("intranet")) is first
    assert SEVERAL.at(parse_host("elsewhere.example")) is SEVERAL.at(parse_host("elsewhere.example"))


def test_where_none_is_limited_there_is_one_for_all_hosts() -> None:
    trust = by_host(OwnCa((EVERYWHERE.raw,)))
    assert trust.at(parse_host("a.example")) is trust.at(parse_host("192.0.2.1"))


def test_a_common_anchor_is_the_tenants_own_for_those_hosts_alone() -> None:
    trust = by_host(OwnCa((COMMON.raw,), ("own.example",)))
    for host, common in (("own.example", False), ("other.example", True)):
        anchor = trust.at(parse_host(host)).store.anchor(COMMON.certificate)
        assert anchor is not None
        assert anchor.common is common


def test_many_sets_of_cas_do_not_stay() -> None:
    def alone(host: str) -> Authority:
        return ONE if host.startswith("1") else CORPORATE

    trust = by_host(*(OwnCa((alone(str(n)).raw,), (f"{n}.example",)) for n in range(MOST + 10)))
    assert trust._made.maxsize == MOST
    assert by_host(OwnCa((ONE.raw,)))._made.maxsize == KEPT + 1


def test_what_is_no_pattern_is_not_taken_for_one() -> None:
    with pytest.raises(InvalidHost):
        by_host(OwnCa((EVERYWHERE.raw,), ("a*.example",)))
