"""Shapes of HTTP/1 messages: methods, targets, fields, status lines, bodies of a known length."""

from __future__ import annotations

import random
from functools import cache

from tests.harness.shapes import HOST, Finish, Hear, HearEnd, Say, Shape, closing, exchange, get, head, ok

KIB, MIB = 1 << 10, 1 << 20
TCHARS = "!#$%&'*+-.^_`|~0123456789abcXYZ"


@cache
def noise(size: int) -> bytes:
    """Bytes that are not all alike, the same in each run."""
    return random.Random(size).randbytes(size)  # noqa: S311 - no secret


def methods() -> list[Shape]:
    """RFC 9110 section 9, and some of WebDAV's."""
    bare = [exchange(f"method-{m.lower()}", get("/m", method=m), ok(b"done")) for m in
            ("GET", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "MKCOL", "REPORT", "PURGE", "M-SEARCH")]  # fmt: skip
    posts = [
        exchange(f"method-{m.lower()}-body", get("/m", "Content-Length: 5", method=m) + b"hello", ok(b"done"))
        for m in ("POST", "PUT", "PATCH", "GET", "DELETE", "OPTIONS", "PROPPATCH", "SEARCH")
    ]
    return [
        *bare,
        *posts,
        exchange("options-asterisk", head("OPTIONS * HTTP/1.1", f"Host: {HOST}"), ok()),
        exchange("post-without-length", get("/p", method="POST"), ok(b"done")),
        exchange("post-length-0", get("/p", "Content-Length: 0", method="POST"), ok(b"done")),
        exchange("head-with-length", get("/h", method="HEAD"), head("HTTP/1.1 200 OK", "Content-Length: 1234"),
                 method=b"HEAD"),
        exchange("head-without-length", get("/h", method="HEAD"), head("HTTP/1.1 200 OK", "X-A: b"), method=b"HEAD"),
        exchange("head-chunked", get("/h", method="HEAD"), head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"),
                 method=b"HEAD"),
        exchange("head-404", get("/h", method="HEAD"), head("HTTP/1.1 404 Not Found", "Content-Length: 9"),
                 method=b"HEAD"),
    ]  # fmt: skip


def targets() -> list[Shape]:
    """Request targets (RFC 9112 section 3.2), odd but without anything that two readers could take differently."""
    paths = {
        "root": "/", "query": "/a?b=c&d=%20e", "empty-query": "/a?", "question-marks": "/a??b?c",
        "double-slash": "//a//b",
        "dots": "/a/../b/./c", "encoded": "/%2e%2E/%00%ff%0d%0a", "bad-percent": "/%zz%", "braces": '/a{b}|c^`"<>\\',
        "fragment-like": "/a!$&'()*+,;=:@~b", "long": "/" + "x" * 8000, "long-query": "/?" + "q=1&" * 2000,
        "looks-absolute": "/http://other.example/", "semicolon": "/a;b=c/d;e", "colon": "/a:80/b",
    }  # fmt: skip
    return [
        *[exchange(f"target-{name}", get(path), ok(b"done")) for name, path in paths.items()],
        exchange("target-absolute", head(f"GET https://{HOST}/abs?x=1 HTTP/1.1", f"Host: {HOST}"), ok(b"done")),
        exchange("target-absolute-upper-case", head(f"GET HTTPS://{HOST}/abs HTTP/1.1", f"Host: {HOST}"), ok(b"done")),
    ]


