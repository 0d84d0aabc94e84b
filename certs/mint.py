"""From a request to a leaf: build, lint, sign, check.

Nothing that breaks a rule is ever signed with the CA's key. What is linted is a twin: the same builder signed with a
throw-away key, so that the rules see real encoded bytes and not the builder's intentions. Then the CA signs, and its
certificate must be the twin octet by octet, but for the signature and its algorithm. Where the key is elsewhere
(:func:`rehearsed`, :func:`completed`) the signature must also verify with the issuer's key: such a signer can answer
with anything. A key that is here was tried when it was loaded (:class:`certs.signer.LocalSigner`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes, CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from certs.authority import issuer_key, key_problem, signature_problem, signature_verifies
from certs.der import BIT_STRING, SEQUENCE, DerError, fields_and_algorithm, without_signature_algorithm, written
from certs.kept import kept
from certs.lint import lint
from certs.profile import LeafRequest, ProfileError, build
from certs.signer import LocalSigner, RemoteSigner, Signer, SigningError, hash_for, padding_for, stand_in


class MintError(Exception):
    """No leaf can be made: the issuer is unfit or the signer gave back something else. The message says which."""


def mint(request: LeafRequest, signer: Signer, now: datetime, lifetime: timedelta) -> x509.Certificate:
    """A leaf for the request, valid for ``lifetime`` at most (see :func:`certs.profile.validity`).

    Raises :class:`MintError` where the issuer is no CA, is not valid now, or is not the signer's, and where the signer
    returned anything but the leaf; :class:`certs.lint.LintError` where the leaf breaks a rule (nothing is signed
    then); :class:`certs.signer.SigningError` where the signer failed.
    """
    builder = _builder(request, signer.public_key(), now, lifetime)
    twin = _rehearsal().sign_certificate(builder)
    lint(twin, request, now)
    leaf = _signed(signer, builder, twin)
    _check_signed(leaf, twin)
    if not isinstance(signer, LocalSigner) and not signature_verifies(leaf, issuer_key(request.issuer)):
        raise MintError("the signature does not verify with the key of the signing certificate")
    return leaf


def rehearsed(request: LeafRequest, signer: RemoteSigner, now: datetime, lifetime: timedelta) -> x509.Certificate:
    """The twin of a leaf that is to be signed elsewhere: linted, and octet by octet what the leaf will be.

    It is signed with a throw-away key of the kind that the CA's is, so that it names the same algorithm. What is to be
    signed is its ``tbs_certificate_bytes``. Raises as :func:`mint`.
    """
    key = signer.public_key()
    builder = _builder(request, key, now, lifetime)
    try:
        twin = builder.sign(stand_in(key), hash_for(key), rsa_padding=padding_for(key, signer.pss))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningError(f"the certificate could not be signed: {error}") from error
    lint(twin, request, now)
    return twin


def make_ready(signer: RemoteSigner) -> None:
    """Have what :func:`rehearsed` needs for that signer; an RSA key to be thrown away may take a second."""
    stand_in(signer.public_key())


def completed(twin: x509.Certificate, signature: bytes, request: LeafRequest) -> x509.Certificate:
    """The leaf: what was rehearsed, with the signature that came back. Raises :class:`MintError`.

    Nothing is believed of whoever signed: it must verify with the issuer's key.
    """
    try:
        _, algorithm = fields_and_algorithm(twin.public_bytes(Encoding.DER))
        octets = twin.tbs_certificate_bytes + algorithm.whole + written(BIT_STRING, b"\0" + signature)
        leaf = x509.load_der_x509_certificate(written(SEQUENCE, octets))
    except (DerError, ValueError) as error:
        raise MintError("what the signer returned makes no certificate") from error
    _check_signed(leaf, twin)
    if not signature_verifies(leaf, issuer_key(request.issuer)):
        raise MintError("the signature does not verify with the key of the signing certificate")
    return leaf


def _builder(
    request: LeafRequest, key: CertificateIssuerPublicKeyTypes, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    check_issuer(request.issuer, now)
    if key != issuer_key(request.issuer):
        raise MintError("the signer's key is not the key of the signing certificate")
    try:
        return build(request, now, lifetime)
    except ProfileError as error:
        raise MintError(str(error)) from error


def _signed(signer: Signer, builder: x509.CertificateBuilder, twin: x509.Certificate) -> x509.Certificate:
    """The leaf as the CA signs it: where its key is here and of the rehearsal's kind, the very octets of the twin."""
    if isinstance(signer, LocalSigner) and (leaf := signer.sign_as(twin)) is not None:
        return leaf
    return signer.sign_certificate(builder)


def check_issuer(issuer: x509.Certificate, now: datetime) -> None:
    """Raises :class:`MintError` where the certificate may not issue now (RFC 5280 6.1.4 (k), (n), 4.1.2.5)."""
    if problem := _unfit(issuer):
        raise MintError(f"the signing certificate {problem}")
    if now < issuer.not_valid_before_utc:
        raise MintError(f"the signing certificate is not valid before {issuer.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    if now >= issuer.not_valid_after_utc:
        raise MintError(f"the signing certificate expired on {issuer.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")


@kept(64)
def _unfit(issuer: x509.Certificate) -> str | None:
    """What of the issuer does not change with time."""
    try:
        extensions = issuer.extensions
        key: CertificatePublicKeyTypes = issuer.public_key()
    except (ValueError, KeyError, x509.DuplicateExtension, UnsupportedAlgorithm):
        return "cannot be parsed"
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "is not a CA certificate: basicConstraints says so"
    except x509.ExtensionNotFound:
        return "is not a CA certificate: it has no basicConstraints"
    try:
        if not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            return "may not sign certificates: its keyUsage has no keyCertSign"
    except x509.ExtensionNotFound:
        pass  # without the extension every use is allowed (RFC 5280 6.1.4 (n))
    if problem := key_problem(key):
        return f"has a weak key: {problem}"
    return None


@cache
def _rehearsal() -> LocalSigner:
    """Signs twins. A key of this process that nobody trusts, forgotten with it."""
    return LocalSigner(ec.generate_private_key(ec.SECP256R1()))


def _check_signed(leaf: x509.Certificate, twin: x509.Certificate) -> None:
    """Raises where the signed leaf is not what was linted, or the signature is weak."""
    signed, linted = leaf.tbs_certificate_bytes, twin.tbs_certificate_bytes
    try:
        same = signed == linted or without_signature_algorithm(signed) == without_signature_algorithm(linted)
    except DerError as error:
        raise MintError("the signer returned a certificate that cannot be parsed") from error
    if not same:
        raise MintError("the signer returned another certificate than the one that was checked")
    if problem := signature_problem(leaf):
        raise MintError(f"the signer returned a certificate {problem}")
