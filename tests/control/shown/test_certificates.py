from __future__ import annotations

import ipaddress
import json
import warnings
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import AuthorityInformationAccessOID, CertificatePoliciesOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.formats import read_certificates
from cli import output
from control.shown import certificates
from tests.harness.pki import DAY, HOUR, NOW, Authority, Issued, Raw, common_name

OID = ObjectIdentifier
ROOT = Authority.root("Shown Root", path_length=1)
DIRECTORY = x509.DirectoryName(common_name("A, B"))
URI = x509.UniformResourceIdentifier
POINT = x509.DistributionPoint(
    [URI("http://crl.example/1.crl")], None, frozenset({x509.ReasonFlags.key_compromise}), [DIRECTORY]
)
RELATIVE = x509.DistributionPoint(
    None, x509.RelativeDistinguishedName([x509.NameAttribute(OID("2.5.4.3"), "crl")]), None, None
)
NOTICE = x509.UserNotice(x509.NoticeReference("Example Ltd", [1, 2]), "As is")


def extra(value: x509.ExtensionType, critical: bool = False) -> Raw:
    return Raw(value.oid.dotted_string, value.public_bytes(), critical)


EXTRA: list[tuple[x509.ExtensionType, str, str]] = [
    (
        x509.CRLDistributionPoints([POINT, RELATIVE]),
        "cRLDistributionPoints",
        'URI:http://crl.example/1.crl reasons keyCompromise issuer DirName:"CN=A\\\\, B"; relative CN=crl',
    ),
    (x509.FreshestCRL([RELATIVE]), "freshestCRL", "relative CN=crl"),
    (
        x509.AuthorityInformationAccess(
            [
                x509.AccessDescription(AuthorityInformationAccessOID.OCSP, URI("http://ocsp.example")),
                x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, URI("http://ca.example/ca.cer")),
            ]
        ),
        "authorityInfoAccess",
        "OCSP URI:http://ocsp.example, caIssuers URI:http://ca.example/ca.cer",
    ),
    (
        x509.CertificatePolicies(
            [
                x509.PolicyInformation(OID("2.23.140.1.2.1"), None),
                x509.PolicyInformation(CertificatePoliciesOID.ANY_POLICY, ["http://cps.example", NOTICE]),
            ]
        ),
        "certificatePolicies",
        '2.23.140.1.2.1; 2.5.29.32.0 CPS http://cps.example notice "Example Ltd" 1, 2 text "As is"',
    ),
    (
        x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=3),
        "policyConstraints",
        "requireExplicitPolicy:0, inhibitPolicyMapping:3",
    ),
    (x509.InhibitAnyPolicy(2), "inhibitAnyPolicy", "skipCerts:2"),
    (
        x509.IssuerAlternativeName([x509.RFC822Name("ca@example.com"), x509.RegisteredID(OID("1.2.3"))]),
        "issuerAltName",
        "email:ca@example.com, RID:1.2.3",
    ),
    (x509.TLSFeature([x509.TLSFeatureType.status_request]), "TLSFeature", "status_request"),
    (x509.OCSPNoCheck(), "OCSPNoCheck", "present"),
    (x509.UnrecognizedExtension(OID("1.2.3.4.5"), b"\x04\x02hi"), "1.2.3.4.5", "04026869"),
    (
        x509.UnrecognizedExtension(OID("2.999.7"), bytes(65)),
        "2.999.7",
        f"{'00' * 64}... (65 bytes)",
    ),
]


FULL = ROOT.intermediate(
    "Shown Issuing",
    path_length=0,
    eku=["server", "1.2.3.4"],
    san=[
        x509.DNSName("a.example"),
        x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
        DIRECTORY,
        x509.OtherName(OID("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01u"),
    ],
    name_constraints=x509.NameConstraints(
        [x509.DNSName("example"), x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))], [x509.DNSName("bad.example")]
    ),
    name_constraints_critical=True,
    extra=[extra(value) for value, _, _ in EXTRA],
)
"""A certificate that has them all."""


def by_name(issued: Issued) -> dict[str, str]:
    return {one["name"]: one["text"] for one in certificates.as_object(issued.certificate)["extensions"]}


def fields(issued: Issued, now: datetime = NOW) -> dict[str, str]:
    return dict(certificates.full_fields(issued.certificate, now))


# The object


