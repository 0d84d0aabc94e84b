"""Keys, strong and weak, of servers, intermediates and anchors."""

from __future__ import annotations

from certs.verdict import Defect
from tests.harness.pki import Authority, kept_key
from tests.scenarios.base import ACCEPTS, REFUSES, Server, issuing, public, public_issuing, root, scenario

SMALL_RSA = "Chromium asks of RSA keys for 1024 bits."
EDDSA = "Chromium takes no EdDSA certificates."


@scenario(Defect.WEAK_KEY, chromium_says=ACCEPTS, why=SMALL_RSA)
def a_server_key_of_1024_bits(host: str) -> Server:
    """Blocked as weak_key: NIST SP 800-57 part 1, 5.6.1."""
    return Server(issuing().leaf(host, key=kept_key("rsa1024")))


@scenario(Defect.WEAK_KEY, chromium_says=ACCEPTS, why=SMALL_RSA)
def a_server_key_of_1024_bits_of_a_common_ca(host: str) -> Server:
    """Blocked as weak_key: CA/B BR 6.1.5."""
    return Server(public_issuing().leaf(host, key=kept_key("rsa1024")), common=[public()])


@scenario(
    Defect.WEAK_KEY,
    curl_says=ACCEPTS,
    chromium_says=ACCEPTS,
    why="OpenSSL rounds its strength up to 112 bits; Chromium asks for 1024.",
)
def a_server_key_a_little_below_2048_bits(host: str) -> Server:
    """Blocked as weak_key: NIST SP 800-57 part 1, 5.6.1."""
    return Server(issuing().leaf(host, key=kept_key("rsa2040")))


@scenario(Defect.PROTOCOL, as_it_is=[Defect.WEAK_KEY])
def a_server_key_on_a_curve_of_192_bits(host: str) -> Server:
    """Blocked as protocol: RFC 8422 5.1.1, NIST SP 800-57 part 1, 5.6.1.

    The curve is not offered, so no handshake gets so far that the key could be found weak.
    """
    return Server(issuing().leaf(host, key="ec192"))


@scenario(Defect.PROTOCOL, as_it_is=[Defect.WEAK_KEY])
def a_server_key_on_a_curve_of_224_bits(host: str) -> Server:
    """Blocked as protocol: RFC 8422 5.1.1, NIST SP 800-57 part 1, 5.6.1."""
    return Server(issuing().leaf(host, key="ec224"))


@scenario(Defect.PROTOCOL, as_it_is=[Defect.WEAK_KEY])
def a_dsa_server_key(host: str) -> Server:
    """Blocked as protocol: RFC 8446 4.2.3, RFC 9325 4.1."""
    return Server(issuing().leaf(host, key=kept_key("dsa")))


@scenario(Defect.PROTOCOL, as_it_is=())
def a_server_key_on_a_curve_that_tls_does_not_offer(host: str) -> Server:
    """Blocked as protocol: RFC 8422 5.1.1, RFC 8446 4.2.3."""
    return Server(issuing().leaf(host, key="secp256k1"))


@scenario(Defect.WEAK_KEY, chromium_says=ACCEPTS, why=SMALL_RSA)
def an_intermediate_key_of_1024_bits(host: str) -> Server:
    """Blocked as weak_key: NIST SP 800-57 part 1, 5.6.1."""
    return Server(root().intermediate("Weak", key=kept_key("rsa1024")).leaf(host))


@scenario(Defect.WEAK_KEY)
def an_intermediate_key_on_a_curve_of_192_bits(host: str) -> Server:
    """Blocked as weak_key: NIST SP 800-57 part 1, 5.6.1."""
    return Server(root().intermediate("Small", key="ec192").leaf(host))


@scenario(Defect.WEAK_KEY, curl_says=ACCEPTS, why="OpenSSL still verifies DSA; Chromium does not know it.")
def a_dsa_intermediate(host: str) -> Server:
    """Blocked as weak_key: RFC 8446 4.2.3, NIST FIPS 186-5 1."""
    return Server(root().intermediate("Digital", key=kept_key("dsa")).leaf(host))


@scenario(Defect.WEAK_KEY, chromium_says=ACCEPTS, why=SMALL_RSA)
def an_anchor_key_of_1024_bits(host: str) -> Server:
    """Blocked as weak_key: NIST SP 800-57 part 1, 5.6.1."""
    return Server(Authority.root("Weak Root", key=kept_key("rsa1024")).leaf(host))


@scenario()
def rsa_keys_of_2048_bits(host: str) -> Server:
    """Good: NIST SP 800-57 part 1, 5.6.1."""
    ca = Authority.root("RSA Root", key=kept_key("rsa2048"))
    return Server(ca.leaf(host, key=kept_key("rsa2048", 1)))


@scenario()
def an_rsa_key_of_3072_bits(host: str) -> Server:
    """Good: NIST SP 800-57 part 1, 5.6.1."""
    return Server(issuing().leaf(host, key=kept_key("rsa3072")))


@scenario(chromium_says=REFUSES, why=EDDSA)
def ed25519_keys(host: str) -> Server:
    """Good: RFC 8410 3."""
    ca = Authority.root("Ed Root", key="ed25519")
    return Server(ca.leaf(host, key="ed25519"))


@scenario(chromium_says=REFUSES, why=EDDSA)
def an_ed448_intermediate(host: str) -> Server:
    """Good: RFC 8410 3."""
    return Server(root().intermediate("Ed448", key="ed448").leaf(host))


@scenario()
def keys_of_384_and_521_bits(host: str) -> Server:
    """Good: RFC 5480 2.1.1.1."""
    ca = Authority.root("Big Root", key="ec521")
    return Server(ca.intermediate("Big Issuing", key="ec384").leaf(host))


@scenario(chromium_says=REFUSES, why="Chromium knows only NIST's curves.")
def an_intermediate_key_on_a_brainpool_curve(host: str) -> Server:
    """Good: RFC 5639 3.4.

    Of the tenant's own; nobody is asked which curve, only how large.
    """
    return Server(root().intermediate("Brainpool", key="brainpool256").leaf(host))


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, why="OpenSSL asks of a curve only how large it is.")
def an_intermediate_key_of_a_common_ca_on_a_brainpool_curve(host: str) -> Server:
    """Blocked as malformed: CA/B BR 6.1.5."""
    return Server(public().intermediate("Brainpool", key="brainpool256").leaf(host), common=[public()])
