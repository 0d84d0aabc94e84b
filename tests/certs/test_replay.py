from __future__ import annotations

import pytest

from certs.completion import Attempt
from certs.names import parse_host
from certs.replay import judge_again, objections_again
from certs.scope import Trust
from certs.trust import USUAL, TrustStore, server_leg_context
from certs.verdict import Defect
from certs.verify import Handshake
from tests.harness.pki import NOW, Authority, new_key
from tests.scenarios import SCENARIOS
from tests.scenarios.judging import after_handshake

HOST = parse_host("good.example")
MODULES = ("chains", "keys", "signatures", "purpose", "own_ca")
"""Where OpenSSL has most of a say."""


def whom(store: TrustStore) -> Trust:
    return Trust(store, server_leg_context(store), USUAL)


@pytest.mark.parametrize("module", MODULES)
def test_servers_are_judged_again_without_them_as_behind_their_handshakes(module: str) -> None:
    compared = 0
    for server in (one.server for one in SCENARIOS if one.module == module):
        if server.unserved or server.not_in_memory:
            continue
        live = after_handshake(server)
        if not live.chain or any("cannot be read" in found.explanation for found in live.findings):
            continue  # the handshake failed, or what was shown cannot be read: nothing is kept of it
        shown = [issued.raw for issued in server.sent]
        again = judge_again(shown, (), parse_host(server.host), whom(server.trust), server.now, server.own_keys)
        assert again == live
        compared += 1
    assert compared > 3


def test_openssl_says_what_it_says_in_a_handshake_alone() -> None:
    """Purpose and security level: outside of a handshake it does not know of them."""
    root = Authority.root("Root")
    leaf = root.leaf("good.example", key="rsa1024", eku=["client"])
    context = server_leg_context(TrustStore([root.certificate], []))
    assert sorted(objections_again([leaf.raw], context)) == [(26, 0), (66, 0)]


@pytest.mark.parametrize("key", ["ec256", "ec384", "rsa2048", "ed25519"])
def test_it_verifies_whatever_the_key_is(key: str) -> None:
    root = Authority.root("Root")
    leaf = root.leaf("good.example", key=new_key(key))
    assert objections_again([leaf.raw], server_leg_context(TrustStore([root.certificate], []))) == ()
    assert objections_again([leaf.raw], server_leg_context(TrustStore([], []))) == ((20, 0),)


def test_a_chain_in_several_records_is_read() -> None:
    root = Authority.root("Root")
    leaf = root.leaf([f"host-{number}.a-long-name-of-a-domain.example" for number in range(900)])
    assert len(leaf.raw) > 2 * (1 << 14)
    assert objections_again([leaf.raw], server_leg_context(TrustStore([root.certificate], []))) == ()


def test_a_chain_is_completed_by_what_completed_it_then() -> None:
    root = Authority.root("Root")
    issuing = root.intermediate("Issuing")
    leaf = issuing.leaf("good.example")
    trusted, nobody = whom(TrustStore([root.certificate], [])), whom(TrustStore([], []))
    assert judge_again([leaf.raw], [], HOST, trusted, NOW).defects == (Defect.INCOMPLETE_CHAIN,)
    again = judge_again([leaf.raw], [issuing.raw], HOST, trusted, NOW)
    assert again.ok
    assert again.chain == (leaf.certificate, issuing.certificate, root.certificate)
    # Where no anchor is reached with it, the first verdict counts, as it does in a connection.
    lost = judge_again([leaf.raw], [issuing.raw], HOST, nobody, NOW)
    alone = Attempt.of(Handshake((leaf.certificate,)), HOST, nobody.store, frozenset(), NOW)
    assert lost == alone.verdict()


@pytest.mark.parametrize("shown", [[b"no certificate"], [b""]])
def test_what_is_no_certificate_cannot_be_judged(shown: list[bytes]) -> None:
    with pytest.raises(ValueError, match="parsing"):
        judge_again(shown, [], HOST, whom(TrustStore([], [])), NOW)
