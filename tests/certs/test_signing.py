import ipaddress
import itertools
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certs.authority import make_built_in, spki_sha256
from certs.bundle import Bundle, BundleFinding, to_pem
from certs.signing import examine_signing
from tests.harness import bad_uploads, pki
from tests.harness.bad_uploads import encoded_name
from tests.harness.pki import NOW, Authority, Issued

DAY = timedelta(days=1)
ROOT = Authority.root("Example Root")
POLICY = ROOT.intermediate("Example Policy", path_length=1)
ISSUING = POLICY.intermediate("Example Issuing", path_length=0)
OTHER = Authority.root("Other Root")
LEAF = ISSUING.leaf("good.example")
RSA = pki.kept_key("rsa2048")


def file_of(*issued: Issued) -> bytes:
    return b"".join(one.pem() for one in issued)


def examined(*issued: Issued) -> Bundle:
    return examine_signing([file_of(*issued)], NOW)


def certificates(*issued: Issued) -> tuple[x509.Certificate, ...]:
    return tuple(one.certificate for one in issued)


def only(bundle: Bundle) -> BundleFinding:
    (found,) = bundle.findings
    return found


def told(bundle: Bundle) -> list[tuple[str, str, int | None]]:
    return [(found.level, found.code, found.certificate) for found in bundle.findings]


def the_error(bundle: Bundle) -> BundleFinding:
    (found,) = [found for found in bundle.findings if found.level == "error"]
    assert not bundle.ok
    assert found.message.isprintable()
    assert len(found.message) < 400
    return found


# Good ones


def test_a_good_chain_is_kept_as_it_is() -> None:
    bundle = examined(ISSUING, POLICY, ROOT)
    assert bundle == Bundle(certificates(ISSUING, POLICY, ROOT), (), (1, 2, 3))
    assert bundle.ok


@pytest.mark.parametrize("algorithm", ["ecdsa", "rsa"])
def test_the_built_in_authority_is_fit_to_sign(algorithm: str) -> None:
    made = make_built_in("Tenant", "here", NOW, "rsa" if algorithm == "rsa" else "ecdsa")
    data = to_pem([made.intermediate, made.root]).encode()
    assert examine_signing([data], NOW, made.intermediate_key.public_key()).findings == ()


def test_a_root_alone_can_sign() -> None:
    assert examined(ROOT) == Bundle((ROOT.certificate,), (), (1,))


@pytest.mark.parametrize("order", list(itertools.permutations((ISSUING, POLICY, ROOT)))[1:], ids=itertools.count())
def test_another_order_is_put_right_and_told(order: tuple[Authority, ...]) -> None:
    bundle = examined(*order)
    assert bundle.chain == certificates(ISSUING, POLICY, ROOT)
    assert [order[position - 1] for position in bundle.positions] == [ISSUING, POLICY, ROOT]
    assert only(bundle) == BundleFinding(
        "info", "reordered", "the certificates were put in order: the issuing one first, the topmost last"
    )


def test_several_files_are_one_chain_whose_places_count_through() -> None:
    bundle = examine_signing([ROOT.raw, file_of(ISSUING, POLICY)], NOW)
    assert bundle.chain == certificates(ISSUING, POLICY, ROOT)
    assert bundle.positions == (2, 3, 1)
    old = ROOT.intermediate("Old", not_after=NOW - DAY)
    bundle = examine_signing([file_of(old.intermediate("Below")), file_of(old, ROOT)], NOW)
    assert the_error(bundle).certificate == 2
    assert the_error(bundle).message == (
        f"certificate 2 (Old) in file 2 expired on {NOW - DAY:%Y-%m-%d %H:%M} UTC; have it renewed"
    )


def test_repeated_certificates_are_dropped_and_told() -> None:
    bundle = examine_signing([file_of(ISSUING, POLICY), file_of(POLICY, ROOT)], NOW)
    assert bundle.chain == certificates(ISSUING, POLICY, ROOT)
    assert told(bundle) == [("info", "repeated", 3)]


def test_the_issuing_certificate_is_the_one_with_the_key() -> None:
    bundle = examine_signing([file_of(ROOT, POLICY)], NOW, POLICY.certificate.public_key())
    assert bundle.chain == certificates(POLICY, ROOT)
    assert bundle.ok


