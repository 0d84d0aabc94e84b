import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from certs.expiry import Validity
from certs.profile import LeafRequest, ProfileError, build, validity
from tests.certs.built_in import LEAF_KEY, authority, request, signer
from tests.certs.built_in import NOW as REAL_NOW
from tests.harness import pki

NOW = datetime(2026, 6, 15, 12, 0, 0, tzinfo=UTC)
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)


def issuer(first: datetime = NOW - 365 * DAY, last: datetime = NOW + 365 * DAY) -> x509.Certificate:
    return pki.Authority.root(not_before=first, not_after=last).certificate


@pytest.mark.parametrize(
    ("server", "issuer_first", "issuer_last", "lifetime", "first", "last"),
    [
        (90 * DAY, -365 * DAY, 365 * DAY, WEEK, -DAY, WEEK),
        (90 * DAY, -365 * DAY, 365 * DAY, 30 * DAY, -DAY, WEEK),  # never more than seven days
        (90 * DAY, -365 * DAY, 365 * DAY, HOUR, -DAY, HOUR),
        (2 * DAY, -365 * DAY, 365 * DAY, WEEK, -DAY, 2 * DAY),  # never longer than the server's
        (90 * DAY, -HOUR, 365 * DAY, WEEK, -HOUR, WEEK),  # not before the issuer
        (90 * DAY, -365 * DAY, 3 * DAY, WEEK, -DAY, 3 * DAY),  # not after the issuer
        (None, -365 * DAY, 365 * DAY, WEEK, -DAY, DAY),  # no server's certificate: a day
        (-DAY, -365 * DAY, 365 * DAY, WEEK, -DAY, DAY),  # expired: a day
        (timedelta(0), -365 * DAY, 365 * DAY, WEEK, -DAY, DAY),
        (None, -365 * DAY, HOUR, WEEK, -DAY, HOUR),
        (None, -365 * DAY, 365 * DAY, HOUR, -DAY, HOUR),
    ],
)
def test_a_leaf_is_valid_within_issuer_server_and_lifetime(
    server: timedelta | None,
    issuer_first: timedelta,
    issuer_last: timedelta,
    lifetime: timedelta,
    first: timedelta,
    last: timedelta,
) -> None:
    parent = Validity.of([issuer(NOW + issuer_first, NOW + issuer_last)])
    end = None if server is None else NOW + server
    assert validity(end, parent, NOW, lifetime) == (NOW + first, NOW + last)


@given(
    server=st.one_of(st.none(), st.integers(-(10**6), 10**8)),
    lifetime=st.integers(1, 10**7),
    micro=st.integers(0, 999_999),
)
def test_validity_is_in_whole_seconds_and_never_longer_than_it_may_be(
    server: int | None, lifetime: int, micro: int
) -> None:
    now = NOW.replace(microsecond=micro)
    end = None if server is None else now + timedelta(seconds=server)
    first, last = validity(end, Validity.of([PARENT]), now, timedelta(seconds=lifetime))
    assert first.microsecond == last.microsecond == 0
    assert PARENT.not_valid_before_utc <= first <= now
    assert first < last <= min(PARENT.not_valid_after_utc, now + WEEK, now + timedelta(seconds=lifetime))
    if end is not None and end > now:
        assert last <= end
    else:
        assert last <= now + DAY


PARENT = issuer(NOW - HOUR, NOW + 5 * DAY)


@pytest.mark.parametrize(
    ("now", "lifetime", "message"),
    [
        (NOW - 2 * HOUR, WEEK, "not valid before 2026-06-15 11:00:00 UTC"),
        (NOW + 6 * DAY, WEEK, "expired on 2026-06-20 12:00:00 UTC"),
        (NOW, timedelta(0), "leaves no time"),
        (NOW, -DAY, "leaves no time"),
    ],
)
def test_no_time_left_is_refused(now: datetime, lifetime: timedelta, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        validity(None, Validity.of([PARENT]), now, lifetime)


def made(asked: LeafRequest) -> x509.Certificate:
    return signer().sign_certificate(build(asked, REAL_NOW, WEEK))


def test_the_leaf_has_what_the_profile_says_and_nothing_else() -> None:
    leaf = made(request())
    values = {found.oid: (found.critical, found.value) for found in leaf.extensions}
    own = x509.SubjectKeyIdentifier.from_public_key(LEAF_KEY.public_key())
    parent = x509.SubjectKeyIdentifier.from_public_key(authority().intermediate_key.public_key())
    assert values == {
        ExtensionOID.BASIC_CONSTRAINTS: (True, x509.BasicConstraints(ca=False, path_length=None)),
        ExtensionOID.KEY_USAGE: (True, pki.usage(["digital_signature"])),
        ExtensionOID.EXTENDED_KEY_USAGE: (False, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])),
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME: (
            False,
            x509.SubjectAlternativeName([x509.DNSName("www.example.com")]),
        ),
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: (False, own),
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: (False, x509.AuthorityKeyIdentifier(parent.digest, None, None)),
    }
    assert leaf.version is x509.Version.v3
    assert leaf.issuer == authority().intermediate.subject
    assert leaf.subject == x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "www.example.com")])
    assert leaf.public_key() == LEAF_KEY.public_key()
    assert 96 < leaf.serial_number.bit_length() <= 159
    assert leaf.not_valid_before_utc == REAL_NOW.replace(microsecond=0) - DAY
    assert leaf.not_valid_after_utc == REAL_NOW.replace(microsecond=0) + WEEK


@pytest.mark.parametrize("length", [64, 65])
def test_a_host_too_long_for_a_common_name_leaves_the_subject_empty_and_the_san_critical(length: int) -> None:
    host = "a." + "x" * (length - 2 - 10) + ".b.example"
    host = "a" * (length - len(host)) + host
    leaf = made(request(host))
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(san.value) == [x509.DNSName(host)]
    assert san.critical is (length == 65)
    assert list(leaf.subject) == ([] if length == 65 else [x509.NameAttribute(NameOID.COMMON_NAME, host)])


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_an_address_is_an_ip_address_and_no_name(address: str) -> None:
    names = made(request(address)).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.IPAddress(ipaddress.ip_address(address))]


def test_the_aki_is_the_issuers_own_identifier_whatever_way_it_was_derived() -> None:
    # 4 arbitrary bytes: an identifier need not be a hash at all (RFC 5280 4.2.1.2).
    raw = pki.Raw(ExtensionOID.SUBJECT_KEY_IDENTIFIER.dotted_string, b"\x04\x04abcd")
    parent = pki.Authority.root(ski=False, extra=[raw])
    builder = build(LeafRequest(request().host, LEAF_KEY.public_key(), parent.certificate), REAL_NOW, WEEK)
    aki = signer().sign_certificate(builder).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert aki.key_identifier == b"abcd"


def test_without_an_identifier_in_the_issuer_the_aki_is_derived_from_its_key() -> None:
    parent = pki.Authority.root(ski=False)
    builder = build(LeafRequest(request().host, LEAF_KEY.public_key(), parent.certificate), REAL_NOW, WEEK)
    aki = signer().sign_certificate(builder).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert aki.key_identifier == x509.SubjectKeyIdentifier.from_public_key(parent.certificate.public_key()).digest


def test_serial_numbers_are_random() -> None:
    serials = {made(request()).serial_number for _ in range(50)}
    assert len(serials) == 50
    assert max(serials).bit_length() == pytest.approx(159, abs=3)
