"""The verdict after a real handshake: OpenSSL on both sides, its objections collected, then judged."""

from __future__ import annotations

import pytest
from OpenSSL import SSL

from certs.trust import TrustStore, server_leg_context
from certs.verdict import Defect
from certs.verify import defect_of_failure
from tests.harness.memory_tls import Seen, server_context, shake_hands
from tests.harness.pki import NOW, Authority, Issued, Raw, excessive_spki, kept_key, new_key
from tests.scenarios import Server, issuing, root
from tests.scenarios.judging import after_handshake

TLS12 = (SSL.TLS1_2_VERSION, SSL.TLS1_2_VERSION)


def test_seventeen_certificates_are_too_many() -> None:
    found = after_handshake(Server(issuing().leaf(), chain=[issuing()] * 16))
    assert found.defects == (Defect.MALFORMED,)
    assert "17 certificates" in found.findings[0].explanation


def test_openssl_objects_once_for_each_code_and_depth() -> None:
    leaf = issuing().leaf(key=kept_key("rsa1024"), eku=["client"])
    _, seen = shake_hands(
        server_leg_context(TrustStore([], [[root().certificate]])), server_context(leaf), "good.example"
    )
    assert sorted(seen.errors) == [(26, 0), (66, 0)]


# --- handshakes that fail


def failure(leaf: Issued, altered: tuple[bytes, bytes] | None = None, ciphers: str = "ALL", **more: object) -> Defect:
    """What a failed TLS 1.2 handshake comes to; ``altered``: bytes of the server's that arrive as others."""
    versions = more.get("versions", TLS12)
    assert isinstance(versions, tuple)
    far = server_context(leaf, ciphers=ciphers, versions=versions)
    context = server_leg_context(TrustStore([], [[root().certificate]]))
    with pytest.raises(SSL.Error) as failed:
        shake_hands(context, far, "good.example", altered=altered)
    return defect_of_failure(reason for _, _, reason in failed.value.args[0]).defect


def test_a_certificate_that_is_no_asn1_is_malformed() -> None:
    leaf = issuing().leaf()
    assert failure(leaf, (leaf.raw[20:60], b"\xff" * 40)) is Defect.MALFORMED


def test_an_intermediate_that_is_no_asn1_is_malformed() -> None:
    leaf = issuing().leaf()
    assert failure(leaf, (issuing().raw[5:30], b"\xff" * 25)) is Defect.MALFORMED


def test_a_server_key_that_cannot_be_decoded_is_malformed() -> None:
    leaf = issuing().leaf()
    # id-ecPublicKey becomes an algorithm that nobody knows
    known = bytes.fromhex("06072a8648ce3d0201")
    assert failure(leaf, (known, known[:-1] + b"\x77")) is Defect.MALFORMED


def test_certificates_of_more_than_100_kib_are_malformed() -> None:
    leaf = issuing().leaf(extra=[Raw("1.2.3.4", bytes(103_000))])
    assert failure(leaf) is Defect.MALFORMED


def test_a_server_without_forward_secrecy_is_a_protocol_defect() -> None:
    assert failure(issuing().leaf(key=kept_key("rsa2048")), ciphers="AES128-SHA:AES256-GCM-SHA384") is Defect.PROTOCOL


def test_a_server_without_certificate_is_a_protocol_defect() -> None:
    assert failure(issuing().leaf(), ciphers="aNULL") is Defect.PROTOCOL


def test_a_server_of_tls_1_1_is_a_protocol_defect() -> None:
    versions = (SSL.TLS1_VERSION, SSL.TLS1_1_VERSION)
    assert failure(issuing().leaf(key=kept_key("rsa2048")), versions=versions) is Defect.PROTOCOL


def test_a_server_key_that_no_handshake_may_use_is_a_protocol_defect() -> None:
    assert failure(issuing().leaf(key="ec192")) is Defect.PROTOCOL


def test_openssl_is_kept_from_verifying_with_keys_that_take_long_where_nobody_vouches_for_them() -> None:
    key = kept_key("rsa2048")
    top = Authority.root("Nobody", key=key, spki=excessive_spki(key))
    context = server_leg_context(TrustStore([], [[root().certificate]]))
    # A root, one whose issuer is missing, and one that names an anchor which has not signed it.
    missing = Authority.root("Elsewhere").intermediate("Slow", key=key, spki=excessive_spki(key))
    forged = Authority.root(subject=root().subject).intermediate("Forged", key=key, spki=excessive_spki(key), aki=False)
    for slow in (top, missing, forged):
        below = slow.intermediate("Below")
        with pytest.raises(SSL.Error) as failed:
            shake_hands(context, server_context(below.leaf(), [below.raw, slow.raw]), "good.example")
        found = defect_of_failure(reason for _, _, reason in failed.value.args[0])
        assert found.defect is Defect.WEAK_KEY
        assert "an RSA key over 8192 bits, or with an exponent over 32 bits" in found.explanation


def test_a_server_that_speaks_no_tls_is_a_protocol_defect() -> None:
    context = server_leg_context(TrustStore([], []))
    client = SSL.Connection(context, None)
    client.set_app_data(Seen())
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    client.bio_write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(SSL.Error) as failed:
        client.do_handshake()
    found = defect_of_failure(reason for _, _, reason in failed.value.args[0])
    assert found.defect is Defect.PROTOCOL
    assert "does not speak TLS" in found.explanation


def test_a_signature_in_the_handshake_by_another_key_is_a_protocol_defect() -> None:
    leaf = issuing().leaf()
    # The certificate that arrives carries a key that the server does not have.
    other = Issued(leaf.raw, new_key(), leaf.subject, leaf.parent)
    point = leaf.raw.index(bytes.fromhex("03420004")) + 4
    mine = issuing().leaf(key=other.key).raw
    there = mine.index(bytes.fromhex("03420004")) + 4
    assert failure(leaf, (leaf.raw[point : point + 64], mine[there : there + 64])) is Defect.PROTOCOL


@pytest.mark.parametrize(
    ("reasons", "defect"),
    [
        (["dh key too small"], Defect.WEAK_KEY),
        (["modulus too large"], Defect.WEAK_KEY),
        (["bad e value"], Defect.WEAK_KEY),
        (["header too long", "nested asn1 error", "ASN1 lib"], Defect.MALFORMED),
        (["unable to get certs public key", "certificate verify failed"], Defect.MALFORMED),
        (["excessive message size"], Defect.MALFORMED),
        (["wrong version number"], Defect.PROTOCOL),
        (["tlsv1 alert protocol version"], Defect.PROTOCOL),
        (["wrong signature type"], Defect.PROTOCOL),
        (["something new"], Defect.PROTOCOL),
        ([], Defect.PROTOCOL),
        (["dh key too small", "ASN1 lib"], Defect.MALFORMED),
    ],
)
def test_the_reasons_of_a_failure_come_to(reasons: list[str], defect: Defect) -> None:
    assert defect_of_failure(reasons).defect is defect


def test_the_explanation_of_a_failure_is_one_line_of_bounded_length() -> None:
    explanation = defect_of_failure(["a\nb", "a\nb", "c" * 1000]).explanation
    assert "\n" not in explanation
    assert len(explanation) < 300
    assert explanation.count("a b") == 1


def test_the_time_is_the_one_passed_in() -> None:
    assert after_handshake(Server(issuing().leaf(), now=NOW)).ok
