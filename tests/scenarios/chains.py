"""Where chains end, and how paths are found: anchors, helpers, cross-certificates, loops."""

from __future__ import annotations

from cryptography import x509

from certs.verdict import Defect
from tests.harness.pki import HOUR, NOW, Authority, common_name, kept_key, self_signed
from tests.scenarios.base import REFUSES, Server, issuing, public, public_issuing, root, scenario

NO_TURNING_BACK = "OpenSSL takes the first issuer of the right name and key, and does not turn back."

# --- what is in order


@scenario()
def one_intermediate(host: str) -> Server:
    """Good: RFC 5280 6.1."""
    return Server(issuing().leaf(host))


@scenario()
def an_anchor_of_the_common_store(host: str) -> Server:
    """Good: RFC 5280 6.1."""
    return Server(public_issuing().leaf(host), common=[public()])


@scenario()
def right_below_the_root(host: str) -> Server:
    """Good: RFC 5280 6.1."""
    return Server(root().leaf(host))


@scenario()
def right_below_a_root_of_the_common_store(host: str) -> Server:
    """Good: RFC 5280 6.1."""
    return Server(public().leaf(host), common=[public()])


@scenario()
def four_intermediates(host: str) -> Server:
    """Good: RFC 5280 6.1."""
    at = root()
    for number in range(4):
        at = at.intermediate(f"Level {number}")
    return Server(at.leaf(host))


@scenario()
def a_root_that_is_sent(host: str) -> Server:
    """Good: RFC 8446 4.4.2."""
    return Server(issuing().leaf(host), chain=[issuing(), root()])


@scenario()
def another_order(host: str) -> Server:
    """Good: RFC 8446 4.4.2."""
    upper = root().intermediate("Upper")
    lower = upper.intermediate("Lower")
    return Server(lower.leaf(host), chain=[root(), upper, lower])


@scenario()
def somebody_elses_certificate_among_those_sent(host: str) -> Server:
    """Good: RFC 8446 4.4.2."""
    return Server(issuing().leaf(host), chain=[Authority.root("Stranger"), issuing()])


@scenario()
def a_server_certificate_that_is_sent_twice(host: str) -> Server:
    """Good: RFC 8446 4.4.2."""
    leaf = issuing().leaf(host)
    return Server(leaf, chain=[leaf, issuing()])


# --- self_signed


@scenario(Defect.SELF_SIGNED)
def a_self_signed_server_certificate(host: str) -> Server:
    """Blocked as self_signed: RFC 5280 6.1.1 (d)."""
    return Server(self_signed(host), own=[[root()]])


@scenario(Defect.SELF_SIGNED)
def a_self_signed_server_certificate_beside_the_common_store(host: str) -> Server:
    """Blocked as self_signed: RFC 5280 6.1.1 (d)."""
    return Server(self_signed(host), common=[public()])


@scenario(Defect.SELF_SIGNED)
def what_openssl_req_x509_makes(host: str) -> Server:
    """Blocked as self_signed: RFC 5280 6.1.1 (d).

    That it says CA is no further defect: nobody vouches for it, so it can vouch for nobody.
    """
    return Server(self_signed(host, ca=True, key_usage=None, eku=None), own=[[root()]])


@scenario(Defect.SELF_SIGNED)
def a_self_signed_certificate_that_is_sent_twice(host: str) -> Server:
    """Blocked as self_signed: RFC 5280 6.1.1 (d)."""
    leaf = self_signed(host)
    return Server(leaf, chain=[leaf], own=[[root()]])


@scenario(Defect.SELF_SIGNED)
def a_self_signed_certificate_with_the_anchor_behind_it(host: str) -> Server:
    """Blocked as self_signed: RFC 5280 6.1.1 (d), 6.1.3 (a)(4).

    What is sent beside it did not sign it.
    """
    return Server(self_signed(host), chain=[issuing(), root()], own=[[root()]])


@scenario(Defect.SELF_SIGNED)
def a_self_signed_certificate_where_nothing_is_trusted(host: str) -> Server:
    """Blocked as self_signed: RFC 5280 6.1.1 (d)."""
    return Server(self_signed(host), no_trust=True)


@scenario(Defect.SELF_SIGNED, Defect.HOSTNAME_MISMATCH)
def a_self_signed_certificate_for_another_host(host: str) -> Server:
    """Blocked as self_signed, hostname_mismatch: RFC 5280 6.1.1 (d), RFC 9525 6.

    What a device shows before anybody has set it up.
    """
    return Server(self_signed("localhost.localdomain"), own=[[root()]])


