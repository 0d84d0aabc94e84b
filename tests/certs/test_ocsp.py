"""OCSP answers: which count for a certificate, and what they say of it."""

from __future__ import annotations

import datetime as dt
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp

from certs import ocsp as ocsp_module
from certs.ocsp import LARGEST_ANSWER, question
from certs.ocsp import standing as read
from certs.revocation import Revocation, Standing, Subject, Unusable, subjects
from tests.harness.der_writing import tlv
from tests.harness.pki import DAY, HOUR, NOW, Authority, Issued, Raw, kept_key, new_key
from tests.harness.programs import need
from tests.harness.revocation import ocsp_answer

ROOT = Authority.root("OCSP Root")
ISSUING = ROOT.intermediate("OCSP Issuing")
LEAF = ISSUING.leaf()
MINUTE = HOUR / 60


def asked(issued: Issued) -> Subject:
    assert issued.parent is not None
    return subjects([issued.certificate, issued.parent.certificate])[0]


def standing(der: bytes, about: Issued = LEAF) -> Standing:
    return read(der, asked(about), NOW)


DELEGATE = ISSUING.leaf("Responder", eku=["ocsp"], san=None)


def test_good_is_good_until_the_next_update() -> None:
    found = standing(ocsp_answer(LEAF, next_update=NOW + 3 * DAY))
    assert found == Standing(NOW - HOUR, NOW + 3 * DAY, "RFC 6960 2.2")


@pytest.mark.parametrize("reason", [None, x509.ReasonFlags.superseded, x509.ReasonFlags.certificate_hold])
def test_revoked_is_revoked_with_date_and_reason(reason: x509.ReasonFlags | None) -> None:
    found = standing(ocsp_answer(LEAF, revoked=NOW - DAY, reason=reason)).revocation
    assert found is not None
    assert (found.at, found.reason) == (NOW - DAY, reason)


@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])  # noqa: S303 - names, no signatures
def test_the_certificate_may_be_named_by_any_digest(digest: hashes.HashAlgorithm) -> None:
    assert standing(ocsp_answer(LEAF, revoked=NOW, digest=digest)).revocation is not None


@pytest.mark.parametrize("by_name", [False, True])
def test_a_responder_that_the_issuer_named_may_sign(by_name: bool) -> None:
    der = ocsp_answer(LEAF, revoked=NOW, signer=DELEGATE, sends=[ISSUING, DELEGATE], by_name=by_name)
    assert standing(der).revocation is not None


@pytest.mark.parametrize("kind", ["rsa2048", "ec384", "ed25519"])
def test_every_kind_of_key_can_sign(kind: str) -> None:
    issuer = ROOT.intermediate(f"Key {kind}", key=kept_key(kind))
    leaf = issuer.leaf()
    assert standing(ocsp_answer(leaf, revoked=NOW), leaf).revocation is not None


EXPIRED = ISSUING.leaf("Old responder", eku=["ocsp"], san=None, not_before=NOW - 9 * DAY, not_after=NOW - DAY)
FUTURE = ISSUING.leaf("New responder", eku=["ocsp"], san=None, not_before=NOW + DAY)
WITHOUT = ISSUING.leaf("No responder")
OPEN = ISSUING.leaf("Any purpose", eku=None)
ANY = ISSUING.leaf("Named any", eku=["any"])
BARRED = ISSUING.leaf("Barred", eku=["ocsp"], key_usage=["key_agreement"])
FOREIGN = ROOT.leaf("Foreign responder", eku=["ocsp"], san=None)
WEAK = ISSUING.leaf("Weak responder", eku=["ocsp"], san=None, hash="sha1")
FORGED = ISSUING.leaf("Forged responder", eku=["ocsp"], san=None, sign_with=new_key())
SAME_NAME = Authority.root("OCSP Issuing")
BY_NOBODY = "neither by the certificate's issuer nor by a responder that the issuer has named"


def signed_by(signer: Issued) -> bytes:
    return ocsp_answer(LEAF, signer=signer, sends=[signer])


def failure(status: ocsp.OCSPResponseStatus) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