def test_of_two_certificates_with_the_key_the_one_with_more_above_it_issues() -> None:
    crossed = OTHER.cross_sign(POLICY, path_length=1)
    bundle = examine_signing([file_of(crossed, POLICY, ROOT)], NOW, POLICY.certificate.public_key())
    assert the_error(bundle).code == "does_not_link"
    assert the_error(bundle).message == (
        "certificate 1 (Example Policy) has the same key as certificate 2 (Example Policy), which has more above it; "
        "take one of the two out"
    )


# Files


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("empty", "no_certificate", "the file is empty"),
        ("binary", "no_certificate", "the file holds no certificate: neither PEM nor DER nor PKCS #7"),
        ("ten megabytes", "too_large", "at most 1048576 are read"),
        ("ten thousand certificates", "too_large", "at most 1048576 are read"),
        ("a thousand certificates", "too_large", "the file holds 101 certificates; at most 100 are read"),
        (
            "broken signature",
            "bad_signature",
            "certificate 1 (Tampered) names certificate 2 as its issuer, but that key did not sign it as it is; "
            "export it anew, or add the right issuer",
        ),
        (
            "leaf",
            "not_a_ca",
            "certificate 1 (good.example) is no CA certificate: its basicConstraints says CA:FALSE; have a CA "
            "certificate issued (basicConstraints CA:TRUE and keyUsage keyCertSign)",
        ),
        ("private key among certificates", "private_key", "only certificates belong here, so take it out"),
        (
            "explicit curve",
            "explicit_curve",
            "certificate 1 (Explicit) has an EC key that spells its curve out instead of naming it, which verifiers "
            "refuse (RFC 5480 2.1.1); have a CA with a named curve issued",
        ),
        (
            "negative serial",
            "malformed",
            "certificate 1 in the file (Negative) has a serial number below 1 (RFC 5280 4.1.2.2 forbids it); reissue",
        ),
        (
            "long common name",
            "malformed",
            f"certificate 1 ({'n' * 61}...) has a common name of 1024 characters in its subject, where 1 to 64 are "
            "allowed (RFC 5280 A.1); have it reissued",
        ),
        (
            "right-to-left marks",
            "not_a_ca",
            "certificate 1 (Example ?gnissuI??) is no CA certificate: its basicConstraints says CA:FALSE; have",
        ),
    ],
)
def test_a_bad_upload_gets_the_one_error_that_fits(name: str, code: str, message: str) -> None:
    found = the_error(examine_signing([bad_uploads.certificate_files()[name]], NOW))
    assert found.code == code
    assert message in found.message


@pytest.mark.parametrize("name", ["slashes", "emoji", "valid to 2199"])
def test_what_is_merely_strange_is_accepted(name: str) -> None:
    bundle = examine_signing([bad_uploads.certificate_files()[name]], NOW)
    assert bundle.ok
    assert len(bundle.chain) == 2


def test_names_with_slashes_and_marks_are_shown_on_one_line_without_marks() -> None:
    for name, shown in (
        (bad_uploads.SLASHES,) * 2,
        (bad_uploads.EMOJI,) * 2,
        (bad_uploads.RIGHT_TO_LEFT, "?gnissuI??"),
    ):
        assert f"{shown})" in the_error(examined(ROOT.intermediate(name, ca=None), ROOT)).message
        assert examined(ROOT.intermediate(name), ROOT).ok


def test_each_file_that_cannot_be_read_is_told() -> None:
    minus = Authority.root("Minus", serial=-1)
    bundle = examine_signing([file_of(ISSUING, POLICY), minus.pem(), b"", minus.pem()], NOW)
    assert bundle.chain == ()
    assert told(bundle) == [("error", "malformed", 3), ("error", "no_certificate", None), ("error", "malformed", None)]
    assert bundle.findings[0].message.startswith("file 2: certificate 1 in the file (Minus) has a serial number")
    assert bundle.findings[1].message == "file 3: the file is empty"


def test_too_many_files_or_certificates_and_no_file_are_refused() -> None:
    assert the_error(examine_signing([], NOW)).code == "no_certificate"
    assert the_error(examine_signing([ROOT.raw] * 101, NOW)).message == "there are 101 files; at most 100 are read"
    assert the_error(examine_signing([ROOT.pem() * 60] * 2, NOW)).code == "too_large"


