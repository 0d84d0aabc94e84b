"""Certificates that cannot be read, or whose signature does not verify, or that carry our own key."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from certs.authority import spki_sha256
from certs.verdict import Defect
from tests.certs.scenarios.base import HOST, Server, issuing, root, scenario
from tests.harness.pki import HOUR, NOW, Authority, Raw, new_key, self_signed

# --- malformed


@scenario(
    Defect.MALFORMED,
    Defect.HOSTNAME_MISMATCH,
    with_openssl=[Defect.MALFORMED, Defect.INCOMPLETE_CHAIN, Defect.HOSTNAME_MISMATCH],
)
def an_extension_that_is_there_twice_is_malformed() -> Server:
    return Server(issuing().leaf(duplicate=[ExtensionOID.KEY_USAGE]))


@scenario(
    Defect.MALFORMED,
    Defect.HOSTNAME_MISMATCH,
    with_openssl=[Defect.MALFORMED, Defect.INCOMPLETE_CHAIN, Defect.HOSTNAME_MISMATCH],
)
def an_extension_that_cannot_be_read_is_malformed() -> Server:
    return Server(issuing().leaf(extra=[Raw("2.5.29.31", b"\x30\x05")]))


@scenario(
    Defect.MALFORMED,
    Defect.HOSTNAME_MISMATCH,
    with_openssl=[Defect.MALFORMED, Defect.INCOMPLETE_CHAIN, Defect.HOSTNAME_MISMATCH],
)
def a_san_that_cannot_be_read_is_malformed() -> Server:
    return Server(issuing().leaf(san=None, extra=[Raw("2.5.29.17", b"\x30\x05\x82\x09a")]))


@scenario(Defect.MALFORMED)
def an_unknown_critical_extension_is_malformed() -> Server:
    return Server(issuing().leaf(extra=[Raw("1.2.3.4", b"\x05\x00", critical=True)]))


@scenario(Defect.MALFORMED)
def an_unknown_critical_extension_of_an_intermediate_is_malformed() -> Server:
    return Server(root().intermediate(extra=[Raw("1.2.3.4", b"\x05\x00", critical=True)]).leaf())


@scenario(Defect.MALFORMED)
def a_precertificate_is_malformed() -> Server:
    """RFC 6962 3.1: its poison is critical so that nobody takes it for a certificate."""
    return Server(issuing().leaf(extra=[Raw("1.3.6.1.4.1.11129.2.4.3", b"\x05\x00", critical=True)]))


@scenario(Defect.MALFORMED)
def a_version_1_certificate_with_extensions_is_malformed() -> Server:
    return Server(issuing().leaf(version=1))


@scenario(Defect.MALFORMED)
def a_negative_serial_number_is_malformed() -> Server:
    return Server(issuing().leaf(serial=-5))


@scenario(Defect.MALFORMED)
def a_serial_number_of_zero_is_malformed() -> Server:
    return Server(issuing().leaf(serial=0))


@scenario(Defect.MALFORMED)
def a_serial_number_of_21_octets_is_malformed() -> Server:
    return Server(issuing().leaf(serial=1 << 160))


@scenario()
def a_serial_number_of_20_octets_is_good() -> Server:
    return Server(issuing().leaf(serial=(1 << 160) - 1))


@scenario(Defect.MALFORMED, with_openssl=[Defect.MALFORMED, Defect.BAD_SIGNATURE])
def two_signature_algorithms_that_differ_are_malformed() -> Server:
    return Server(issuing().leaf(inner_hash="sha384"))


def public_key_info(algorithm: str, key: str) -> bytes:
    """A SubjectPublicKeyInfo from the hex of its two parts (RFC 5280 4.1)."""
    parts = bytes.fromhex(algorithm), bytes.fromhex(key)
    content = bytes([0x30, len(parts[0])]) + parts[0] + bytes([0x03, len(parts[1]) + 1, 0]) + parts[1]
    return bytes([0x30, len(content)]) + content


@scenario(Defect.MALFORMED)
def a_key_that_is_no_point_of_its_curve_is_malformed() -> Server:
    beside = public_key_info("06072a8648ce3d020106082a8648ce3d030107", "04" + "01" * 64)
    return Server(issuing().leaf(spki=beside), unserved=True)


@scenario(Defect.WEAK_KEY)
def a_key_of_an_unknown_kind_is_weak() -> Server:
    return Server(issuing().leaf(spki=public_key_info("06042a030405", "01" * 32)), unserved=True)


# --- bad_signature


@scenario(Defect.BAD_SIGNATURE)
def a_server_certificate_that_was_changed_has_a_bad_signature() -> Server:
    return Server(issuing().leaf(tamper=True))


@scenario(Defect.BAD_SIGNATURE)
def a_server_certificate_signed_by_another_key_has_a_bad_signature() -> Server:
    return Server(issuing().leaf(sign_with=new_key()))


@scenario(Defect.BAD_SIGNATURE)
def an_intermediate_that_was_changed_has_a_bad_signature() -> Server:
    return Server(root().intermediate("Forged", tamper=True).leaf())


@scenario(Defect.BAD_SIGNATURE, Defect.UNTRUSTED_ROOT, with_openssl=[Defect.BAD_SIGNATURE, Defect.UNTRUSTED_ROOT])
def an_untrusted_root_that_was_changed_has_a_bad_signature() -> Server:
    stranger = Authority.root("Changed", tamper=True)
    return Server(stranger.leaf(), chain=[stranger], own=[[root()]])


@scenario(Defect.BAD_SIGNATURE, Defect.SELF_SIGNED)
def a_self_signed_certificate_that_was_changed_has_a_bad_signature() -> Server:
    return Server(self_signed(tamper=True), own=[[root()]])


@scenario(Defect.BAD_SIGNATURE, Defect.EXPIRED)
def a_bad_signature_hides_no_other_defect() -> Server:
    return Server(issuing().leaf(tamper=True, not_after=NOW - HOUR))


@scenario(Defect.BAD_SIGNATURE)
def an_anchors_name_without_its_key_vouches_for_nothing() -> Server:
    impostor = Authority.root("Root")
    return Server(impostor.leaf(aki=False), own=[[root()]])


# --- own_ca


@scenario(Defect.OWN_CA)
def a_chain_over_our_own_signing_key_is_found_out() -> Server:
    return Server(issuing().leaf(), own_keys=frozenset({spki_sha256(issuing().certificate)}))


@scenario(Defect.OWN_CA)
def an_anchor_with_our_own_signing_key_is_found_out() -> Server:
    return Server(root().leaf(), own_keys=frozenset({spki_sha256(root().certificate)}))


@scenario(Defect.OWN_CA)
def our_own_signing_key_among_what_is_sent_is_found_out_beside_the_path() -> Server:
    ours = Authority.root("Ours")
    key = frozenset({spki_sha256(ours.certificate)})
    return Server(issuing().leaf(), chain=[issuing(), ours], own_keys=key)


@scenario(Defect.OWN_CA, Defect.WRONG_PURPOSE)
def our_own_issuing_certificate_as_server_certificate_is_found_out() -> Server:
    """Even in another certificate: the key counts."""
    key = new_key()
    shown = root().intermediate("Shown", key=key, san=[x509.DNSName(HOST)], key_usage=None)
    return Server(shown, own_keys=frozenset({spki_sha256(Authority.root("Ours", key=key).certificate)}))


@scenario()
def a_signing_key_of_ours_that_is_not_in_the_chain_is_no_defect() -> Server:
    return Server(issuing().leaf(), own_keys=frozenset({spki_sha256(Authority.root("Ours").certificate)}))