REFUSED = {
    "unknown": (ocsp_answer(LEAF, unknown=True), "the responder does not know the certificate"),
    "another serial": (ocsp_answer(ISSUING.leaf()), "it is about another certificate"),
    "the serial, of another issuer": (
        ocsp_answer(LEAF, issuer=ROOT), "it is about another certificate"),
    "the serial, of another key of that name": (
        ocsp_answer(LEAF, issuer=SAME_NAME), "it is about another certificate"),
    "the wrong key": (ocsp_answer(LEAF, signer=SAME_NAME), BY_NOBODY),
    "the wrong key, which sends its certificate": (signed_by(SAME_NAME), BY_NOBODY),
    "a responder that is not sent": (ocsp_answer(LEAF, signer=DELEGATE), BY_NOBODY),
    "a responder of another issuer": (signed_by(FOREIGN), BY_NOBODY),
    "a responder without the purpose": (signed_by(WITHOUT), "is not for signing OCSP answers"),
    "a responder without purposes": (signed_by(OPEN), "is not for signing OCSP answers"),
    "a responder of any purpose": (signed_by(ANY), "is not for signing OCSP answers"),
    "a responder that may not sign": (signed_by(BARRED), "is not for signing (keyUsage)"),
    "the server itself": (signed_by(LEAF), "is not for signing OCSP answers"),
    "a responder that has expired": (signed_by(EXPIRED), "has expired or is not yet valid"),
    "a responder of tomorrow": (signed_by(FUTURE), "has expired or is not yet valid"),
    "a responder whose certificate is forged": (signed_by(FORGED), BY_NOBODY),
    "a responder whose certificate is signed with SHA-1": (signed_by(WEAK), "has a certificate that is weak"),
    "stale": (ocsp_answer(LEAF, next_update=NOW - 6 * MINUTE), "it was to be replaced by"),
    "of the future": (ocsp_answer(LEAF, this_update=NOW + 6 * MINUTE), "it is valid only from"),
    "no nextUpdate, two days old": (
        ocsp_answer(LEAF, this_update=NOW - 2 * DAY, next_update=None), "it was to be replaced by"),
    "SHA-1": (ocsp_answer(LEAF, named="sha1"), "signed with SHA1"),
    "a critical extension": (
        ocsp_answer(LEAF, extra=[Raw("1.2.3.4", b"\x05\x00", critical=True)]), "a critical extension"),
    "try later": (failure(ocsp.OCSPResponseStatus.TRY_LATER), "the responder says to try later"),
    "unauthorized": (failure(ocsp.OCSPResponseStatus.UNAUTHORIZED), "it is not to tell (unauthorized)"),
    "nothing": (b"", "it cannot be read"),
    "a page": (b"<html>captive portal</html>", "it cannot be read"),
    "cut off": (ocsp_answer(LEAF)[:-9], "it cannot be read"),
    "something behind it": (ocsp_answer(LEAF) + b"\0", "it cannot be read"),
    "another kind of answer": (
        tlv(0x30, tlv(0x0A, b"\0") + tlv(0xA0, tlv(0x30, tlv(0x06, b"\x2a\x03\x04") + tlv(0x04, b"\x05\x00")))),
        "it cannot be read"),
    "too large": (b"0" * (LARGEST_ANSWER + 1), "it has 65537 bytes; at most 65536 are read"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_an_answer_does_not_count_that_is(case: str) -> None:
    der, why = REFUSED[case]
    with pytest.raises(Unusable) as refused:
        standing(der)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("code", [7, 11, 77])
def test_a_reason_that_nobody_knows_revokes_all_the_same(code: int) -> None:
    assert standing(ocsp_answer(LEAF, revoked=NOW - DAY, reason=code)).revocation == Revocation(NOW - DAY, None)


LAST_SECOND = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def test_what_ends_with_time_itself_counts() -> None:
    assert standing(ocsp_answer(LEAF, revoked=NOW, next_update=LAST_SECOND)).until == LAST_SECOND
    lasting = ISSUING.leaf("Lasting responder", eku=["ocsp"], san=None, not_after=LAST_SECOND)
    assert standing(ocsp_answer(LEAF, revoked=NOW, signer=lasting, sends=[lasting])).revocation is not None


@pytest.mark.parametrize(("next_update", "why"), [(LAST_SECOND, "valid only from"), (None, "cannot be read")])
def test_what_begins_with_the_end_of_time_does_not_count(next_update: dt.datetime | None, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        standing(ocsp_answer(LEAF, this_update=LAST_SECOND, next_update=next_update))


def test_the_key_of_a_responder_that_the_issuer_never_saw_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def verifies(key: object, *rest: Any) -> bool:
        tried.append(key)
        return really(key, *rest)

    really = ocsp_module.verifies
    monkeypatch.setattr(ocsp_module, "verifies", verifies)
    with pytest.raises(Unusable, match=BY_NOBODY):
        standing(ocsp_answer(LEAF, signer=FOREIGN, sends=[FOREIGN, FORGED, SAME_NAME]))
    assert len(tried) == 1
    assert standing(ocsp_answer(LEAF, revoked=NOW, signer=DELEGATE, sends=[FOREIGN, DELEGATE])).revocation is not None
    assert len(tried) == 3


def test_a_changed_answer_does_not_count() -> None:
    der = bytearray(ocsp_answer(LEAF, revoked=NOW - DAY))
    moment = der.index(f"{NOW - DAY:%Y%m%d%H%M%SZ}".encode())
    der[moment + 3] ^= 1
    with pytest.raises(Unusable, match="signed neither by"):
        standing(bytes(der))


@pytest.mark.parametrize(
    "der",
    [
        ocsp_answer(LEAF, revoked=NOW, this_update=NOW + 4 * MINUTE),
        ocsp_answer(LEAF, revoked=NOW, next_update=NOW - 4 * MINUTE),
        ocsp_answer(LEAF, revoked=NOW, next_update=None, this_update=NOW - 23 * HOUR),
        ocsp_answer(LEAF, revoked=NOW, extra=[Raw("1.2.3.4", b"\x05\x00")]),
        ocsp_answer(LEAF, revoked=NOW, sends=[FOREIGN, EXPIRED]),
    ],
    ids=["a clock before", "a clock behind", "no nextUpdate", "an extension", "certificates that nobody needs"],
)
def test_an_answer_counts_with(der: bytes) -> None:
    assert standing(der).revocation is not None


def test_the_question_names_the_certificate_and_carries_no_nonce() -> None:
    request = ocsp.load_der_ocsp_request(question(asked(LEAF)))
    assert request.serial_number == LEAF.certificate.serial_number
    assert isinstance(request.hash_algorithm, hashes.SHA1)
    assert len(list(request.extensions)) == 0


def test_a_responder_of_openssl_takes_the_question_and_its_answer_counts(tmp_path: Path) -> None:
    need("openssl")
    certificate, key = ISSUING.write(tmp_path, "ca")
    rsigner, rkey = DELEGATE.write(tmp_path, "responder")
    (tmp_path / "request.der").write_bytes(question(asked(LEAF)))
    serial = f"{LEAF.certificate.serial_number:X}"
    lines = {
        "good": f"V\t{NOW + DAY:%y%m%d%H%M%SZ}\t\t{serial}\tunknown\t/CN=x\n",
        "revoked": f"R\t{NOW + DAY:%y%m%d%H%M%SZ}\t{NOW - DAY:%y%m%d%H%M%SZ},superseded\t{serial}\tunknown\t/CN=x\n",
        "not known": "",
    }
    for name, line in lines.items():
        (tmp_path / "index.txt").write_text(line)
        for who, with_key in ((certificate, key), (rsigner, rkey)):
            subprocess.run(
                ["openssl", "ocsp", "-index", "index.txt", "-CA", str(certificate), "-rsigner", str(who),
                 "-rkey", str(with_key), "-reqin", "request.der", "-respout", "answer.der", "-ndays", "1"],
                cwd=tmp_path, check=True, capture_output=True,
            )  # fmt: skip
            der = (tmp_path / "answer.der").read_bytes()
            if name == "not known":
                with pytest.raises(Unusable, match="does not know"):
                    read(der, asked(LEAF), NOW + HOUR)
                continue
            found = read(der, asked(LEAF), NOW + HOUR)
            assert (found.revocation is not None) == (name == "revoked")
            if found.revocation is not None:
                assert (found.revocation.at, found.revocation.reason) == (
                    NOW - DAY, x509.ReasonFlags.superseded,
                )  # fmt: skip
