"""What is remembered of how the issuer answered."""

from __future__ import annotations

import asyncio

from issuer.client import IssuerUnavailable
from proxy.issuer_watch import REMEMBERED_SECONDS, IssuerWatch


class Issuer:
    """Answers with what it is told to."""

    def __init__(self) -> None:
        self.answers: dict[str, IssuerUnavailable] = {}

    async def check(self, tenant: str) -> int:
        if tenant in self.answers:
            raise self.answers[tenant]
        return 1


def test_an_issuer_that_answers_again_is_reachable_again() -> None:
    issuer = Issuer()
    watch = IssuerWatch(issuer, lambda: ("a", "b"), lambda: 0.0)
    issuer.answers = {"a": IssuerUnavailable("timeout", "no answer within 5 s")}
    asyncio.run(watch.look())
    assert watch.unreachable == "no answer within 5 s"
    issuer.answers = {"b": IssuerUnavailable("ca_expired", "the signing CA expired")}
    asyncio.run(watch.look())
    assert (watch.unreachable, watch.tenants) == (None, {"b": "the signing CA expired"})
    issuer.answers = {}
    asyncio.run(watch.look())
    assert (watch.unreachable, watch.tenants) == (None, {})


def test_a_leaf_that_could_not_be_had_counts_until_another_could_or_a_minute_is_over() -> None:
    now = 0.0
    watch = IssuerWatch(Issuer(), tuple, lambda: now)
    watch.heard(IssuerUnavailable("store_unavailable", "the disk is full"))
    assert watch.failed == "the disk is full"
    watch.heard(None)
    assert watch.failed is None
    watch.heard(IssuerUnavailable("store_unavailable", "the disk is full"))
    now = REMEMBERED_SECONDS + 1
    assert watch.failed is None


def test_what_a_client_asked_wrongly_says_nothing_of_the_issuer() -> None:
    watch = IssuerWatch(Issuer(), tuple, lambda: 0.0)
    for code in ("invalid_host", "rate_limited", "key_manager_busy", "closed"):
        watch.heard(IssuerUnavailable(code, "no"))
    assert watch.failed is None


def test_a_key_manager_that_is_asked_too_much_is_a_reason_to_look_first_and_none_to_take_the_proxy_out() -> None:
    issuer = Issuer()
    watch = IssuerWatch(issuer, lambda: ("down", "busy", "well"), lambda: 0.0)
    issuer.answers = {
        "down": IssuerUnavailable("key_manager_down", "no key manager can be asked"),
        "busy": IssuerUnavailable("key_manager_busy", "more are wanted than may be"),
    }
    asyncio.run(watch.look())
    assert watch.without_new == {"down", "busy"}
    assert watch.tenants == {"down": "no key manager can be asked"}
    issuer.answers = {}
    asyncio.run(watch.look())
    assert watch.without_new == frozenset()


def test_what_was_found_of_a_signing_ca_is_over_with_it() -> None:
    issuer = Issuer()
    watch = IssuerWatch(issuer, lambda: ("a", "b"), lambda: 0.0)
    assert watch.unusable is None  # nobody was asked
    watch.changed("a", 1)
    issuer.answers = {
        "a": IssuerUnavailable("key_unavailable", "the key cannot be opened"),
        "b": IssuerUnavailable("ca_expired", "the signing CA expired"),
    }
    asyncio.run(watch.look())
    assert (watch.unusable, watch.cannot_sign) == ({"a": "the key cannot be opened"}, {"a", "b"})
    watch.changed("a", 1)  # something else of the tenant
    assert watch.unusable == {"a": "the key cannot be opened"}
    watch.changed("a", 2)
    assert (watch.unusable, watch.tenants, watch.cannot_sign) == ({}, {"b": "the signing CA expired"}, {"b"})
    asyncio.run(watch.look())
    assert watch.unusable == {"a": "the key cannot be opened"}
