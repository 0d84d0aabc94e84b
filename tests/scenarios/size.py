"""Much of everything: certificates, octets, names, constraints, issuers of one name. None of it may cost much."""

from __future__ import annotations

import ipaddress

from cryptography import x509

from certs.verdict import Defect
from tests.harness.pki import Authority, Raw, common_name
from tests.scenarios.base import ACCEPTS, Server, constrained, issuing, public, root, scenario

NOT_COUNTED = "Neither counts certificates; what is in no path is left aside."
COMPARISONS = "Both compare up to 2^20 times, we 2^14."

MEGABYTE = 1 << 20

# --- certificates


@scenario()
def sixteen_certificates(host: str) -> Server:
    """Good: our own rule, at most 16 certificates are looked at; RFC 8446 4.4.2 sets no limit."""
    return Server(issuing().leaf(host), chain=[issuing()] * 15)


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NOT_COUNTED)
def seventeen_certificates(host: str) -> Server:
    """Blocked as malformed: our own rule, at most 16 certificates are looked at; RFC 8446 4.4.2 sets no limit."""
    return Server(issuing().leaf(host), chain=[issuing()] * 16)


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NOT_COUNTED)
def a_hundred_certificates(host: str) -> Server:
    """Blocked as malformed: our own rule, at most 16 certificates are looked at; RFC 8446 4.4.2 sets no limit."""
    at = root()
    line = [at := at.intermediate(f"Level {number}") for number in range(99)]
    return Server(issuing().leaf(host), chain=[issuing(), *line])


@scenario(Defect.MALFORMED)
def a_chain_of_more_than_100_kib(host: str) -> Server:
    """Blocked as malformed: our own rule, at most 100 KiB of certificates are read; RFC 8446 4.4.2 sets no limit."""
    big = root().intermediate("Big", extra=[Raw("1.2.3.4", bytes(60_000))])
    return Server(big.leaf(host), chain=[big, big])


