import subprocess
from typing import get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.der import name_text, read
from certs.request import Algorithm, Subject, check_subject, make_request, unsigned_request
from certs.signer import LocalSigner, SigningError, hash_for, padding_for
from certs.signing import examine_signing
from tests.harness import bad_uploads, pki
from tests.harness.pki import NOW, Authority
from tests.harness.programs import need

WHOLE = Subject(
    common_name="Example Inspection CA",
    organization="Bücher & Söhne",
    organizational_unit="Network",
    email="pki@example.com",
    country="de",
    state="Bayern",
    city="München",
)


def openssl_reads(request: x509.CertificateSigningRequest) -> str:
    """What openssl prints of it, once it has verified its signature."""
    made = subprocess.run(
        [need("openssl"), "req", "-verify", "-noout", "-text", "-nameopt", "RFC2253,-esc_msb,utf8,show_type"],
        input=request.public_bytes(Encoding.PEM),
        capture_output=True,
        check=True,
    )
    assert b"verify OK" in made.stderr + made.stdout
    return made.stdout.decode()


@pytest.mark.parametrize(
    ("algorithm", "key", "signature"),
    [
        ("rsa-2048", "Public-Key: (2048 bit)", "sha256WithRSAEncryption"),
        ("rsa-3072", "Public-Key: (3072 bit)", "sha256WithRSAEncryption"),
        ("rsa-4096", "Public-Key: (4096 bit)", "sha256WithRSAEncryption"),
        ("ecdsa-p256", "NIST CURVE: P-256", "ecdsa-with-SHA256"),
        ("ecdsa-p384", "NIST CURVE: P-384", "ecdsa-with-SHA384"),
    ],
)
def test_openssl_verifies_a_request_and_reads_what_it_asks_for(algorithm: Algorithm, key: str, signature: str) -> None:
    made, request = make_request(WHOLE, algorithm)
    text = openssl_reads(request)
    assert key in text
    assert f"Signature Algorithm: {signature}" in text
    assert "X509v3 Basic Constraints: critical\n                    CA:TRUE, pathlen:0\n" in text
    assert "X509v3 Key Usage: critical\n                    Certificate Sign, CRL Sign\n" in text
    assert "X509v3 Subject Key Identifier: \n" in text
    assert request.public_key() == made.public_key()
    assert isinstance(made, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    LocalSigner(made)


def test_every_algorithm_is_tried() -> None:
    assert len(get_args(Algorithm.__value__)) == 5


def test_the_fields_stand_in_the_subject_in_their_own_encodings() -> None:
    text = openssl_reads(make_request(WHOLE, "ecdsa-p256")[1])
    assert (
        "Subject: emailAddress=IA5STRING:pki@example.com,CN=UTF8STRING:Example Inspection CA,OU=UTF8STRING:Network,"
        "O=UTF8STRING:Bücher & Söhne,L=UTF8STRING:München,ST=UTF8STRING:Bayern,C=PRINTABLESTRING:DE\n"
    ) in text
    assert "Subject: CN=UTF8STRING:Alone\n" in openssl_reads(make_request(Subject("Alone"), "ecdsa-p256")[1])


def test_the_certificate_of_a_request_is_fit_to_sign() -> None:
    key, request = make_request(WHOLE, "ecdsa-p384")
    root = Authority.root("Example Root")
    issued = root.intermediate(subject=request.subject, key=key, path_length=0)
    assert examine_signing([issued.pem() + root.pem()], NOW, request.public_key(), for_request=True).findings == ()


@pytest.mark.parametrize(
    ("subject", "problem"),
    [
        (Subject(""), "common name: is empty"),
        (Subject("x" * 65), "common name: has 65 characters; at most 64 are allowed (RFC 5280 A.1)"),
        (
            Subject("ü" * 33),
            "common name: has 66 bytes in UTF-8; at most 64 are allowed, since some programs count bytes",
        ),
        (Subject(" x"), "common name: has a space at its beginning or end; take it out"),
        (Subject("x\u00a0"), "common name: has a space at its beginning or end; take it out"),
        (Subject("   "), "common name: has a space at its beginning or end; take it out"),
        (Subject("a\nb"), "common name: has control characters; take them out"),
        (Subject("a\0b"), "common name: has control characters; take them out"),
        (Subject("a\u2028b"), "common name: has line separators; take them out"),
        (Subject("a\ue000b"), "common name: has characters of private use; take them out"),
        (Subject("a\ud800b"), "common name: has halves of characters; take them out"),
        (
            Subject(bad_uploads.RIGHT_TO_LEFT),
            "common name: has invisible characters, or such that change the direction of text; take them out",
        ),
        (Subject("x", organization=""), "organization: is empty; leave it out"),
        (Subject("x", organization="ü" * 65), "organization: has 65 characters; at most 64 are allowed (RFC 5280 A.1)"),
        (
            Subject("x", organizational_unit="x" * 65),
            "organizational unit: has 65 characters; at most 64 are allowed (RFC 5280 A.1)",
        ),
        (Subject("x", city="x" * 129), "city: has 129 characters; at most 128 are allowed (RFC 5280 A.1)"),
        (Subject("x", state="x" * 129), "state: has 129 characters; at most 128 are allowed (RFC 5280 A.1)"),
        (
            Subject("x", country="DEU"),
            "country: is no code of exactly two letters, A to Z, such as DE (ISO 3166-1)",
        ),
        (Subject("x", country="Ää"), "country: is no code of exactly two letters, A to Z, such as DE (ISO 3166-1)"),
        (Subject("x", country="D1"), "country: is no code of exactly two letters, A to Z, such as DE (ISO 3166-1)"),
        (
            Subject("x", email="a@b@c"),
            "email: is no address of the form name@domain, with exactly one @ and no spaces",
        ),
        (Subject("x", email="@b"), "email: is no address of the form name@domain, with exactly one @ and no spaces"),
        (Subject("x", email="ab"), "email: is no address of the form name@domain, with exactly one @ and no spaces"),
        (
            Subject("x", email="a@bücher.example"),
            "email: has characters outside of ASCII; write the domain in its xn-- form (RFC 5280 4.1.2.6)",
        ),
        (
            Subject("x", email="a" * 250 + "@b.org"),
            "email: has 256 characters; at most 255 are allowed (RFC 5280 A.1)",
        ),
    ],
)
def test_a_field_that_is_wrong_is_named_with_its_limit(subject: Subject, problem: str) -> None:
    assert check_subject(subject) == [problem]
    with pytest.raises(ValueError, match=r"^(common|org|city|state|country|email)") as caught:
        make_request(subject, "ecdsa-p256")
    assert str(caught.value) == problem


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert [problem.partition(":")[0] for problem in check_subject(Subject("", "", "", "", "", "", ""))] == [
        "common name",
        "organization",
        "organizational unit",
        "email",
        "country",
        "state",
        "city",
    ]


def test_the_longest_of_each_field_is_accepted() -> None:
    for letter in ("x", "ü", "\N{LOCK}"):
        most = 64 // len(letter.encode())
        longest = Subject(
            letter * most, letter * 64, letter * 64, "a" * 249 + "@b.org", "fr", letter * 128, letter * 128
        )
        assert check_subject(longest) == []
        assert "CA:TRUE" in openssl_reads(make_request(longest, "ecdsa-p256")[1])


def test_slashes_and_emoji_stay_what_they_are() -> None:
    for name in (bad_uploads.SLASHES, bad_uploads.EMOJI):
        _, request = make_request(Subject(name), "ecdsa-p256")
        assert name_text(read(request.subject.public_bytes())) == name
        assert openssl_reads(request)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Subject,
        *[st.text(max_size=70)] + [st.none() | st.text(max_size=130)] * 6,
    )
)
def test_whatever_is_typed_is_refused_or_makes_a_request(subject: Subject) -> None:
    if check_subject(subject):
        return
    _, request = make_request(subject, "ecdsa-p256")
    assert request.is_signature_valid
    assert request.subject == x509.load_der_x509_csr(request.public_bytes(Encoding.DER)).subject
    assert pki.common_name(subject.common_name).rdns[0] in request.subject.rdns


