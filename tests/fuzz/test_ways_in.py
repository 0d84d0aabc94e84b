"""What a way in reads before its tunnel stands, SOCKS5 and the PROXY protocol: any bytes, in any pieces."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from proxy.listeners.proxy_header import LONGEST_BLOCK, BadHeader, encoded, read_header
from proxy.listeners.socks5_messages import BadSocks, read_credentials, read_greeting, read_request
from tests.fuzz.strategies import CUTS, EDITS, PROXY_HEADERS, SOCKS5, cut, edit

LONGEST_SOCKS = 513
LONGEST_HEADER = 16 + LONGEST_BLOCK


def outcome(read: Callable[[bytes], Any], pieces: list[bytes], longest: int) -> object:
    """What a reader comes to that gets the bytes piece by piece; any other exception fails the test."""
    got = b""
    for piece in pieces:
        got += piece
        try:
            found = read(got)
        except (BadSocks, BadHeader) as error:
            assert str(error).isprintable()
            return type(error)
        if found is not None:
            assert 0 < found.size <= min(len(got), longest)
            assert read(got[: found.size]) == found
            return found
    assert len(got) < longest, "no limit is in sight"
    return None


@given(SOCKS5, EDITS, CUTS)
def test_socks_in_any_pieces_comes_to_the_same(
    message: bytes, edits: list[tuple[str, int, int]], at: list[int]
) -> None:
    data = edit(message, edits)
    for read in (read_greeting, read_credentials, read_request):
        whole = outcome(read, [data], LONGEST_SOCKS)
        assert outcome(read, cut(data, at), LONGEST_SOCKS) == whole
        assert outcome(read, [data[n : n + 1] for n in range(len(data))], LONGEST_SOCKS) == whole


@given(PROXY_HEADERS, EDITS, CUTS)
def test_a_header_in_any_pieces_comes_to_the_same(
    data: bytes, edits: list[tuple[str, int, int]], at: list[int]
) -> None:
    data = edit(data, edits)
    whole = outcome(read_header, [data], LONGEST_HEADER)
    assert outcome(read_header, cut(data, at), LONGEST_HEADER) == whole
    assert outcome(read_header, [data[n : n + 1] for n in range(len(data))], LONGEST_HEADER) == whole


@given(st.binary(max_size=300))
def test_any_bytes_give_a_message_or_a_documented_error(data: bytes) -> None:
    for read in (read_greeting, read_credentials, read_request):
        outcome(read, [data], LONGEST_SOCKS)
        outcome(read, [b"\x05\x01\x00" + data], LONGEST_SOCKS)
    outcome(read_header, [data], LONGEST_HEADER)


@given(st.sampled_from([4, 6]), st.data())
def test_a_header_names_the_ends_that_it_was_made_of(version: Literal[4, 6], data: st.DataObject) -> None:
    ends = data.draw(st.tuples(*(st.tuples(st.ip_addresses(v=version), st.integers(0, 65535)) for _ in range(2))))
    header = encoded(*((str(address), port) for address, port in ends))
    found = read_header(header + b"\x16")
    assert found is not None
    assert found.size == len(header)
    for end, (address, port) in zip((found.source, found.destination), ends, strict=True):
        assert end is not None
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        assert end == (str(mapped or address), port)
