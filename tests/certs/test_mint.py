import asyncio
import ssl
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL, crypto

from certs import mint as mint_module
from certs.bundle import to_pem
from certs.lint import LintError
from certs.mint import MintError, completed, mint, rehearsed
from certs.profile import BASIC_CONSTRAINTS, LeafRequest, build
from certs.signer import LocalSigner, SigningError, hash_for
from tests.certs.built_in import LEAF_KEY, NOW, WEEK, Algorithm, authority, leaf_key, request, signer
from tests.harness import pki
from tests.harness.programs import need

DAY = timedelta(days=1)
BOTH = pytest.mark.parametrize("algorithm", ["ecdsa", "rsa"])


class Recorder:
    """A signer that counts what it is asked to sign, and may give back something else."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, answer: x509.Certificate | None = None) -> None:
        self.key = key
        self.answer = answer
        self.signed = 0

    def public_key(self) -> CertificateIssuerPublicKeyTypes:
        return self.key.public_key()

    def sign_certificate(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        self.signed += 1
        return self.answer or LocalSigner(self.key).sign_certificate(builder)


def recorder(answer: x509.Certificate | None = None) -> Recorder:
    key = authority().intermediate_key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Recorder(key, answer)


@BOTH
def test_openssl_accepts_leaf_and_chain_with_the_root_alone(algorithm: Algorithm, tmp_path: Path) -> None:
    made = authority(algorithm)
    leaf = mint(request("www.example.com", algorithm), signer(algorithm), NOW, WEEK)
    (tmp_path / "root.pem").write_text(to_pem([made.root]))
    (tmp_path / "chain.pem").write_text(to_pem([made.intermediate]))
    (tmp_path / "leaf.pem").write_text(to_pem([leaf]))
    verify = [need("openssl"), "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "root.pem"]
    verify += ["-untrusted", "chain.pem"]
    for host, accepted in (("www.example.com", True), ("example.com", False)):
        done = subprocess.run(
            [*verify, "-verify_hostname", host, "leaf.pem"], cwd=tmp_path, capture_output=True, check=False
        )
        assert (done.returncode == 0) is accepted, done.stderr
    shown = subprocess.run(
        [need("openssl"), "x509", "-noout", "-text", "-in", "leaf.pem"], cwd=tmp_path, capture_output=True, check=True
    ).stdout.decode()
    assert "X509v3 Basic Constraints: critical\n                CA:FALSE\n" in shown
    assert "X509v3 Key Usage: critical\n                Digital Signature\n" in shown
    assert "X509v3 Extended Key Usage: \n                TLS Web Server Authentication\n" in shown
    assert "X509v3 Subject Alternative Name: \n                DNS:www.example.com\n" in shown
    key, signature = {
        "ecdsa": ("ASN1 OID: prime256v1", "ecdsa-with-SHA256"),
        "rsa": ("Public-Key: (2048 bit)", "sha256WithRSAEncryption"),
    }[algorithm]
    assert key in shown
    assert f"Signature Algorithm: {signature}" in shown


def stored(tmp_path: Path, leaf: x509.Certificate, algorithm: Algorithm) -> Path:
    """The leaf, its key and its chain in one file, as the ssl module wants them."""
    key = leaf_key(algorithm).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    path = tmp_path / "leaf.pem"
    path.write_text(key + to_pem([leaf, authority(algorithm).intermediate]))
    return path


@BOTH
@pytest.mark.parametrize(
    "host", ["www.example.com", "xn--bcher-kva.example", "192.0.2.1", "2001:db8::1", "a_b.example"]
)
def test_the_ssl_module_shakes_hands_with_a_leaf(algorithm: Algorithm, host: str, tmp_path: Path) -> None:
    leaf = mint(request(host, algorithm), signer(algorithm), NOW, WEEK)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(stored(tmp_path, leaf, algorithm))
    client_context = ssl.create_default_context(cadata=to_pem([authority(algorithm).root]))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    shake_hands(server_context, client_context, host)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(server_context, client_context, "other.example")


def shake_hands(server_context: ssl.SSLContext, client_context: ssl.SSLContext, host: str) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname=host)
    server = server_context.wrap_bio(up, down, server_side=True)
    open_sides = [client, server]
    for _ in range(10):
        for side in list(open_sides):
            try:
                side.do_handshake()
                open_sides.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert not open_sides


@BOTH
def test_pyopenssl_shakes_hands_with_a_leaf(algorithm: Algorithm) -> None:
    made = authority(algorithm)
    leaf = mint(request("www.example.com", algorithm), signer(algorithm), NOW, WEEK)
    server_context = SSL.Context(SSL.TLS_SERVER_METHOD)
    server_context.use_privatekey(leaf_key(algorithm))
    server_context.use_certificate(leaf)
    server_context.add_extra_chain_cert(made.intermediate)
    client_context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client_context.set_verify(SSL.VERIFY_PEER)
    store = client_context.get_cert_store()
    assert store is not None
    store.add_cert(crypto.X509.from_cryptography(made.root))
    store.set_flags(crypto.X509StoreFlags.X509_STRICT)
    client, server = SSL.Connection(client_context), SSL.Connection(server_context)
    client.set_connect_state()
    server.set_accept_state()
    open_sides = [(client, server), (server, client)]
    for _ in range(10):
        for side, other in list(open_sides):
            try:
                side.do_handshake()
                open_sides.remove((side, other))
            except SSL.WantReadError:
                pass
            with suppress(SSL.WantReadError):
                other.bio_write(side.bio_read(65536))
    assert not open_sides
    shown = client.get_peer_certificate(as_cryptography=True)
    assert shown == leaf


def test_the_certificate_is_signed_by_the_issuer_and_by_nobody_else() -> None:
    leaf = mint(request(), signer(), NOW, WEEK)
    leaf.verify_directly_issued_by(authority().intermediate)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"ca": False}, "not a CA certificate: basicConstraints says so"),
        ({"ca": None}, "it has no basicConstraints"),
        ({"key_usage": ["digital_signature"]}, "no keyCertSign"),
        ({"not_before": NOW + DAY}, "not valid before"),
        ({"not_after": NOW - DAY}, "expired on"),
        ({"not_after": NOW.replace(microsecond=0)}, "expired on"),
    ],
)
def test_an_issuer_that_may_not_sign_now_is_refused(overrides: pki.Overrides, message: str) -> None:
    parent = pki.Authority.root(**overrides)
    assert isinstance(parent.key, ec.EllipticCurvePrivateKey)
    asking = Recorder(parent.key)
    with pytest.raises(MintError, match=message):
        mint(replace(request(), issuer=parent.certificate), asking, NOW, WEEK)
    assert asking.signed == 0


def test_an_issuer_with_a_weak_key_or_broken_extensions_is_refused() -> None:
    weak = pki.Authority.root(key="ec224")
    with pytest.raises(MintError, match="weak key: curve secp224r1"):
        mint(replace(request(), issuer=weak.certificate), signer(), NOW, WEEK)
    broken = pki.Authority.root(duplicate=[BASIC_CONSTRAINTS.oid])
    with pytest.raises(MintError, match="cannot be parsed"):
        mint(replace(request(), issuer=broken.certificate), signer(), NOW, WEEK)


def test_an_issuer_without_key_usage_may_sign() -> None:
    parent = pki.Authority.root(key_usage=None)
    assert isinstance(parent.key, ec.EllipticCurvePrivateKey)
    leaf = mint(replace(request(), issuer=parent.certificate), LocalSigner(parent.key), NOW, WEEK)
    leaf.verify_directly_issued_by(parent.certificate)


def test_a_signer_with_another_key_is_refused_before_it_signs() -> None:
    stranger = Recorder(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(MintError, match="not the key of the signing certificate"):
        mint(request(), stranger, NOW, WEEK)
    assert stranger.signed == 0


def test_nothing_that_breaks_a_rule_is_ever_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    def bad_build(asked: LeafRequest, now: object, lifetime: object) -> x509.CertificateBuilder:
        return build(replace(asked, host=request("other.example").host), NOW, WEEK)

    monkeypatch.setattr(mint_module, "build", bad_build)
    asking = recorder()
    with pytest.raises(LintError) as caught:
        mint(request(), asking, NOW, WEEK)
    assert caught.value.rule == "subject"
    assert asking.signed == 0


def test_a_key_that_is_here_signs_the_very_octets_that_were_linted(monkeypatch: pytest.MonkeyPatch) -> None:
    linted: list[x509.Certificate] = []
    real = mint_module.lint

    def noted(twin: x509.Certificate, asked: LeafRequest, now: datetime) -> None:
        linted.append(twin)
        real(twin, asked, now)

    monkeypatch.setattr(mint_module, "lint", noted)
    leaf = mint(request(), signer(), NOW, WEEK)
    assert [twin.tbs_certificate_bytes for twin in linted] == [leaf.tbs_certificate_bytes]
    assert linted[0].signature != leaf.signature
    leaf.verify_directly_issued_by(authority().intermediate)


def test_a_key_that_is_here_signs_nothing_that_breaks_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def bad_build(asked: LeafRequest, now: object, lifetime: object) -> x509.CertificateBuilder:
        return build(replace(asked, host=request("other.example").host), NOW, WEEK)

    def never(*_: object) -> None:
        raise AssertionError("signed")

    monkeypatch.setattr(mint_module, "build", bad_build)
    monkeypatch.setattr(mint_module, "_signed", never)
    with pytest.raises(LintError):
        mint(request(), signer(), NOW, WEEK)


def test_a_key_that_is_here_and_signs_something_else_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    other = signer().sign_certificate(build(request(), NOW, WEEK))
    monkeypatch.setattr(LocalSigner, "sign_as", lambda self, twin: other)
    with pytest.raises(MintError, match="another certificate"):
        mint(request(), signer(), NOW, WEEK)


@pytest.mark.parametrize("kind", ["ec256", "ec384", "ec521", "rsa2048"])
def test_every_kind_of_signing_key_makes_a_leaf_that_verifies(kind: str) -> None:
    parent = pki.Authority.root(key=pki.new_key(kind), not_before=NOW - DAY, not_after=NOW + 30 * DAY)
    assert isinstance(parent.key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    by = LocalSigner(parent.key)
    leaf = mint(replace(request(), issuer=parent.certificate), by, NOW, WEEK)
    leaf.verify_directly_issued_by(parent.certificate)
    twin = mint_module._rehearsal().sign_certificate(build(replace(request(), issuer=parent.certificate), NOW, WEEK))
    again = by.sign_as(twin)
    assert (again is not None) is (kind == "ec256")


def test_a_twin_that_names_another_algorithm_is_not_signed_as_it_is() -> None:
    by = signer()
    other = build(request(), NOW, WEEK).sign(LEAF_KEY, hashes.SHA384())
    assert by.sign_as(other) is None


def test_leaves_that_share_issuer_and_key_differ_in_what_is_theirs() -> None:
    first, second = (mint(request(host), signer(), NOW, WEEK) for host in ("one.example", "two.example"))
    assert first.serial_number != second.serial_number
    for leaf, host in ((first, "one.example"), (second, "two.example")):
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [host]
    rsa_leaf = mint(request(algorithm="rsa"), signer("rsa"), NOW, WEEK)
    assert rsa_leaf.issuer == authority("rsa").intermediate.subject != first.issuer
    assert rsa_leaf.public_key() == leaf_key("rsa").public_key()


def test_a_lifetime_of_nothing_is_refused() -> None:
    with pytest.raises(MintError, match="leaves no time"):
        mint(request(), signer(), NOW, timedelta(0))


def test_another_certificate_than_the_one_asked_for_is_never_returned() -> None:
    other = signer().sign_certificate(build(request(), NOW, WEEK))  # right in all but its serial number
    with pytest.raises(MintError, match="another certificate"):
        mint(request(), recorder(other), NOW, WEEK)


class Wrong:
    """Claims the issuer's key and signs with another, as a key manager that mixes up answers does."""

    def __init__(self, digest: hashes.SHA256 | hashes.SHA384) -> None:
        self.digest = digest

    def public_key(self) -> CertificateIssuerPublicKeyTypes:
        return signer().public_key()

    def sign_certificate(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(LEAF_KEY, self.digest)


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384()])
def test_a_signature_that_does_not_verify_is_never_returned(digest: hashes.SHA256 | hashes.SHA384) -> None:
    with pytest.raises(MintError, match="does not verify"):
        mint(request(), Wrong(digest), NOW, WEEK)