_FIELDS: dict[str, tuple[str, ...]] = {
    "many": tuple(f"X-Field-{n}: value {n}" for n in range(100)),
    "long": ("X-Long: " + "v" * 30_000,),
    "long-cookie": ("Cookie: " + "; ".join(f"c{n}={'v' * 60}" for n in range(100)),),
    "empty-value": ("X-Empty:", "X-Blank:  ", "X-After: 1"),
    "repeated": ("X-A: 1", "X-B: 2", "X-A: 3", "x-a: 4", "X-A: 1"),
    "capitals": ("x-lower: 1", "X-UPPER: 2", "x-mIxEd-cAsE: 3", "DNT: 1", "ETag: x", "WWW-Authenticate: Basic"),
    "obs-text": ("X-Latin: caf\xe9 \xff\x80", 'Content-Disposition: attachment; filename="\xe4.txt"'),
    "utf-8": ("X-Text: " + "日本語 ✓".encode().decode("latin-1"),),
    "all-tchars": (f"{TCHARS}: odd name",),
    "no-blank": ("X-Tight:value", "X-Wide:     value", "X-Tab:\tvalue\t", "X-End: value   "),
    "tab-inside": ("X-Tab: a\tb  c",),
    "punctuation": ("X-P: \"a,b\"; c='d' (comment, with) <x> {y} [z] \\ / ? = @ :: ;;,,",),
    "numeric-name": ("0: zero", "123-abc: x"),
    "short": ("A: b", "C: d"),
    "host-like": ("X-Host: evil", "X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1;proto=http",
                  "Via: 1.1 other"),
    "authorization": ("Authorization: Basic dXNlcjpwYXNz", "Proxy-Authorization: Basic eDp5"),
    "hop-by-hop": ("Connection: keep-alive, X-Hop", "X-Hop: here", "Keep-Alive: timeout=5",
                   "Proxy-Connection: keep-alive"),
    "te": ("TE: trailers, deflate;q=0.5", "Connection: TE"),
    "conditional": ('If-None-Match: "a", W/"b"', "If-Modified-Since: Sat, 29 Oct 1994 19:43:31 GMT",
                    "Range: bytes=0-1,5-"),
    "content-without-body": ("Content-Type: text/html; charset=\"x\"", "Content-Encoding: gzip",
                             "Content-Language: de"),
    "underscore": ("X_Under_Score: 1", "_: 2"),
    "expect-like": ("X-Expect: 100-continue", "Upgrade-Insecure-Requests: 1"),
}  # fmt: skip


def fields() -> list[Shape]:
    """RFC 9110 section 5, in requests and in responses."""
    sent = [exchange(f"request-fields-{name}", get("/f", *lines), ok(b"done")) for name, lines in _FIELDS.items()]
    came = [exchange(f"response-fields-{name}", get("/f"), ok(b"done", *lines)) for name, lines in _FIELDS.items()]
    return [
        *sent,
        *came,
        exchange("set-cookie-many", get("/f"), ok(b"", *[f"Set-Cookie: c{n}=v{n}; Path=/" for n in range(12)])),
        exchange("set-cookie-spread", get("/f"), ok(b"", "Set-Cookie: a=1", "X-B: 2", "set-cookie: c=3", "X-D: 4")),
        exchange("host-last", head("GET /f HTTP/1.1", "Accept: */*", f"Host: {HOST}"), ok(b"done")),
        exchange("host-capitals", head("GET /f HTTP/1.1", f"HOST: {HOST}"), ok(b"done")),
        exchange("host-upper-case-name", head("GET /f HTTP/1.1", f"Host: {HOST.upper()}"), ok(b"done")),
        exchange("host-with-port", head("GET /f HTTP/1.1", f"Host: {HOST}:443"), ok(b"done")),
        exchange("length-leading-zeros", get("/f"), head("HTTP/1.1 200 OK", "Content-Length: 0004") + b"done"),
    ]


STATUSES = (200, 201, 202, 203, 205, 206, 207, 226, 300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405, 407,
            410, 412,
            416, 418, 421, 422, 425, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 511, 599, 600, 999)  # fmt: skip


