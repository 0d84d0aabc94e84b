"""When certificates are valid, and how that is written."""

from __future__ import annotations

import datetime as dt

from certs.verdict import Defect
from tests.harness.der_writing import tlv
from tests.harness.pki import DAY, HOUR, NOW, Authority, kept_key, new_key, self_signed
from tests.scenarios.base import ACCEPTS, Server, issuing, public, public_issuing, root, scenario
from tests.scenarios.form import UNREADABLE


def utc_time(text: str) -> bytes:
    return tlv(0x17, text.encode())


def generalized_time(text: str) -> bytes:
    return tlv(0x18, text.encode())


# --- expired, not_yet_valid


@scenario(Defect.EXPIRED)
def a_server_certificate_that_ended_an_hour_ago(host: str) -> Server:
    """Blocked as expired: RFC 5280 6.1.3 (a)(2)."""
    return Server(issuing().leaf(host, not_after=NOW - HOUR))


@scenario(Defect.EXPIRED)
def a_server_certificate_of_a_common_ca_that_ended(host: str) -> Server:
    """Blocked as expired: RFC 5280 6.1.3 (a)(2)."""
    return Server(public_issuing().leaf(host, not_after=NOW - HOUR), common=[public()])


@scenario(Defect.EXPIRED)
def an_intermediate_that_ended(host: str) -> Server:
    """Blocked as expired: RFC 5280 6.1.3 (a)(2)."""
    return Server(root().intermediate("Ended", not_after=NOW - HOUR).leaf(host))


@scenario(Defect.EXPIRED)
def an_anchor_that_ended(host: str) -> Server:
    """Blocked as expired: RFC 5280 4.1.2.5, 6.1.1 (d).

    6.1 leaves an anchor's dates aside; our rule is that a CA ends when its certificate says so.
    """
    return Server(Authority.root("Ended Root", not_after=NOW - HOUR).leaf(host))


@scenario(Defect.EXPIRED)
def an_anchor_of_the_common_store_that_ended(host: str) -> Server:
    """Blocked as expired: RFC 5280 4.1.2.5, 6.1.1 (d)."""
    ended = Authority.root("Ended Public Root", not_after=NOW - HOUR)
    return Server(ended.leaf(host), common=[ended])


@scenario(Defect.NOT_YET_VALID)
def a_server_certificate_of_tomorrow(host: str) -> Server:
    """Blocked as not_yet_valid: RFC 5280 6.1.3 (a)(2)."""
    return Server(issuing().leaf(host, not_before=NOW + DAY))


@scenario(Defect.NOT_YET_VALID)
def an_intermediate_of_tomorrow(host: str) -> Server:
    """Blocked as not_yet_valid: RFC 5280 6.1.3 (a)(2)."""
    return Server(root().intermediate("Tomorrow", not_before=NOW + DAY).leaf(host))


@scenario(Defect.NOT_YET_VALID)
def an_anchor_of_tomorrow(host: str) -> Server:
    """Blocked as not_yet_valid: RFC 5280 4.1.2.5, 6.1.1 (d)."""
    return Server(Authority.root("Tomorrow Root", not_before=NOW + DAY).leaf(host))


@scenario(Defect.EXPIRED, Defect.NOT_YET_VALID)
def a_certificate_that_ends_before_it_begins(host: str) -> Server:
    """Blocked as expired, not_yet_valid: RFC 5280 4.1.2.5."""
    return Server(issuing().leaf(host, not_before=NOW + DAY, not_after=NOW - DAY))


@scenario(Defect.EXPIRED, Defect.NOT_YET_VALID)
def a_chain_that_was_never_valid_as_a_whole(host: str) -> Server:
    """Blocked as expired, not_yet_valid: RFC 5280 6.1.3 (a)(2)."""
    late = public().intermediate("Late", not_before=NOW + DAY)
    return Server(late.leaf(host, not_after=NOW - HOUR), common=[public()])


@scenario(Defect.SELF_SIGNED, Defect.EXPIRED)
def a_self_signed_certificate_that_ended(host: str) -> Server:
    """Blocked as self_signed, expired: RFC 5280 6.1.1 (d), 6.1.3 (a)(2)."""
    return Server(self_signed(host, not_after=NOW - HOUR), own=[[root()]])


@scenario()
def a_server_certificate_that_outlives_its_issuer(host: str) -> Server:
    """Good: RFC 5280 6.1.3 (a)(2).

    Each is valid now; nothing asks that one lies within the other.
    """
    return Server(root().intermediate("Brief", not_after=NOW + DAY).leaf(host, not_after=NOW + 300 * DAY))


@scenario()
def a_server_certificate_older_than_its_issuer(host: str) -> Server:
    """Good: RFC 5280 6.1.3 (a)(2).

    A CA certificate that was issued anew.
    """
    return Server(root().intermediate("Renewed", not_before=NOW - DAY).leaf(host, not_before=NOW - 30 * DAY))


# --- the clock


