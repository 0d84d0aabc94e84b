"""Counts the frames of one direction of an HTTP/2 connection by their heads, before a library works on them."""

from __future__ import annotations

import struct
from typing import Final

from config.settings import Limits
from proxy.lanes.exchange import OverLimit
from proxy.lanes.http2_frames import (
    BEYOND,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_CONTINUATIONS,
    PREFACE,
    PUSH_PROMISE,
    moves_nothing,
)
from proxy.lanes.http2_rates import EMPTY, Rates

_HEAD = struct.Struct(">BHBBL")
_HEAD_SIZE: Final = 9


class Meter:
    """What ``who`` ("client" or "server") sends."""

    __slots__ = ("_block", "_continuations", "_head", "_limits", "_rates", "_rest", "_who")

    def __init__(self, who: str, limits: Limits, rates: Rates) -> None:
        self._who = who
        self._limits = limits
        self._rates = rates
        self._rest = len(PREFACE) if who == "client" else 0
        self._head = b""
        self._block = 0
        self._continuations = 0

    def read(self, data: bytes) -> None:
        """Count. Raises OverLimit, after which nothing of ``data`` is to be looked at."""
        at, end = 0, len(data)
        while at < end:
            if self._rest:
                here = min(self._rest, end - at)
                self._rest -= here
                at += here
            elif not self._head and end - at >= _HEAD_SIZE:
                self._frame(*_HEAD.unpack_from(data, at))
                at += _HEAD_SIZE
            else:
                piece = data[at : at + _HEAD_SIZE - len(self._head)]
                self._head += piece
                at += len(piece)
                if len(self._head) == _HEAD_SIZE:
                    head, self._head = self._head, b""
                    self._frame(*_HEAD.unpack(head))

    def _frame(self, high: int, low: int, kind: int, flags: int, stream: int) -> None:
        self._rest = length = high << 16 | low
        rates, who = self._rates, self._who
        if kind == DATA:
            if length:
                rates.useful += 1
            elif not flags & END_STREAM:
                rates.count(who, EMPTY)
        elif kind in (HEADERS, PUSH_PROMISE):
            rates.useful += 1
            self._continuations = 0
            self._grows(length)
        elif kind == CONTINUATION:
            self._continuations += 1
            if self._continuations > MAX_CONTINUATIONS:
                what = f"more than {MAX_CONTINUATIONS} CONTINUATION frames"
                raise OverLimit(who, "continuation", what, calm=True)
            if not length and not flags & END_HEADERS:
                rates.count(who, EMPTY)
            self._grows(self._block + length)
        else:
            rates.count(who, moves_nothing(kind, flags))

    def _grows(self, block: int) -> None:
        self._block = block
        if block > self._limits.header_bytes * BEYOND:
            what = f"a header block of more than {self._limits.header_bytes} bytes"
            raise OverLimit(self._who, "header_bytes", what, calm=True)
