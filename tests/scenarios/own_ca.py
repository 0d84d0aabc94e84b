"""The key of a signing CA of ours in a server's chain: no server may be vouched for by the interceptor's own key."""

from __future__ import annotations

from cryptography import x509

from certs.verdict import Defect
from tests.harness.pki import Authority, new_key
from tests.scenarios.base import ACCEPTS, Server, issuing, public, root, scenario

ONLY_WE_KNOW = "Whose key it is, only we know."


@scenario(Defect.OWN_CA, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=ONLY_WE_KNOW)
def a_chain_over_our_own_signing_key(host: str) -> Server:
    """Blocked as own_ca: our own rule, as RFC 5280 3.2 leaves to the user of a certificate whom to trust."""
    ours = root().intermediate("Ours in the chain")
    return Server(ours.leaf(host), ours=[ours])


@scenario(Defect.OWN_CA, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=ONLY_WE_KNOW)
def an_anchor_with_our_own_signing_key(host: str) -> Server:
    """Blocked as own_ca: our own rule, before RFC 5280 6.1.1 (d).

    Even where an administrator trusts our root: a leaf that was stolen would pass for the server's own.
    """
    ours = Authority.root("Ours as anchor")
    return Server(ours.leaf(host), ours=[ours])


@scenario(Defect.OWN_CA, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=ONLY_WE_KNOW)
def our_own_signing_key_in_the_common_store(host: str) -> Server:
    """Blocked as own_ca: our own rule, before RFC 5280 6.1.1 (d)."""
    ours = Authority.root("Ours in common")
    return Server(ours.leaf(host), common=[ours], ours=[ours])


@scenario(Defect.OWN_CA, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=ONLY_WE_KNOW)
def our_own_signing_key_beside_the_path(host: str) -> Server:
    """Blocked as own_ca: our own rule; RFC 8446 4.4.2 lets a server send what is in no path."""
    ours = Authority.root("Ours beside")
    return Server(issuing().leaf(host), chain=[issuing(), ours], ours=[ours])


@scenario(Defect.OWN_CA, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=ONLY_WE_KNOW)
def our_own_signing_key_under_another_name(host: str) -> Server:
    """Blocked as own_ca: our own rule.

    The key counts, whatever certificate it is in.
    """
    ours = Authority.root("Ours renamed")
    return Server(root().intermediate("Another name", key=ours.key).leaf(host), ours=[ours])


@scenario(Defect.OWN_CA, Defect.WRONG_PURPOSE, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=ONLY_WE_KNOW)
def our_own_issuing_certificate_as_server_certificate(host: str) -> Server:
    """Blocked as own_ca, wrong_purpose: our own rule, CA/B BR 7.1.2.7.8."""
    key = new_key()
    shown = root().intermediate("Shown", key=key, san=[x509.DNSName(host)], key_usage=None)
    return Server(shown, ours=[Authority.root("Ours shown", key=key)])


@scenario(Defect.OWN_CA, Defect.UNTRUSTED_ROOT)
def our_own_root_that_nobody_trusts(host: str) -> Server:
    """Blocked as own_ca, untrusted_root: our own rule, RFC 5280 6.1.1 (d).

    What another proxy of this installation shows to this one.
    """
    ours = Authority.root("Ours untrusted")
    return Server(ours.leaf(host), chain=[ours], own=[[root()]], ours=[ours])


@scenario()
def a_signing_key_of_ours_that_is_not_in_the_chain(host: str) -> Server:
    """Good: RFC 5280 6.1."""
    return Server(issuing().leaf(host), ours=[Authority.root("Ours elsewhere")])


@scenario()
def a_cas_name_that_is_ours_with_another_key(host: str) -> Server:
    """Good: RFC 5280 6.1.

    Everybody may have our CA's name; what counts is the key.
    """
    ours = Authority.root("Namesake")
    return Server(public().intermediate("Namesake").leaf(host), common=[public()], ours=[ours])
