import itertools
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certs.private_keys import KeyProblem, is_pkcs12, read_pkcs12, read_private_key
from certs.signing import examine_signing
from tests.harness import bad_uploads, pki
from tests.harness.bad_uploads import ISSUING, PASSPHRASE, ROOT, encrypted_part, good_pkcs12, pfx
from tests.harness.der_writing import integer, object_identifier, tlv
from tests.harness.pki import NOW
from tests.harness.programs import need

RSA = pki.kept_key("rsa2048")
EC = ISSUING.key
PKCS8, TRADITIONAL = PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL
PEM, DER = Encoding.PEM, Encoding.DER


def written(key: pki.PrivateKey, encoding: Encoding, form: PrivateFormat, passphrase: bytes | None = None) -> bytes:
    return key.private_bytes(encoding, form, BestAvailableEncryption(passphrase) if passphrase else NoEncryption())


def public(key: pki.PrivateKey) -> bytes:
    return key.public_key().public_bytes(DER, PublicFormat.SubjectPublicKeyInfo)


def the_problem(data: bytes, passphrase: bytes | None = None) -> KeyProblem:
    with pytest.raises(KeyProblem) as caught:
        (read_pkcs12 if is_pkcs12(data) else read_private_key)(data, passphrase)
    problem = caught.value
    assert str(problem).isprintable()
    assert len(str(problem)) < 300
    assert PASSPHRASE.decode() not in f"{problem!r} {problem}"
    assert problem.__cause__ is None
    assert problem.__context__ is None
    return problem


# Reading


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
@pytest.mark.parametrize("key", [RSA, EC], ids=["rsa", "ec"])
@pytest.mark.parametrize(("encoding", "form"), [(PEM, PKCS8), (PEM, TRADITIONAL), (DER, PKCS8)])
def test_a_key_is_read_in_every_form(
    encoding: Encoding, form: PrivateFormat, key: pki.PrivateKey, passphrase: bytes | None
) -> None:
    data = written(key, encoding, form, passphrase)
    assert public(read_private_key(data, PASSPHRASE)) == public(key)  # given without need it is not looked at
    if passphrase:
        assert the_problem(data).code == "passphrase_missing"
        assert str(the_problem(data, b"")) == "the private key is encrypted; give its passphrase"
        assert the_problem(data, b"wrong").code == "passphrase_wrong"
        assert str(the_problem(data, b"wrong")) == (
            "the passphrase does not open the private key; check it, or the file is damaged"
        )
    else:
        assert public(read_private_key(data, None)) == public(key)


@pytest.mark.parametrize("kind", ["ec256", "ec384", "ec521"])
def test_the_curves_that_browsers_verify_are_read(kind: str) -> None:
    key = pki.new_key(kind)
    assert public(read_private_key(written(key, PEM, PKCS8), None)) == public(key)


def test_pem_is_read_however_it_was_saved() -> None:
    for form, passphrase in ((PKCS8, None), (PKCS8, PASSPHRASE), (TRADITIONAL, None), (TRADITIONAL, PASSPHRASE)):
        data = written(EC, PEM, form, passphrase)
        for saved in (
            data.replace(b"\n", b"\r\n"),
            b"\xef\xbb\xbf" + data,
            data.decode().encode("utf-16"),
            b"".join(b"    " + line for line in data.splitlines(keepends=True)),
            ISSUING.pem() + data + ROOT.pem(),
            b"Bag Attributes\n    friendlyName: ca\n" + data + b"trailing",
        ):
            assert public(read_private_key(saved, passphrase)) == public(EC)


def test_what_openssl_writes_is_read(tmp_path: Path) -> None:
    def openssl(*arguments: str) -> bytes:
        return subprocess.run([need("openssl"), *arguments], cwd=tmp_path, capture_output=True, check=True).stdout

    with_parameters = openssl("ecparam", "-name", "prime256v1", "-genkey")
    assert b"EC PARAMETERS" in with_parameters
    assert read_private_key(with_parameters, None).key_size == 256
    (tmp_path / "key.pem").write_bytes(with_parameters)
    for options in (["-v2", "aes-256-cbc"], ["-v1", "PBE-SHA1-3DES"], ["-scrypt"], ["-iter", "100000"]):
        made = openssl("pkcs8", "-topk8", "-in", "key.pem", "-passout", "pass:x y", *options)
        assert read_private_key(made, b"x y").key_size == 256
    openssl("req", "-x509", "-new", "-key", "key.pem", "-subj", "/CN=x", "-out", "cert.pem")
    for options in ([], ["-legacy"], ["-nomac"], ["-keypbe", "NONE", "-certpbe", "NONE"]):
        arguments = ["-export", "-inkey", "key.pem", "-in", "cert.pem", "-passout", "pass:x y", *options]
        opened = read_pkcs12(openssl("pkcs12", *arguments), b"x y")
        assert (opened.key.key_size, len(opened.certificates)) == (256, 1)


