"""Bodies that are small when they are sent and large when they are read."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import brotli
import pytest
from mitmproxy import http
from mitmproxy.http import Headers, Response
from mitmproxy.net import encoding

from proxy.lanes.inspection import decoding
from proxy.lanes.inspection.decoding import MARKUP, MOST_MEMBERS, SLICE, bound

LIMIT = 100_000
CODINGS = ["gzip", "deflate", "deflateraw", "br", "zstd"]


@pytest.fixture(autouse=True)
def _bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "custom_decode", encoding.custom_decode)
    monkeypatch.setattr(encoding, "custom_encode", encoding.custom_encode)
    monkeypatch.setattr(http, "infer_content_encoding", http.infer_content_encoding)
    monkeypatch.setattr(encoding, "_cache", encoding.CachedDecode(None, None, None, None))
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


NOISE = Random(3).randbytes(SLICE + 1)  # noqa: S311 - what does not compress


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("parts", [[b"good", b"EVIL"], [b"", b"EVIL", b""], [NOISE, b"EVIL"], [b"a"] * MOST_MEMBERS])
def test_what_follows_the_first_member_is_read_too(coding: str, parts: list[bytes]) -> None:
    sent = b"".join(map(encoding.custom_encode[coding], parts))
    assert response(sent, coding).content == b"".join(parts)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("left", [b"EVIL", b"\0", b"\x1f\x8b", NOISE])
@pytest.mark.parametrize("body", [b"good", NOISE])
def test_nothing_may_be_left_over_behind_the_end(coding: str, left: bytes, body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each library has words of its own
        _ = response(encoding.custom_encode[coding](body) + left, coding).content


@pytest.mark.parametrize("coding", ["deflate", "deflateraw", "br"])
def test_a_coding_without_members_has_one(coding: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each library has words of its own
        _ = response(encoding.custom_encode[coding](b"good") + encoding.custom_encode[coding](b"EVIL"), coding).content


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_members_have_the_limit_together(coding: str) -> None:
    sent = encoding.custom_encode[coding](b"\0" * (LIMIT // 2 + 1)) * 2
    with pytest.raises(ValueError, match="more than 100000 bytes"):
        _ = response(sent, coding).content


def test_what_is_no_gzip_is_not_read_as_gzip() -> None:
    with pytest.raises(ValueError, match="incorrect header"):
        _ = response(zlib.compress(b"good"), "gzip").content


class Counting:
    """A decompressor that counts the bytes that it was given, and the copies of what it left."""

    fed = 0
    made = 0

    def __init__(self, inner: Any) -> None:
        type(self).made += 1
        self.inner = inner

    def decompress(self, data: bytes, most: int) -> bytes:
        type(self).fed += len(data)
        return bytes(self.inner.decompress(data, most))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_many_empty_members_are_not_worked_through(coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    zlib_made: Callable[..., Any] = zlib.decompressobj
    zstd_made: Callable[..., Any] = decoding.zstd.ZstdDecompressor
    monkeypatch.setattr(
        decoding,
        "zlib",
        SimpleNamespace(
            decompressobj=lambda bits: Counting(zlib_made(bits)), MAX_WBITS=zlib.MAX_WBITS, error=zlib.error
        ),
    )
    monkeypatch.setattr(decoding, "zstd", SimpleNamespace(ZstdDecompressor=lambda: Counting(zstd_made())))
    monkeypatch.setattr(Counting, "fed", 0)
    monkeypatch.setattr(Counting, "made", 0)
    sent = encoding.custom_encode[coding](b"") * 100_000
    with pytest.raises(ValueError, match=f"looked at: {MOST_MEMBERS} parts"):
        _ = response(sent, coding).content
    assert Counting.made == MOST_MEMBERS
    assert Counting.fed <= MOST_MEMBERS * SLICE


def text(body: bytes, kind: str) -> Response:
    return Response(b"HTTP/1.1", 200, b"OK", Headers(((b"Content-Type", kind.encode()),)), body, None, 0, 0)


@pytest.mark.parametrize("charset", ["punycode", "PunyCode", "idna", "IDNA"])
def test_encodings_of_host_names_are_no_character_sets(charset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding.codecs, "decode", None)  # it is not asked
    made = text(b"a-" * 500_000, f"text/plain; charset={charset}")
    with pytest.raises(ValueError, match="no character set for a text"):
        _ = made.text
    assert made.get_text(strict=False) == "a-" * 500_000


def test_a_text_is_not_written_in_an_encoding_of_host_names() -> None:
    made = text(b"", "text/plain; charset=punycode")
    made.text = "Grüße"
    assert made.raw_content == "Grüße".encode()
    assert made.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("kind", ["text/html", "text/xml"])
def test_a_character_set_is_looked_for_in_the_beginning_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []

    def search(kind: str, content: bytes) -> str:
        searched.append(len(content))
        return infer(kind, content)

    infer = decoding.infer_content_encoding
    monkeypatch.setattr(decoding, "infer_content_encoding", search)
    named = {"text/html": b'<meta charset="latin-1">', "text/xml": b'<?xml version="1.0" encoding="latin-1"?>'}[kind]
    assert text(named + "Grüße".encode("latin-1"), kind).text == named.decode() + "Grüße"
    many = b"<meta <?xml " * 100_000
    assert text(many, kind).text == many.decode()
    assert searched == [len(named) + 5, MARKUP]
