"""Content codings with a bound: what is read of a body is a thousand times what was sent, if a stranger wants it so.

mitmproxy decodes a body whole when an inspector asks for it, and takes any codec of Python's for a coding. Here each
coding stops at a limit, and codecs that expand (bz2, zlib) are none. Whoever asks gets ValueError, as for bytes that
cannot be decoded.
"""

from __future__ import annotations

import codecs
import sys
import zlib
from collections.abc import Callable
from typing import Any

import brotli
from mitmproxy.net import encoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

EXPANDED = 8
"""How many times the limit of a body as it was sent (``inspection.body_limit``) it may take decoded."""


def bound(limit: int) -> None:
    """From now on nothing decodes to more than so many bytes, in this process."""
    decoders: Any = _Decoders(
        none=_identity,
        identity=_identity,
        gzip=lambda data: _inflate(data, 47, limit),
        deflate=lambda data: _deflated(data, limit),
        deflateraw=lambda data: _deflated(data, limit),
        br=lambda data: _brotli(data, limit),
        zstd=lambda data: _zstd(data, limit),
    )
    encoding.custom_decode = decoders


class _Decoders(dict[str, Callable[[bytes], bytes]]):
    """mitmproxy falls back to Python's codecs, which character sets need and codings do not."""

    def __missing__(self, name: str) -> Callable[[bytes], bytes]:
        try:
            text = codecs.lookup(name)._is_text_encoding
        except LookupError:
            text = True  # mitmproxy says that there is none
        if not text:
            raise ValueError(f"{name} is no content coding")
        raise KeyError(name)


def _identity(data: bytes) -> bytes:
    return data


def _inflate(data: bytes, bits: int, limit: int) -> bytes:
    inflating = zlib.decompressobj(bits)
    found = inflating.decompress(data, limit + 1)
    _check(len(found), limit)
    if not inflating.eof and data:
        raise ValueError("the compressed data ends too early")
    return found


def _deflated(data: bytes, limit: int) -> bytes:
    try:
        return _inflate(data, zlib.MAX_WBITS, limit)
    except zlib.error:
        return _inflate(data, -zlib.MAX_WBITS, limit)  # many servers leave the header out (RFC 9110 section 8.4.1.2)


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


def _zstd(data: bytes, limit: int) -> bytes:
    pieces, size = [], 0
    while data:
        decompressor = zstd.ZstdDecompressor()
        found = decompressor.decompress(data, limit + 1 - size)
        size += len(found)
        _check(size, limit)
        if not decompressor.eof:
            raise ValueError("the compressed data ends too early")
        pieces.append(found)
        data = decompressor.unused_data
    return b"".join(pieces)


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"the body is more than {limit} bytes when it is decoded, which is more than is allowed")
