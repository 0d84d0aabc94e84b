"""Content codings with a bound: what is read of a body is a thousand times what was sent, if a stranger wants it so.

mitmproxy decodes a body whole when an inspector asks for it, and takes any codec of Python's for a coding. Here each
coding stops at a limit, and codecs that expand (bz2, zlib) are none. Whoever asks gets ValueError, as for bytes that
cannot be decoded.
"""

from __future__ import annotations

import codecs
import contextlib
import sys
import zlib
from collections.abc import Callable
from typing import Any

import brotli
from mitmproxy import http
from mitmproxy.net import encoding
from mitmproxy.net.http.headers import infer_content_encoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

EXPANDED = 8
"""How many times the limit of a body as it was sent (``inspection.body_limit``) it may take decoded."""
MOST_MEMBERS = 1000
"""Members of a gzip body, or frames of a zstd body, that are read: an empty one is nine bytes, and far more work."""
SLICE = 1 << 16
"""Bytes that a decompressor is given together."""
GZIP = 16
"""Added to the window's bits: what zlib reads begins with a gzip header, and nothing else will do."""
SLOW_CHARSETS = frozenset({"idna", "punycode"})
"""Encodings of host names, which take time that grows with the square of the text's length."""
MARKUP = 1024
"""Bytes at the beginning of a text in which it may name its character set (HTML, section 13.2.3.2)."""


def bound(limit: int) -> None:
    """From now on nothing decodes to more than so many bytes, in this process."""
    decoders: Any = _Decoders(
        none=_identity,
        identity=_identity,
        gzip=lambda data: _gzip(data, limit),
        deflate=lambda data: _deflated(data, limit),
        deflateraw=lambda data: _deflated(data, limit),
        br=lambda data: _brotli(data, limit),
        zstd=lambda data: _zstd(data, limit),
    )
    encoding.custom_decode = decoders
    encoders: Any = _Encoders(encoding.custom_encode)
    encoding.custom_encode = encoders
    http.infer_content_encoding = _named_charset


class _Decoders(dict[str, Callable[[bytes], bytes]]):
    """mitmproxy falls back to Python's codecs, which character sets need and codings do not."""

    def __missing__(self, name: str) -> Callable[[bytes], bytes]:
        try:
            text = codecs.lookup(name)._is_text_encoding
        except LookupError:
            text = True  # mitmproxy says that there is none
        if not text:
            raise ValueError(f"{name} is no content coding")
        _check_charset(name)
        raise KeyError(name)


class _Encoders(dict[str, Callable[[bytes], bytes]]):
    """For what scripts write: mitmproxy's own, but for character sets that are no use for a text."""

    def __missing__(self, name: str) -> Callable[[bytes], bytes]:
        _check_charset(name)
        raise KeyError(name)


def _check_charset(name: str) -> None:
    with contextlib.suppress(LookupError):  # mitmproxy says that there is none
        if codecs.lookup(name).name in SLOW_CHARSETS:
            raise ValueError(f"{name} is no character set for a text")


def _named_charset(content_type: str, content: bytes = b"") -> str:
    """As mitmproxy finds it out, in the beginning alone: its search takes the square of the time that reading does."""
    return infer_content_encoding(content_type, content[:MARKUP])


def _identity(data: bytes) -> bytes:
    return data


def _inflate(data: bytes, bits: int, limit: int) -> bytes:
    return _members(data, limit, lambda: zlib.decompressobj(bits), 1)


def _deflated(data: bytes, limit: int) -> bytes:
    try:
        return _inflate(data, zlib.MAX_WBITS, limit)
    except zlib.error:
        return _inflate(data, -zlib.MAX_WBITS, limit)  # many servers leave the header out (RFC 9110 section 8.4.1.2)


def _gzip(data: bytes, limit: int) -> bytes:
    return _members(data, limit, lambda: zlib.decompressobj(zlib.MAX_WBITS + GZIP), MOST_MEMBERS)


def _zstd(data: bytes, limit: int) -> bytes:
    return _members(data, limit, zstd.ZstdDecompressor, MOST_MEMBERS)


def _members(data: bytes, limit: int, decompressor: Callable[[], Any], most: int) -> bytes:
    """Decode all the members that follow one another (RFC 1952 section 2.2, RFC 8878 section 3.1): ``most`` of them.

    Nothing is left over: what one reader takes for garbage behind the end, another reads.
    """
    view, pieces = memoryview(data), []
    current, size, count, at = None, 0, 0, 0
    while at < len(data):
        if current is None:
            count += 1
            if count > most:
                raise ValueError(f"more follows the end of the compressed data (looked at: {most} parts)")
            current = decompressor()
        # What follows a member's end is copied each time, so it is never given much more than the member.
        piece = view[at : at + SLICE]
        found = current.decompress(piece, limit + 1 - size)
        size += len(found)
        _check(size, limit)
        pieces.append(found)
        at += len(piece)
        if current.eof:
            at -= len(current.unused_data)
            current = None
    if current is not None:
        raise ValueError("the compressed data ends too early")
    return b"".join(pieces)


def _brotli(data: bytes, limit: int) -> bytes:
    if not data:
        return b""
    decompressor = brotli.Decompressor()
    found = decompressor.process(data, output_buffer_limit=limit + 1)
    pieces, size = [found], len(found)
    while size <= limit and not decompressor.can_accept_more_data():
        found = decompressor.process(b"", output_buffer_limit=limit + 1 - size)
        pieces.append(found)
        size += len(found)
    _check(size, limit)
    if not decompressor.is_finished():
        raise ValueError("the compressed data ends too early")
    return b"".join(pieces)


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"the body is more than {limit} bytes when it is decoded, which is more than is allowed")
