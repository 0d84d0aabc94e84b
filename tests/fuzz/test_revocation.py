"""CRLs and OCSP answers of strangers: an answer or ``Unusable``, and nothing else."""

from __future__ import annotations

import warnings
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from certs.crl import Crl, crls_of_file
from certs.ocsp import standing
from certs.revocation import Subject, Unusable, subjects
from tests.harness.pki import NOW, Authority, Raw
from tests.harness.revocation import Entry, crl, crl_pem, names, ocsp_answer, scope

ROOT = Authority.root()
URL = "http://crl.example/"
LEAF = ROOT.leaf(extra=names(crl=URL))
RESPONDER = ROOT.leaf("Responder", eku=["ocsp"])


@cache
def asked() -> Subject:
    return subjects([LEAF.certificate, ROOT.certificate])[0]


CRLS = [
    crl(ROOT, [5, Entry(6, reason=1), LEAF], extra=[scope(URL, users=True)]),
    crl(ROOT, [Entry(7, extra=[Raw("2.5.29.24", b"\x18\x0f20260101000000Z", critical=True)])]),
    crl(ROOT, version=1),
]
ANSWERS = [
    ocsp_answer(LEAF),
    ocsp_answer(LEAF, revoked=NOW, signer=RESPONDER, sends=[RESPONDER, ROOT], extra=[Raw("1.2.3", b"\x05\x00")]),
]


@st.composite
def damaged(draw: st.DrawFn, wholes: list[bytes]) -> bytes:
    """One of them with octets changed, left out, put in or doubled."""
    data = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[at : at + draw(st.integers(1, 40))]
            case 2:
                data[at:at] = draw(st.binary(max_size=8))
            case _:
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
    return bytes(data)


@given(damaged(CRLS) | st.binary(max_size=200))
def test_a_list_is_read_or_unusable(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = Crl(data).standing(asked(), NOW)
        except Unusable:
            return
    # What counts is signed, so it is one of those that were made.
    assert data in CRLS
    assert (found.revocation is not None) == (data == CRLS[0])


@given(damaged(ANSWERS) | st.binary(max_size=200))
def test_an_answer_is_read_or_unusable(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = standing(data, asked(), NOW)
        except Unusable:
            return
    # Not all of an answer is signed: the certificates that come with it can be others.
    assert (found.revocation is not None) == (b"Responder" in data)


@given(damaged([crl_pem(CRLS[0]) + crl_pem(CRLS[1]), CRLS[2]]))
def test_a_file_is_read_or_unusable(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for found in crls_of_file(data):
                Crl(found)
        except Unusable:
            return