def test_the_object_has_what_it_had_and_more() -> None:
    told = certificates.as_object(FULL.certificate)
    assert told["subject"] == "CN=Shown Issuing"
    assert told["ca"] is True
    assert told["version"] == 3
    assert told["signature"] == "sha256"
    assert told["signature_algorithm"] == "ecdsa-with-SHA256"
    assert told["key_identifier"] == x509.SubjectKeyIdentifier.from_public_key(FULL.key.public_key()).digest.hex()
    assert told["authority_key_identifier"] == certificates.key_identifier(ROOT.certificate)
    assert len(told["sha1"]) == 40
    assert read_certificates(told["pem"].encode()) == [FULL.certificate]
    assert json.loads(json.dumps(told)) == told


def test_without_extensions_there_is_null() -> None:
    bare = Authority.root("Bare", bare=True, version=1)
    told = certificates.as_object(bare.certificate)
    assert (told["version"], told["extensions"]) == (1, [])
    assert told["key_identifier"] is told["authority_key_identifier"] is None


def test_each_extension_has_its_line() -> None:
    told = certificates.as_object(FULL.certificate)
    found = by_name(FULL)
    assert len(found) == len(told["extensions"])
    assert found["basicConstraints"] == "CA:TRUE, pathLen:0"
    assert found["keyUsage"] == "keyCertSign, cRLSign"
    assert found["extendedKeyUsage"] == "serverAuth, 1.2.3.4"
    assert found["subjectKeyIdentifier"] == told["key_identifier"]
    assert found["authorityKeyIdentifier"] == told["authority_key_identifier"]
    assert found["subjectAltName"] == (
        'DNS:a.example, IP:2001:db8::1, DirName:"CN=A\\\\, B", other:1.3.6.1.4.1.311.20.2.3:0c0175'
    )
    assert found["nameConstraints"] == "permitted DNS:example, IP:10.0.0.0/8; excluded DNS:bad.example"
    for value, name, text in EXTRA:
        assert found[name] == text, value


def test_an_extension_says_its_oid_and_whether_it_is_critical() -> None:
    told = {one["oid"]: one["critical"] for one in certificates.extensions(FULL.certificate)}
    assert told["2.5.29.19"] is True
    assert told["2.5.29.30"] is True
    assert told["2.5.29.37"] is False
    assert told["2.999.7"] is False
    assert list(told) == [one.oid.dotted_string for one in FULL.certificate.extensions]


def test_the_issuer_and_serial_of_an_authority_key_are_shown() -> None:
    value = x509.AuthorityKeyIdentifier(b"\1\2", [DIRECTORY], 0x1FF)
    leaf = ROOT.leaf(aki=False, extra=[extra(value)])
    assert by_name(leaf)["authorityKeyIdentifier"] == '0102, issuer DirName:"CN=A\\\\, B", serial 01:ff'


def test_key_usages_that_mean_something_only_together_are_read() -> None:
    leaf = ROOT.leaf(key_usage=["key_agreement", "encipher_only"])
    assert by_name(leaf)["keyUsage"] == "keyAgreement, encipherOnly"


def test_no_name_passes_for_two() -> None:
    leaf = ROOT.leaf(san=[x509.DNSName("a.example, DNS:b.example"), x509.DNSName('"')])
    assert by_name(leaf)["subjectAltName"] == 'DNS:"a.example, DNS:b.example", DNS:"\\""'


# Strangers'


def test_a_damaged_extension_hides_no_other() -> None:
    broken = ROOT.leaf("a.example", extra=[Raw("2.5.29.32", b"\x30\x05\x01", critical=True)])
    told = by_name(broken)
    assert told["certificatePolicies"] == "(unreadable) 300501"
    assert told["subjectAltName"] == "DNS:a.example"
    assert fields(broken)["certificatePolicies"] == "critical, (unreadable) 300501"


def test_an_extension_that_is_there_twice_is_shown_twice() -> None:
    twice = ROOT.leaf("a.example", duplicate=[x509.SubjectAlternativeName.oid])
    told = [one["text"] for one in certificates.extensions(twice.certificate) if one["name"] == "subjectAltName"]
    assert told == ["DNS:a.example"] * 2


def test_a_kind_of_name_that_cannot_be_read_is_said_to_be() -> None:
    odd = ROOT.leaf(san=None, extra=[Raw("2.5.29.17", b"\x30\x04\xa3\x02\x30\x00")])  # an x400Address
    told = certificates.as_object(odd.certificate)
    assert told["names"] == []
    assert by_name(odd)["subjectAltName"] == "(unreadable) 3004a3023000"


