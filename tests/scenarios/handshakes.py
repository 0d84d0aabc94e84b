"""What a server offers in TLS. Where it is nothing safe, there is no certificate to judge, or none that counts."""

from __future__ import annotations

import base64

from certs.verdict import Defect
from tests.harness.der_writing import integer, tlv
from tests.harness.pki import kept_key
from tests.scenarios.base import ACCEPTS, REFUSES, Server, issuing, public, public_issuing, scenario

OAKLEY_2 = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
    16,
)
"""The group of 1024 bits that was everywhere in 2015 (RFC 2409 6.2)."""
OAKLEY_14 = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
"""The same of 2048 bits (RFC 3526 3)."""


def group(prime: int) -> str:
    """A Diffie-Hellman group with the generator 2, PEM."""
    encoded = base64.encodebytes(tlv(0x30, integer(prime) + integer(2))).decode()
    return f"-----BEGIN DH PARAMETERS-----\n{encoded}-----END DH PARAMETERS-----\n"


@scenario(Defect.PROTOCOL, as_it_is=())
def tls_1_1_at_most(host: str) -> Server:
    """Blocked as protocol: RFC 8996 5."""
    return Server(issuing().leaf(host, key=kept_key("rsa2048")), versions=["TLSv1", "TLSv1.1"])


@scenario(
    Defect.PROTOCOL,
    as_it_is=(),
    curl_says=ACCEPTS,
    why="curl still offers RSA key exchange; Chromium too, but the key may not encipher.",
)
def no_forward_secrecy(host: str) -> Server:
    """Blocked as protocol: RFC 9325 4.1.

    Whoever gets the server's key later reads all that was recorded.
    """
    leaf = issuing().leaf(host, key=kept_key("rsa2048"))
    return Server(leaf, versions=["TLSv1.2"], ciphers="AES128-GCM-SHA256:AES256-SHA")


@scenario(Defect.PROTOCOL, as_it_is=())
def no_certificate(host: str) -> Server:
    """Blocked as protocol: RFC 9325 4.1.

    A good one lies there; the server is content with ciphers that need none.
    """
    return Server(issuing().leaf(host), versions=["TLSv1.2"], ciphers="aNULL")


@scenario(Defect.PROTOCOL, as_it_is=())
def no_encryption(host: str) -> Server:
    """Blocked as protocol: RFC 9325 4.1."""
    return Server(issuing().leaf(host), versions=["TLSv1.2"], ciphers="ECDHE-ECDSA-NULL-SHA")


@scenario(Defect.WEAK_KEY, as_it_is=())
def a_diffie_hellman_group_of_1024_bits(host: str) -> Server:
    """Blocked as weak_key: RFC 9325 4.1, RFC 7919 1."""
    leaf = issuing().leaf(host, key=kept_key("rsa2048"))
    return Server(
        leaf,
        versions=["TLSv1.2"],
        ciphers="DHE+AESGCM",
        dh=group(OAKLEY_2),
        not_in_memory="OpenSSL 4 on both sides takes a group of RFC 7919 in its place",
    )


@scenario(chromium_says=REFUSES, why="Chromium offers no Diffie-Hellman but on curves.")
def a_diffie_hellman_group_of_2048_bits(host: str) -> Server:
    """Good: RFC 9325 4.1, RFC 7919 2."""
    leaf = issuing().leaf(host, key=kept_key("rsa2048"))
    return Server(leaf, versions=["TLSv1.2"], ciphers="DHE+AESGCM", dh=group(OAKLEY_14))


@scenario()
def tls_1_2_at_most(host: str) -> Server:
    """Good: RFC 9325 3.1.1."""
    return Server(issuing().leaf(host), versions=["TLSv1.2"])


@scenario()
def tls_1_3_at_least(host: str) -> Server:
    """Good: RFC 8446 1."""
    return Server(public_issuing().leaf(host), versions=["TLSv1.3"], common=[public()])


@scenario(chromium_says=REFUSES, why="Chromium offers no CBC for ECDSA keys.")
def cbc_with_forward_secrecy(host: str) -> Server:
    """Good: RFC 9325 4.2.

    What servers have that have nothing newer.
    """
    return Server(issuing().leaf(host), versions=["TLSv1.2"], ciphers="ECDHE-ECDSA-AES128-SHA")