# What is refused


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("empty", "empty", "the file is empty; upload the private key"),
        ("binary", "no_key", "the file holds no private key: it is neither PEM nor DER"),
        ("ten megabytes", "too_large", "at most 1048576 are read"),
        ("certificate", "no_key", "the file holds no private key, only: CERTIFICATE"),
        ("two keys", "several_keys", "the file holds 2 private keys; leave only the one that signs"),
        (
            "explicit curve",
            "unsupported_key",
            "the EC key spells its curve out instead of naming it, which verifiers refuse (RFC 5480 2.1.1); "
            "use a key with a named curve",
        ),
        ("explicit curve without a name", "unsupported_key", "the EC key spells its curve out instead of naming it"),
        ("cut", "malformed", "the private key has no END line of its own (PRIVATE KEY): the file is cut"),
        (
            "rsa1024",
            "weak_key",
            "the key is RSA of 1024 bits; RSA of 2048 bits or more, P-256, P-384 or P-521 is needed",
        ),
        (
            "p224",
            "weak_key",
            "the key is on curve secp224r1; RSA of 2048 bits or more, P-256, P-384 or P-521 is needed",
        ),
        ("brainpool", "unsupported_key", "the key is on curve brainpoolP256r1; RSA of 2048 bits or more, P-256, "),
        ("ed25519", "unsupported_key", "the key is of kind Ed25519; RSA of 2048 bits or more, P-256, "),
        ("dsa", "unsupported_key", "the key is of kind DSA; RSA of 2048 bits or more, P-256, P-384 or P-521 is needed"),
        (
            "openssh",
            "unsupported_key",
            "the file holds a key in a form that is not read (OPENSSH PRIVATE KEY); write it as PKCS #8 "
            "(ssh-keygen -p -m PKCS8, or openssl pkcs8 -topk8)",
        ),
    ],
)
def test_a_bad_upload_gets_the_one_error_that_fits(name: str, code: str, message: str) -> None:
    problem = the_problem(bad_uploads.key_files()[name])
    assert problem.code == code
    assert message in str(problem)


def test_an_encrypted_key_wants_its_passphrase() -> None:
    data = bad_uploads.key_files()["encrypted"]
    assert the_problem(data).code == "passphrase_missing"
    assert the_problem(data, b"wrong").code == "passphrase_wrong"
    assert public(read_private_key(data, PASSPHRASE)) == public(EC)


def test_a_key_of_another_certificate_is_found_out_beside_it() -> None:
    key = read_private_key(bad_uploads.key_files()["another key"], None)
    bundle = examine_signing([ISSUING.pem() + ROOT.pem()], NOW, key.public_key())
    assert [found.code for found in bundle.findings] == ["key_mismatch"]


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b" \r\n", "empty", "the file is empty"),
        (b"\xff\xfe", "empty", "the file is empty"),
        (b"hello", "no_key", "neither PEM nor DER"),
        (b"".join(written(EC, PEM, PKCS8).splitlines()[1:-1]), "no_key", "lost its BEGIN line"),
        (ISSUING.raw, "no_key", "the file holds no private key; what it holds is certificate"),
        (public(EC), "no_key", "what it holds is a public key"),
        (b"\x30\x00", "malformed", "no DER"),
        (written(EC, PEM, PKCS8).replace(b"\n", b"\n!", 1), "malformed", "no base64 between BEGIN and END"),
        (written(EC, DER, PKCS8)[:-10], "no_key", "neither PEM nor DER"),
        (ISSUING.pem().replace(b"CERTIFICATE", b"PRIVATE KEY"), "no_key", "what it holds is certificate"),
        (written(EC, DER, PKCS8).replace(public(EC)[-40:], bytes(40)), "malformed", "the private key cannot be read"),
        (written(pki.kept_key("dsa"), PEM, TRADITIONAL), "unsupported_key", "the key is of kind DSA"),
        (tlv(0x30, integer(0) + tlv(0x30, b"") + bytes(9000)), "too_large", "the private key has 9009 bytes"),
        (
            b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n"
            + b"A" * 11000
            + b"\n-----END RSA PRIVATE KEY-----",
            "too_large",
            "that is more than RSA of 8192 bits needs",
        ),
        (tlv(0x30, integer(0) + tlv(0x30, object_identifier("1.2.3")) + tlv(4, b"")), "unsupported_key", "of a kind"),
    ],
    ids=itertools.count(),
)
def test_what_is_no_usable_key_is_told(data: bytes, code: str, message: str) -> None:
    problem = the_problem(data)
    assert (problem.code, message in str(problem)) == (code, True), str(problem)


