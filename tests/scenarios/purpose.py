"""What certificates are for: extendedKeyUsage and keyUsage of servers and of those above them."""

from __future__ import annotations

from certs.verdict import Defect
from tests.harness.pki import Authority, Raw, kept_key, self_signed
from tests.scenarios.base import ACCEPTS, REFUSES, Server, issuing, public, public_issuing, root, scenario

SIGNS = "OpenSSL's client does not ask whether the key may sign the handshake."
CA_FLAG = "Neither looks at the CA flag of a server certificate."

# --- extendedKeyUsage


@scenario(Defect.WRONG_PURPOSE)
def a_certificate_for_clients_only(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 5280 4.2.1.12."""
    return Server(issuing().leaf(host, eku=["client"]))


@scenario(Defect.WRONG_PURPOSE)
def a_certificate_of_a_common_ca_for_clients_only(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 5280 4.2.1.12, CA/B BR 7.1.2.7.10."""
    return Server(public_issuing().leaf(host, eku=["client"]), common=[public()])


@scenario(Defect.WRONG_PURPOSE)
def a_certificate_for_code_and_mail(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 5280 4.2.1.12."""
    return Server(issuing().leaf(host, eku=["code", "email"]))


@scenario(Defect.WRONG_PURPOSE)
def a_certificate_that_signs_ocsp_answers(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 5280 4.2.1.12, RFC 6960 4.2.2.2."""
    return Server(issuing().leaf(host, eku=["ocsp"]))


@scenario(Defect.WRONG_PURPOSE, chromium_says=ACCEPTS, why="Chromium takes anyExtendedKeyUsage for serverAuth.")
def any_purpose(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 5280 4.2.1.12.

    An application may ask for its own purpose to be named, and we do.
    """
    return Server(issuing().leaf(host, eku=["any"]))


@scenario(Defect.WRONG_PURPOSE, curl_says=ACCEPTS, why="OpenSSL still takes it for serverAuth.")
def server_gated_cryptography(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 5280 4.2.1.12.

    Netscape's purpose of the 1990s, which was taken for serverAuth.
    """
    return Server(issuing().leaf(host, eku=["2.16.840.1.113730.4.1"]))


@scenario()
def a_purpose_that_nobody_knows_beside_the_servers(host: str) -> Server:
    """Good: RFC 5280 4.2.1.12."""
    return Server(issuing().leaf(host, eku=["1.2.3.4", "server", "client"]))


@scenario()
def purposes_that_are_critical(host: str) -> Server:
    """Good: RFC 5280 4.2.1.12."""
    critical = Raw("2.5.29.37", bytes.fromhex("300a06082b06010505070301"), critical=True)
    return Server(issuing().leaf(host, eku=None, extra=[critical]))


@scenario()
def no_usages_at_all(host: str) -> Server:
    """Good: RFC 5280 4.2.1.3, 4.2.1.12.

    Whoever names no purpose allows all.
    """
    return Server(issuing().leaf(host, key_usage=None, eku=None, ca=None))


@scenario()
def no_purpose_in_a_certificate_of_a_common_ca(host: str) -> Server:
    """Good: RFC 5280 4.2.1.12.

    A duty of common CAs (CA/B BR 7.1.2.7.10), and who names no purpose allows all.
    """
    return Server(public_issuing().leaf(host, eku=None), common=[public()])


@scenario(Defect.WRONG_PURPOSE)
def an_intermediate_for_clients_only(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 5280 4.2.1.12, CA/B BR 7.1.2.10.6."""
    return Server(root().intermediate("Clients", eku=["client"]).leaf(host))


@scenario(Defect.WRONG_PURPOSE)
def an_upper_intermediate_for_clients_only(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 5280 4.2.1.12, CA/B BR 7.1.2.10.6.

    What is not allowed above cannot be allowed below.
    """
    return Server(root().intermediate("Clients", eku=["client"]).intermediate("Servers", eku=["server"]).leaf(host))


@scenario(Defect.WRONG_PURPOSE)
def an_anchor_for_mail_only(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 5280 4.2.1.12."""
    return Server(Authority.root("Mail", eku=["email"]).leaf(host))


@scenario(curl_says=REFUSES, why="OpenSSL asks every CA with an extendedKeyUsage for serverAuth itself.")
def an_intermediate_for_any_purpose(host: str) -> Server:
    """Good: RFC 5280 4.2.1.12."""
    return Server(root().intermediate("Any", eku=["any"]).leaf(host))


@scenario()
def an_intermediate_for_servers_and_clients(host: str) -> Server:
    """Good: RFC 5280 4.2.1.12."""
    return Server(root().intermediate("Both", eku=["client", "server"]).leaf(host))


@scenario(Defect.WRONG_PURPOSE, as_it_is=(), chromium_says=ACCEPTS, why="Chromium does not know the extension.")
def netscapes_certificate_type_for_clients(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 5280 4.2.

    An extension of the 1990s that OpenSSL still honours; what either finds counts.
    """
    client = Raw("2.16.840.1.113730.1.1", bytes.fromhex("03020780"))
    return Server(issuing().leaf(host, extra=[client]))


# --- keyUsage


@scenario(Defect.WRONG_PURPOSE, curl_says=ACCEPTS, why=SIGNS)
def a_key_that_may_only_encipher(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 8446 4.4.2.2, RFC 5246 7.4.2.

    Only key exchanges that sign are offered.
    """
    return Server(issuing().leaf(host, key_usage=["key_encipherment"]))


@scenario(Defect.WRONG_PURPOSE, curl_says=ACCEPTS, why=SIGNS)
def an_rsa_key_that_may_only_encipher(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 8446 4.4.2.2, RFC 5246 7.4.2."""
    return Server(issuing().leaf(host, key=kept_key("rsa2048"), key_usage=["key_encipherment"]))


@scenario(Defect.WRONG_PURPOSE, curl_says=ACCEPTS, why=SIGNS)
def a_key_that_may_only_agree(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 8446 4.4.2.2, RFC 8422 2.2.

    For ECDH with the certificate's own key, which nobody offers any more.
    """
    return Server(issuing().leaf(host, key_usage=["key_agreement"]))


@scenario(Defect.WRONG_PURPOSE, Defect.INCOMPLETE_CHAIN, as_it_is=[Defect.WRONG_PURPOSE])
def a_key_usage_of_no_bits(host: str) -> Server:
    """Blocked as wrong_purpose, incomplete_chain: RFC 5280 4.2.1.3, RFC 8446 4.4.2.2."""
    return Server(issuing().leaf(host, key_usage=[]))


@scenario()
def a_key_that_may_sign_and_encipher(host: str) -> Server:
    """Good: RFC 8446 4.4.2.2."""
    return Server(issuing().leaf(host, key=kept_key("rsa2048"), key_usage=["digital_signature", "key_encipherment"]))


# --- CA certificates at servers


@scenario(Defect.WRONG_PURPOSE, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=CA_FLAG)
def a_ca_certificate_as_server_certificate(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 5280 4.2.1.9, CA/B BR 7.1.2.7.8."""
    return Server(issuing().leaf(host, ca=True))


@scenario(Defect.WRONG_PURPOSE, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=CA_FLAG)
def a_ca_certificate_of_a_common_ca_as_server_certificate(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 5280 4.2.1.9, CA/B BR 7.1.2.7.8."""
    return Server(public_issuing().leaf(host, ca=True), common=[public()])


@scenario(Defect.WRONG_PURPOSE, curl_says=ACCEPTS, why="OpenSSL does not look at the CA flag of a server certificate.")
def an_anchor_as_server_certificate(host: str) -> Server:
    """Blocked as wrong_purpose: RFC 5280 4.2.1.9, CA/B BR 7.1.2.7.8.

    Its key can vouch for every host, and lies at a server.
    """
    anchor = self_signed(host, ca=True)
    return Server(anchor, own=[[anchor]])
