"""Trust stores, and the TLS context of the server leg."""

from __future__ import annotations

from pathlib import Path

import certifi
import pytest
from cryptography import x509
from OpenSSL import SSL

from certs.facts import facts_of
from certs.names import parse_host
from certs.trust import VERIFY_DEPTH, Anchor, ServerTls, TrustStore, parse_common_store, server_leg_context
from certs.verify import Handshake, handshake_of, judge
from tests.harness.memory_tls import server_context, shake_hands
from tests.harness.pki import NOW, Authority, Raw, pem
from tests.harness.revocation import ocsp_answer
from tests.scenarios import HOST, issuing, root


@pytest.fixture(scope="module")
def mozilla() -> tuple[x509.Certificate, ...]:
    return parse_common_store(Path(certifi.where()).read_bytes())


def test_of_a_bundle_the_topmost_is_the_anchor_and_the_others_help() -> None:
    store = TrustStore([], [[issuing().certificate, root().certificate]])
    assert store.anchors == (Anchor(root().certificate, common=False),)
    assert store.helpers == (issuing().certificate,)


def test_an_anchor_knows_whether_it_is_of_the_common_store() -> None:
    other = Authority.root("Other")
    store = TrustStore([root().certificate], [[other.certificate]])
    assert store.anchor(root().certificate) == Anchor(root().certificate, common=True)
    assert store.anchor(other.certificate) == Anchor(other.certificate, common=False)
    assert store.anchor(issuing().certificate) is None


def test_an_anchor_in_both_is_the_tenants_own_and_there_once() -> None:
    store = TrustStore([root().certificate], [[root().certificate], [root().certificate]])
    assert store.anchors == (Anchor(root().certificate, common=False),)


def test_an_anchor_does_not_help_as_well() -> None:
    store = TrustStore([], [[issuing().certificate, root().certificate], [issuing().certificate]])
    assert store.helpers == ()
    assert len(store.anchors) == 2


def test_anchors_are_found_by_name() -> None:
    store = TrustStore([], [[issuing().certificate, root().certificate]])
    child = facts_of(issuing().certificate)
    assert [anchor.certificate for anchor in store.anchors_named(child.issuer)] == [root().certificate]
    assert list(store.helpers_named(child.subject)) == [issuing().certificate]
    assert list(store.anchors_named(child.subject)) == []


def test_an_empty_bundle_is_nothing() -> None:
    assert TrustStore([], [[]]).anchors == ()


def test_a_common_store_is_parsed_once_and_without_repeats() -> None:
    file = pem([root().certificate, issuing().certificate, root().certificate])
    assert parse_common_store(file) == (root().certificate, issuing().certificate)
    assert parse_common_store(file) is parse_common_store(bytes(bytearray(file)))


@pytest.mark.parametrize(
    "file", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_common_store_that_cannot_be_read_is_refused_in_one_line(file: bytes) -> None:
    with pytest.raises(ValueError, match="the common store holds no certificates that can be read") as refused:
        parse_common_store(file)
    assert "\n" not in str(refused.value)


def test_mozillas_roots_all_load_and_can_be_read(mozilla: tuple[x509.Certificate, ...]) -> None:
    assert len(mozilla) > 100
    store = TrustStore(mozilla, [])
    assert len(store.anchors) == len(mozilla)
    server_leg_context(store)
    for certificate in mozilla:
        facts = facts_of(certificate)
        assert facts.extensions_error == ""
        assert facts.key_error == ""
        assert facts.ca


def test_no_root_of_mozillas_is_such_that_its_chains_are_refused(mozilla: tuple[x509.Certificate, ...]) -> None:
    """Each root is made again, the same but for its key, and vouches for a server."""
    for original in mozilla:
        kept = [e for e in original.extensions if not isinstance(e.value, _KEY_IDENTIFIERS)]
        identifiers = {type(e.value) for e in original.extensions}
        again = Authority.root(
            subject=original.subject,
            not_before=original.not_valid_before_utc,
            not_after=original.not_valid_after_utc,
            ca=None,
            key_usage=None,
            ski=x509.SubjectKeyIdentifier in identifiers,
            aki=x509.AuthorityKeyIdentifier in identifiers,
            extra=[Raw(e.oid.dotted_string, e.value.public_bytes(), e.critical) for e in kept],
        )
        between = again.intermediate(eku=["server"], path_length=0)
        presented = (between.leaf().certificate, between.certificate)
        found = judge(Handshake(presented), parse_host(HOST), TrustStore([again.certificate], []), NOW)
        assert found.ok, (original.subject, found.findings)


_KEY_IDENTIFIERS = (x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier)


def test_the_server_leg_offers_forward_secrecy_only() -> None:
    context = server_leg_context(TrustStore([], []))
    offered = SSL.Connection(context, None).get_cipher_list()
    assert all(name.startswith(("TLS_", "ECDHE-", "DHE-RSA-")) for name in offered)
    assert offered[0].startswith("TLS_")
    classic = [name for name in offered if not name.startswith("TLS_")]
    modern = [name for name in classic if "GCM" in name or "CHACHA20" in name]
    assert classic[: len(modern)] == modern
    assert not any(word in name for name in offered for word in ("NULL", "RC4", "3DES", "PSK", "anon", "CCM"))


def test_the_server_leg_keeps_no_sessions_and_verifies() -> None:
    context = server_leg_context(TrustStore([], []))
    assert context.get_session_cache_mode() == SSL.SESS_CACHE_OFF
    assert context.get_verify_mode() == SSL.VERIFY_PEER
    assert context.get_verify_depth() == VERIFY_DEPTH


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_the_server_leg_speaks_tls_1_2_and_1_3(version: int) -> None:
    context = server_leg_context(TrustStore([], [[root().certificate]]))
    far = server_context(issuing().leaf(), versions=(version, version))
    connection, seen = shake_hands(context, far, HOST)
    assert seen.errors == []
    assert connection.get_protocol_version() == version


def test_a_connection_that_cannot_note_objections_does_not_shake_hands() -> None:
    """Fail closed: what is not collected cannot be judged."""
    context = server_leg_context(TrustStore([], [[root().certificate]]))
    with pytest.raises(AttributeError, match="errors"):
        shake_hands(context, server_context(issuing().leaf()), HOST, app_data=None)


def test_one_context_tells_its_connections_apart() -> None:
    context = server_leg_context(TrustStore([], [[root().certificate]]))
    _, good = shake_hands(context, server_context(issuing().leaf()), HOST)
    _, bad = shake_hands(context, server_context(Authority.root("Stranger").leaf()), HOST)
    assert good.errors == []
    assert bad.errors == [(20, 0)]


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_an_answer_that_is_sent_along_is_kept_where_it_was_asked_for(version: int) -> None:
    context = server_leg_context(TrustStore([], [[root().certificate]]), ServerTls(stapled=True))
    leaf = issuing().leaf()
    answer = ocsp_answer(leaf)
    with_it = server_context(leaf, versions=(version, version), stapled=answer)
    without = server_context(leaf, versions=(version, version))
    for far, staple, expected in ((with_it, True, answer), (with_it, False, b""), (without, True, b"")):
        connection, seen = shake_hands(context, far, HOST, staple=staple)
        assert seen.stapled == handshake_of(connection, seen).stapled == expected