# The key


def test_a_certificate_of_another_key_is_refused() -> None:
    bundle = examine_signing([file_of(ISSUING, POLICY, ROOT)], NOW, OTHER.certificate.public_key())
    assert (the_error(bundle).code, the_error(bundle).certificate) == ("key_mismatch", 1)
    assert the_error(bundle).message == (
        "certificate 1 (Example Issuing) is for another key than the private key; "
        "upload the certificate and the key that belong together"
    )


def test_a_request_answered_for_another_key_is_refused_as_such() -> None:
    request, answer = bad_uploads.answered_request()
    bundle = examine_signing([answer], NOW, request.public_key(), for_request=True)
    assert the_error(bundle).code == "key_mismatch"
    assert the_error(bundle).message == (
        "certificate 1 (Example Issuing) is for another key than this request's; have the request that was downloaded "
        "here signed, and upload the certificate of that"
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("rsa1024", "has a key that is not accepted: RSA of 1024 bits; at least 2048 is needed; have a CA with a"),
        ("ec224", "has a key that leaves cannot be signed with: curve secp224r1; RSA of 2048 bits or more, P-256,"),
        ("secp256k1", "has a key that leaves cannot be signed with: curve secp256k1; RSA of 2048 bits or more, P-256,"),
        ("brainpool256", "has a key that leaves cannot be signed with: curve brainpoolP256r1; RSA of"),
        ("ed25519", "has a key that leaves cannot be signed with: a key of kind Ed25519; RSA of"),
        ("dsa", "has a key that leaves cannot be signed with: a key of kind DSA; RSA of 2048 bits or more,"),
    ],
)
def test_a_key_that_should_not_sign_is_told(kind: str, message: str) -> None:
    bundle = examined(ROOT.intermediate("Weak", key=pki.kept_key(kind)), ROOT)
    assert the_error(bundle).code == "weak_key"
    assert f"certificate 1 (Weak) {message}" in the_error(bundle).message


def test_the_keys_above_may_be_of_other_strong_kinds() -> None:
    root = Authority.root("Edwards", key="ed25519")
    assert examined(root.intermediate("Below", key=RSA), root).findings == ()
    weak = Authority.root("Weak", key=pki.kept_key("rsa1024"))
    assert told(examined(weak.intermediate("Below"), weak)) == [("error", "weak_key", 2)]


def test_an_rsa_key_that_is_restricted_to_pss_cannot_sign_leaves() -> None:
    plain = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    restricted = plain.replace(
        bytes.fromhex("300d06092a864886f70d0101010500"), bytes.fromhex("300b06092a864886f70d01010a")
    )
    spki = bytes.fromhex("3082") + (len(restricted) - 4).to_bytes(2) + restricted[4:]
    bundle = examined(ROOT.intermediate("Pss", key=RSA, spki=spki), ROOT)
    assert the_error(bundle).code == "weak_key"
    assert "RSA restricted to PSS signatures" in the_error(bundle).message


def test_a_root_whose_curve_is_spelt_out_is_the_only_one_told() -> None:
    for curve in ("prime256v1", "secp256k1"):
        root = Authority.root("Explicit", spki=bad_uploads.explicit_public_key(curve))
        bundle = examined(root.intermediate("Below"), root)
        assert ("explicit_curve", 2) in [(found.code, found.certificate) for found in bundle.findings]


def test_a_key_that_is_there_already_is_told_by_its_name() -> None:
    existing = {"mine": spki_sha256(ISSUING.certificate), "other": spki_sha256(OTHER.certificate)}
    bundle = examine_signing([file_of(ISSUING, POLICY, ROOT)], NOW, existing=existing)
    assert told(bundle) == [("error", "duplicate", 1)]
    assert only(bundle).message == (
        "certificate 1 (Example Issuing) has the key of the signing CA 'mine', which is there already; use that one"
    )
    assert examine_signing([file_of(POLICY, ROOT)], NOW, existing=existing).ok


