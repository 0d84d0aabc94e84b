"""Bodies that are small when they are sent and large when they are read."""

from __future__ import annotations

import bz2
import gzip
import zlib

import brotli
import pytest
from mitmproxy.http import Headers, Response
from mitmproxy.net import encoding

from proxy.lanes.inspection.decoding import bound

LIMIT = 100_000
CODINGS = ["gzip", "deflate", "deflateraw", "br", "zstd"]


@pytest.fixture(autouse=True)
def _bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "custom_decode", encoding.custom_decode)
    bound(LIMIT)


def response(body: bytes, coding: str) -> Response:
    return Response(b"HTTP/1.1", 200, b"OK", Headers(((b"Content-Encoding", coding.encode()),)), body, None, 0, 0)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [0, 1, 1000, LIMIT])
def test_a_body_up_to_the_limit_is_read_whole(coding: str, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    assert response(encoding.custom_encode[coding](body[:size]), coding).content == body[:size]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [LIMIT + 1, 50_000_000])
def test_a_body_beyond_the_limit_is_not_read(coding: str, size: int) -> None:
    sent = encoding.custom_encode[coding](b"\0" * size)
    assert len(sent) < size // 100
    with pytest.raises(ValueError, match="more than 100000 bytes"):
        _ = response(sent, coding).content


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_that_was_cut_is_not_read_as_a_whole_one(coding: str) -> None:
    sent = encoding.custom_encode[coding](b"abc" * 5000)
    with pytest.raises(ValueError):  # noqa: PT011 - each library has words of its own
        _ = response(sent[: len(sent) // 2], coding).content


@pytest.mark.parametrize("coding", ["bz2", "bz2_codec", "zlib_codec", "zip", "hex", "base64", "uu"])
def test_a_codec_that_is_no_content_coding_is_not_used(coding: str) -> None:
    body = {"bz2": bz2.compress, "bz2_codec": bz2.compress}.get(coding, zlib.compress)(b"\0" * 1000)
    with pytest.raises(ValueError, match="no content coding"):
        _ = response(body, coding).content


def test_a_text_is_still_read_by_its_character_set() -> None:
    made = response(gzip.compress("Grüße".encode("latin-1")), "gzip")
    made.headers["Content-Type"] = "text/plain; charset=latin-1"
    assert made.text == "Grüße"
    made = response(brotli.compress("日本".encode("shift_jis")), "br")
    made.headers["Content-Type"] = "text/plain; charset=shift_jis"
    assert made.text == "日本"