def test_a_weak_signature_is_never_returned() -> None:
    leaf = pki.Authority.root(key=pki.kept_key("rsa2048"), hash="sha1").certificate
    with pytest.raises(MintError, match="SHA1"):
        mint_module._check_signed(leaf, leaf)


def test_a_failing_signer_is_a_signing_error() -> None:
    class Failing(Recorder):
        def sign_certificate(self, builder: x509.CertificateBuilder) -> x509.Certificate:
            raise SigningError("the key manager is away")

    key = authority().intermediate_key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    with pytest.raises(SigningError, match="the key manager is away"):
        mint(request(), Failing(key), NOW, WEEK)


def test_minting_is_cheap() -> None:
    asked, by = request(), signer()
    mint(asked, by, NOW, WEEK)
    rounds = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(20):
            mint(asked, by, NOW, WEEK)
        rounds.append((time.process_time() - begun) / 20)
    # About 0.4 ms on two busy cores; the limit is there to notice a tenfold mistake, not a busy neighbour.
    assert min(rounds) < 0.003


class TestSignedElsewhere:
    """A signer whose key is elsewhere gets octets and gives back a signature, and is believed in nothing."""

    class Elsewhere:
        def __init__(self, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, pss: bool = False) -> None:
            self.key, self.pss = key, pss

        def public_key(self) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
            return self.key.public_key()

        async def signature(self, data: bytes) -> bytes:
            chosen = hash_for(self.key)
            if isinstance(self.key, ec.EllipticCurvePrivateKey):
                return self.key.sign(data, ec.ECDSA(chosen))
            pss = padding.PSS(padding.MGF1(chosen), chosen.digest_size)
            return self.key.sign(data, pss if self.pss else padding.PKCS1v15(), chosen)

        def start(self) -> None: ...
        def stop(self) -> None: ...

    @pytest.mark.parametrize(
        ("kind", "pss", "named"),
        [
            ("rsa2048", False, "sha256WithRSAEncryption"),
            ("rsa2048", True, "rsassaPss"),
            ("ec256", False, "ecdsa-with-SHA256"),
            ("ec384", False, "ecdsa-with-SHA384"),
        ],
    )
    def test_openssl_accepts_what_is_put_together(self, tmp_path: Path, kind: str, pss: bool, named: str) -> None:
        issuing = pki.Authority.root("Root").intermediate("Issuing", key=pki.kept_key(kind, 5))
        wanted = replace(request(), issuer=issuing.certificate)
        signer = self.Elsewhere(issuing.key, pss)  # type: ignore[arg-type]
        twin = rehearsed(wanted, signer, NOW, WEEK)
        leaf = completed(twin, asyncio.run(signer.signature(twin.tbs_certificate_bytes)), wanted)
        assert leaf.tbs_certificate_bytes == twin.tbs_certificate_bytes
        assert leaf.signature != twin.signature
        (tmp_path / "chain.pem").write_bytes(issuing.chain_pem(with_root=True))
        (tmp_path / "leaf.pem").write_text(to_pem([leaf]))
        verify = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "chain.pem", "leaf.pem"]
        subprocess.run([need("openssl"), *verify], cwd=tmp_path, capture_output=True, check=True)
        assert leaf.signature_algorithm_oid._name == named

    def test_a_signature_of_another_key_or_of_other_octets_is_none(self) -> None:
        issuing = pki.Authority.root("Root").intermediate("Issuing", key=pki.kept_key("rsa2048", 5))
        wanted = replace(request(), issuer=issuing.certificate)
        signer, other = self.Elsewhere(issuing.key), self.Elsewhere(pki.kept_key("rsa2048", 6))  # type: ignore[arg-type]
        twin = rehearsed(wanted, signer, NOW, WEEK)
        right = asyncio.run(signer.signature(twin.tbs_certificate_bytes))
        wrong = [asyncio.run(other.signature(twin.tbs_certificate_bytes)), asyncio.run(signer.signature(b"another"))]
        for signature in [*wrong, b"", right[:-1], right + b"\0", bytes(256)]:
            with pytest.raises(MintError):
                completed(twin, signature, wanted)

    def test_a_signer_of_another_key_is_not_asked(self) -> None:
        issuing = pki.Authority.root("Root").intermediate("Issuing", key=pki.kept_key("rsa2048", 5))
        other = self.Elsewhere(pki.kept_key("rsa2048", 6))  # type: ignore[arg-type]
        with pytest.raises(MintError, match="not the key of the signing certificate"):
            rehearsed(replace(request(), issuer=issuing.certificate), other, NOW, WEEK)