# Each certificate


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"ca": None}, "it has no basicConstraints"),
        ({"key_usage": ["digital_signature", "crl_sign"]}, "its keyUsage does not allow"),
        ({"version": 1, "bare": True}, "version 1"),
    ],
)
def test_what_does_not_say_that_it_is_a_ca_is_none(overrides: pki.Overrides, message: str) -> None:
    bundle = examined(ROOT.intermediate("No", **overrides), ROOT)
    assert (the_error(bundle).code, the_error(bundle).certificate) == ("not_a_ca", 1)
    assert message in the_error(bundle).message
    above = ROOT.intermediate("No", **overrides)
    assert told(examined(above.intermediate("Below"), above, ROOT)) == [("error", "not_a_ca", 2)]


def test_extensions_that_cannot_be_parsed_are_told() -> None:
    twice = ROOT.intermediate("Twice", duplicate=[ExtensionOID.BASIC_CONSTRAINTS])
    assert told(examined(twice, ROOT)) == [("error", "malformed", 1)]


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        (x509.Name([]), "has no subject, which a CA must have (RFC 5280 4.1.2.6); have it reissued with one"),
        (
            encoded_name(b"Germany", 0x13, "2.5.4.6"),
            "has a country of 7 characters in its subject, where 2 are allowed",
        ),
        (encoded_name(b"B\xfccher CA", 0x14), "has a subject that cannot be written into leaves as it is encoded"),
        (encoded_name(b"B\xfccher CA"), "has a subject that cannot be written into leaves as it is encoded"),
    ],
    ids=itertools.count(),
)
def test_a_subject_that_leaves_cannot_name_is_told(subject: x509.Name, message: str) -> None:
    bundle = examined(ROOT.intermediate(subject=subject), ROOT)
    assert (the_error(bundle).code, the_error(bundle).certificate) == ("malformed", 1)
    assert message in the_error(bundle).message


def test_subjects_in_old_strings_are_accepted() -> None:
    for subject in (
        encoded_name(("ü" * 64).encode()),
        encoded_name("Bücher".encode("utf-16-be"), 0x1E),
        encoded_name("B\N{LOCK}".encode("utf-32-be"), 0x1C),
    ):
        assert examined(ROOT.intermediate(subject=subject), ROOT).findings == ()


