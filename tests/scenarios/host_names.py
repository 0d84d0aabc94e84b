"""The name that is asked for, and the names that a certificate has."""

from __future__ import annotations

import ipaddress

from cryptography import x509

from certs.verdict import Defect
from tests.harness.der_writing import tlv
from tests.harness.pki import Raw, common_name
from tests.scenarios.base import ACCEPTS, Server, issuing, public, public_issuing, root, scenario

COMMON_NAME = "Without a subjectAltName for hosts curl takes the common name."

MISMATCH = Defect.HOSTNAME_MISMATCH

# --- names as they are


@scenario(MISMATCH)
def a_certificate_for_another_host(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6."""
    return Server(issuing().leaf("other.example"))


@scenario(MISMATCH)
def a_certificate_of_a_common_ca_for_another_host(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6."""
    return Server(public_issuing().leaf("other.example"), common=[public()])


@scenario(MISMATCH)
def a_certificate_for_the_domain_above(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3."""
    return Server(issuing().leaf(host), host=f"www.{host}")


@scenario(MISMATCH)
def a_certificate_for_a_host_below(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3."""
    return Server(issuing().leaf(f"www.{host}"))


@scenario()
def the_last_of_several_names(host: str) -> Server:
    """Good: RFC 9525 6."""
    return Server(issuing().leaf(["other.example", "*.other.example", "192.0.2.1", host]))


@scenario()
def a_name_in_capitals(host: str) -> Server:
    """Good: RFC 9525 6.3, RFC 4343 3."""
    return Server(issuing().leaf(host.upper()))


@scenario()
def a_name_with_a_trailing_dot(host: str) -> Server:
    """Good: RFC 9525 6.3, RFC 1034 3.1.

    An absolute name is the same host.
    """
    return Server(issuing().leaf(f"{host}."))


@scenario(MISMATCH)
def a_name_with_a_leading_dot(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 5280 4.2.1.6, RFC 9525 6.3."""
    return Server(issuing().leaf(f".{host}"))


@scenario(MISMATCH)
def a_name_with_a_zero_octet(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3.

    Who reads it as a C string sees the bank, who sold it saw the rest.
    """
    return Server(issuing().leaf(host, san=[x509.DNSName(f"{host}\0.evil.example")]))


@scenario(MISMATCH)
def a_name_with_a_space_behind_it(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 5280 4.2.1.6, RFC 9525 6.3."""
    return Server(issuing().leaf(host, san=[x509.DNSName(f"{host} ")]))


@scenario(MISMATCH, curl_says=ACCEPTS, why=COMMON_NAME)
def the_common_name_alone(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 2."""
    return Server(issuing().leaf(host, san=None))


@scenario(MISMATCH)
def the_common_name_beside_another_alternative_name(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 2."""
    return Server(issuing().leaf("other.example", subject=common_name(host)))


@scenario(MISMATCH, curl_says=ACCEPTS, why=COMMON_NAME)
def the_common_name_beside_a_mailbox(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 2."""
    return Server(issuing().leaf(host, san=[x509.RFC822Name("me@good.example")]))


@scenario(MISMATCH)
def the_host_in_a_uri(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.

    A URI-ID is for protocols that ask for one; HTTPS does not.
    """
    names = [x509.UniformResourceIdentifier(f"https://{host}/"), x509.DNSName("other.example")]
    return Server(issuing().leaf(host, san=names))


@scenario(MISMATCH, curl_says=ACCEPTS, why=COMMON_NAME)
def alternative_names_of_which_there_are_none(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 5280 4.2.1.6, RFC 9525 2."""
    return Server(issuing().leaf(host, san=None, extra=[Raw("2.5.29.17", tlv(0x30, b""))]))


# --- wildcards


@scenario()
def a_wildcard(host: str) -> Server:
    """Good: RFC 9525 6.3."""
    return Server(issuing().leaf(f"*.{host}"), host=f"www.{host}")


@scenario()
def a_wildcard_of_a_common_ca(host: str) -> Server:
    """Good: RFC 9525 6.3."""
    return Server(public_issuing().leaf(f"*.{host}"), host=f"www.{host}", common=[public()])


@scenario(MISMATCH)
def a_wildcard_and_two_labels(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3."""
    return Server(issuing().leaf(f"*.{host}"), host=f"a.b.{host}")


@scenario(MISMATCH)
def a_wildcard_and_no_label(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3."""
    return Server(issuing().leaf(f"*.{host}"))


@scenario(MISMATCH)
def a_star_in_front_of_letters(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3."""
    return Server(issuing().leaf(f"*w.{host}"), host=f"www.{host}")


@scenario(MISMATCH)
def a_star_behind_letters(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3."""
    return Server(issuing().leaf(f"w*.{host}"), host=f"www.{host}")


@scenario(MISMATCH)
def a_star_between_letters(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3."""
    return Server(issuing().leaf(f"w*w.{host}"), host=f"www.{host}")


@scenario(MISMATCH)
def a_star_in_the_second_label(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3."""
    return Server(issuing().leaf(f"www.*.{host}"), host=f"www.a.{host}")


@scenario(MISMATCH)
def two_stars(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3."""
    return Server(issuing().leaf(f"*.*.{host}"), host=f"a.b.{host}")


@scenario(MISMATCH)
def a_star_alone(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3."""
    return Server(issuing().leaf("*"))


@scenario(MISMATCH)
def a_wildcard_right_below_a_top_level_domain(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 7.1."""
    return Server(issuing().leaf("*.example"))


@scenario()
def a_host_with_an_underscore_below_a_wildcard_of_a_common_ca(host: str) -> Server:
    """Good: RFC 9525 6.3.

    cryptography's verifier has no syntax for the name, and is asked about another of the certificate's.
    """
    return Server(public_issuing().leaf(f"*.{host}"), host=f"a_b.{host}", common=[public()])


@scenario()
def a_host_with_an_underscore(host: str) -> Server:
    """Good: RFC 9525 6.3, RFC 2181 11."""
    return Server(issuing().leaf(f"a_b.{host}"), host=f"a_b.{host}")


# --- internationalised names


@scenario()
def an_a_label(host: str) -> Server:
    """Good: RFC 9525 6.3, RFC 5280 7.2."""
    return Server(issuing().leaf(f"xn--bcher-kva.{host}"), host=f"xn--bcher-kva.{host}")


@scenario()
def an_a_label_below_a_wildcard(host: str) -> Server:
    """Good: RFC 9525 6.3."""
    return Server(issuing().leaf(f"*.{host}"), host=f"xn--bcher-kva.{host}")


@scenario(MISMATCH)
def a_star_within_an_a_label(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3."""
    return Server(issuing().leaf(f"xn--*.{host}"), host=f"xn--bcher-kva.{host}")


@scenario(MISMATCH)
def an_a_label_that_differs(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3.

    bücher and bûcher look much the same.
    """
    return Server(issuing().leaf(f"xn--bcher-jva.{host}"), host=f"xn--bcher-kva.{host}")


# --- addresses


@scenario()
def an_address(host: str) -> Server:
    """Good: RFC 9525 6.4, RFC 5280 4.2.1.6."""
    return Server(issuing().leaf("127.80.2.1"), host="127.80.2.1")


@scenario()
def an_ipv6_address_of_a_common_ca(host: str) -> Server:
    """Good: RFC 9525 6.4, RFC 5280 4.2.1.6."""
    return Server(public_issuing().leaf("::1"), host="::1", common=[public()])


@scenario(MISMATCH)
def another_address(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.4."""
    return Server(issuing().leaf("127.80.2.3"), host="127.80.2.2")


@scenario(MISMATCH)
def an_address_as_a_dns_name(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.4."""
    return Server(issuing().leaf("127.80.2.4", san=[x509.DNSName("127.80.2.4")]), host="127.80.2.4")


@scenario(MISMATCH, curl_says=ACCEPTS, why=COMMON_NAME)
def an_address_as_a_common_name(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 2, 6.4."""
    return Server(issuing().leaf("127.80.2.5", san=None), host="127.80.2.5")


@scenario(MISMATCH)
def an_address_below_a_wildcard(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.3, 6.4."""
    return Server(issuing().leaf("*.80.2.6", san=[x509.DNSName("*.80.2.6")]), host="127.80.2.6")


@scenario(MISMATCH, curl_says=ACCEPTS, why=COMMON_NAME)
def an_address_as_the_text_of_a_uri(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.4."""
    names = [x509.UniformResourceIdentifier("https://127.80.2.7/")]
    return Server(issuing().leaf("127.80.2.7", san=names), host="127.80.2.7")


@scenario(MISMATCH)
def an_ipv4_address_written_as_ipv6(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.4.

    Sixteen octets are not four, though ::ffff:127.80.2.8 leads to the same place.
    """
    return Server(issuing().leaf("::ffff:127.80.2.8"), host="127.80.2.8")


@scenario(MISMATCH)
def a_network_in_place_of_an_address(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 5280 4.2.1.6, RFC 9525 6.4.

    An address and a mask belong into name constraints alone.
    """
    raw = Raw("2.5.29.17", tlv(0x30, tlv(0x87, ipaddress.ip_address("127.80.2.9").packed + b"\xff" * 4)))
    return Server(issuing().leaf("127.80.2.9", san=None, extra=[raw]), host="127.80.2.9", own=[[root()]])


@scenario(MISMATCH)
def a_name_whose_certificate_has_its_address(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6.

    The host leads to 127.0.0.1, and what was asked for is the name.
    """
    return Server(issuing().leaf("127.0.0.1"))
