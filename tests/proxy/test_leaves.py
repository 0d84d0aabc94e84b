"""Which leaf is shown again, which is asked for, and that the issuer is asked once."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto

from issuer.client import IssuedLeaf, IssuerUnavailable, PrivateKey
from proxy.leaves import DAY, Leaves, Shown, limit, usable
from proxy.snapshot import Snapshot
from tests.harness.pki import Authority

NOW = 1_800_000_000.0


def shown(not_after: float, reuse_until: float, signing_ca: int = 1) -> Shown:
    return Shown(cast("SSL.Context", None), cast("crypto.X509", None), b"", signing_ca, not_after, reuse_until, 1)


@pytest.mark.parametrize(
    ("server_not_after", "expected"),
    [
        (None, NOW + DAY),
        (NOW - 1, NOW + DAY),
        (NOW + 3600, NOW + 3600),
        (NOW + 7 * DAY, NOW + 7 * DAY),
        (NOW + 90 * DAY, NOW + 7 * DAY),
    ],
)
def test_a_leaf_lives_no_longer_than_the_server_and_seven_days(server_not_after: float | None, expected: float) -> None:
    assert limit(server_not_after, NOW) == expected


@pytest.mark.parametrize(
    ("leaf", "latest", "expected"),
    [
        (shown(NOW + 5 * DAY, NOW + 3 * DAY), NOW + 7 * DAY, True),
        (shown(NOW + 5 * DAY, NOW + 3 * DAY), NOW + 5 * DAY, True),
        (shown(NOW + 5 * DAY, NOW + 3 * DAY), NOW + 4 * DAY, False),
        (shown(NOW + 5 * DAY, NOW), NOW + 7 * DAY, False),
        (shown(NOW + 5 * DAY, NOW + 1), NOW + 7 * DAY, True),
    ],
)
def test_when_a_leaf_may_be_shown_again(leaf: Shown, latest: float, expected: bool) -> None:
    assert usable(leaf, latest, NOW) is expected


class Issuer:
    """An issuer that answers when it is told to."""

    def __init__(self) -> None:
        self.ca = Authority.root()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.asked: list[tuple[str, str, str, float | None]] = []
        self.connections: list[str] = []
        self.warned_of: list[str] = []
        self.generation = 1
        self.keys = 0
        self.go = asyncio.Event()
        self.fails: Exception | None = None
        self.signing_ca = 1

    async def leaf(
        self,
        tenant: str,
        host: str,
        key: str,
        server_not_after: float | None,
        connection: str = "",
        warned_of: str = "",
    ) -> IssuedLeaf:
        self.connections.append(connection)
        self.warned_of.append(warned_of)
        self.asked.append((tenant, host, key, server_not_after))
        await self.go.wait()
        if self.fails is not None:
            raise self.fails
        leaf = self.ca.leaf(host, key=self.key)
        return IssuedLeaf(leaf.raw, (self.ca.raw,), 5, self.signing_ca, NOW + 5 * DAY, NOW + 3 * DAY, self.generation)

    async def leaf_key(self, tenant: str, leaf_key: int, connection: str = "", untrusted: bool = False) -> PrivateKey:
        self.connections.append(connection)
        self.keys += 1
        return self.key


def snapshot(tenant: str = "default", signing_ca: int = 1) -> Snapshot:
    return Snapshot(tenant, 1, *(cast("Any", None),) * 3, signing_ca, False, ())


async def gather(leaves: Leaves, *questions: tuple[Any, ...]) -> list[Shown | Exception]:
    got: list[Shown | Exception] = []
    for number, question in enumerate(questions):
        leaves.ask(*question, got.append, f"c{number}")
    cast("Issuer", leaves.issuer).go.set()
    for _ in range(50):
        await asyncio.sleep(0)
    return got


def test_however_many_wait_the_issuer_is_asked_once() -> None:
    async def scenario() -> None:
        issuer = Issuer()
        leaves = Leaves(issuer, 16, lambda: NOW)
        question = (snapshot(), "one.example", "ecdsa", NOW + 90 * DAY)
        got = await gather(leaves, *[question] * 5, (snapshot(), "two.example", "ecdsa", NOW + 90 * DAY))
        assert len(got) == 6
        assert len({id(one) for one in got}) == 2
        assert [host for _, host, _, _ in issuer.asked] == ["one.example", "two.example"]
        assert issuer.keys <= 2
        # What the issuer logs has the id of the first who asked.
        assert set(issuer.connections) == {"c0", "c5"}
        assert leaves.kept(*question) is got[0]
        assert leaves.metrics.leaf_hits == 1

    asyncio.run(scenario())


def test_everyone_who_waits_is_told_that_there_is_none_and_the_next_one_asks_again() -> None:
    async def scenario() -> None:
        issuer = Issuer()
        issuer.fails = IssuerUnavailable("timeout", "no answer")
        leaves = Leaves(issuer, 16, lambda: NOW)
        question = (snapshot(), "one.example", "ecdsa", NOW + 90 * DAY)
        assert await gather(leaves, question, question) == [issuer.fails] * 2
        issuer.fails = None
        assert isinstance((await gather(leaves, question))[0], Shown)
        assert len(issuer.asked) == 2

    asyncio.run(scenario())


def test_a_leaf_for_bad_dates_and_one_for_good_dates_are_kept_apart() -> None:
    async def scenario() -> None:
        leaves = Leaves(Issuer(), 16, lambda: NOW)
        await gather(leaves, (snapshot(), "one.example", "ecdsa", NOW + 90 * DAY))
        assert leaves.kept(snapshot(), "one.example", "ecdsa", None) is None
        assert leaves.kept(snapshot(), "one.example", "ecdsa", NOW + 90 * DAY) is not None
        assert leaves.kept(snapshot(), "one.example", "rsa", NOW + 90 * DAY) is None
        assert leaves.kept(snapshot("other"), "one.example", "ecdsa", NOW + 90 * DAY) is None
        assert leaves.kept(snapshot(signing_ca=2), "one.example", "ecdsa", NOW + 90 * DAY) is None

    asyncio.run(scenario())


def test_a_leaf_that_was_given_before_the_last_activation_is_not_shown() -> None:
    async def scenario() -> None:
        issuer = Issuer()
        leaves = Leaves(issuer, 16, lambda: NOW)
        end = NOW + 90 * DAY
        again = replace(snapshot(), activation=7)  # the same CA, another having been the active one in between
        issuer.generation = 6
        (before,) = await gather(leaves, (again, "one.example", "ecdsa", end))
        assert isinstance(before, Shown)
        assert not before.current(again, untrusted=False)
        assert leaves.kept(again, "one.example", "ecdsa", end) is None
        issuer.generation = 7
        (after,) = await gather(leaves, (again, "one.example", "ecdsa", end))
        assert isinstance(after, Shown)
        assert after.current(again, untrusted=False)
        assert leaves.kept(again, "one.example", "ecdsa", end) is after

    asyncio.run(scenario())


def test_a_leaf_to_warn_by_and_one_to_trust_are_kept_apart() -> None:
    async def scenario() -> None:
        issuer = Issuer()
        leaves = Leaves(issuer, 16, lambda: NOW)
        both = replace(snapshot(), untrusted_ca=2)
        end = NOW + 90 * DAY
        await gather(leaves, (both, "one.example", "ecdsa", end))
        assert leaves.kept(both, "one.example", "ecdsa", end) is not None
        assert leaves.kept(both, "one.example", "ecdsa", end, "ab") is None
        issuer.signing_ca = 2
        leaves.ask(both, "one.example", "ecdsa", end, lambda outcome: None, "c", "ab")
        await asyncio.sleep(0.01)
        assert issuer.warned_of == ["", "ab"]
        warning = leaves.kept(both, "one.example", "ecdsa", end, "ab")
        assert leaves.kept(both, "one.example", "ecdsa", end, "cd") is None  # another certificate of the server
        assert warning is not None
        assert warning.signing_ca == 2
        assert leaves.kept(both, "one.example", "ecdsa", end) is not warning
        assert leaves.kept(replace(both, untrusted_ca=None), "one.example", "ecdsa", end, "ab") is None

    asyncio.run(scenario())


def test_what_is_forgotten_is_asked_for_again_key_and_all() -> None:
    async def scenario() -> None:
        issuer = Issuer()
        leaves = Leaves(issuer, 16, lambda: NOW)
        question = (snapshot(), "one.example", "ecdsa", NOW + 90 * DAY)
        await gather(leaves, question)
        leaves.forget("other")
        assert leaves.kept(*question) is not None
        leaves.forget("default")
        assert leaves.kept(*question) is None
        await gather(leaves, question)
        assert issuer.keys == 2

    asyncio.run(scenario())


def test_the_connection_shows_the_leaf_and_its_chain() -> None:
    async def scenario() -> None:
        leaves = Leaves(Issuer(), 16, lambda: NOW)
        got = await gather(
            leaves, *[(snapshot(), host, "ecdsa", NOW + 90 * DAY) for host in ("a.example", "b.example")]
        )
        for host, shown in zip(("a.example", "b.example"), got, strict=True):
            assert isinstance(shown, Shown)
            client = hands_shaken(shown, SSL.Context(SSL.TLS_CLIENT_METHOD))
            assert client.get_alpn_proto_negotiated() == b"h2"
            chain = client.get_peer_cert_chain(as_cryptography=True)
            assert chain is not None
            assert len(chain) == 2
            names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert names.get_values_for_type(x509.DNSName) == [host]

    asyncio.run(scenario())


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_session_is_resumed_with_the_leaf_that_it_began_with_and_no_other(version: int) -> None:
    """Whoever presents the ticket of one host to another must not get around that one's certificate."""

    async def scenario() -> None:
        leaves = Leaves(Issuer(), 16, lambda: NOW)
        one, other = await gather(
            leaves, *[(snapshot(), host, "ecdsa", NOW + 90 * DAY) for host in ("one.example", "two.example")]
        )
        leaves.forget("default")
        (again,) = await gather(leaves, (snapshot(), "one.example", "ecdsa", NOW + 90 * DAY))
        assert isinstance(one, Shown)
        assert isinstance(other, Shown)
        assert isinstance(again, Shown)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(version)
        session = hands_shaken(one, context).get_session()
        assert session is not None
        assert resumed(hands_shaken(one, context, session))
        assert not resumed(hands_shaken(other, context, session))
        assert not resumed(hands_shaken(again, context, session)), "what was forgotten is resumed"
        assert resumed(hands_shaken(one, context, session)), "the others changed what this one resumes"

    asyncio.run(scenario())


