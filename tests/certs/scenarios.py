"""Servers, good and bad, and the defects that must be found in each: one function a case, its name says the case.

Each is judged twice: as it is (`test_verify.py`, where only our own checks can find anything), and after a real
handshake, with what OpenSSL objected to (`test_verify_handshake.py`).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from certs.authority import spki_sha256
from certs.trust import TrustStore
from certs.verdict import Defect
from tests.harness.pki import DAY, HOUR, NOW, Authority, Issued, Raw, common_name, kept_key, new_key, self_signed

HOST = "good.example"


@dataclass
class Server:
    """A server: its certificate, what it sends behind it (default: the issuers but the root), and who asks."""

    leaf: Issued
    chain: Sequence[Issued] | None = None
    own: Sequence[Sequence[Issued]] = ()
    """The tenant's bundles, topmost last; default: the leaf's root."""
    common: Sequence[Issued] = ()
    host: str = HOST
    now: dt.datetime = NOW
    own_keys: frozenset[bytes] = frozenset()
    no_trust: bool = False
    unserved: bool = False
    """No TLS server can be made with it that the client shakes hands with."""

    @property
    def sent(self) -> Sequence[Issued]:
        return [self.leaf, *(self.leaf.line()[1:] if self.chain is None else self.chain)]

    @property
    def trust(self) -> TrustStore:
        own = self.own
        if not own and not self.common and not self.no_trust:
            own = [[self.leaf.line(with_root=True)[-1]]]
        return TrustStore(
            [each.certificate for each in self.common], [[each.certificate for each in bundle] for bundle in own]
        )


@dataclass(frozen=True)
class Scenario:
    name: str
    make: Callable[[], Server]
    defects: tuple[Defect, ...]
    with_openssl: tuple[Defect, ...] = field(default=())
    """Where OpenSSL adds to it."""


SCENARIOS: list[Scenario] = []


def scenario(
    *defects: Defect, with_openssl: Sequence[Defect] = ()
) -> Callable[[Callable[[], Server]], Callable[[], Server]]:
    def register(make: Callable[[], Server]) -> Callable[[], Server]:
        SCENARIOS.append(Scenario(make.__name__, cache(make), defects, tuple(with_openssl) or defects))
        return make

    return register


@cache
def root() -> Authority:
    return Authority.root("Root")


@cache
def issuing() -> Authority:
    return root().intermediate("Issuing")


def constrained(
    permitted: Sequence[x509.GeneralName] | None = None, excluded: Sequence[x509.GeneralName] | None = None
) -> Authority:
    return root().intermediate("Constrained", name_constraints=x509.NameConstraints(permitted, excluded))


def network(text: str) -> x509.IPAddress:
    return x509.IPAddress(ipaddress.ip_network(text))


# --- what is in order


@scenario()
def a_chain_over_one_intermediate_is_good() -> Server:
    return Server(issuing().leaf())


@scenario()
def a_chain_that_ends_in_the_common_store_is_good() -> Server:
    return Server(issuing().leaf(), common=[root()])


@scenario()
def a_chain_sent_with_its_root_is_good() -> Server:
    return Server(issuing().leaf(), chain=[issuing(), root()])


@scenario()
def a_chain_sent_in_another_order_is_good() -> Server:
    upper = root().intermediate("Upper")
    lower = upper.intermediate("Lower")
    return Server(lower.leaf(), chain=[root(), upper, lower], own=[[root()]])


@scenario()
def a_certificate_of_somebody_else_among_those_sent_does_no_harm() -> Server:
    return Server(issuing().leaf(), chain=[Authority.root("Stranger"), issuing()])


@scenario()
def a_certificate_right_below_the_root_is_good() -> Server:
    return Server(root().leaf())


@scenario()
def a_chain_of_four_intermediates_is_good() -> Server:
    at = root()
    for number in range(4):
        at = at.intermediate(f"Level {number}")
    return Server(at.leaf())


@scenario()
def rsa_keys_of_2048_bits_are_good() -> Server:
    ca = Authority.root("RSA Root", key=kept_key("rsa2048"))
    return Server(ca.leaf(key=kept_key("rsa2048", 1)))


@scenario()
def ed25519_keys_are_good() -> Server:
    ca = Authority.root("Ed Root", key="ed25519")
    return Server(ca.leaf(key="ed25519"))


@scenario()
def keys_of_384_and_521_bits_are_good() -> Server:
    ca = Authority.root("Big Root", key="ec521")
    return Server(ca.intermediate("Big Issuing", key="ec384").leaf())


@scenario()
def a_wildcard_covers_the_host() -> Server:
    return Server(issuing().leaf("*.good.example"), host="www.good.example")


@scenario()
def an_address_in_the_san_covers_the_host() -> Server:
    return Server(issuing().leaf("192.0.2.1"), host="192.0.2.1")


@scenario()
def an_ipv6_address_of_a_common_ca_covers_the_host() -> Server:
    return Server(issuing().leaf("2001:db8::1"), host="2001:db8::1", common=[root()])


@scenario()
def a_host_with_an_underscore_below_a_wildcard_of_a_common_ca_is_good() -> Server:
    """cryptography's verifier has no syntax for the name."""
    return Server(issuing().leaf("*.good.example"), host="a_b.good.example", common=[root()])


