"""What CAs may and may not: CA flag, path length, name constraints."""

from __future__ import annotations

from cryptography import x509

from certs.verdict import Defect
from tests.certs.scenarios.base import HOST, Server, constrained, issuing, network, root, scenario
from tests.harness.pki import Authority, Raw, common_name


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
