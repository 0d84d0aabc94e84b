"""Servers that are in order."""

from __future__ import annotations

from cryptography import x509

from tests.certs.scenarios.base import HOST, Server, constrained, issuing, network, root, scenario
from tests.harness.pki import Authority, Raw, common_name, kept_key


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
