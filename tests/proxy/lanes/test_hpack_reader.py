from __future__ import annotations

import pytest
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.lanes.hpack_reader import BadBlock, HpackReader

LIST = 65536


def both(blocks: list[tuple[int, bytes]]) -> list[list[tuple[bytes, bytes]] | None]:
    """Decode with the library and with ours, the table limit first; the first failure ends it, for both alike."""
    theirs = Decoder(LIST)
    ours = HpackReader(4096, LIST)
    results: list[list[tuple[bytes, bytes]] | None] = []
    for limit, block in blocks:
        theirs.max_allowed_table_size = ours.limit = limit
        try:
            expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)]
        except HPACKError:
            with pytest.raises(BadBlock):
                ours.decode(block)
            results.append(None)
            break
        got = ours.decode(block)
        assert got == expected
        assert list(ours._entries) == list(theirs.header_table.dynamic_entries)
        results.append(got)
    return results


def test_the_examples_of_the_rfc() -> None:
    """RFC 7541 appendix C.4: three requests, Huffman-coded, each building on the table of those before."""
    reader = HpackReader(4096, LIST)
    usual = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
    assert reader.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")) == usual
    assert reader.decode(bytes.fromhex("828684be5886a8eb10649cbf")) == [*usual, (b"cache-control", b"no-cache")]
    assert reader.decode(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")) == [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ]


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\xbe",
        b"\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x40",
        b"\x40\x05ab",
        b"\x40\x01a",
        b"\x40\x81\xff\x00",
        b"\x7f\x00\x00",
        b"\x82\x20",
        b"\x3f\xe2\x1f",
        b"\x40\x01a\x7f\x80\x1e" + b"x" * 3967 + b"\xbe" * 17,
    ],
)
def test_bad_blocks_are_refused_as_the_library_does(block: bytes) -> None:
    assert both([(4096, block)]) == [None]


def test_a_list_just_within_the_limit_is_read() -> None:
    entry = b"\x40\x01a\x7f\x80\x1e" + b"x" * 3967  # of size 4000
    assert both([(4096, entry + b"\xbe" * 15)]) == [[(b"a", b"x" * 3967)] * 16]


def test_a_table_that_has_to_shrink_and_does_not_is_refused() -> None:
    assert both([(4096, b"\x40\x01a\x01b"), (0, b"\x82")]) == [[(b"a", b"b")], None]
    assert both([(4096, b"\x40\x01a\x01b"), (0, b"\x20\x82"), (0, b"\xbe")])[1:] == [[(b":method", b"GET")], None]


def test_an_entry_that_is_larger_than_the_table_empties_it() -> None:
    assert both([(4096, b"\x3f\x0b\x40\x01a\x01b\x40\x01c\x0d" + b"x" * 13), (4096, b"\xbe")]) == [
        [(b"a", b"b"), (b"c", b"x" * 13)],
        None,
    ]


TEXT = st.one_of(st.binary(max_size=30), st.sampled_from([b":path", b"cookie", b"x-a", b"GET", b"y" * 300]))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([4096, 4096, 100, 0, 65536]),
            st.booleans(),
            st.lists(st.tuples(TEXT, TEXT, st.booleans()), max_size=12),
        ),
        max_size=8,
    )
)
@settings(max_examples=200)
def test_what_the_librarys_encoder_writes_is_read_as_its_decoder_does(
    turns: list[tuple[int, bool, list[tuple[bytes, bytes, bool]]]],
) -> None:
    encoder = Encoder()
    blocks = []
    for size, huffman, headers in turns:
        encoder.header_table_size = size
        blocks.append((size, encoder.encode(headers, huffman=huffman)))
    results = both(blocks)
    assert results == [[(name, value) for name, value, _ in headers] for _, _, headers in turns]


@given(st.lists(st.tuples(st.sampled_from([4096, 64, 0]), st.binary(max_size=60)), max_size=5))
@settings(max_examples=500)
def test_any_bytes_are_read_or_refused_as_the_library_does(blocks: list[tuple[int, bytes]]) -> None:
    both(blocks)