@scenario()
def names_within_the_constraints_are_good() -> Server:
    ca = constrained(
        [x509.DNSName("good.example"), network("192.0.2.0/24"), x509.DirectoryName(common_name("Good.Example"))],
        [x509.DNSName("bad.good.example"), network("192.0.2.128/25")],
    )
    return Server(ca.leaf([HOST, "www.good.example", "*.w.good.example", "192.0.2.1"]))


@scenario()
def a_leading_dot_permits_what_is_below() -> Server:
    return Server(constrained([x509.DNSName(".good.example")]).leaf("www.good.example"), host="www.good.example")


@scenario()
def an_intermediate_for_any_purpose_is_good() -> Server:
    return Server(root().intermediate(eku=["any"]).leaf())


@scenario()
def an_intermediate_for_servers_and_clients_is_good() -> Server:
    return Server(root().intermediate(eku=["client", "server"]).leaf())


@scenario()
def a_leaf_without_usages_may_be_a_server() -> Server:
    return Server(issuing().leaf(key_usage=None, eku=None, ca=None))


@scenario()
def a_path_length_that_is_just_kept_is_good() -> Server:
    return Server(Authority.root("Two", path_length=1).intermediate("One", path_length=0).leaf())


@scenario()
def a_self_issued_ca_does_not_count_towards_the_path_length() -> Server:
    """RFC 5280 6.1.4 (l): a key rolled over."""
    top = Authority.root("Top", path_length=1)
    old = top.intermediate("Rolled", path_length=0)
    new = old.intermediate("Rolled", path_length=0)
    return Server(new.leaf())


@scenario()
def a_root_with_a_weak_signature_on_itself_is_good() -> Server:
    ca = Authority.root("Old Root", key=kept_key("rsa2048"), hash="sha1")
    return Server(ca.leaf(key=kept_key("rsa2048", 1)))


@scenario()
def a_root_with_serial_number_zero_is_good() -> Server:
    ca = Authority.root("Zero", serial=0)
    return Server(ca.leaf(), chain=[ca])


@scenario()
def critical_policies_do_not_matter() -> Server:
    policies = Raw("2.5.29.32", bytes.fromhex("300830060604551d2000"), critical=True)
    return Server(issuing().leaf(extra=[policies]))


@scenario()
def names_that_differ_in_case_and_type_of_string_are_the_same() -> Server:
    """RFC 5280 7.1."""
    other = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, "ISSUING  ca", x509.name._ASN1Type.PrintableString)]
    )
    ca = root().intermediate("Issuing CA")
    return Server(ca.leaf(issuer_name=other))


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


# --- weak_key


@scenario(Defect.WEAK_KEY)
def a_server_key_of_1024_bits_is_weak() -> Server:
    return Server(issuing().leaf(key=kept_key("rsa1024")))