@scenario(Defect.MALFORMED, as_it_is=[Defect.MALFORMED, Defect.INCOMPLETE_CHAIN])
def a_chain_of_16_mb(host: str) -> Server:
    """Blocked as malformed: our own rule, at most 100 KiB of certificates are read; RFC 8446 4.4.2 sets no limit."""
    big = root().intermediate("Huge", extra=[Raw("1.2.3.4", bytes(15 * MEGABYTE + MEGABYTE // 2))])
    return Server(big.leaf(host))


@scenario()
def a_certificate_of_60_kb(host: str) -> Server:
    """Good: RFC 5280 4.2."""
    return Server(issuing().leaf(host, extra=[Raw("1.2.3.4", bytes(60_000))]))


@scenario()
def ten_intermediates(host: str) -> Server:
    """Good: our own rule, at most ten CAs lie between server and anchor; RFC 5280 6.1 sets no limit."""
    at = root()
    for number in range(10):
        at = at.intermediate(f"Level {number}")
    return Server(at.leaf(host))


@scenario(
    Defect.MALFORMED, Defect.INCOMPLETE_CHAIN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why="Both follow longer paths."
)
def fourteen_intermediates(host: str) -> Server:
    """Blocked as malformed, incomplete_chain: our own rule, at most ten CAs lie between; RFC 5280 6.1 sets no limit."""
    at = root()
    for number in range(14):
        at = at.intermediate(f"Level {number}")
    return Server(at.leaf(host))


@scenario(Defect.MALFORMED, Defect.BAD_SIGNATURE, Defect.UNTRUSTED_ROOT)
def fifteen_issuers_of_one_name(host: str) -> Server:
    """Blocked as malformed, bad_signature, untrusted_root: RFC 4158 2.4.1.

    Each could be everybody's issuer, and 225 signatures would have to be checked to find out; 64 are.
    """
    line = [Authority.root("Same", aki=False, ski=False)]
    for _ in range(14):
        line.append(line[-1].intermediate("Same", aki=False, ski=False))
    return Server(line[-1].leaf(host, aki=False), chain=line, own=[[root()]])


@scenario(Defect.INCOMPLETE_CHAIN)
def fifteen_certificates_of_one_name_and_key(host: str) -> Server:
    """Blocked as incomplete_chain: RFC 5280 6.1.1 (d), RFC 4158 5.2."""
    stranger = Authority.root("Stranger")
    first = stranger.intermediate("Many")
    copies = [first, *(stranger.intermediate("Many", key=first.key) for _ in range(14))]
    return Server(first.leaf(host), chain=copies, own=[[root()]])


# --- names


def numbered(count: int) -> list[x509.GeneralName]:
    return [x509.DNSName(f"h{number}.names.example") for number in range(count)]


@scenario()
def three_thousand_names(host: str) -> Server:
    """Good: RFC 5280 4.2.1.6, RFC 9525 6."""
    return Server(issuing().leaf(host, san=[*numbered(3000), x509.DNSName(host)]))


@scenario(Defect.HOSTNAME_MISMATCH)
def three_thousand_names_of_others(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 9525 6."""
    return Server(issuing().leaf(host, san=numbered(3000)))


@scenario()
def a_thousand_names_and_a_thousand_constraints(host: str) -> Server:
    """Good: RFC 5280 6.1.3 (b), (c)."""
    permitted = [*numbered(1000), x509.DNSName(host)]
    return Server(constrained(permitted).leaf(host, san=[*numbered(1000), x509.DNSName(host)]))


@scenario(Defect.MALFORMED, as_it_is=())
def two_thousand_names_and_two_thousand_constraints(host: str) -> Server:
    """Blocked as malformed: RFC 5280 6.1.3 (b), (c).

    Names are looked up here, and not compared; OpenSSL would have to compare four million times, and does not.
    """
    permitted = [*numbered(2000), x509.DNSName(host)]
    return Server(constrained(permitted).leaf(host, san=[*numbered(2000), x509.DNSName(host)]))


@scenario(Defect.CONSTRAINT_VIOLATION)
def two_thousand_names_and_one_that_is_excluded(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (c)."""
    return Server(constrained(None, [*numbered(2000), x509.DNSName(host)]).leaf(host, san=[x509.DNSName(host)]))


@scenario(Defect.CONSTRAINT_VIOLATION, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=COMPARISONS)
def a_thousand_addresses_and_a_thousand_networks(host: str) -> Server:
    """Blocked as constraint_violation: our own rule, at most 16384 comparisons are made; RFC 5280 4.2.1.10."""
    networks = [x509.IPAddress(ipaddress.ip_network(f"10.{n >> 8}.{n & 255}.0/24")) for n in range(1000)]
    addresses = [x509.IPAddress(ipaddress.ip_address(f"10.{n >> 8}.{n & 255}.1")) for n in range(1000)]
    return Server(constrained(networks).leaf(host, san=[x509.DNSName(host), *addresses]))


@scenario(Defect.CONSTRAINT_VIOLATION, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=COMPARISONS)
def a_thousand_directory_names_and_as_many_constraints(host: str) -> Server:
    """Blocked as constraint_violation: our own rule, at most 16384 comparisons are made; RFC 5280 4.2.1.10."""
    names = [x509.DirectoryName(common_name(f"Name {number}")) for number in range(1000)]
    ca = constrained(None, names)
    others = [x509.DirectoryName(common_name(f"Other {number}")) for number in range(1000)]
    return Server(ca.leaf(host, san=[x509.DNSName(host), *others]))


@scenario()
def a_thousand_extensions(host: str) -> Server:
    """Good: RFC 5280 4.2."""
    return Server(issuing().leaf(host, extra=[Raw(f"1.2.3.{number}", b"\x05\x00") for number in range(1000)]))


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why="Neither looks at serial numbers.")
def three_thousand_names_in_a_common_certificate_that_is_malformed(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.1.2.2."""
    leaf = public().leaf(host, san=[*numbered(3000), x509.DNSName(host)], serial=-1)
    return Server(leaf, common=[public()])