def answers() -> list[Shape]:
    """Status lines (RFC 9112 section 4), and answers without a body."""
    lines = {
        "no-reason": "HTTP/1.1 200 ", "long-reason": "HTTP/1.1 200 " + "very " * 200 + "OK",
        "odd-reason": "HTTP/1.1 200 (it's) \"fine\": caf\xe9", "blank-reason": "HTTP/1.1 200  two blanks ",
        "version-1.0": "HTTP/1.0 200 OK",
    }  # fmt: skip
    return [
        *[exchange(f"status-{code}", get("/s"), ok(b"body", line=f"HTTP/1.1 {code} Text")) for code in STATUSES],
        *[exchange(f"line-{name}", get("/s"), ok(b"body", line=line)) for name, line in lines.items()
          if name != "version-1.0"],
        closing("line-version-1.0", get("/s"), ok(b"body", line=lines["version-1.0"])),
        exchange("204", get("/s"), head("HTTP/1.1 204 No Content", "X-A: b")),
        exchange("304-bare", get("/s"), head("HTTP/1.1 304 Not Modified", 'ETag: "x"')),
        exchange("304-with-length", get("/s"), head("HTTP/1.1 304 Not Modified", "Content-Length: 4711")),
        exchange("304-chunked", get("/s"), head("HTTP/1.1 304 Not Modified", "Transfer-Encoding: chunked")),
        exchange("205-length-0", get("/s"), ok(b"", line="HTTP/1.1 205 Reset Content")),
        exchange("post-303", get("/s", "Content-Length: 2", method="POST") + b"ab",
                 ok(b"", "Location: https://other.example/", line="HTTP/1.1 303 See Other")),
    ]  # fmt: skip


SIZES = (0, 1, 2, 1459, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, MIB + 1, 4 * MIB)


def bodies() -> list[Shape]:
    """Bodies of a known length, both ways; the content codings are opaque bytes to all but the two ends."""
    down = [exchange(f"down-{size}", get("/b"), ok(noise(size))) for size in SIZES]
    up = [
        exchange(f"up-{size}", (get("/b", f"Content-Length: {size}", method="PUT"), noise(size)), ok(b"done"))
        for size in SIZES
    ]
    coded = [
        exchange(f"coded-{coding}", get("/b", "Accept-Encoding: gzip, br, zstd"),
                 ok(noise(5000), f"Content-Encoding: {coding}", "Vary: Accept-Encoding"))
        for coding in ("gzip", "br", "zstd", "deflate", "gzip, br", "unheard-of")
    ]  # fmt: skip
    text = (get("/b", "Content-Length: 6", method="POST"), b"a", b"b", b"c", b"d", b"e", b"f")
    whole = get("/b", "Content-Length: 6", method="POST") + b"abcdef"
    return [
        *down,
        *up,
        *coded,
        exchange("down-32-mib", get("/b"), (ok(noise(32 * MIB)),)),
        exchange("up-32-mib", (get("/b", f"Content-Length: {32 * MIB}", method="PUT"), noise(32 * MIB)), ok(b"done")),
        exchange("both-1-mib", (get("/b", f"Content-Length: {MIB}", method="POST"), noise(MIB)), ok(noise(MIB))),
        exchange("body-looks-like-a-response", get("/b"), ok(ok(b"inner") + b"\r\n\r\n")),
        exchange("body-looks-like-a-request", get("/b", "Content-Length: 60", method="POST") + get("/inner").ljust(60),
                 ok(b"done")),
        exchange("request-byte-by-byte", tuple(bytes([byte]) for byte in whole), ok(b"done")),
        exchange("response-byte-by-byte", get("/b"), tuple(bytes([byte]) for byte in ok(b"slow", "X-A: b"))),
        exchange("request-body-in-records", text, ok(b"done")),
        exchange("gzip-bomb-like", get("/b"), ok(b"\0" * (2 * MIB), "Content-Encoding: gzip")),
        Shape("split-tcp-writes",
              client=(Say((whole,), writes=(1, 2, 5, 20, 60)), Hear(messages=1), Finish()),
              origin=(Hear(messages=1), Say((ok(b"x" * 300),), writes=(1, 4, 5, 6, 100, 300)), HearEnd(), Finish())),
    ]  # fmt: skip


def shapes() -> list[Shape]:
    """All of these."""
    return [*methods(), *targets(), *fields(), *answers(), *bodies()]
