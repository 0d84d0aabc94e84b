"""What a parent proxy answers a CONNECT: a tunnel or an error of ours, and the same in any pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certs.names import Host
from proxy.parent import Parent, ParentError
from proxy.parent_answer import ConnectAnswer
from tests.fuzz.strategies import CUTS, cut

PARENT = Parent("proxy.example:3128", Host("proxy.example", is_ip=False), 3128)
ERRORS = frozenset(
    {
        "connection_terminated", "destination_unavailable", "http_protocol_error", "http_request_denied",
        "http_response_header_section_size", "http_response_incomplete", "proxy_configuration_error",
    }
)  # fmt: skip
LINES = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/1.1 103 Early", b"HTTP/1.1 407 No", b"HTTP/1.1 502 Bad", b"A: b",
     b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Connection: close", b" folded", b""]
)  # fmt: skip
ANSWERS = st.one_of(
    st.binary(max_size=200),
    st.lists(LINES | st.binary(max_size=20), max_size=12).map(lambda lines: b"\r\n".join(lines) + b"\r\n\r\n"),
)


def outcome(pieces: list[bytes]) -> object:
    """What is behind the answer, or the error's type; at the end the parent sends no more."""
    connect = ConnectAnswer(PARENT, "good.example", 443)
    for place, piece in enumerate([*(piece for piece in pieces if piece), b""]):
        try:
            rest = connect.receive(piece)
        except ParentError as error:
            return ERRORS & {error.error} or error  # one that is none of ours equals no other
        if rest is not None:
            return rest + b"".join([piece for piece in pieces if piece][place + 1 :])
    raise AssertionError("an end that is no end")


@given(ANSWERS, CUTS)
def test_any_pieces_come_to_the_same(data: bytes, places: list[int]) -> None:
    whole = outcome([data])
    assert outcome(cut(data, places)) == whole
    assert outcome([bytes([byte]) for byte in data]) == whole
