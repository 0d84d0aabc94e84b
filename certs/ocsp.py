"""OCSP (RFC 6960): the question about one certificate, and whether an answer counts for it."""

from __future__ import annotations

import contextlib
import hashlib
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.authority import issued_by, key_problem, signature_problem, verifies
from certs.der import tbs_fields
from certs.facts import Facts, facts_of
from certs.revocation import SLACK, UNDATED, UNREADABLE, Revocation, Standing, Subject, Unusable

LARGEST_ANSWER = 64 * 1024  # bytes
MOST_ANSWERS = 64
MOST_DELEGATES = 4
MEDIA_TYPE = "application/ocsp-request"
_HASHES = frozenset({"sha1", "sha224", "sha256", "sha384", "sha512"})
_CRITICAL = b"\x01\x01\xff\x04"

_STATUS = {
    ocsp.OCSPResponseStatus.MALFORMED_REQUEST: "that the request is malformed",
    ocsp.OCSPResponseStatus.INTERNAL_ERROR: "that it has an error of its own",
    ocsp.OCSPResponseStatus.TRY_LATER: "to try later",
    ocsp.OCSPResponseStatus.SIG_REQUIRED: "that it wants signed requests",
    ocsp.OCSPResponseStatus.UNAUTHORIZED: "that it is not to tell (unauthorized)",
}


def question(subject: Subject) -> bytes:
    """The encoded request (RFC 6960 4.1.1), without a nonce, so that an answer made before will do.

    The certificate is named by SHA-1 digests, the one way that every responder knows; nothing rests on their strength.
    Raises ValueError for a serial number below one.
    """
    builder = ocsp.OCSPRequestBuilder()
    if subject.facts.serial <= 0:
        raise ValueError("a serial number below one cannot be asked about")
    builder = builder.add_certificate(subject.facts.certificate, subject.issuer.certificate, hashes.SHA1())  # noqa: S303 - an identifier, see above
    return builder.build().public_bytes(Encoding.DER)


def standing(encoded: bytes, subject: Subject, now: datetime) -> Standing:
    """What an encoded answer says of the certificate. Raises Unusable where it does not count, or is not about it."""
    if len(encoded) > LARGEST_ANSWER:
        raise Unusable(f"it has {len(encoded)} bytes; at most {LARGEST_ANSWER} are read")
    try:
        answer = ocsp.load_der_ocsp_response(encoded)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise Unusable(f"the responder says {_STATUS.get(answer.response_status, 'that it failed')}")
        single = _about(answer, subject)
        _check_extensions(answer)
        _check_signature(answer, subject.issuer, now)
        return _standing(single, now)
    except UNREADABLE as error:
        raise Unusable.because(error) from None


def _about(answer: ocsp.OCSPResponse, subject: Subject) -> ocsp.OCSPSingleResponse:
    """The part that is about the certificate; of several, one that says revoked."""
    fitting = []
    for place, single in enumerate(answer.responses):
        if place == MOST_ANSWERS:
            raise Unusable(f"it is about more than {MOST_ANSWERS} certificates")
        if single.serial_number == subject.facts.serial and _is_issuer(single, subject.issuer):
            fitting.append(single)
    if not fitting:
        raise Unusable("it is about another certificate")
    return next((one for one in fitting if one.certificate_status is ocsp.OCSPCertStatus.REVOKED), fitting[0])


def _is_issuer(single: ocsp.OCSPSingleResponse, issuer: Facts) -> bool:
    used = single.hash_algorithm
    if used.name not in _HASHES:
        return False
    name, key = _name_and_key(issuer)
    return single.issuer_name_hash == _digest(used.name, name) and single.issuer_key_hash == _digest(used.name, key)


def _name_and_key(issuer: Facts) -> tuple[bytes, bytes]:
    """The subject's name, and the key's bits without tag, length and count of unused bits (RFC 6960 4.1.1)."""
    fields = tbs_fields(issuer.certificate.tbs_certificate_bytes)
    _, bits = list(fields.public_key.children())[:2]
    return fields.subject.whole, bits.content[1:]