@pytest.mark.parametrize(
    ("kind", "pss"),
    [("rsa2048", False), ("rsa2048", True), ("rsa3072", False), ("ec256", False), ("ec384", False), ("ec521", False)],
)
def test_a_request_on_a_key_that_is_elsewhere_is_what_it_would_be_if_the_key_were_here(kind: str, pss: bool) -> None:
    key = pki.kept_key(kind, 1)
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    public = key.public_key()
    unsigned = unsigned_request(WHOLE, public, pss)
    request = unsigned.signed(signed_with(key, unsigned.info, pss))
    text = openssl_reads(request)
    assert "CA:TRUE, pathlen:0" in text
    assert request.public_key() == public
    here = make_request(WHOLE, "ecdsa-p256")[1]
    assert request.subject == here.subject
    assert [one.oid for one in request.extensions] == [one.oid for one in here.extensions]
    found = request.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert found == x509.SubjectKeyIdentifier.from_public_key(public)


@pytest.mark.parametrize("signature", [b"", b"no signature", bytes(256)])
def test_a_request_that_another_key_has_signed_is_given_to_nobody(signature: bytes) -> None:
    key, other = (pki.kept_key("rsa2048", number) for number in (1, 2))
    assert isinstance(key, rsa.RSAPrivateKey)
    assert isinstance(other, rsa.RSAPrivateKey)
    unsigned = unsigned_request(WHOLE, key.public_key())
    for made in (signature, signed_with(other, unsigned.info, False), signed_with(key, unsigned.info, True)):
        with pytest.raises(SigningError, match="does not verify with its public key"):
            unsigned.signed(made)


def test_a_key_that_should_sign_nothing_gets_no_request() -> None:
    for kind in ("rsa1024", "ec192"):
        weak = pki.kept_key(kind, 1).public_key()
        with pytest.raises(SigningError, match="signing key"):
            unsigned_request(WHOLE, weak)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="common name"):
        unsigned_request(Subject(""), pki.kept_key("ec256", 1).public_key())  # type: ignore[arg-type]


def signed_with(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, data: bytes, pss: bool) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        how = padding_for(key.public_key(), pss)
        assert how is not None
        return key.sign(data, how, hash_for(key))
    return key.sign(data, ec.ECDSA(hash_for(key)))