@scenario(Defect.SELF_SIGNED, Defect.HOSTNAME_MISMATCH)
def a_self_signed_certificate_of_version_1(host: str) -> Server:
    """Blocked as self_signed, hostname_mismatch: RFC 5280 6.1.1 (d), RFC 9525 2."""
    return Server(self_signed(host, version=1, bare=True), own=[[root()]])


@scenario(chromium_says=REFUSES, why="Chromium was told to trust it as a CA, which it does not say that it is.")
def a_self_signed_server_certificate_that_is_an_anchor(host: str) -> Server:
    """Good: RFC 5280 6.1.1 (d)."""
    leaf = self_signed(host)
    return Server(leaf, own=[[leaf]])


# --- incomplete_chain


@scenario(Defect.INCOMPLETE_CHAIN)
def no_intermediate(host: str) -> Server:
    """Blocked as incomplete_chain: RFC 5280 6.1.1 (d), RFC 8446 4.4.2."""
    return Server(issuing().leaf(host), chain=[])


@scenario(Defect.INCOMPLETE_CHAIN)
def no_intermediate_of_a_common_ca(host: str) -> Server:
    """Blocked as incomplete_chain: RFC 5280 6.1.1 (d), RFC 8446 4.4.2."""
    return Server(public_issuing().leaf(host), chain=[], common=[public()])


@scenario(Defect.INCOMPLETE_CHAIN)
def the_upper_of_two_intermediates_is_missing(host: str) -> Server:
    """Blocked as incomplete_chain: RFC 5280 6.1.1 (d), RFC 8446 4.4.2."""
    lower = root().intermediate("Upper").intermediate("Lower")
    return Server(lower.leaf(host), chain=[lower])


@scenario(Defect.INCOMPLETE_CHAIN)
def the_wrong_intermediate(host: str) -> Server:
    """Blocked as incomplete_chain: RFC 5280 6.1.3 (a)(4), RFC 8446 4.4.2."""
    return Server(root().intermediate("Right").leaf(host), chain=[root().intermediate("Wrong")])


@scenario(Defect.INCOMPLETE_CHAIN)
def an_end_below_an_unknown_root(host: str) -> Server:
    """Blocked as incomplete_chain: RFC 5280 6.1.1 (d)."""
    return Server(Authority.root("Stranger").intermediate("Strange").leaf(host), own=[[root()]])


@scenario(Defect.INCOMPLETE_CHAIN)
def a_helper_is_no_anchor(host: str) -> Server:
    """Blocked as incomplete_chain: RFC 5280 6.1.1 (d).

    Of a bundle the topmost certificate alone is trusted; here that one is somebody else's.
    """
    helper = Authority.root("Not Trusted").intermediate("Helping")
    return Server(helper.leaf(host), chain=[], own=[[helper, Authority.root("Other")]])


@scenario(Defect.INCOMPLETE_CHAIN)
def an_issuer_of_ones_own_invention(host: str) -> Server:
    """Blocked as incomplete_chain: RFC 5280 6.1.1 (d).

    Signed with its own key, under the name of an issuer that nobody has.
    """
    return Server(self_signed(host, issuer_name=common_name("Best Public CA"), aki=False), own=[[root()]])


@scenario(Defect.INCOMPLETE_CHAIN)
def a_self_signed_certificate_that_names_another_key(host: str) -> Server:
    """Blocked as incomplete_chain: RFC 5280 4.2.1.1, 6.1.1 (d)."""
    ca = Authority.root("Away")
    return Server(ca.leaf(host, subject=common_name("Away")), chain=[], own=[[root()]])


# --- untrusted_root


@scenario(Defect.UNTRUSTED_ROOT)
def an_end_in_an_unknown_root(host: str) -> Server:
    """Blocked as untrusted_root: RFC 5280 6.1.1 (d)."""
    stranger = Authority.root("Stranger")
    between = stranger.intermediate("Strange")
    return Server(between.leaf(host), chain=[between, stranger], own=[[root()]])


@scenario(Defect.UNTRUSTED_ROOT)
def an_unknown_root_beside_the_common_store(host: str) -> Server:
    """Blocked as untrusted_root: RFC 5280 6.1.1 (d)."""
    stranger = Authority.root("Stranger")
    return Server(stranger.leaf(host), chain=[stranger], common=[public()])


@scenario(Defect.UNTRUSTED_ROOT)
def a_root_of_a_trusted_ones_name(host: str) -> Server:
    """Blocked as untrusted_root: RFC 5280 6.1.1 (d)."""
    impostor = Authority.root("Root")
    return Server(impostor.leaf(host), chain=[impostor], own=[[root()]])


