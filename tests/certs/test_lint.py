"""Each rule is broken once, by a leaf that is right in everything else, and is the one that is named."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from certs.expiry import Validity
from certs.lint import RULES, LintError, lint
from certs.names import parse_host
from certs.profile import LeafRequest, build
from tests.certs.built_in import LEAF_KEY, WEEK, authority, request
from tests.harness import pki

NOW = datetime(2026, 6, 15, 12, 0, 0, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SIGNER = ec.generate_private_key(ec.SECP256R1())
PARENT = pki.Authority.root(not_before=NOW - 30 * DAY, not_after=NOW + 365 * DAY).certificate
REQUEST = LeafRequest(parse_host("www.example.com"), LEAF_KEY.public_key(), PARENT, NOW + 90 * DAY)
LONG = "x" * 60 + ".example"


def signed(builder: x509.CertificateBuilder) -> x509.Certificate:
    return builder.sign(SIGNER, hashes.SHA256())


def good(asked: LeafRequest = REQUEST) -> x509.CertificateBuilder:
    return build(asked, NOW, WEEK)


def rebuilt(
    asked: LeafRequest = REQUEST,
    *,
    issuer: x509.Name | None = None,
    subject: x509.Name | None = None,
    key: object = None,
    serial: int | None = None,
    first: datetime | None = None,
    last: datetime | None = None,
    extensions: dict[x509.ObjectIdentifier, tuple[x509.ExtensionType, bool] | None] | None = None,
) -> x509.Certificate:
    """The good leaf with some of its fields replaced; an extension that is None is left out."""
    leaf = signed(good(asked))
    wanted: dict[x509.ObjectIdentifier, tuple[x509.ExtensionType, bool] | None] = {
        found.oid: (found.value, found.critical) for found in leaf.extensions
    }
    wanted.update(extensions or {})
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer or leaf.issuer)
        .subject_name(leaf.subject if subject is None else subject)
        .public_key(key or leaf.public_key())  # type: ignore[arg-type]  # a test passes what it likes
        .serial_number(leaf.serial_number if serial is None else serial)
        .not_valid_before(first or leaf.not_valid_before_utc)
        .not_valid_after(last or leaf.not_valid_after_utc)
    )
    for found in wanted.values():
        if found is not None:
            builder = builder.add_extension(found[0], critical=found[1])
    return signed(builder)


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def with_extension(value: x509.ExtensionType, critical: bool) -> Callable[[], x509.Certificate]:
    return lambda: rebuilt(extensions={value.oid: (value, critical)})


def without(oid: x509.ObjectIdentifier) -> Callable[[], x509.Certificate]:
    return lambda: rebuilt(extensions={oid: None})


def sans(*names: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([pki.general_name(name) for name in names])


def aki(key: bytes | None, issuer: bool = False) -> x509.AuthorityKeyIdentifier:
    names = [x509.DirectoryName(PARENT.issuer)] if issuer else None
    return x509.AuthorityKeyIdentifier(key, names, PARENT.serial_number if issuer else None)


PARENT_ID = x509.SubjectKeyIdentifier.from_public_key(PARENT.public_key()).digest
SAME_TEXT_OTHER_TYPE = x509.Name(
    [x509.NameAttribute(NameOID.COMMON_NAME, "Test Root", _type=x509.name._ASN1Type.PrintableString)]
)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
SAN = ExtensionOID.SUBJECT_ALTERNATIVE_NAME

BROKEN: list[tuple[str, str, Callable[[], x509.Certificate]]] = [
    ("serial_number", "too small", lambda: rebuilt(serial=1)),
    ("serial_number", "too small", lambda: rebuilt(serial=2**90)),
    ("issuer_name", "octet by octet", lambda: rebuilt(issuer=common_name("Other Root"))),
    ("issuer_name", "octet by octet", lambda: rebuilt(issuer=SAME_TEXT_OTHER_TYPE)),
    ("not_before", "in the future", lambda: rebuilt(first=NOW + HOUR)),
    ("not_before", "more than a day", lambda: rebuilt(first=NOW - 2 * DAY)),
    ("not_after", "in the past", lambda: rebuilt(last=NOW - HOUR)),
    ("not_after", "seven days", lambda: rebuilt(last=NOW + WEEK + HOUR)),
    ("subject", "alone", lambda: rebuilt(subject=common_name("other.example.com"))),
    ("subject", "alone", lambda: rebuilt(subject=x509.Name([]))),
    ("subject", "alone", lambda: rebuilt(subject=x509.Name([*common_name("www.example.com"), *common_name("b")]))),
    ("public_key", "asked for", lambda: rebuilt(key=SIGNER.public_key())),
    (
        "known_extensions",
        "1.3.6.1.5.5.7.1.24",
        with_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), False),
    ),
    ("known_extensions", "2.5.29.30", with_extension(x509.NameConstraints([x509.DNSName("a")], None), True)),
    ("authority_key_identifier", "missing", without(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)),
    ("authority_key_identifier", "not the subject key identifier", with_extension(aki(b"other"), False)),
    ("authority_key_identifier", "not the subject key identifier", with_extension(aki(None), False)),
    ("authority_key_identifier", "critical", with_extension(aki(PARENT_ID), True)),
    ("authority_key_identifier", "besides its key", with_extension(aki(PARENT_ID, issuer=True), False)),
    ("subject_key_identifier", "missing", without(ExtensionOID.SUBJECT_KEY_IDENTIFIER)),
    ("subject_key_identifier", "leaf's key", with_extension(x509.SubjectKeyIdentifier(b"other"), False)),
    ("key_usage", "missing", without(ExtensionOID.KEY_USAGE)),
    ("key_usage", "not critical", with_extension(pki.usage(["digital_signature"]), False)),
    ("key_usage", "digitalSignature is missing", with_extension(pki.usage(["key_encipherment"]), True)),
    *(
        ("key_usage", "more than", with_extension(pki.usage(["digital_signature", other]), True))
        for other in pki.KEY_USAGES[1:7]
    ),
    ("subject_alternative_name", "missing", without(SAN)),
    ("subject_alternative_name", "the host alone", with_extension(sans("other.example.com"), False)),
    ("subject_alternative_name", "the host alone", with_extension(sans("www.example.com", "example.com"), False)),
    ("subject_alternative_name", "the host alone", with_extension(sans("*.example.com"), False)),
    ("subject_alternative_name", "is critical", with_extension(sans("www.example.com"), True)),
    ("basic_constraints", "missing", without(ExtensionOID.BASIC_CONSTRAINTS)),
    ("basic_constraints", "is a CA", with_extension(x509.BasicConstraints(ca=True, path_length=None), True)),
    ("basic_constraints", "not critical", with_extension(x509.BasicConstraints(ca=False, path_length=None), False)),
    ("extended_key_usage", "missing", without(ExtensionOID.EXTENDED_KEY_USAGE)),
    ("extended_key_usage", "serverAuth alone", with_extension(x509.ExtendedKeyUsage([CLIENT]), False)),
    ("extended_key_usage", "serverAuth alone", with_extension(x509.ExtendedKeyUsage([SERVER, CLIENT]), False)),
    ("extended_key_usage", "is critical", with_extension(x509.ExtendedKeyUsage([SERVER]), True)),
    ("signature_hash", "SHA1", lambda: pki.Authority.root(key=pki.kept_key("rsa2048"), hash="sha1").certificate),
]


@pytest.mark.parametrize(
    ("rule", "problem", "make"), BROKEN, ids=[f"{rule}-{at}" for at, (rule, _, _) in enumerate(BROKEN)]
)
def test_a_leaf_that_breaks_one_rule_is_named_for_it(
    rule: str, problem: str, make: Callable[[], x509.Certificate]
) -> None:
    with pytest.raises(LintError) as caught:
        lint(make(), REQUEST, NOW)
    assert caught.value.rule == rule
    assert problem in caught.value.problem
    assert caught.value.clause in str(caught.value)
    assert "\n" not in str(caught.value)


def broken_rule(certificate: x509.Certificate, asked: LeafRequest) -> str:
    with pytest.raises(LintError) as caught:
        lint(certificate, asked, NOW)
    return caught.value.rule


def test_a_leaf_that_begins_or_ends_outside_its_issuer_breaks_the_rules_of_time() -> None:
    short = pki.Authority.root(not_before=NOW - HOUR, not_after=NOW + 2 * DAY).certificate
    asked = replace(REQUEST, issuer=short)
    assert broken_rule(rebuilt(asked, first=NOW - 2 * HOUR), asked) == "not_before"
    assert broken_rule(rebuilt(asked, last=NOW + 3 * DAY), asked) == "not_after"


@pytest.mark.parametrize("server", [2 * DAY, None, -DAY])
def test_a_leaf_that_outlives_the_servers_certificate_breaks_a_rule(server: timedelta | None) -> None:
    asked = replace(REQUEST, server_not_after=None if server is None else NOW + server)
    assert broken_rule(rebuilt(asked, last=NOW + 2 * DAY + HOUR), asked) == "not_after_of_server"
    lint(signed(good(asked)), asked, NOW)


def test_the_key_of_the_issuer_is_no_key_for_a_leaf() -> None:
    asked = replace(REQUEST, public_key=PARENT.public_key())
    assert broken_rule(signed(good(asked)), asked) == "own_key"


@pytest.mark.parametrize(
    "key",
    [pki.kept_key("rsa1024"), ec.generate_private_key(ec.SECP224R1()), ed25519.Ed25519PrivateKey.generate()],
    ids=lambda key: type(key).__name__,
)
def test_a_weak_or_strange_key_is_no_key_for_a_leaf(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    asked = replace(REQUEST, public_key=key.public_key())
    assert broken_rule(signed(good(asked)), asked) == "public_key"


def test_a_long_host_wants_an_empty_subject_and_a_critical_name() -> None:
    asked = replace(REQUEST, host=parse_host(LONG))
    lint(signed(good(asked)), asked, NOW)
    assert broken_rule(rebuilt(asked, subject=common_name("short")), asked) == "subject"
    assert broken_rule(rebuilt(asked, extensions={SAN: (sans(LONG), False)}), asked) == "subject_alternative_name"


def test_a_serial_number_below_one_or_over_20_octets_is_named() -> None:
    root = pki.Authority.root(serial=-5)
    assert broken_rule(root.certificate, REQUEST) == "serial_number"
    root = pki.Authority.root(serial=2**168 - 1)
    assert broken_rule(root.certificate, REQUEST) == "serial_number"


def test_a_certificate_of_version_one_is_named() -> None:
    assert broken_rule(pki.Authority.root(version=1, bare=True).certificate, REQUEST) == "version_3"


def test_an_extension_twice_does_not_parse() -> None:
    twice = pki.Authority.root(duplicate=[ExtensionOID.BASIC_CONSTRAINTS]).certificate
    assert broken_rule(twice, REQUEST) == "parses"


def test_each_rule_is_broken_somewhere_above() -> None:
    elsewhere = {"own_key", "version_3", "not_after_of_server"}
    assert {rule for rule, _, _ in BROKEN} | elsewhere == {rule.name for rule in RULES}


@pytest.mark.parametrize("host", ["www.example.com", "192.0.2.1", "2001:db8::1", "a_b.example", "bücher.example", LONG])
def test_what_the_profile_builds_keeps_every_rule(host: str) -> None:
    asked = replace(REQUEST, host=parse_host(host))
    lint(signed(good(asked)), asked, NOW)
    lint(signed(build(asked, NOW.replace(microsecond=999_999), WEEK)), asked, NOW.replace(microsecond=999_999))


def test_real_authorities_and_rsa_keys_keep_every_rule() -> None:
    asked = request(algorithm="rsa")
    now = authority("rsa").root.not_valid_before_utc + 2 * DAY
    lint(signed(build(asked, now, WEEK)), asked, now)


def test_a_leaf_that_outlives_what_is_above_its_issuer_breaks_the_rule() -> None:
    above = pki.Authority.root(not_before=NOW - 30 * DAY, not_after=NOW + 2 * DAY).certificate
    asked = replace(REQUEST, within=Validity.of([PARENT, above]))
    assert signed(good(asked)).not_valid_after_utc == NOW + 2 * DAY
    lint(rebuilt(asked), asked, NOW)
    assert broken_rule(rebuilt(asked, last=NOW + 3 * DAY), asked) == "not_after"