@scenario(Defect.WEAK_KEY)
def a_server_key_on_a_curve_of_192_bits_is_weak() -> Server:
    return Server(issuing().leaf(key="ec192"), unserved=True)


@scenario(Defect.WEAK_KEY)
def a_server_key_on_a_curve_of_224_bits_is_weak() -> Server:
    return Server(issuing().leaf(key="ec224"), unserved=True)


@scenario(Defect.WEAK_KEY)
def a_dsa_server_key_is_weak() -> Server:
    return Server(issuing().leaf(key="dsa"), unserved=True)


@scenario(Defect.WEAK_KEY)
def an_intermediate_key_of_1024_bits_is_weak() -> Server:
    return Server(root().intermediate(key=kept_key("rsa1024")).leaf())


@scenario(Defect.WEAK_KEY)
def an_anchor_key_of_1024_bits_is_weak() -> Server:
    return Server(Authority.root("Weak Root", key=kept_key("rsa1024")).leaf())


# --- weak_signature


@scenario(Defect.WEAK_SIGNATURE)
def a_sha1_signature_on_the_server_certificate_is_weak() -> Server:
    return Server(issuing().leaf(hash="sha1"))


@scenario(Defect.WEAK_SIGNATURE)
def an_md5_signature_on_the_server_certificate_is_weak() -> Server:
    ca = Authority.root("RSA Root", key=kept_key("rsa2048"))
    return Server(ca.leaf(hash="md5"))


@scenario(Defect.WEAK_SIGNATURE)
def a_sha1_signature_on_an_intermediate_is_weak() -> Server:
    return Server(root().intermediate(hash="sha1").leaf())


@scenario(Defect.WEAK_SIGNATURE, Defect.INCOMPLETE_CHAIN)
def a_sha1_signature_of_an_unknown_issuer_is_weak() -> Server:
    return Server(Authority.root("Stranger").leaf(hash="sha1"), chain=[], own=[[root()]])


@scenario(Defect.SELF_SIGNED)
def a_sha1_signature_on_oneself_is_no_further_defect() -> Server:
    return Server(self_signed(hash="sha1"), own=[[root()]])


