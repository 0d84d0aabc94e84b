"""Keys and signatures that are too weak, and certificates for another purpose."""

from __future__ import annotations

from certs.verdict import Defect
from tests.certs.scenarios.base import Server, issuing, root, scenario
from tests.harness.pki import Authority, kept_key, self_signed

# --- weak_key


@scenario(Defect.WEAK_KEY)
def a_server_key_of_1024_bits_is_weak() -> Server:
    return Server(issuing().leaf(key=kept_key("rsa1024")))


@scenario(Defect.WEAK_KEY)
def a_server_key_on_a_curve_of_192_bits_is_weak() -> Server:
    return Server(issuing().leaf(key="ec192"), unserved=True)


@scenario(Defect.WEAK_KEY)
def a_server_key_on_a_curve_of_224_bits_is_weak() -> Server:
    return Server(issuing().leaf(key="ec224"), unserved=True)


@scenario(Defect.WEAK_KEY)
def a_dsa_server_key_is_weak() -> Server:
    return Server(issuing().leaf(key="dsa"), unserved=True)


@scenario(Defect.WEAK_KEY)
def an_intermediate_key_of_1024_bits_is_weak() -> Server:
    return Server(root().intermediate(key=kept_key("rsa1024")).leaf())


@scenario(Defect.WEAK_KEY)
def an_anchor_key_of_1024_bits_is_weak() -> Server:
    return Server(Authority.root("Weak Root", key=kept_key("rsa1024")).leaf())


# --- weak_signature


@scenario(Defect.WEAK_SIGNATURE)
def a_sha1_signature_on_the_server_certificate_is_weak() -> Server:
    return Server(issuing().leaf(hash="sha1"))


@scenario(Defect.WEAK_SIGNATURE)
def an_md5_signature_on_the_server_certificate_is_weak() -> Server:
    ca = Authority.root("RSA Root", key=kept_key("rsa2048"))
    return Server(ca.leaf(hash="md5"))


@scenario(Defect.WEAK_SIGNATURE)
def a_sha1_signature_on_an_intermediate_is_weak() -> Server:
    return Server(root().intermediate(hash="sha1").leaf())


@scenario(Defect.WEAK_SIGNATURE, Defect.INCOMPLETE_CHAIN)
def a_sha1_signature_of_an_unknown_issuer_is_weak() -> Server:
    return Server(Authority.root("Stranger").leaf(hash="sha1"), chain=[], own=[[root()]])


@scenario(Defect.SELF_SIGNED)
def a_sha1_signature_on_oneself_is_no_further_defect() -> Server:
    return Server(self_signed(hash="sha1"), own=[[root()]])


# --- wrong_purpose


@scenario(Defect.WRONG_PURPOSE)
def a_certificate_for_clients_only_has_the_wrong_purpose() -> Server:
    return Server(issuing().leaf(eku=["client"]))


@scenario(Defect.WRONG_PURPOSE)
def any_purpose_is_not_enough_for_a_server() -> Server:
    return Server(issuing().leaf(eku=["any"]))


@scenario(Defect.WRONG_PURPOSE)
def an_intermediate_for_clients_only_has_the_wrong_purpose() -> Server:
    return Server(root().intermediate(eku=["client"]).leaf())


@scenario(Defect.WRONG_PURPOSE)
def an_anchor_for_mail_only_has_the_wrong_purpose() -> Server:
    return Server(Authority.root("Mail", eku=["email"]).leaf())


@scenario(Defect.WRONG_PURPOSE)
def a_key_that_may_only_encipher_has_the_wrong_purpose() -> Server:
    """RFC 8446 4.4.2.2: only key exchanges that sign are offered."""
    return Server(issuing().leaf(key_usage=["key_encipherment"]))


@scenario(Defect.WRONG_PURPOSE)
def a_ca_certificate_as_server_certificate_has_the_wrong_purpose() -> Server:
    return Server(issuing().leaf(ca=True))


@scenario(Defect.WRONG_PURPOSE)
def an_anchor_as_server_certificate_has_the_wrong_purpose() -> Server:
    anchor = self_signed(ca=True)
    return Server(anchor, own=[[anchor]])
