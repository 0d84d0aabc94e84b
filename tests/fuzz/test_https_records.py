"""DNS messages without HTTPS and SVCB records: none is left in what passes, and what cannot be read does not pass."""

from __future__ import annotations

import dns.message
from hypothesis import given
from hypothesis import strategies as st

from addons.https_records import LARGEST, without
from tests.addons.test_https_records import H3_AND_ECH, HTTPS, SOA, SVCB, TXT, A, message, record

RECORDS = st.lists(
    st.one_of(
        st.just(record(HTTPS, H3_AND_ECH)),
        st.just(record(SVCB, H3_AND_ECH)),
        st.builds(record, st.sampled_from([A, TXT, SOA, HTTPS, SVCB]), st.binary(max_size=20)),
        st.builds(record, st.integers(0, 0xFFFF), st.binary(max_size=20)),
    ),
    max_size=4,
)
MESSAGES = st.one_of(st.binary(max_size=100), st.builds(message, RECORDS, RECORDS, RECORDS))


@given(MESSAGES, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3), st.binary(max_size=3))
def test_no_record_passes(wire: bytes, changes: list[tuple[int, int]], tail: bytes) -> None:
    changed = bytearray(wire + tail)
    for place, octet in changes:
        if place < len(changed):
            changed[place] = octet
    try:
        shorter = without(bytes(changed))
    except ValueError as error:
        assert "DNS message" in str(error)
        return
    read = dns.message.from_wire(bytes(changed) if shorter is None else shorter)
    for section in (read.answer, read.authority, read.additional):
        assert {SVCB, HTTPS}.isdisjoint(kind for found in section for kind in (found.rdtype, found.covers))
    assert shorter is None or len(shorter) <= LARGEST