@scenario(Defect.UNTRUSTED_ROOT)
def a_root_of_a_trusted_ones_name_without_key_identifiers(host: str) -> Server:
    """Blocked as untrusted_root: RFC 5280 6.1.1 (d).

    OpenSSL tries the trusted one's key, and calls the signature bad.
    """
    impostor = Authority.root("Root", ski=False, aki=False)
    return Server(impostor.leaf(host, aki=False), chain=[impostor], own=[[root()]])


@scenario(Defect.UNTRUSTED_ROOT, Defect.EXPIRED, Defect.HOSTNAME_MISMATCH)
def an_untrusted_chain_is_judged_in_full(host: str) -> Server:
    """Blocked as untrusted_root, expired, hostname_mismatch: RFC 5280 6.1.1 (d), 6.1.3 (a)(2), RFC 9525 6."""
    stranger = Authority.root("Stranger")
    return Server(stranger.leaf("other.example", not_after=NOW - HOUR), chain=[stranger], own=[[root()]])


@scenario(
    Defect.WEAK_KEY,
    Defect.WEAK_SIGNATURE,
    Defect.CONSTRAINT_VIOLATION,
    Defect.WRONG_PURPOSE,
    Defect.EXPIRED,
    Defect.HOSTNAME_MISMATCH,
)
def no_defect_hides_another(host: str) -> Server:
    """Blocked as weak_key, weak_signature, constraint_violation, wrong_purpose, expired, hostname_mismatch:
    RFC 5280 6.1.

    No action that is set for one lets another pass unseen.
    """
    ca = root().intermediate("Bad", ca=False)
    return Server(ca.leaf("other.example", key=kept_key("rsa1024"), hash="sha1", eku=["client"], not_after=NOW - HOUR))


# --- anchors and helpers


@scenario()
def an_intermediate_without_its_root_as_anchor(host: str) -> Server:
    """Good: RFC 5280 6.1.1 (d).

    An anchor is whatever the tenant trusts, root or not.
    """
    ca = Authority.root("Absent").intermediate("Alone")
    return Server(ca.leaf(host), own=[[ca]])


@scenario(
    curl_says=REFUSES,
    chromium_says=REFUSES,
    why="Both were given the anchor alone; they have no certificates that only help.",
)
def a_helper_that_fills_the_gap_which_the_server_left(host: str) -> Server:
    """Good: RFC 5280 6.1.1 (d), RFC 4158 2.1."""
    top = Authority.root("Above The Gap")
    helper = top.intermediate("In The Gap")
    return Server(helper.leaf(host), chain=[], own=[[helper, top]])


@scenario(Defect.EXPIRED)
def the_topmost_of_a_bundle_has_expired(host: str) -> Server:
    """Blocked as expired: RFC 5280 6.1.1 (d), 4.1.2.5.

    What is below it in the bundle is no anchor in its place.
    """
    ended = Authority.root("Ended Above", not_after=NOW - HOUR)
    between = ended.intermediate("Going On")
    return Server(between.leaf(host), own=[[between, ended]])


@scenario()
def an_anchor_of_ones_own_that_is_in_the_common_store_too(host: str) -> Server:
    """Good: RFC 5280 6.1.1 (d).

    It counts as the tenant's own: a server certificate without AKI passes, which no common CA may issue.
    """
    both = Authority.root("Both")
    return Server(both.leaf(host, aki=False), own=[[both]], common=[both])


@scenario()
def an_anchor_of_ones_own_below_one_of_the_common_store(host: str) -> Server:
    """Good: RFC 5280 6.1.1 (d)."""
    ca = public().intermediate("Trusted Itself", key_usage=None)
    return Server(ca.leaf(host), own=[[ca]], common=[public()])


@scenario()
def a_root_that_was_issued_anew_with_its_key(host: str) -> Server:
    """Good: RFC 5280 6.1.1 (d).

    The server sends the newer certificate, the tenant trusts the older: name and key are the same.
    """
    older = Authority.root("Anew", not_before=NOW - 1000 * 24 * HOUR)
    newer = Authority.root("Anew", key=older.key)
    return Server(newer.leaf(host), chain=[newer], own=[[older]])


@scenario(Defect.EXPIRED)
def a_trusted_root_that_ended_and_the_server_sends_its_successor(host: str) -> Server:
    """Blocked as expired: RFC 5280 4.1.2.5, 6.1.1 (d).

    The successor has the same name and key, and is not what the tenant trusts.
    """
    older = Authority.root("Followed", not_after=NOW - HOUR)
    newer = Authority.root("Followed", key=older.key)
    return Server(newer.leaf(host), chain=[newer], own=[[older]])