def test_a_leaf_with_another_key_than_its_own_is_a_fault() -> None:
    class Mixed(Issuer):
        async def leaf_key(
            self, tenant: str, leaf_key: int, connection: str = "", untrusted: bool = False
        ) -> PrivateKey:
            return ec.generate_private_key(ec.SECP256R1())

    async def scenario() -> None:
        leaves = Leaves(Mixed(), 16, lambda: NOW)
        question = (snapshot(), "one.example", "ecdsa", NOW + 90 * DAY)
        (got,) = await gather(leaves, question)
        assert isinstance(got, ValueError)
        assert "is not the key of the leaf" in str(got)
        assert leaves.kept(*question) is None

    asyncio.run(scenario())


def hands_shaken(shown: Shown, context: SSL.Context, session: SSL.Session | None = None) -> SSL.Connection:
    """A client that has shaken hands with whoever shows the leaf, and has got its session tickets."""
    server = shown.connection()
    server.set_app_data((b"h2",))
    client = SSL.Connection(context, None)
    client.set_connect_state()
    client.set_alpn_protos([b"http/1.1", b"h2"])
    if session is not None:
        client.set_session(session)
    for one, other in ((client, server), (server, client)) * 3:
        with contextlib.suppress(SSL.WantReadError):
            one.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            other.bio_write(one.bio_read(65536))
    with contextlib.suppress(SSL.WantReadError):
        client.recv(1)
    client.shutdown()  # without it OpenSSL takes the session for a broken one
    return client


def resumed(client: SSL.Connection) -> bool:
    return bool(SSL._lib.SSL_session_reused(client._ssl))  # type: ignore[attr-defined]
