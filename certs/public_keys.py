"""Public keys from elsewhere, of which a certificate is to be made: a file, or what a key manager gives of a key.

A private key is taken for nothing: who gives one by mistake is told so, in one line that has nothing of it.
"""

from __future__ import annotations

import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from certs.authority import excess
from certs.formats import BundleError, kind_of, read_certificates
from certs.signer import SigningError, VerifyingKey, hash_for

LARGEST = 16 * 1024
"""Bytes of an encoded key, or of the text around it; RSA of 8192 bits has one thousand."""
_PRIVATE = re.compile(rb"-----BEGIN [A-Za-z0-9 #.]{0,40}PRIVATE KEY-----")
_PUBLIC = re.compile(rb"-----BEGIN ((RSA )?PUBLIC KEY)-----[A-Za-z0-9+/=\s]+-----END \1-----")


class PublicKeyProblem(Exception):  # noqa: N818 - a problem of what was given, told to a person, and none of ours
    """It cannot be used; the message says why, in one line."""


def read_public_key(data: bytes) -> VerifyingKey:
    """The public key in a file: PEM or DER, by itself or in a certificate, of which only that is used.

    Raises PublicKeyProblem, and nothing else.
    """
    if _PRIVATE.search(data) or kind_of(data) in ("a private key", "an encrypted private key", "PKCS #12"):
        raise PublicKeyProblem("the file holds a private key, which belongs nowhere but in the key manager")
    found = _PUBLIC.findall(data[:LARGEST])
    if len(found) > 1:
        raise PublicKeyProblem(f"the file holds {len(found)} public keys; leave only the one that is meant")
    if found or kind_of(data) == "a public key" or _is_pkcs1(data):
        return public_key_of(data)
    try:
        certificates = read_certificates(data)
    except BundleError as error:
        raise PublicKeyProblem(f"there is neither a public key nor a certificate in it: {error}") from None
    if len(certificates) > 1:
        raise PublicKeyProblem(f"the file holds {len(certificates)} certificates; leave only the one of the key")
    try:
        return _usable(certificates[0].public_key())
    except (ValueError, UnsupportedAlgorithm):
        raise PublicKeyProblem("the key of the certificate cannot be read") from None


def public_key_of(data: bytes) -> VerifyingKey:
    """The key: a SubjectPublicKeyInfo (RFC 5280 4.1) or an RSAPublicKey (RFC 8017 A.1.1), DER or PEM.

    Raises PublicKeyProblem, and nothing else.
    """
    if len(data) > LARGEST:
        raise PublicKeyProblem(f"the public key has {len(data)} bytes; at most {LARGEST} are read")
    block = _PUBLIC.search(data)
    try:
        key = load_der_public_key(data) if block is None else load_pem_public_key(block[0])
    except (ValueError, UnsupportedAlgorithm):
        # Its text could quote what was parsed.
        raise PublicKeyProblem("it is no public key that can be read (RFC 5280 4.1, RFC 8017 A.1.1)") from None
    return _usable(key)


def _is_pkcs1(data: bytes) -> bool:
    # What it looks like from outside, a signature of ECDSA does as well.
    try:
        return isinstance(load_der_public_key(data[:LARGEST]), rsa.RSAPublicKey)
    except (ValueError, UnsupportedAlgorithm):
        return False


def _usable(key: object) -> VerifyingKey:
    """The same, where leaves can be signed with it."""
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        kind = type(key).__name__.removesuffix("PublicKey")
        raise PublicKeyProblem(f"a key of kind {kind} signs no leaves; RSA, P-256, P-384 or P-521 is needed")
    try:
        hash_for(key)
    except SigningError as error:
        raise PublicKeyProblem(str(error)) from None
    if problem := excess(key):
        raise PublicKeyProblem(problem)
    return key