# --- cross-certificates


@scenario()
def a_cross_certificate_up_to_a_trusted_root(host: str) -> Server:
    """Good: RFC 4158 2.2."""
    newcomer = Authority.root("Newcomer")
    between = newcomer.intermediate("New")
    return Server(between.leaf(host), chain=[between, root().cross_sign(newcomer)], own=[[root()]])


@scenario()
def a_cross_certificate_up_to_an_unknown_root_beside_a_trusted_one(host: str) -> Server:
    """Good: RFC 4158 2.2."""
    known = Authority.root("Known")
    between = known.intermediate("Issuing")
    crossed = Authority.root("Unknown").cross_sign(known)
    return Server(between.leaf(host), chain=[between, crossed], own=[[known]])


@scenario()
def a_cross_certificate_that_has_expired(host: str) -> Server:
    """Good: RFC 4158 2.2, 3.5.3.

    A root that an older one had cross-signed, after the older one's end, as in 2020 and 2021.
    """
    older = Authority.root("Older", not_after=NOW - HOUR)
    newer = Authority.root("Newer")
    between = newer.intermediate("Issuing")
    return Server(between.leaf(host), chain=[between, older.cross_sign(newer)], own=[[older], [newer]])


@scenario()
def an_expired_intermediate_beside_its_successor(host: str) -> Server:
    """Good: RFC 4158 3.5.3."""
    old = root().intermediate("Renewed", not_after=NOW - HOUR)
    new = root().intermediate("Renewed", key=old.key)
    return Server(new.leaf(host), chain=[old, new])


@scenario(curl_says=REFUSES, why=NO_TURNING_BACK)
def an_intermediate_that_forbids_beside_one_that_does_not(host: str) -> Server:
    """Good: RFC 4158 2.4.1.

    Two certificates of one name and key; OpenSSL takes the first and does not turn back.
    """
    limits = x509.NameConstraints([x509.DNSName("other.example")], None)
    wrong = root().intermediate("Twice", name_constraints=limits)
    right = root().intermediate("Twice", key=wrong.key)
    return Server(right.leaf(host), chain=[wrong, right])


@scenario(curl_says=REFUSES, why=NO_TURNING_BACK)
def a_forged_copy_of_an_intermediate_beside_the_true_one(host: str) -> Server:
    """Good: RFC 4158 2.4.1."""
    true = root().intermediate("Copied")
    forged = root().intermediate("Copied", key=true.key, tamper=True)
    return Server(true.leaf(host), chain=[forged, true])


@scenario(curl_says=REFUSES, why=NO_TURNING_BACK)
def two_trusted_roots_of_one_name(host: str) -> Server:
    """Good: RFC 4158 2.4.1.

    Without key identifiers the signature alone tells them apart.
    """
    first, second = Authority.root("Same Name"), Authority.root("Same Name")
    return Server(second.leaf(host, aki=False), own=[[first], [second]])


# --- loops


@scenario(Defect.INCOMPLETE_CHAIN)
def two_cas_that_sign_each_other(host: str) -> Server:
    """Blocked as incomplete_chain: RFC 4158 5.2, RFC 5280 6.1.1 (d)."""
    one, two = Authority.root("One of a loop"), Authority.root("Two of a loop")
    return Server(one.leaf(host), chain=[two.cross_sign(one), one.cross_sign(two)], own=[[root()]])


@scenario(curl_says=REFUSES, why=NO_TURNING_BACK)
def a_loop_with_a_way_out(host: str) -> Server:
    """Good: RFC 4158 5.2."""
    one, two = Authority.root("In"), Authority.root("Out")
    loop = [two.cross_sign(one), one.cross_sign(two), root().cross_sign(two)]
    return Server(one.leaf(host), chain=loop, own=[[root()]])


@scenario(Defect.INCOMPLETE_CHAIN)
def a_mesh_of_cross_certificates(host: str) -> Server:
    """Blocked as incomplete_chain: RFC 4158 2.4.1, 5.2."""
    cas = [Authority.root(f"Mesh {number}") for number in range(4)]
    mesh = [one.cross_sign(other) for one in cas for other in cas if one is not other]
    return Server(cas[0].leaf(host), chain=mesh, own=[[root()]])


@scenario()
def a_mesh_of_cross_certificates_with_an_anchor_in_it(host: str) -> Server:
    """Good: RFC 4158 2.4.1."""
    cas = [Authority.root(f"Web {number}") for number in range(4)]
    mesh = [one.cross_sign(other) for one in cas for other in cas if one is not other]
    return Server(cas[0].leaf(host), chain=mesh, own=[[cas[3]]])