def test_expired_and_not_yet_valid_are_told_with_the_date() -> None:
    old = ROOT.intermediate("Old", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    assert the_error(examined(old, ROOT)).message == (
        f"certificate 1 (Old) expired on {NOW - DAY:%Y-%m-%d %H:%M} UTC; have it renewed"
    )
    early = ROOT.intermediate("Early", not_before=NOW + DAY)
    assert told(examined(early, ROOT)) == [("error", "not_yet_valid", 1)]
    dead = Authority.root("Dead", not_after=NOW - DAY)
    assert told(examined(dead.intermediate("Below"), dead)) == [("error", "expired", 2)]


@pytest.mark.parametrize("weak", ["md5", "sha1"])
def test_a_weak_signature_is_told_on_anything_but_a_self_signed_root(weak: str) -> None:
    root = Authority.root("Old Root", key=RSA, hash=weak)
    assert examined(root.intermediate("Below", hash="sha256"), root).findings == ()
    bundle = examined(root.intermediate("Below", hash=weak), root)
    assert (the_error(bundle).code, the_error(bundle).certificate) == ("weak_signature", 1)
    assert f"is signed with {weak.upper()}; SHA-256 or better is needed; have it" in the_error(bundle).message


# How they belong together


@pytest.mark.parametrize(
    ("issued", "place", "message"),
    [
        (
            (ISSUING, POLICY, ROOT, OTHER),
            4,
            "certificate 4 (Other Root) does not link to certificate 1 (Example Issuing): "
            "it belongs to another chain; take it out",
        ),
        (
            (ISSUING, ROOT),
            2,
            "certificate 2 (Example Root) does not link to certificate 1 (Example Issuing): Example Policy, the issuer "
            "of certificate 1 (Example Issuing), is missing; add that, or take this one out",
        ),
        (
            (ROOT.intermediate("Second"), ISSUING, POLICY, ROOT),
            1,
            "certificate 1 (Second) does not link to certificate 2 (Example Issuing): "
            "it belongs to another chain; take it out",
        ),
    ],
    ids=itertools.count(),
)
def test_what_is_not_on_the_way_up_does_not_link(issued: tuple[Issued, ...], place: int, message: str) -> None:
    bundle = examined(*issued)
    assert told(bundle)[0] == ("error", "does_not_link", place) or told(bundle)[-1] == ("error", "does_not_link", place)
    assert the_error(bundle).message == message


def test_a_leaf_below_the_certificate_with_the_key_does_not_link() -> None:
    data = file_of(LEAF, ISSUING, POLICY, ROOT)
    bundle = examine_signing([data], NOW, ISSUING.certificate.public_key())
    assert the_error(bundle).message == (
        "certificate 1 (good.example) does not link: it lies below certificate 2 (Example Issuing), whose key signs; "
        "take it out"
    )
    assert bundle.chain == certificates(ISSUING, POLICY, ROOT, LEAF)


def test_cas_that_sign_each_other_in_a_circle_do_not_link() -> None:
    one, two = Authority.root("One"), Authority.root("Two")
    bundle = examined(one.cross_sign(two), two.cross_sign(one))
    assert the_error(bundle).code == "does_not_link"
    assert "is in or below a circle of CAs that sign each other" in the_error(bundle).message


def test_a_signature_that_does_not_verify_is_told_wherever_it_is() -> None:
    middle = ROOT.intermediate("Middle", tamper=True)
    assert the_error(examined(middle.intermediate("Below"), middle, ROOT)).certificate == 2
    bad = Authority.root("Bad", tamper=True)
    assert told(examined(bad)) == [("error", "bad_signature", 1)]
    bundle = examined(bad.intermediate("Below"), bad)
    assert told(bundle) == [("error", "bad_signature", 2)]
    imposter = Authority.root("Example Root", ski=False)
    assert told(examined(POLICY, imposter)) == [("error", "bad_signature", 1)]


def test_a_path_length_that_leaves_no_room_is_told() -> None:
    tight = ROOT.intermediate("Tight", path_length=0)
    bundle = examined(tight.intermediate("Below"), tight, ROOT)
    assert told(bundle) == [("error", "path_length", 2)]
    assert only(bundle).message == (
        "certificate 2 (Tight) allows 0 CAs below it (pathLenConstraint, RFC 5280 4.2.1.9), and there are 1; have it "
        "reissued with a larger one, or the issuing certificate by a CA with room"
    )
    root = Authority.root("Short", path_length=1)
    middle = root.intermediate("Middle")
    assert examined(middle, root).findings == ()
    assert told(examined(middle.intermediate("Below"), middle, root)) == [("error", "path_length", 3)]


def test_self_issued_cas_do_not_count_for_the_path_length() -> None:
    old = Authority.root("Roll", path_length=1)
    rollover = old.cross_sign(Authority.root("Roll"))
    assert examined(rollover.intermediate("Below"), rollover, old).findings == ()


def test_a_purpose_other_than_servers_is_told() -> None:
    mail = ROOT.intermediate("Mail", eku=["email"])
    bundle = examined(mail, ROOT)
    assert told(bundle) == [("error", "wrong_purpose", 1)]
    assert only(bundle).message == (
        "certificate 1 (Mail) has an extended key usage without server authentication (RFC 5280 4.2.1.12), so that "
        "devices refuse the leaves; have it reissued with serverAuth, or without the extension"
    )
    assert told(examined(mail.intermediate("Below"), mail, ROOT)) == [("error", "wrong_purpose", 2)]
    assert examined(ROOT.intermediate("All", eku=["any"]), ROOT).ok
    assert examined(ROOT.intermediate("Server", eku=["client", "server"]), ROOT).ok
    root = Authority.root("Mail Root", eku=["email"])
    assert examined(root.intermediate("Below"), root).ok
    assert told(examined(root)) == [("error", "wrong_purpose", 1)]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    weak = Authority.root("Weak", key=pki.kept_key("rsa1024"), not_after=NOW - DAY, ca=False, eku=["email"])
    assert sorted(found.code for found in examined(weak).findings) == [
        "expired",
        "not_a_ca",
        "weak_key",
        "wrong_purpose",
    ]


# Warnings, and what is told


def test_a_topmost_that_is_no_root_is_a_warning() -> None:
    bundle = examined(ISSUING, POLICY)
    assert bundle.ok
    assert told(bundle) == [("warning", "no_root", 2)]
    assert only(bundle).message == (
        "certificate 2 (Example Policy) is the topmost, but no root; devices need its root from elsewhere"
    )


@pytest.mark.parametrize(
    ("lived", "left", "message"),
    [
        (365, 29, "less than a tenth of its life is left"),
        (270, 30, None),
        (90, 11, None),
        (91, 10, "less than a tenth of its life is left"),
        (3000, 300, "less than a tenth of its life is left"),
    ],
)
def test_the_near_end_is_a_warning_with_the_date(lived: int, left: int, message: str | None) -> None:
    issuing = ROOT.intermediate("Late", not_before=NOW - lived * DAY, not_after=NOW + left * DAY)
    bundle = examined(issuing, ROOT)
    if message is None:
        assert bundle.findings == ()
        return
    assert told(bundle) == [("warning", "near_end", 1)]
    assert only(bundle).message == f"certificate 1 (Late) ends on {NOW + left * DAY:%Y-%m-%d %H:%M} UTC: {message}"


def test_the_near_end_of_a_chain_is_that_of_what_ends_first() -> None:
    root = Authority.root("Old", not_before=NOW - 900 * DAY, not_after=NOW + 9 * DAY)
    bundle = examined(root.intermediate("Below", not_after=NOW + 99 * DAY), root)
    assert told(bundle) == [("warning", "near_end", 2), ("warning", "ends_before", 2)]


def test_a_ca_above_that_ends_before_the_issuing_certificate_is_a_warning() -> None:
    short = Authority.root("Short", not_after=NOW + 9 * DAY)
    bundle = examined(short.intermediate("Below", not_after=NOW + 99 * DAY), short)
    assert told(bundle) == [("warning", "ends_before", 2)]
    assert only(bundle).message == (
        f"certificate 2 (Short) ends on {NOW + 9 * DAY:%Y-%m-%d %H:%M} UTC, before certificate 1 (Below), which it "
        f"vouches for, does on {NOW + 99 * DAY:%Y-%m-%d %H:%M} UTC"
    )


def test_name_constraints_are_told() -> None:
    permitted: Sequence[x509.GeneralName] = [x509.DNSName(f"{n}.example") for n in range(7)]
    excluded = [
        x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")),
        x509.DirectoryName(pki.common_name("A\u202eB")),
        x509.DNSName(""),
    ]
    names = x509.NameConstraints(permitted, excluded)
    bundle = examined(ROOT.intermediate("Bound", name_constraints=names), ROOT)
    assert bundle.ok
    assert told(bundle) == [("info", "name_constraints", 1)]
    assert only(bundle).message == (
        "certificate 1 (Bound) has name constraints: permits 0.example, 1.example, 2.example, 3.example, 4.example and "
        "2 more, excludes 10.0.0.0/8, the names below A?B, all; hosts outside of them get no leaf that devices accept"
    )


def test_a_missing_key_identifier_is_told() -> None:
    bundle = examined(ROOT.intermediate("Bare", ski=False), ROOT)
    assert told(bundle) == [("info", "no_key_identifier", 1)]
    assert only(bundle).message == (
        "certificate 1 (Bare) has no subject key identifier; one derived from its key is used (RFC 5280 4.2.1.2)"
    )


# Whatever comes


def test_a_hundred_cas_of_one_name_are_examined_in_bounded_time() -> None:
    tops = [Authority.root("Same", key="ec384", ski=False, aki=False) for _ in range(25)]
    below = [top.intermediate("Same", key="ec384", ski=False, aki=False, tamper=True) for top in tops for _ in range(3)]
    begun = time.process_time()
    bundle = examined(*tops, *below)
    assert time.process_time() - begun < 10
    assert not bundle.ok


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.tuples(st.integers(0, len(ISSUING.raw) - 1), st.binary(max_size=3)).map(
                lambda cut: ISSUING.raw[: cut[0]] + cut[1] + ISSUING.raw[cut[0] + len(cut[1]) :]
            ),
            st.sampled_from([ISSUING.raw, POLICY.raw, ROOT.raw, LEAF.raw]),
        ),
        max_size=4,
    )
)
@example([b"", ROOT.raw])
def test_whatever_is_uploaded_a_bundle_comes_out(files: list[bytes]) -> None:
    bundle = examine_signing(files, NOW, ISSUING.certificate.public_key())
    assert all("\n" not in found.message for found in bundle.findings)
    assert not bundle.ok or bundle.chain[0].public_key() == ISSUING.certificate.public_key()