def _digest(name: str, data: bytes) -> bytes:
    return hashlib.new(name, data, usedforsecurity=False).digest()


def _check_extensions(answer: ocsp.OCSPResponse) -> None:
    """What is critical and not understood makes an answer useless (RFC 6960 4.4). None is understood here."""
    if _CRITICAL not in answer.tbs_response_bytes:
        return
    found = list(answer.extensions)
    if len(list(answer.responses)) > 1:
        raise Unusable("it may have a critical extension that is not understood here")
    if any(extension.critical for extension in [*found, *answer.single_extensions]):
        raise Unusable("it has a critical extension that is not understood here")


def _check_signature(answer: ocsp.OCSPResponse, issuer: Facts, now: datetime) -> None:
    """Signed by the issuer, or by whom the issuer has named for that (RFC 6960 4.2.2.2). Raises Unusable."""
    if (problem := signature_problem(answer)) is not None:
        raise Unusable(f"it is {problem}")
    octets = answer.tbs_response_bytes
    if verifies(issuer.key, answer, octets):
        return
    why = "it is signed neither by the certificate's issuer nor by a responder that the issuer has named"
    for delegate in answer.certificates[:MOST_DELEGATES]:
        # First who made it: a key that the issuer never saw can be one with which a verification takes long.
        if not issued_by(delegate, issuer.certificate) or not verifies(delegate.public_key(), answer, octets):
            continue
        if (problem := _delegate_problem(delegate, now)) is None:
            return
        why = f"the responder that signed it {problem}"
    raise Unusable(why)


def _delegate_problem(delegate: x509.Certificate, now: datetime) -> str | None:
    """Why the certificate that the issuer gave a responder does not count; None where it does.

    Whether it was itself revoked is not asked: most say that one need not (id-pkix-ocsp-nocheck), and live for weeks.
    """
    facts = facts_of(delegate)
    if (problem := signature_problem(delegate) or key_problem(facts.key)) is not None:
        return f"has a certificate that is weak: {problem}"
    named = facts.purposes
    if named is None or ExtendedKeyUsageOID.OCSP_SIGNING not in named:
        return "has a certificate that is not for signing OCSP answers (extendedKeyUsage)"
    if facts.key_usage is not None and not facts.key_usage.digital_signature:
        return "has a certificate that is not for signing (keyUsage)"
    if now + SLACK < facts.not_before or now - SLACK > facts.not_after:
        return "has a certificate that has expired or is not yet valid"
    return None


def _standing(single: ocsp.OCSPSingleResponse, now: datetime) -> Standing:
    this_update = single.this_update_utc
    until = single.next_update_utc or this_update + UNDATED
    # Reckoned with now, since an answer may say that it ends with the last second that there is.
    if now + SLACK < this_update:
        raise Unusable(f"it is valid only from {this_update:%Y-%m-%d %H:%M:%S} UTC on")
    if now - SLACK > until:
        raise Unusable(f"it was to be replaced by {until:%Y-%m-%d %H:%M:%S} UTC")
    if single.certificate_status is ocsp.OCSPCertStatus.GOOD:
        return Standing(this_update, until, "RFC 6960 2.2")
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        return Standing(this_update, until, "RFC 6960 2.2", _revocation(single, this_update))
    raise Unusable("the responder does not know the certificate")


def _revocation(single: ocsp.OCSPSingleResponse, this_update: datetime) -> Revocation:
    """When and why, as far as that can be read: revoked it is all the same."""
    at, reason = None, None
    with contextlib.suppress(*UNREADABLE):  # the year 0
        at = single.revocation_time_utc
    with contextlib.suppress(*UNREADABLE):  # a number that RFC 5280 5.3.1 does not have
        reason = single.revocation_reason
    return Revocation(at or this_update, reason)  # by then it was