@scenario(Defect.EXPIRED)
def the_time_that_counts_is_the_one_passed_in(host: str) -> Server:
    """Blocked as expired: RFC 5280 6.1.3 (a)(2)."""
    return Server(issuing().leaf(host), now=NOW + 91 * DAY)


@scenario()
def a_certificate_that_the_systems_clock_finds_expired(host: str) -> Server:
    """Good: RFC 5280 6.1.3 (a)(2)."""
    return Server(issuing().leaf(host, not_before=NOW - 2 * DAY, not_after=NOW - HOUR), now=NOW - DAY)


@scenario()
def the_last_second(host: str) -> Server:
    """Good: RFC 5280 4.1.2.5."""
    return Server(issuing().leaf(host, not_after=NOW + HOUR), now=NOW + HOUR)


@scenario(Defect.EXPIRED)
def the_second_after_the_last(host: str) -> Server:
    """Blocked as expired: RFC 5280 4.1.2.5."""
    return Server(issuing().leaf(host, not_after=NOW + HOUR), now=NOW + HOUR + dt.timedelta(seconds=1))


# --- how dates are written


@scenario()
def an_end_in_2050(host: str) -> Server:
    """Good: RFC 5280 4.1.2.5.2."""
    return Server(issuing().leaf(host, not_after=dt.datetime(2050, 1, 1, tzinfo=dt.UTC)))


@scenario()
def an_end_in_9999(host: str) -> Server:
    """Good: RFC 5280 4.1.2.5.

    The value for what has no end.
    """
    return Server(issuing().leaf(host, not_after=dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)))


@scenario()
def a_root_without_end(host: str) -> Server:
    """Good: RFC 5280 4.1.2.5."""
    forever = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    return Server(Authority.root("Endless", not_after=forever).leaf(host))


@scenario()
def a_root_of_the_common_store_without_end(host: str) -> Server:
    """Good: RFC 5280 4.1.2.5."""
    forever = Authority.root("Endless Public", not_after=dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC))
    return Server(forever.intermediate("Issuing").leaf(host), common=[forever])


@scenario(Defect.EXPIRED)
def two_digits_from_50_on_are_of_the_last_century(host: str) -> Server:
    """Blocked as expired: RFC 5280 4.1.2.5.1."""
    return Server(issuing().leaf(host, not_after=utc_time("500101000000Z")))


@scenario()
def a_begin_in_1950(host: str) -> Server:
    """Good: RFC 5280 4.1.2.5.1."""
    return Server(issuing().leaf(host, not_before=utc_time("500101000000Z")))


@scenario(Defect.EXPIRED)
def an_end_long_before_1950(host: str) -> Server:
    """Blocked as expired: RFC 5280 4.1.2.5."""
    long_ago = generalized_time("18000101000000Z")
    return Server(issuing().leaf(host, not_before=long_ago, not_after=long_ago))


@scenario()
def a_generalized_time_before_2050(host: str) -> Server:
    """Good: RFC 5280 4.1.2.5.

    A duty of CAs; there is one way to read it.
    """
    end = generalized_time(f"{NOW + 30 * DAY:%Y%m%d%H%M%S}Z")
    return Server(issuing().leaf(host, not_after=end))


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why="Both read either form of time.")
def a_generalized_time_before_2050_of_a_common_ca(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.1.2.5, CA/B BR 7.1.2.7.1."""
    end = generalized_time(f"{NOW + 30 * DAY:%Y%m%d%H%M%S}Z")
    return Server(public_issuing().leaf(host, not_after=end), common=[public()])


@scenario(Defect.MALFORMED, as_it_is=UNREADABLE)
def a_time_without_seconds(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.1.2.5.1.

    OpenSSL takes no such certificate, so the handshake is over before anything else could be looked at.
    """
    ca, key = Authority.root("Of Fixed Length, Not Trusted", key=kept_key("rsa2048")), new_key()
    leaf = ca.leaf(host, key=key, not_after=utc_time("4901010000Z"))
    held = ca.leaf(host, key=key, serial=1 << 103, not_after=utc_time("490101000000Z"))
    return Server(leaf, held=[held], versions=["TLSv1.2"], own=[[root()]])


@scenario(*UNREADABLE)
def a_time_with_an_offset(host: str) -> Server:
    """Blocked as malformed, incomplete_chain, hostname_mismatch: RFC 5280 4.1.2.5.1."""
    return Server(issuing().leaf(host, not_after=utc_time("490101000000+0100")), own=[[root()]])


@scenario(*UNREADABLE)
def a_time_with_a_fraction(host: str) -> Server:
    """Blocked as malformed, incomplete_chain, hostname_mismatch: RFC 5280 4.1.2.5.2."""
    return Server(issuing().leaf(host, not_after=generalized_time("20500101000000.5Z")), own=[[root()]])


@scenario(*UNREADABLE)
def a_month_that_there_is_not(host: str) -> Server:
    """Blocked as malformed, incomplete_chain, hostname_mismatch: RFC 5280 4.1.2.5."""
    return Server(issuing().leaf(host, not_after=utc_time("491301000000Z")), own=[[root()]])
