"""Paths of URLs as they are compared: a request's path in every form that a server may read it in, and patterns.

The first form is RFC 3986's (6.2.2): escapes of unreserved characters are decoded, other escapes are in upper case, dot
segments are gone. Many servers go further: they decode every escape, take a backslash for a slash and several slashes
for one, before they remove dot segments. What they would serve is the second form. Others (Tomcat, Jetty, Spring) cut
``;parameters`` from each segment first, before or after they decode; what is written in C may end at a NUL; and a dot
segment at the end may stand for the folder's own name, without a slash. A pattern that fits any form, fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote_from_bytes, unquote_to_bytes

_KEPT = "/:@!$&'()*+,;="  # pchar and the slash (RFC 3986 3.3), less what quote always keeps
_PLAIN = re.compile(rb"/(?:[A-Za-z0-9._~!$&'()*+,=:@-]|(?<!/)/)*")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})|%|[^A-Za-z0-9._~/:@!$&'()*+,;=?\[\]-]")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SLASHES = re.compile(r"/{2,}")
_PARAMETERS = re.compile(rb";[^/]*")
_DOTS_AT_END = re.compile(r"/\.{1,2}$")


def forms(target: bytes) -> tuple[str, ...]:
    """The forms, one or several, of a request's target in origin-form (RFC 9112 3.2.1), without its query."""
    path = target.partition(b"?")[0]
    if not path.startswith(b"/"):
        path = b"/" + path
    if _PLAIN.fullmatch(path) and b"/." not in path:
        return (path.decode("ascii"),)
    # No client should send a fragment. Some servers cut it off, others take it for a part of the path.
    paths = (path, path.partition(b"#")[0]) if b"#" in path else (path,)
    return tuple(dict.fromkeys(form for one in paths for form in _readings(one)))


def _readings(path: bytes) -> Iterator[str]:
    yield _strict(path)
    yield from _ends(_decoded(path))
    if b";" in path:
        yield from _ends(_decoded(_PARAMETERS.sub(b"", path)))
    decoded = unquote_to_bytes(path).replace(b"\\", b"/")
    shorter = _PARAMETERS.sub(b"", decoded.partition(b"\0")[0])
    if shorter != decoded:
        yield from _ends(_folded(shorter))
        yield from _ends(_folded(decoded.partition(b"\0")[0]))


def _ends(path: str) -> Iterator[str]:
    """The path without its dot segments; where the last is one, also without the slash that it leaves."""
    whole = _without_dots(path)
    yield _quoted(whole)
    if _DOTS_AT_END.search(path):
        yield _quoted(whole.rstrip("/"))


def pattern_forms(pattern: str) -> tuple[str, ...]:
    """The same of a pattern, in which a star stands for any characters."""
    path = pattern.encode()
    strict = _strict(path)
    # An escaped star is that character. Decoded, it could not be told from one that stands for others.
    return (strict,) if "%2A" in strict else tuple(dict.fromkeys((strict, _lenient(path))))


def _strict(path: bytes) -> str:
    return _without_dots(_ESCAPE.sub(_escape, path).decode("ascii")) or "/"


def _escape(match: re.Match[bytes]) -> bytes:
    if (digits := match[1]) is None:
        return b"%%%02X" % match[0][0]
    byte = int(digits, 16)
    return bytes([byte]) if byte in _UNRESERVED else b"%" + digits.upper()


def _lenient(path: bytes) -> str:
    return _quoted(_without_dots(_decoded(path)))


def _decoded(path: bytes) -> str:
    return _folded(unquote_to_bytes(path).replace(b"\\", b"/"))


def _folded(path: bytes) -> str:
    """With several slashes as one."""
    return _SLASHES.sub("/", path.decode("latin-1"))


def _quoted(path: str) -> str:
    return quote_from_bytes(path.encode("latin-1"), _KEPT) or "/"


def _without_dots(path: str) -> str:
    """RFC 3986 5.2.4, for a path that begins with a slash."""
    if "." not in path:
        return path
    segments = path.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            if len(kept) > 1:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")  # "/a/b/.." is the folder "/a/", not "/a"
    return "/".join(kept)


class PathIndex[T]:
    """Values under path patterns: exact ones in a dictionary, others under what stands before their first star.

    There can be one for each of a million hosts, so it has only what it needs.
    """

    __slots__ = ("_all", "_exact", "_lengths", "_starting")

    def __init__(self) -> None:
        self._all: T | None = None
        self._exact: dict[str, T] | None = None
        self._starting: dict[str, list[tuple[tuple[str, ...], T]]] | None = None
        self._lengths: tuple[int, ...] = ()

    def add(self, pattern: str, value: T) -> None:
        """Keep the value under the pattern. Of equal patterns the first counts."""
        if pattern in ("*", "/*"):
            self._all = value if self._all is None else self._all
            return
        for form in pattern_forms(pattern):
            start, *rest = form.split("*")
            if rest:
                self._add_starting(start, tuple(rest), value)
            else:
                self._exact = {} if self._exact is None else self._exact
                self._exact.setdefault(form, value)

    def _add_starting(self, start: str, rest: tuple[str, ...], value: T) -> None:
        self._starting = {} if self._starting is None else self._starting
        self._starting.setdefault(start, []).append((rest, value))
        if len(start) not in self._lengths:
            self._lengths = tuple(sorted((*self._lengths, len(start)), reverse=True))

    def find(self, paths: tuple[str, ...]) -> T | None:
        """The value of a pattern that fits one of a request's forms; an exact one, then the longest start, wins."""
        for path in paths:
            if self._exact is not None and (exact := self._exact.get(path)) is not None:
                return exact
            if self._starting is not None and (found := self._find_starting(self._starting, path)) is not None:
                return found
        return self._all

    def _find_starting(self, starting: dict[str, list[tuple[tuple[str, ...], T]]], path: str) -> T | None:
        for length in self._lengths:
            if length <= len(path):
                for pieces, value in starting.get(path[:length], ()):
                    if _fits(path, length, pieces):
                        return value
        return None


def _fits(path: str, at: int, pieces: tuple[str, ...]) -> bool:
    """Whether the pieces between and after the stars follow in this order, the last at the end.

    Taking each at its first place finds a fit where there is one, without ever going back.
    """
    end = len(path) - len(pieces[-1])
    if end < at or not path.endswith(pieces[-1]):
        return False
    for piece in pieces[:-1]:
        found = path.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
