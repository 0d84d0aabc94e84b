"""Signatures that do not verify, and those by algorithms that are too weak."""

from __future__ import annotations

from certs.verdict import Defect
from tests.harness.pki import HOUR, NOW, Authority, kept_key, new_key, self_signed
from tests.scenarios.base import REFUSES, Server, issuing, public, public_issuing, root, scenario

# --- bad_signature


@scenario(Defect.BAD_SIGNATURE)
def a_server_certificate_that_was_changed(host: str) -> Server:
    """Blocked as bad_signature: RFC 5280 6.1.3 (a)(1)."""
    return Server(issuing().leaf(host, tamper=True))


@scenario(Defect.BAD_SIGNATURE)
def a_server_certificate_signed_by_another_key(host: str) -> Server:
    """Blocked as bad_signature: RFC 5280 6.1.3 (a)(1)."""
    return Server(issuing().leaf(host, sign_with=new_key()))


@scenario(Defect.BAD_SIGNATURE)
def a_server_certificate_of_a_common_ca_signed_by_another_key(host: str) -> Server:
    """Blocked as bad_signature: RFC 5280 6.1.3 (a)(1)."""
    return Server(public_issuing().leaf(host, sign_with=new_key()), common=[public()])


@scenario(Defect.BAD_SIGNATURE)
def an_intermediate_that_was_changed(host: str) -> Server:
    """Blocked as bad_signature: RFC 5280 6.1.3 (a)(1)."""
    return Server(root().intermediate("Forged", tamper=True).leaf(host))


@scenario(Defect.BAD_SIGNATURE)
def an_rsa_signature_that_was_changed(host: str) -> Server:
    """Blocked as bad_signature: RFC 5280 6.1.3 (a)(1), RFC 8017 8.2.2."""
    ca = Authority.root("RSA Root", key=kept_key("rsa2048"))
    return Server(ca.leaf(host, tamper=True))


@scenario(Defect.BAD_SIGNATURE)
def a_signature_by_a_key_of_another_kind(host: str) -> Server:
    """Blocked as bad_signature: RFC 5280 6.1.3 (a)(1).

    It names ECDSA, as its issuer's key would; an Ed25519 key made it.
    """
    return Server(issuing().leaf(host, sign_with=new_key("ed25519")))


@scenario(Defect.BAD_SIGNATURE, Defect.UNTRUSTED_ROOT)
def an_untrusted_root_that_was_changed(host: str) -> Server:
    """Blocked as bad_signature, untrusted_root: RFC 5280 6.1.3 (a)(1), 6.1.1 (d)."""
    stranger = Authority.root("Changed", tamper=True)
    return Server(stranger.leaf(host), chain=[stranger], own=[[root()]])


@scenario(Defect.BAD_SIGNATURE, Defect.SELF_SIGNED)
def a_self_signed_certificate_that_was_changed(host: str) -> Server:
    """Blocked as bad_signature, self_signed: RFC 5280 6.1.3 (a)(1), 6.1.1 (d)."""
    return Server(self_signed(host, tamper=True), own=[[root()]])


@scenario(Defect.BAD_SIGNATURE, Defect.EXPIRED)
def a_bad_signature_hides_no_other_defect(host: str) -> Server:
    """Blocked as bad_signature, expired: RFC 5280 6.1.3 (a)(1), (2)."""
    return Server(issuing().leaf(host, tamper=True, not_after=NOW - HOUR))


@scenario(Defect.BAD_SIGNATURE)
def an_anchors_name_without_its_key(host: str) -> Server:
    """Blocked as bad_signature: RFC 5280 6.1.3 (a)(1)."""
    impostor = Authority.root("Root")
    return Server(impostor.leaf(host, aki=False), own=[[root()]])


@scenario()
def an_anchor_whose_own_signature_was_changed(host: str) -> Server:
    """Good: RFC 5280 6.1.1 (d).

    An anchor is trusted because it is there; its signature proves nothing to anybody.
    """
    return Server(Authority.root("Signed Wrong", tamper=True).leaf(host))


