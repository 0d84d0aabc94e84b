"""Files of certificates: the same certificates in any dress, or a documented error, in bounded time."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given
from hypothesis import strategies as st

from certs.bundle import examine_trusted
from certs.formats import BundleError, read_certificates, to_pem
from tests.fuzz.strategies import EDITS, edit
from tests.harness.pki import Authority, pem

ROOT = Authority.root("Fuzz Root")
ISSUING = ROOT.intermediate("Fuzz Issuing")
OTHER = Authority.root("Other Root")
ALL = [ROOT, ISSUING, OTHER]
NOW = datetime.now(UTC)  # noqa: TID251 - certificates made now are valid now
CODES = {
    "no_certificate", "private_key", "too_large", "malformed", "not_a_ca", "does_not_link", "bad_signature",
    "expired",
    "not_yet_valid", "weak_key", "weak_signature", "duplicate", "no_root", "reordered", "repeated",
}  # fmt: skip

CHOSEN = st.lists(st.sampled_from(ALL), min_size=1, max_size=4)
NOISE = st.sampled_from(
    ["", "\n", "subject=CN = x\r\n", "# a comment\n", "\ufeff", "Bag Attributes\n  localKeyID: 01\n"]
)


def dressed(chosen: list[Authority], dress: str, noise: str) -> bytes:
    certificates = [one.certificate for one in chosen]
    text = noise + noise.join(to_pem([one]) for one in certificates)
    match dress:
        case "pem":
            return text.encode()
        case "crlf":
            return text.replace("\n", "\r\n").encode()
        case "utf-16":
            return to_pem(certificates).encode("utf-16")
        case "p7b":
            return pkcs7.serialize_certificates(certificates, Encoding.DER)
        case "p7b pem":
            return pkcs7.serialize_certificates(certificates, Encoding.PEM)
        case _:
            return certificates[0].public_bytes(Encoding.DER)


DRESSES = ["pem", "crlf", "utf-16", "p7b", "p7b pem", "der"]
FILES = st.builds(dressed, CHOSEN, st.sampled_from(DRESSES), NOISE)
NEARLY = st.one_of(
    st.builds(edit, FILES, EDITS),
    st.binary(max_size=200),
    st.binary(max_size=80).map(
        lambda data: b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(data) + b"-----END CERTIFICATE-----\n"
    ),
    st.lists(
        st.sampled_from(
            [b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n", b"-----BEGIN PKCS7-----\n",
             b"MIIB\n", b"-",
             b"-----BEGIN EC PRIVATE KEY-----\n", pem([ROOT.certificate]), b"\0", b"\xff\xfe", b"0\x80", b"0\x82"]
        ),
        max_size=6,
    ).map(b"".join),
)  # fmt: skip


@given(CHOSEN, st.sampled_from(DRESSES), NOISE)
def test_any_dress_holds_the_same_certificates(chosen: list[Authority], dress: str, noise: str) -> None:
    found = read_certificates(dressed(chosen, dress, noise))
    wanted = [one.certificate for one in chosen][: 1 if dress == "der" else None]
    if dress.startswith("p7b"):  # a SET: the order is DER's, and a certificate is in it as often as it was put there
        assert sorted(one.public_bytes(Encoding.DER) for one in found) == sorted(
            one.public_bytes(Encoding.DER) for one in wanted
        )
    else:
        assert found == wanted
    assert read_certificates(to_pem(found).encode()) == found


@given(NEARLY)
def test_any_file_is_certificates_or_a_documented_error(data: bytes) -> None:
    begun = time.process_time()
    try:
        found = read_certificates(data)
    except BundleError as error:
        assert error.code in {"no_certificate", "private_key", "too_large", "malformed"}
        assert not examine_trusted(data, NOW).ok
    else:
        bundle = examine_trusted(data, NOW)
        assert {finding.code for finding in bundle.findings} <= CODES
        assert set(bundle.chain) <= set(found)
        if bundle.ok:
            # What is said to be good stays good, in the order in which it was put.
            again = examine_trusted(to_pem(bundle.chain).encode(), NOW)
            assert again.ok
            assert again.chain == bundle.chain
    assert time.process_time() - begun < 2
