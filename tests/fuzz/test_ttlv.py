"""TTLV from strangers: what the forwarder is sent, and what a key manager answers."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
from kmip.core import enums

from kms.kmip import gate, operations
from kms.kmip.errors import KmipError
from kms.kmip.gate import Denied
from kms.kmip.links import without_links
from kms.kmip.messages import VERSIONS, Encoder, Request, Version, answer_to
from kms.kmip.operations import SignatureScheme
from tests.fuzz.strategies import edited

ENCODERS = [Encoder(version) for version in VERSIONS]
QUESTIONS = [
    operations.discover_versions(),
    operations.query(),
    operations.locate_private_keys("signing"),
    operations.get_attributes("1"),
    operations.public_key_links("1"),
    operations.sign("1", SignatureScheme("RSA", "SHA_256"), b"data" * 50),
]
REQUESTS = [encoder.request(question) for encoder in ENCODERS for question in QUESTIONS]
OCTETS = [request.octets for request in REQUESTS]


EDITED = edited(st.sampled_from(OCTETS))
ANSWERS = [gate.failure(version, [], enums.ResultReason.GENERAL_FAILURE, "no") for version in VERSIONS]


@given(st.one_of(EDITED, st.binary(max_size=400), st.sampled_from(OCTETS)))
def test_what_passes_is_one_of_the_five_and_what_does_not_is_answered(octets: bytes) -> None:
    try:
        admitted = gate.admit(octets, None, lambda _: False)
    except Denied as denied:
        assert denied.answer[:4] == bytes.fromhex("42007b01")
        assert int.from_bytes(denied.answer[4:8]) == len(denied.answer) - 8
    else:
        assert set(admitted.operations) <= {operation.name for operation in gate.PASSING}
        # What goes on is read as what was looked at, and is the same once more.
        again = gate.admit(admitted.octets, None, lambda _: False)
        assert (again.octets, again.operations) == (admitted.octets, admitted.operations)
        list(gate.identifiers_in(admitted, octets))


@given(st.one_of(EDITED, st.sampled_from(OCTETS)))
def test_with_names_nothing_passes_that_is_about_another_key(octets: bytes) -> None:
    with suppress(Denied):
        admitted = gate.admit(octets, {"of no key"}, lambda _: False)
        assert set(admitted.operations) <= {"DISCOVER_VERSIONS", "QUERY"}


@given(
    st.sampled_from(REQUESTS),
    st.sampled_from(VERSIONS),
    st.one_of(edited(st.sampled_from(ANSWERS)), EDITED, st.binary(max_size=400)),
)
def test_an_answer_is_read_or_is_an_error_of_one_line(request_: Request, version: Version, octets: bytes) -> None:
    for read in (octets, bytes.fromhex("42007b") + octets[3:]):
        try:
            answer_to(request_, version, read)
        except KmipError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 1000


@given(st.one_of(EDITED, st.binary(max_size=400), st.sampled_from(OCTETS)))
def test_links_are_taken_out_of_a_message_or_it_is_an_error(octets: bytes) -> None:
    with suppress(KmipError):
        left, _ = without_links(octets)
        assert without_links(left) == (left, ())