# --- weak_signature


@scenario(Defect.WEAK_SIGNATURE)
def a_sha1_signature_on_the_server_certificate(host: str) -> Server:
    """Blocked as weak_signature: RFC 9155 2."""
    return Server(issuing().leaf(host, hash="sha1"))


@scenario(Defect.WEAK_SIGNATURE)
def a_sha1_signature_on_the_server_certificate_of_a_common_ca(host: str) -> Server:
    """Blocked as weak_signature: RFC 9155 2, CA/B BR 7.1.3.2."""
    return Server(public_issuing().leaf(host, hash="sha1"), common=[public()])


@scenario(Defect.WEAK_SIGNATURE)
def an_md5_signature_on_the_server_certificate(host: str) -> Server:
    """Blocked as weak_signature: RFC 6151 2.1, RFC 9155 2."""
    ca = Authority.root("RSA Root", key=kept_key("rsa2048"))
    return Server(ca.leaf(host, hash="md5"))


@scenario(Defect.WEAK_SIGNATURE)
def an_md5_signature_on_an_intermediate(host: str) -> Server:
    """Blocked as weak_signature: RFC 6151 2.1.

    With such a one a CA was forged in 2008.
    """
    ca = Authority.root("RSA Root", key=kept_key("rsa2048"))
    return Server(ca.intermediate("Hashed", hash="md5").leaf(host))


@scenario(Defect.WEAK_SIGNATURE)
def a_sha1_signature_on_an_intermediate(host: str) -> Server:
    """Blocked as weak_signature: RFC 9155 2."""
    return Server(root().intermediate("Old", hash="sha1").leaf(host))


@scenario(Defect.WEAK_SIGNATURE, Defect.INCOMPLETE_CHAIN)
def a_sha1_signature_of_an_unknown_issuer(host: str) -> Server:
    """Blocked as weak_signature, incomplete_chain: RFC 9155 2, RFC 5280 6.1.1 (d)."""
    return Server(Authority.root("Stranger").leaf(host, hash="sha1"), chain=[], own=[[root()]])


@scenario(Defect.SELF_SIGNED)
def a_sha1_signature_on_oneself(host: str) -> Server:
    """Blocked as self_signed: RFC 5280 6.1.1 (d).

    The hash is no further defect: a signature on oneself proves nothing whatever its hash.
    """
    return Server(self_signed(host, hash="sha1"), own=[[root()]])


@scenario()
def a_root_with_a_sha1_signature_on_itself(host: str) -> Server:
    """Good: RFC 5280 6.1.1 (d)."""
    ca = Authority.root("Old Root", key=kept_key("rsa2048"), hash="sha1")
    return Server(ca.leaf(host, key=kept_key("rsa2048", 1)))


@scenario()
def a_sha1_root_that_is_sent(host: str) -> Server:
    """Good: RFC 5280 6.1.1 (d), RFC 8446 4.4.2.2."""
    ca = Authority.root("Old Root Sent", key=kept_key("rsa2048"), hash="sha1")
    return Server(ca.leaf(host), chain=[ca])


@scenario(chromium_says=REFUSES, why="Chromium knows no SHA-224.")
def a_sha224_signature(host: str) -> Server:
    """Good: NIST SP 800-57 part 1, 5.6.2.

    112 bits of security, which is what is asked of keys.
    """
    return Server(issuing().leaf(host, hash="sha224"))


@scenario()
def a_sha512_signature(host: str) -> Server:
    """Good: RFC 5758 3.2."""
    return Server(issuing().leaf(host, hash="sha512"))


@scenario()
def a_signature_of_rsassa_pss(host: str) -> Server:
    """Good: RFC 4055 3.1."""
    ca = Authority.root("PSS Root", key=kept_key("rsa2048"))
    return Server(ca.intermediate("PSS Issuing", key=kept_key("rsa2048", 1), hash="pss").leaf(host, hash="pss"))