def test_pkcs12_in_the_place_of_a_key_is_named() -> None:
    with pytest.raises(KeyProblem, match="the file is PKCS #12, not a private key alone") as caught:
        read_private_key(good_pkcs12(), PASSPHRASE)
    assert caught.value.code == "no_key"


def kdf(name: str, parameters: bytes) -> bytes:
    """An encrypted private key whose algorithm asks for this."""
    function = tlv(0x30, object_identifier(name) + tlv(0x30, parameters))
    cipher = tlv(0x30, object_identifier("2.16.840.1.101.3.4.1.42") + tlv(0x04, bytes(16)))
    algorithm = tlv(0x30, object_identifier("1.2.840.113549.1.5.13") + tlv(0x30, function + cipher))
    return tlv(0x30, algorithm + tlv(0x04, bytes(64)))


def test_work_without_end_is_refused_before_it_is_done() -> None:
    begun = time.process_time()
    pbkdf2, scrypt = "1.2.840.113549.1.5.12", "1.3.6.1.4.1.11591.4.11"
    salt = tlv(0x04, bytes(8))
    for data in (
        kdf(pbkdf2, salt + integer(2_000_000_000)),
        kdf(scrypt, salt + integer(1 << 24) + integer(8) + integer(1)),
        kdf(scrypt, salt + integer(1 << 14) + integer(8) + integer(1 << 20)),
        mac_of(2_000_000_000),
    ):
        assert the_problem(data, PASSPHRASE).code == "too_large"
    assert the_problem(kdf(scrypt, salt), PASSPHRASE).code == "malformed"
    assert time.process_time() - begun < 2


def mac_of(rounds: int) -> bytes:
    digest = tlv(0x30, tlv(0x30, object_identifier("2.16.840.1.101.3.4.2.1") + tlv(5, b"")) + tlv(4, bytes(32)))
    whole = pfx()
    return tlv(0x30, whole[2:] + tlv(0x30, digest + tlv(4, bytes(8)) + integer(rounds)))


# PKCS #12


def test_pkcs12_gives_the_key_and_the_certificates() -> None:
    for passphrase, given_ in ((PASSPHRASE, PASSPHRASE), (None, None), (None, PASSPHRASE)):
        data = good_pkcs12(passphrase)
        assert is_pkcs12(data)
        opened = read_pkcs12(data, given_)
        assert public(opened.key) == public(EC)
        assert opened.certificates == (ISSUING.certificate, ROOT.certificate)
        assert "key" not in repr(opened).lower().split("certificate")[0]
        assert examine_signing([opened.pem()], NOW, opened.key.public_key()).findings == ()


def test_old_encryptions_of_pkcs12_are_opened() -> None:
    for algorithm in (pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC, pkcs12.PBES.PBESv2SHA256AndAES256CBC):
        builder = PrivateFormat.PKCS12.encryption_builder().key_cert_algorithm(algorithm).hmac_hash(hashes.SHA256())
        made = pkcs12.serialize_key_and_certificates(
            "ü".encode(), EC, ISSUING.certificate, [], builder.build(PASSPHRASE)
        )
        assert public(read_pkcs12(made, PASSPHRASE).key) == public(EC)


def test_pkcs12_wants_its_passphrase() -> None:
    data = good_pkcs12()
    assert the_problem(data).code == "passphrase_missing"
    assert str(the_problem(data, b"")) == "the PKCS #12 file is encrypted; give its passphrase"
    assert the_problem(data, b"wrong").code == "passphrase_wrong"
    assert str(the_problem(data, b"wrong")) == (
        "the passphrase does not open the PKCS #12 file; check it, or the file is damaged"
    )


@pytest.mark.parametrize("name", ["two keys", "two keys in two parts", "two keys, one nested", "two encrypted keys"])
def test_pkcs12_with_several_keys_is_refused(name: str) -> None:
    problem = the_problem(bad_uploads.pkcs12_files()[name], PASSPHRASE)
    assert problem.code == "several_keys"
    assert str(problem) == "the PKCS #12 file holds 2 private keys; write one with one key"


