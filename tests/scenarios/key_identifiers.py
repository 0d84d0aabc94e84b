"""AKI and SKI: hints for finding an issuer, never a proof of one."""

from __future__ import annotations

from cryptography import x509

from certs.verdict import Defect
from tests.harness.pki import Authority, Raw
from tests.scenarios.base import ACCEPTS, Server, issuing, public, public_issuing, root, scenario

A_HINT = "Chromium takes it for the hint that it is."

AKI, SKI = "2.5.29.35", "2.5.29.14"


@scenario()
def no_key_identifiers_at_all(host: str) -> Server:
    """Good: RFC 5280 4.2.1.1, 4.2.1.2."""
    top = Authority.root("Nameless", ski=False, aki=False)
    return Server(top.intermediate("Below", ski=False, aki=False).leaf(host, ski=False, aki=False))


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why="Both find the path without it.")
def no_authority_key_identifier_in_a_certificate_of_a_common_ca(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.2.1.1, CA/B BR 7.1.2.7.6."""
    return Server(public_issuing().leaf(host, aki=False), common=[public()])


@scenario()
def no_subject_key_identifier_in_a_common_ca(host: str) -> Server:
    """Good: RFC 5280 4.2.1.2.

    A duty of CAs; a path is found without it.
    """
    return Server(public().intermediate("Unidentified", ski=False).leaf(host), common=[public()])


@scenario()
def a_subject_key_identifier_that_is_no_hash(host: str) -> Server:
    """Good: RFC 5280 4.2.1.2.

    How it is made is up to the CA.
    """
    ca = root().intermediate("Numbered", ski=False, extra=[Raw(SKI, bytes.fromhex("040101"))])
    named = x509.AuthorityKeyIdentifier(b"\x01", None, None).public_bytes()
    return Server(ca.leaf(host, aki=False, extra=[Raw(AKI, named)]))


@scenario(Defect.INCOMPLETE_CHAIN, as_it_is=(), chromium_says=ACCEPTS, why=A_HINT)
def an_authority_key_identifier_of_another_key(host: str) -> Server:
    """Blocked as incomplete_chain: RFC 5280 4.2.1.1.

    The signature verifies, and so our own checks pass it; OpenSSL takes the hint at its word, and finds no issuer.
    """
    other = x509.AuthorityKeyIdentifier(bytes(20), None, None).public_bytes()
    return Server(issuing().leaf(host, aki=False, extra=[Raw(AKI, other)]))


@scenario()
def an_authority_key_identifier_by_name_and_number(host: str) -> Server:
    """Good: RFC 5280 4.2.1.1."""
    ca = issuing()
    names = [x509.DirectoryName(root().subject)]
    by_number = x509.AuthorityKeyIdentifier(None, names, ca.certificate.serial_number).public_bytes()
    return Server(ca.leaf(host, aki=False, extra=[Raw(AKI, by_number)]))


@scenario(Defect.INCOMPLETE_CHAIN, as_it_is=(), chromium_says=ACCEPTS, why=A_HINT)
def an_authority_key_identifier_with_another_number(host: str) -> Server:
    """Blocked as incomplete_chain: RFC 5280 4.2.1.1."""
    names = [x509.DirectoryName(root().subject)]
    by_number = x509.AuthorityKeyIdentifier(None, names, 4711).public_bytes()
    return Server(issuing().leaf(host, aki=False, extra=[Raw(AKI, by_number)]))


@scenario(Defect.MALFORMED)
def a_critical_authority_key_identifier(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.2.1.1.

    It must not be critical: a path can be found without it.
    """
    above = issuing().certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above)
    return Server(issuing().leaf(host, aki=False, extra=[Raw(AKI, identifier.public_bytes(), critical=True)]))


@scenario(Defect.MALFORMED)
def a_critical_subject_key_identifier_of_an_intermediate(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.2.1.2."""
    ca = root().intermediate("Critical", ski=False, extra=[Raw(SKI, bytes.fromhex("04020102"), critical=True)])
    return Server(ca.leaf(host, aki=False))


@scenario()
def an_identifier_that_tells_two_cas_of_one_name_apart(host: str) -> Server:
    """Good: RFC 5280 4.2.1.1."""
    first, second = root().intermediate("Twins"), root().intermediate("Twins")
    return Server(second.leaf(host), chain=[first, second])
