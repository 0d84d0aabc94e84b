"""Chains that end nowhere, times and names that do not fit."""

from __future__ import annotations

import datetime as dt

from cryptography import x509

from certs.verdict import Defect
from tests.certs.scenarios.base import Server, issuing, root, scenario
from tests.harness.pki import DAY, HOUR, NOW, Authority, kept_key, self_signed

# --- self_signed, incomplete_chain, untrusted_root


@scenario(Defect.SELF_SIGNED)
def a_self_signed_server_certificate_is_self_signed() -> Server:
    return Server(self_signed(), own=[[root()]])


@scenario(Defect.SELF_SIGNED)
def what_openssl_req_x509_makes_is_self_signed_and_nothing_else() -> Server:
    return Server(self_signed(ca=True, key_usage=None, eku=None), own=[[root()]])


@scenario(Defect.SELF_SIGNED)
def a_self_signed_certificate_sent_twice_is_self_signed() -> Server:
    leaf = self_signed()
    return Server(leaf, chain=[leaf], own=[[root()]])


@scenario()
def a_self_signed_server_certificate_that_is_an_anchor_is_good() -> Server:
    leaf = self_signed()
    return Server(leaf, own=[[leaf]])


@scenario(Defect.SELF_SIGNED)
def a_self_signed_certificate_is_untrusted_where_nothing_is_trusted() -> Server:
    return Server(self_signed(), no_trust=True)


@scenario(Defect.INCOMPLETE_CHAIN)
def a_chain_without_its_intermediate_is_incomplete() -> Server:
    return Server(issuing().leaf(), chain=[])


@scenario(Defect.INCOMPLETE_CHAIN)
def a_chain_that_ends_below_an_unknown_root_is_incomplete() -> Server:
    return Server(Authority.root("Stranger").intermediate("Strange").leaf(), own=[[root()]])


@scenario(Defect.UNTRUSTED_ROOT)
def a_chain_that_ends_in_an_unknown_root_is_untrusted() -> Server:
    stranger = Authority.root("Stranger")
    between = stranger.intermediate("Strange")
    return Server(between.leaf(), chain=[between, stranger], own=[[root()]])


@scenario(Defect.UNTRUSTED_ROOT)
def a_root_of_a_trusted_ones_name_is_untrusted() -> Server:
    impostor = Authority.root("Root")
    return Server(impostor.leaf(), chain=[impostor], own=[[root()]])


@scenario(Defect.UNTRUSTED_ROOT)
def a_root_of_a_trusted_ones_name_is_untrusted_without_key_identifiers_too() -> Server:
    """OpenSSL tries the trusted one's key, and calls the signature bad."""
    impostor = Authority.root("Root", ski=False, aki=False)
    return Server(impostor.leaf(aki=False), chain=[impostor], own=[[root()]])


@scenario(Defect.INCOMPLETE_CHAIN)
def a_helper_is_no_anchor() -> Server:
    """The bundle's topmost certificate alone is trusted; here that one is somebody else's."""
    return Server(issuing().leaf(), chain=[], own=[[issuing(), Authority.root("Other")]])


@scenario(Defect.UNTRUSTED_ROOT, Defect.EXPIRED, Defect.HOSTNAME_MISMATCH)
def an_untrusted_chain_is_judged_in_full() -> Server:
    stranger = Authority.root("Stranger")
    return Server(stranger.leaf("other.example", not_after=NOW - HOUR), chain=[stranger], own=[[root()]])


# --- expired, not_yet_valid


@scenario(Defect.EXPIRED)
def a_server_certificate_that_ended_an_hour_ago_is_expired() -> Server:
    return Server(issuing().leaf(not_after=NOW - HOUR))


@scenario(Defect.EXPIRED)
def an_intermediate_that_ended_is_expired() -> Server:
    return Server(root().intermediate(not_after=NOW - HOUR).leaf())


@scenario(Defect.EXPIRED)
def an_anchor_that_ended_is_expired() -> Server:
    return Server(Authority.root("Ended", not_after=NOW - HOUR).leaf())


@scenario(Defect.NOT_YET_VALID)
def a_server_certificate_of_tomorrow_is_not_yet_valid() -> Server:
    return Server(issuing().leaf(not_before=NOW + DAY))


@scenario(Defect.NOT_YET_VALID)
def an_anchor_of_tomorrow_is_not_yet_valid() -> Server:
    return Server(Authority.root("Tomorrow", not_before=NOW + DAY).leaf())


@scenario(Defect.EXPIRED)
def the_time_that_counts_is_the_one_passed_in() -> Server:
    return Server(issuing().leaf(), now=NOW + 91 * DAY)


@scenario()
def a_certificate_that_the_system_clock_finds_expired_is_good_at_the_time_passed_in() -> Server:
    return Server(issuing().leaf(not_before=NOW - 2 * DAY, not_after=NOW - HOUR), now=NOW - DAY)


@scenario()
def the_last_second_of_a_certificate_is_within_it() -> Server:
    return Server(issuing().leaf(not_after=NOW + HOUR), now=NOW + HOUR)


@scenario(Defect.EXPIRED)
def the_second_after_the_last_is_not() -> Server:
    return Server(issuing().leaf(not_after=NOW + HOUR), now=NOW + HOUR + dt.timedelta(seconds=1))


# --- hostname_mismatch


@scenario(Defect.HOSTNAME_MISMATCH)
def a_certificate_for_another_host_mismatches() -> Server:
    return Server(issuing().leaf("other.example"))


@scenario(Defect.HOSTNAME_MISMATCH)
def the_common_name_does_not_count() -> Server:
    return Server(issuing().leaf(san=None))


@scenario(Defect.HOSTNAME_MISMATCH)
def a_wildcard_stands_for_one_label_only() -> Server:
    return Server(issuing().leaf("*.good.example"), host="a.b.good.example")


@scenario(Defect.HOSTNAME_MISMATCH)
def an_address_is_not_covered_by_a_name_that_looks_like_it() -> Server:
    return Server(issuing().leaf(san=[x509.DNSName("192.0.2.1")]), host="192.0.2.1")


@scenario(Defect.EXPIRED, Defect.HOSTNAME_MISMATCH)
def all_that_is_wrong_is_named_in_order() -> Server:
    return Server(issuing().leaf("other.example", not_after=NOW - HOUR))


@scenario(
    Defect.WEAK_KEY,
    Defect.WEAK_SIGNATURE,
    Defect.CONSTRAINT_VIOLATION,
    Defect.WRONG_PURPOSE,
    Defect.EXPIRED,
    Defect.HOSTNAME_MISMATCH,
)
def no_defect_hides_another() -> Server:
    ca = root().intermediate("Bad", ca=False)
    return Server(ca.leaf("other.example", key=kept_key("rsa1024"), hash="sha1", eku=["client"], not_after=NOW - HOUR))