def test_a_feature_that_is_not_known_is_shown_as_it_is() -> None:
    odd = ROOT.leaf("a.example", extra=[Raw("1.3.6.1.5.5.7.1.24", b"\x30\x03\x02\x01\x63")])
    assert by_name(odd)["TLSFeature"] == "(unreadable) 3003020163"
    assert by_name(odd)["subjectAltName"] == "DNS:a.example"
    assert certificates.as_object(odd.certificate)["names"] == []


def test_many_extensions_are_read_in_a_time_that_grows_with_their_number() -> None:
    many = ROOT.leaf(extra=[Raw(f"1.2.3.{number}", b"\x05\x00") for number in range(2000)])
    assert len(certificates.extensions(many.certificate)) > 2000


@pytest.mark.parametrize(("serial", "shown"), [(0, "00"), (-1, "-01"), (0x0A1B, "0a:1b"), (1 << 64, "01" + ":00" * 8)])
def test_a_serial_number_is_bytes_whatever_it_is(serial: int, shown: str) -> None:
    assert fields(ROOT.leaf(serial=serial))["serial"] == shown


def test_nothing_that_steers_a_terminal_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\u202eevil\n\x9b"
    policy = x509.PolicyInformation(OID("1.2.3"), [x509.UserNotice(None, hostile)])
    odd = Authority.root(
        subject=common_name(hostile),
        san=[x509.DirectoryName(common_name(hostile)), URI("http://a/\x1b[2J\n")],
        extra=[extra(x509.CertificatePolicies([policy]))],
    )
    assert all(one["text"] == output.clean(one["text"]) for one in certificates.extensions(odd.certificate))
    told = certificates.full_fields(odd.certificate, NOW)
    output.fields(told)
    printed = capsys.readouterr().out
    assert printed.count("\n") == len(told)
    assert not {"\x1b", "\u202e", "\x9b"} & set(printed)
    assert "evil" in printed


def certificate_of(data: bytes) -> x509.Certificate | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return x509.load_der_x509_certificate(data)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None


PLACES = st.lists(st.tuples(st.integers(0, len(FULL.raw) - 1), st.integers(0, 255)), min_size=1, max_size=6)


@settings(max_examples=200)
@given(PLACES)
def test_a_damaged_certificate_that_loads_is_shown(places: list[tuple[int, int]]) -> None:
    data = bytearray(FULL.raw)
    for at, value in places:
        data[at] = value
    damaged = certificate_of(bytes(data))
    if damaged is not None:
        assert json.dumps(certificates.as_object(damaged))
        assert all(isinstance(value, str) for _, value in certificates.full_fields(damaged, NOW))
        assert certificates.as_fields(damaged)


# The fields


def test_the_fields_are_in_the_order_of_a_certificate() -> None:
    told = certificates.full_fields(FULL.certificate, NOW)
    names = [name for name, _ in told]
    head = ["subject", "issuer", "version", "serial", "valid from", "valid to", "key", "signature algorithm", "names"]
    assert names[:9] == head
    assert names[-2:] == ["sha1", "sha256"]
    shown = dict(told)
    assert shown["issuer"] == "CN=Shown Root"
    assert shown["key"] == "EC secp256r1"
    assert shown["basicConstraints"] == "critical, CA:TRUE, pathLen:0"
    assert shown["extendedKeyUsage"] == "serverAuth, 1.2.3.4"
    assert shown["sha256"] == certificates.fingerprint(FULL.certificate)


@pytest.mark.parametrize(
    ("start", "end", "begins", "left"),
    [
        (-DAY, 90 * DAY, "", "90 days left"),
        (-DAY, 36 * HOUR, "", "1 day left"),
        (-DAY, HOUR, "", "less than a day left"),
        (-DAY, timedelta(0), "", "less than a day left"),
        (-9 * DAY, -3 * DAY, "", "expired 3 days ago"),
        (-9 * DAY, -HOUR, "", "expired less than a day ago"),
        (2 * DAY, 9 * DAY, " (begins in 2 days)", "9 days left"),
    ],
)
def test_the_days_left_are_counted_from_the_time_given(
    start: timedelta, end: timedelta, begins: str, left: str
) -> None:
    now = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
    told = fields(ROOT.leaf(not_before=now + start, not_after=now + end), now)
    assert told["valid from"] == f"{now + start:%Y-%m-%d %H:%M} UTC{begins}"
    assert told["valid to"] == f"{now + end:%Y-%m-%d %H:%M} UTC ({left})"


def test_no_names_make_no_line() -> None:
    assert "names" not in fields(ROOT)