@pytest.mark.parametrize("name", ["two keys in an encrypted part", "a key here and one in an encrypted part"])
def test_pkcs12_with_keys_where_they_cannot_be_counted_is_refused(name: str) -> None:
    problem = the_problem(bad_uploads.pkcs12_files()[name], PASSPHRASE)
    assert problem.code == "several_keys"
    assert str(problem) == (
        "the PKCS #12 file has a private key among its encrypted certificates, where it may not be the only one; "
        "write it anew with openssl pkcs12, with one key"
    )


def test_pkcs12_without_a_key_or_with_a_weak_one_is_told() -> None:
    problem = the_problem(bad_uploads.pkcs12_files()["no key"], PASSPHRASE)
    assert problem.code == "no_key"
    assert str(problem) == ("the PKCS #12 file holds no private key, only certificates (1); export it with its key")
    for kind, code in (("rsa1024", "weak_key"), ("ed25519", "unsupported_key")):
        key = pki.kept_key(kind)
        made = pkcs12.serialize_key_and_certificates(None, key, None, None, NoEncryption())
        assert the_problem(made).code == code
    assert the_problem(pfx(encrypted_part(b"")), PASSPHRASE).code == "no_key"


def test_pkcs12_with_a_key_that_is_too_large_or_spells_its_curve_out_is_told() -> None:
    explicit = subprocess.run(
        [need("openssl"), "pkcs8", "-topk8", "-nocrypt", "-outform", "DER"],
        input=bad_uploads.explicit_private_key("prime256v1"),
        capture_output=True,
        check=True,
    ).stdout
    assert the_problem(pfx(key_part(explicit))).code == "unsupported_key"
    assert the_problem(pfx(key_part(tlv(0x30, integer(0) + tlv(0x04, bytes(9000)))))).code == "too_large"


def key_part(key: bytes) -> bytes:
    """A ContentInfo with a bag of an unencrypted key."""
    bags = tlv(0x30, tlv(0x30, object_identifier("1.2.840.113549.1.12.10.1.1") + tlv(0xA0, key)))
    return tlv(0x30, object_identifier("1.2.840.113549.1.7.1") + tlv(0xA0, tlv(0x04, bags)))


def test_pkcs12_that_cannot_be_followed_is_told() -> None:
    for data in (pfx(b"\x30\x00"), tlv(0x30, integer(3) + tlv(0x30, b"")), b"\x30\x80\x02\x01\x03" + bytes(9)):
        assert is_pkcs12(data)
        assert the_problem(data).code == "malformed"
    with pytest.raises(KeyProblem, match="the file is no PKCS #12: what it holds is PEM"):
        read_pkcs12(ISSUING.pem(), None)
    with pytest.raises(KeyProblem, match="the file is empty"):
        read_pkcs12(b"", None)


# Whatever comes


GOOD = [
    written(EC, DER, PKCS8),
    written(EC, PEM, PKCS8),
    written(EC, PEM, TRADITIONAL, PASSPHRASE),
    good_pkcs12(None),
    good_pkcs12(),
    pfx(encrypted_part(b"")),
]


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.sampled_from(GOOD), st.floats(0, 1), st.binary(max_size=3)).map(
            lambda cut: cut[0][: int(cut[1] * len(cut[0]))] + cut[2] + cut[0][int(cut[1] * len(cut[0])) + len(cut[2]) :]
        ),
        st.binary(max_size=60).map(
            lambda data: b"-----BEGIN PRIVATE KEY-----\n" + data + b"\n-----END PRIVATE KEY-----"
        ),
    ),
    st.sampled_from([None, PASSPHRASE, b"\0", bytes(2000), "ü".encode(), b"\xff"]),
)
@example(b"\xff\xfe\x00", None)
@example(b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n-----END EC PRIVATE KEY-----", b"x")
@example(good_pkcs12(), b"\xff")
@example(good_pkcs12(), b"a\0b")
@example(GOOD[2], b"a\0b")
@example(GOOD[5], b"a\0b")
def test_whatever_is_uploaded_a_key_or_a_key_problem_comes_out(data: bytes, passphrase: bytes | None) -> None:
    is_pkcs12(data)
    for read in (read_private_key, read_pkcs12):
        with suppress(KeyProblem):
            read(data, passphrase)


def test_a_key_whose_halves_do_not_belong_together_is_told() -> None:
    own = written(EC, DER, PKCS8)
    other = ec.generate_private_key(ec.SECP256R1())
    point = public(EC)[-65:]
    assert the_problem(own.replace(point, public(other)[-65:])).code == "malformed"