# --- constraint_violation


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_issuer_that_is_no_ca_violates_constraints() -> Server:
    return Server(root().intermediate(ca=False).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_server_certificate_that_issues_another_violates_constraints() -> Server:
    """The oldest of these attacks: an ordinary certificate that vouches for a bank."""
    mine = issuing().leaf("mine.example")
    forger = Authority(mine.raw, mine.key, mine.subject, mine.parent)
    return Server(forger.leaf(), own=[[root()]])


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_issuer_without_basic_constraints_violates_constraints() -> Server:
    return Server(root().intermediate(ca=None).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_version_1_issuer_violates_constraints() -> Server:
    return Server(root().intermediate(version=1, bare=True).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_anchor_that_is_no_ca_violates_constraints() -> Server:
    return Server(Authority.root("No CA", ca=False).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_issuer_without_key_cert_sign_violates_constraints() -> Server:
    return Server(root().intermediate(key_usage=["crl_sign"]).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_anchor_without_key_cert_sign_violates_constraints() -> Server:
    return Server(Authority.root("CRLs", key_usage=["crl_sign"]).leaf())


@scenario()
def an_issuer_without_key_usage_is_good() -> Server:
    return Server(root().intermediate(key_usage=None).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def one_ca_more_than_the_path_length_allows_violates_constraints() -> Server:
    return Server(root().intermediate("Zero", path_length=0).intermediate("One").leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def the_anchors_own_path_length_counts() -> Server:
    return Server(Authority.root("Zero", path_length=0).intermediate("One").leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_name_beside_the_permitted_ones_violates_constraints() -> Server:
    return Server(constrained([x509.DNSName("other.example")]).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_second_name_beside_the_permitted_ones_violates_constraints() -> Server:
    return Server(constrained([x509.DNSName(HOST)]).leaf([HOST, "other.example"]))


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_permitted_domain_does_not_permit_what_only_ends_like_it() -> Server:
    return Server(constrained([x509.DNSName("ood.example")]).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_leading_dot_does_not_permit_the_domain_itself() -> Server:
    return Server(constrained([x509.DNSName(".good.example")]).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_excluded_name_violates_constraints() -> Server:
    return Server(constrained(None, [x509.DNSName("GOOD.example")]).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_name_below_an_excluded_one_violates_constraints() -> Server:
    return Server(constrained(None, [x509.DNSName("example")]).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_excluded_name_written_with_a_trailing_dot_violates_constraints() -> Server:
    return Server(constrained(None, [x509.DNSName(HOST)]).leaf(f"{HOST}."))


@scenario(Defect.CONSTRAINT_VIOLATION)
def everything_excluded_violates_constraints() -> Server:
    empty = Raw("2.5.29.30", bytes.fromhex("3006a10430028200"), critical=True)
    return Server(root().intermediate(extra=[empty]).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_wildcard_that_could_stand_for_an_excluded_name_violates_constraints() -> Server:
    ca = constrained(None, [x509.DNSName("secret.good.example")])
    return Server(ca.leaf("*.good.example"), host="www.good.example")


@scenario()
def a_wildcard_beside_the_excluded_name_is_good() -> Server:
    ca = constrained(None, [x509.DNSName("deep.secret.good.example")])
    return Server(ca.leaf("*.good.example"), host="www.good.example")


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_address_outside_the_permitted_network_violates_constraints() -> Server:
    return Server(constrained([network("192.0.2.0/24")]).leaf("198.51.100.1"), host="198.51.100.1")


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_ipv6_address_is_not_permitted_by_an_ipv4_network() -> Server:
    return Server(constrained([network("192.0.2.0/24")]).leaf("2001:db8::1"), host="2001:db8::1")


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_address_in_the_excluded_network_violates_constraints() -> Server:
    return Server(constrained(None, [network("0.0.0.0/0")]).leaf("192.0.2.1"), host="192.0.2.1")


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_subject_outside_the_permitted_directory_violates_constraints() -> Server:
    return Server(constrained([x509.DirectoryName(common_name("other.example"))]).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def an_excluded_subject_violates_constraints_whatever_its_case() -> Server:
    return Server(constrained(None, [x509.DirectoryName(common_name("GOOD.EXAMPLE"))]).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_mailbox_outside_the_permitted_host_violates_constraints() -> Server:
    leaf = constrained([x509.RFC822Name("good.example")]).leaf(
        san=[x509.DNSName(HOST), x509.RFC822Name("me@other.example")]
    )
    return Server(leaf)


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_form_of_name_that_is_constrained_and_not_understood_violates_constraints() -> Server:
    """RFC 5280 4.2.1.10: process the constraint or reject the certificate."""
    leaf = constrained([x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))]).leaf(
        san=[x509.DNSName(HOST), x509.RegisteredID(x509.ObjectIdentifier("1.2.4"))]
    )
    return Server(leaf)


@scenario(Defect.CONSTRAINT_VIOLATION)
def constraints_of_the_anchor_count() -> Server:
    limits = x509.NameConstraints([x509.DNSName("other.example")], None)
    return Server(Authority.root("Limited", name_constraints=limits).intermediate().leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def constraints_on_an_intermediates_name_count() -> Server:
    limits = x509.NameConstraints(None, [x509.DirectoryName(common_name("Issuing"))])
    return Server(root().intermediate("Upper", name_constraints=limits).intermediate("Issuing").leaf())


@scenario()
def a_self_issued_intermediate_is_outside_the_constraints() -> Server:
    """RFC 5280 6.1.3 (b), (c)."""
    limits = x509.NameConstraints(None, [x509.DirectoryName(common_name("Rolled"))])
    return Server(root().intermediate("Rolled", name_constraints=limits).intermediate("Rolled").leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def constraints_that_are_not_critical_count_too() -> Server:
    limits = x509.NameConstraints(None, [x509.DNSName(HOST)])
    return Server(root().intermediate(name_constraints=limits, name_constraints_critical=False).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_constraint_that_is_no_domain_violates_constraints() -> Server:
    return Server(constrained(None, [x509.DNSName("a b")]).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def a_constraint_with_a_maximum_violates_constraints() -> Server:
    limited = Raw("2.5.29.30", bytes.fromhex("3015a1133011820c6f746865722e6578616d706c810101"), critical=True)
    return Server(root().intermediate(extra=[limited]).leaf())


@scenario(Defect.CONSTRAINT_VIOLATION)
def name_constraints_on_a_server_certificate_violate_constraints() -> Server:
    return Server(issuing().leaf(name_constraints=x509.NameConstraints([x509.DNSName(HOST)], None)))


# --- wrong_purpose


@scenario(Defect.WRONG_PURPOSE)
def a_certificate_for_clients_only_has_the_wrong_purpose() -> Server:
    return Server(issuing().leaf(eku=["client"]))


@scenario(Defect.WRONG_PURPOSE)
def any_purpose_is_not_enough_for_a_server() -> Server:
    return Server(issuing().leaf(eku=["any"]))


@scenario(Defect.WRONG_PURPOSE)
def an_intermediate_for_clients_only_has_the_wrong_purpose() -> Server:
    return Server(root().intermediate(eku=["client"]).leaf())


@scenario(Defect.WRONG_PURPOSE)
def an_anchor_for_mail_only_has_the_wrong_purpose() -> Server:
    return Server(Authority.root("Mail", eku=["email"]).leaf())


@scenario(Defect.WRONG_PURPOSE)
def a_key_that_may_only_encipher_has_the_wrong_purpose() -> Server:
    """RFC 8446 4.4.2.2: only key exchanges that sign are offered."""
    return Server(issuing().leaf(key_usage=["key_encipherment"]))


@scenario(Defect.WRONG_PURPOSE)
def a_ca_certificate_as_server_certificate_has_the_wrong_purpose() -> Server:
    return Server(issuing().leaf(ca=True))


@scenario(Defect.WRONG_PURPOSE)
def an_anchor_as_server_certificate_has_the_wrong_purpose() -> Server:
    anchor = self_signed(ca=True)
    return Server(anchor, own=[[anchor]])


# --- self_signed, incomplete_chain, untrusted_root


@scenario(Defect.SELF_SIGNED)
def a_self_signed_server_certificate_is_self_signed() -> Server:
    return Server(self_signed(), own=[[root()]])


@scenario(Defect.SELF_SIGNED)
def what_openssl_req_x509_makes_is_self_signed_and_nothing_else() -> Server:
    return Server(self_signed(ca=True, key_usage=None, eku=None), own=[[root()]])


@scenario(Defect.SELF_SIGNED)
def a_self_signed_certificate_sent_twice_is_self_signed() -> Server:
    leaf = self_signed()
    return Server(leaf, chain=[leaf], own=[[root()]])


@scenario()
def a_self_signed_server_certificate_that_is_an_anchor_is_good() -> Server:
    leaf = self_signed()
    return Server(leaf, own=[[leaf]])


@scenario(Defect.SELF_SIGNED)
def a_self_signed_certificate_is_untrusted_where_nothing_is_trusted() -> Server:
    return Server(self_signed(), no_trust=True)


@scenario(Defect.INCOMPLETE_CHAIN)
def a_chain_without_its_intermediate_is_incomplete() -> Server:
    return Server(issuing().leaf(), chain=[])


@scenario(Defect.INCOMPLETE_CHAIN)
def a_chain_that_ends_below_an_unknown_root_is_incomplete() -> Server:
    return Server(Authority.root("Stranger").intermediate("Strange").leaf(), own=[[root()]])


@scenario(Defect.UNTRUSTED_ROOT)
def a_chain_that_ends_in_an_unknown_root_is_untrusted() -> Server:
    stranger = Authority.root("Stranger")
    between = stranger.intermediate("Strange")
    return Server(between.leaf(), chain=[between, stranger], own=[[root()]])


@scenario(Defect.UNTRUSTED_ROOT)
def a_root_of_a_trusted_ones_name_is_untrusted() -> Server:
    impostor = Authority.root("Root")
    return Server(impostor.leaf(), chain=[impostor], own=[[root()]])


@scenario(Defect.INCOMPLETE_CHAIN)
def a_helper_is_no_anchor() -> Server:
    """The bundle's topmost certificate alone is trusted; here that one is somebody else's."""
    return Server(issuing().leaf(), chain=[], own=[[issuing(), Authority.root("Other")]])


@scenario(Defect.UNTRUSTED_ROOT, Defect.EXPIRED, Defect.HOSTNAME_MISMATCH)
def an_untrusted_chain_is_judged_in_full() -> Server:
    stranger = Authority.root("Stranger")
    return Server(stranger.leaf("other.example", not_after=NOW - HOUR), chain=[stranger], own=[[root()]])


# --- expired, not_yet_valid


@scenario(Defect.EXPIRED)
def a_server_certificate_that_ended_an_hour_ago_is_expired() -> Server:
    return Server(issuing().leaf(not_after=NOW - HOUR))


@scenario(Defect.EXPIRED)
def an_intermediate_that_ended_is_expired() -> Server:
    return Server(root().intermediate(not_after=NOW - HOUR).leaf())


@scenario(Defect.EXPIRED)
def an_anchor_that_ended_is_expired() -> Server:
    return Server(Authority.root("Ended", not_after=NOW - HOUR).leaf())


@scenario(Defect.NOT_YET_VALID)
def a_server_certificate_of_tomorrow_is_not_yet_valid() -> Server:
    return Server(issuing().leaf(not_before=NOW + DAY))


@scenario(Defect.NOT_YET_VALID)
def an_anchor_of_tomorrow_is_not_yet_valid() -> Server:
    return Server(Authority.root("Tomorrow", not_before=NOW + DAY).leaf())


@scenario(Defect.EXPIRED)
def the_time_that_counts_is_the_one_passed_in() -> Server:
    return Server(issuing().leaf(), now=NOW + 91 * DAY)


@scenario()
def a_certificate_that_the_system_clock_finds_expired_is_good_at_the_time_passed_in() -> Server:
    return Server(issuing().leaf(not_before=NOW - 2 * DAY, not_after=NOW - HOUR), now=NOW - DAY)


@scenario()
def the_last_second_of_a_certificate_is_within_it() -> Server:
    return Server(issuing().leaf(not_after=NOW + HOUR), now=NOW + HOUR)


@scenario(Defect.EXPIRED)
def the_second_after_the_last_is_not() -> Server:
    return Server(issuing().leaf(not_after=NOW + HOUR), now=NOW + HOUR + dt.timedelta(seconds=1))


# --- hostname_mismatch


@scenario(Defect.HOSTNAME_MISMATCH)
def a_certificate_for_another_host_mismatches() -> Server:
    return Server(issuing().leaf("other.example"))


@scenario(Defect.HOSTNAME_MISMATCH)
def the_common_name_does_not_count() -> Server:
    return Server(issuing().leaf(san=None))


@scenario(Defect.HOSTNAME_MISMATCH)
def a_wildcard_stands_for_one_label_only() -> Server:
    return Server(issuing().leaf("*.good.example"), host="a.b.good.example")


@scenario(Defect.HOSTNAME_MISMATCH)
def an_address_is_not_covered_by_a_name_that_looks_like_it() -> Server:
    return Server(issuing().leaf(san=[x509.DNSName("192.0.2.1")]), host="192.0.2.1")


@scenario(Defect.EXPIRED, Defect.HOSTNAME_MISMATCH)
def all_that_is_wrong_is_named_in_order() -> Server:
    return Server(issuing().leaf("other.example", not_after=NOW - HOUR))


@scenario(
    Defect.WEAK_KEY,
    Defect.WEAK_SIGNATURE,
    Defect.CONSTRAINT_VIOLATION,
    Defect.WRONG_PURPOSE,
    Defect.EXPIRED,
    Defect.HOSTNAME_MISMATCH,
)
def no_defect_hides_another() -> Server:
    ca = root().intermediate("Bad", ca=False)
    return Server(ca.leaf("other.example", key=kept_key("rsa1024"), hash="sha1", eku=["client"], not_after=NOW - HOUR))
