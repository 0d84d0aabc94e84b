"""Which certificates of a path are asked about, and where they say that one can ask."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from certs.revocation import LONGEST_URL, MOST_URLS, Subject, subjects, unknown
from certs.verdict import Defect
from tests.harness.pki import DAY, NOW, Authority, Issued, Raw
from tests.harness.revocation import MUST_STAPLE, NO_REV_AVAIL, names, uri

ROOT = Authority.root("Root")
ISSUING = ROOT.intermediate("Issuing", extra=names(crl="http://crl.example/root.crl"))
CRL, OCSP = "http://crl.example/1.crl", "http://ocsp.example/"


def asked(leaf: Issued) -> tuple[Subject, ...]:
    return subjects(leaf.chain(with_root=True))


def of(*extra: Raw) -> Subject:
    return asked(ISSUING.leaf(extra=extra))[0]


def points(*made: x509.DistributionPoint) -> Raw:
    return Raw("2.5.29.31", x509.CRLDistributionPoints(made).public_bytes())


def test_the_server_and_each_issuer_below_the_anchor_are_asked_about() -> None:
    leaf, issuing = asked(ISSUING.leaf(extra=names(crl=CRL, ocsp=OCSP)))
    assert (leaf.place, leaf.crl_urls, leaf.ocsp_urls) == (0, (CRL,), (OCSP,))
    assert (issuing.place, issuing.crl_urls, issuing.ocsp_urls) == (1, ("http://crl.example/root.crl",), ())
    assert leaf.issuer.certificate == ISSUING.certificate
    assert issuing.issuer.certificate == ROOT.certificate
    assert (leaf.who, issuing.who) == ("the server's certificate", 'the issuing certificate "Issuing"')


def test_a_server_certificate_that_is_the_anchor_is_not_asked_about() -> None:
    assert subjects(()) == ()
    assert subjects([ISSUING.leaf().certificate]) == ()


def silence_is_good(leaf: Issued) -> list[bool]:
    return [subject.silence_is_good for subject in asked(leaf)]


def test_of_one_that_says_that_nothing_will_be_known_silence_is_good_unless_it_is_a_ca() -> None:
    assert silence_is_good(ISSUING.leaf(extra=[NO_REV_AVAIL])) == [True, False]
    ca = ROOT.intermediate("Silent", extra=[NO_REV_AVAIL])
    assert silence_is_good(ca.leaf()) == [False, False]


def test_of_a_short_lived_server_certificate_silence_is_good_where_it_names_nothing() -> None:
    start, week = NOW - DAY, NOW + 6 * DAY
    assert silence_is_good(ISSUING.leaf(not_before=start, not_after=week)) == [True, False]
    for extra in (names(crl=CRL), names(ocsp=OCSP)):
        assert silence_is_good(ISSUING.leaf(not_before=start, not_after=week, extra=extra)) == [False, False]
    assert silence_is_good(ISSUING.leaf(not_before=start, not_after=week + DAY)) == [False, False]


def test_a_point_for_some_reasons_of_another_issuer_or_with_a_relative_name_is_not_used() -> None:
    reasons = frozenset({x509.ReasonFlags.key_compromise})
    other = [x509.DirectoryName(ROOT.subject)]
    relative = x509.RelativeDistinguishedName([x509.NameAttribute(x509.NameOID.COMMON_NAME, "crl")])
    found = of(
        points(
            x509.DistributionPoint([uri("http://a.example/")], None, reasons, None),
            x509.DistributionPoint([uri("http://b.example/")], None, None, other),
            x509.DistributionPoint(None, relative, None, None),
            x509.DistributionPoint([uri(CRL)], None, None, None),
        )
    )
    assert found.crl_urls == (CRL,)
    assert found.points == {uri(CRL)}


def test_only_plain_http_is_asked_and_only_addresses_that_are_whole() -> None:
    odd = [
        "https://crl.example/1.crl", "ldap://crl.example/cn=1", "file:///etc/passwd", "http://", "http:///1.crl",
        "http://crl.example:0/", "http://crl.example:99999/", "http://[::1/", "http://crl.example/a b",
        "http://crl.example/\n", "http://crl.example/" + "a" * LONGEST_URL, "",
    ]  # fmt: skip
    assert of(*names(crl=[*odd, CRL], ocsp=[*odd, OCSP])).crl_urls == (CRL,)
    assert of(*names(crl=[*odd, CRL], ocsp=[*odd, OCSP])).ocsp_urls == (OCSP,)


def test_a_few_addresses_are_asked_however_many_there_are() -> None:
    found = of(*names(crl=[f"{CRL}{n}" for n in range(50)], ocsp=[f"{OCSP}{n}" for n in range(50)]))
    assert (len(found.crl_urls), len(found.ocsp_urls)) == (MOST_URLS, MOST_URLS)
    assert len(found.points) == 50


def test_where_the_issuer_is_to_be_had_is_no_responder() -> None:
    issuers = x509.AuthorityInformationAccess(
        [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, uri("http://ca.example/ca.cer"))]
    )
    assert of(Raw("1.3.6.1.5.5.7.1.1", issuers.public_bytes())).ocsp_urls == ()


def test_what_is_not_known_says_why_and_what_was_promised() -> None:
    finding = unknown(of(MUST_STAPLE), ["CRL http://a.example/: no answer"])
    assert (finding.defect, finding.certificate) == (Defect.REVOCATION_UNKNOWN, 0)
    assert "not known: CRL http://a.example/: no answer; its server is to send an OCSP" in finding.explanation
    assert "names no CRL and no OCSP responder" in unknown(of(), []).explanation
