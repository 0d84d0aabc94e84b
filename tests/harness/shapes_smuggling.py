"""HTTP/1 that two readers could understand differently: what request smuggling lives on (RFC 9112 section 11.2).

Where there is room for it a second request is hidden inside, ``GET /canary``.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.harness.shapes import HOST, get, head
from tests.harness.shapes_http1 import KIB


@dataclass(frozen=True)
class Odd1:
    """``refuse``: it must not pass; else it may, or be refused. ``in_body``: the head is good, and may have passed."""

    name: str
    data: bytes
    clause: str
    refuse: bool = True
    in_body: bool = False


CANARY = get("/canary")


def post(*lines: str, body: bytes = b"hello") -> bytes:
    """A POST with these fields, a body, and the canary behind it."""
    return head("POST /odd HTTP/1.1", f"Host: {HOST}", *lines) + body + CANARY


def plain(*lines: str, first: str = "GET /odd HTTP/1.1", host: str | None = HOST) -> bytes:
    """A request without a body."""
    return head(first, *([] if host is None else [f"Host: {host}"]), *lines)


def lengths() -> list[Odd1]:
    """RFC 9112 section 6.3: 4 and 5."""
    clause = "RFC 9112 section 6.3, 5"
    values = {
        "plus": "+5", "minus": "-5", "two-numbers": "5 5", "hex": "0x5", "semicolon": "5;", "empty": "", "comma": "5,",
        "vertical-tab": "5\v", "over-64-bits": str(2**64 + 5), "huge": "9" * 40, "fraction": "5.0", "quoted": '"5"',
        "wide-digit": "\xef\xbc\x95", "underscore": "1_0", "word": "five", "superscript": "\xb2",
        "list-differs": "5, 6",
        "exponent": "5e0", "nul": "5\0", "octal-like": "0o5",
    }  # fmt: skip
    return [
        *[Odd1(f"length-{name}", post(f"Content-Length: {value}"), clause) for name, value in values.items()],
        Odd1("lengths-differ", post("Content-Length: 5", "Content-Length: 6"), clause),
        Odd1("lengths-differ-far", post("Content-Length: 0", "X-A: b", "content-length: 5"), clause),
        Odd1("lengths-equal", post("Content-Length: 5", "Content-Length: 5"), clause, refuse=False),
        Odd1("length-list-equal", post("Content-Length: 5, 5"), clause, refuse=False),
        Odd1("length-zeros", post("Content-Length: 0005"), "RFC 9110 section 8.6", refuse=False),
        Odd1("length-blank-before-colon", post("Content-Length : 5"), "RFC 9112 section 5.1"),
        Odd1("length-tab-before-colon", post("Content-Length\t: 5"), "RFC 9112 section 5.1"),
        Odd1(
            "length-0-then-canary",
            post("Content-Length: 0", body=b""),
            "pipelining: RFC 9112 section 9.3.2",
            refuse=False,
        ),
    ]


def codings() -> list[Odd1]:
    """RFC 9112 sections 6.1 and 6.3."""
    clause = "RFC 9112 section 6.3, 4"
    zero = b"0\r\n\r\n"
    values = {
        "xchunked": "xchunked", "chunk": "chunk", "chunkedx": "chunkedx", "vertical-tab": "\vchunked",
        "vertical-tab-behind": "chunked\v", "form-feed": "\fchunked", "nul": "chunked\0", "quoted": '"chunked"',
        "parameter": "chunked;q=1", "twice-in-one": "chunked, chunked", "not-last": "chunked, identity", "gzip": "gzip",
        "identity": "identity", "empty": "", "wide-blank": "\xa0chunked", "comma-joined": "chunked,,gzip",
        "dot": "chunked.", "cow": "cow",
    }  # fmt: skip
    fine = {"capitals": "ChUnKeD", "tab": "\tchunked", "blanks": "   chunked  \t", "behind-comma": ", chunked",
            "identity-first": "identity, chunked"}  # fmt: skip
    both = "RFC 9112 section 6.1: either could be what a server believes"
    return [
        *[Odd1(f"coding-{name}", post(f"Transfer-Encoding: {value}", body=zero), clause) for name,
          value in values.items()],
        *[
            Odd1(f"coding-{name}", post(f"Transfer-Encoding: {value}", body=zero), "RFC 9110 section 5.6.1",
                 refuse=False)
            for name, value in fine.items()
        ],
        Odd1("length-and-coding", post("Content-Length: 5", "Transfer-Encoding: chunked", body=zero), both),
        Odd1("coding-and-length", post("Transfer-Encoding: chunked", "Content-Length: 50", body=zero), both),
        Odd1("length-and-unknown-coding", post("Content-Length: 5", "Transfer-Encoding: x"), both),
        Odd1("codings-two-fields", post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=zero), clause),
        Odd1("codings-two-differ", post("Transfer-Encoding: identity", "Transfer-encoding: chunked", body=zero),
             clause),
        Odd1("coding-in-1.0", plain("Transfer-Encoding: chunked", first="POST /odd HTTP/1.0") + zero + CANARY,
             "RFC 9112 section 6.1"),
        Odd1("coding-blank-before-colon", post("Transfer-Encoding : chunked", body=zero), "RFC 9112 section 5.1"),
        Odd1("coding-folded", post("Transfer-Encoding:\r\n chunked", body=zero), "RFC 9112 section 5.2"),
        Odd1("coding-folded-in-the-middle", post("Transfer-Encoding: gzip,\r\n\tchunked", body=zero),
             "RFC 9112 section 5.2"),
        Odd1("coding-behind-a-bare-cr", post("Content-Length: 5", "X: y\rTransfer-Encoding: chunked"),
             "RFC 9112 section 2.2"),
        Odd1("coding-behind-a-nul", post("Content-Length: 5", "X: y\0Transfer-Encoding: chunked"),
             "RFC 9110 section 5.5"),
        Odd1("coding-nul-in-the-name", post("Content-Length: 5", "Transfer-Encoding\0: chunked"),
             "RFC 9110 section 5.1"),
        Odd1("coding-behind-a-bare-lf", post("X: y\nTransfer-Encoding: chunked", body=zero), "RFC 9112 section 2.2",
             refuse=False),
        Odd1("coding-first-line-indented", head("POST /odd HTTP/1.1", " Transfer-Encoding: chunked", f"Host: {HOST}",
             "Content-Length: 5") + b"hello", "RFC 9112 section 2.2"),
        Odd1("connection-names-length", post("Connection: close, Content-Length", "Content-Length: 5", body=b"hello"),
             "RFC 9110 section 7.6.1", refuse=False),
    ]  # fmt: skip


def lines() -> list[Odd1]:
    """Request lines and line ends (RFC 9112 sections 2.2, 2.3 and 3)."""
    line, version, target = "RFC 9112 section 3", "RFC 9112 section 2.3", "RFC 9112 section 3.2"
    firsts = {
        "http-2.0": ("GET /odd HTTP/2.0", version), "http-3.0": ("GET /odd HTTP/3.0", version),
        "http-0.9": ("GET /odd HTTP/0.9", version), "lower-case": ("GET /odd http/1.1", version),
        "no-version": ("GET /odd", version), "two-digits": ("GET /odd HTTP/1.10", version),
        "no-dot": ("GET /odd HTTP/11", version), "blank-in-version": ("GET /odd HTTP/ 1.1", version),
        "https-version": ("GET /odd HTTPS/1.1", version), "no-minor": ("GET /odd HTTP/1.", version),
        "blank-in-target": ("GET /odd more HTTP/1.1", line), "version-twice": ("GET /odd HTTP/1.1 HTTP/1.1", line),
        "no-target": ("GET HTTP/1.1", line), "bare-cr-in-target": ("GET /odd\r HTTP/1.1", "RFC 9112 section 2.2"),
        "nul-in-target": ("GET /odd\0 HTTP/1.1", target), "control-in-target": ("GET /o\x01dd HTTP/1.1", target),
        "vertical-tab": ("GET\v/odd HTTP/1.1", line), "form-feed": ("GET /odd\fHTTP/1.1", line),
        "no-slash": ("GET odd HTTP/1.1", target), "authority-form": (f"GET {HOST}:443 HTTP/1.1", target),
        "connect": (f"CONNECT {HOST}:443 HTTP/1.1", target), "ftp": (f"GET ftp://{HOST}/ HTTP/1.1", target),
        "asterisk-get": ("G*T\0 * HTTP/1.1", line), "bad-method": ("G(T /odd HTTP/1.1", line),
        "method-colon": ("GET: /odd HTTP/1.1", line), "nul-method": ("\0GET /odd HTTP/1.1", line),
        "user-info": (f"GET https://user@other.example@{HOST}/ HTTP/1.1", "RFC 9110 section 4.2.4"),
        "other-host": ("GET https://other.example/ HTTP/1.1", "RFC 9112 section 3.2.2, RFC 9110 section 7.4"),
        "no-authority": ("GET https:///odd HTTP/1.1", "RFC 9110 section 4.2.2"),
    }  # fmt: skip
    loose = {
        "two-blanks": "GET  /odd HTTP/1.1", "tab": "GET\t/odd HTTP/1.1", "blank-behind": "GET /odd HTTP/1.1 ",
        "blank-before": " GET /odd HTTP/1.1", "lower-case-method": "get /odd HTTP/1.1",
        "obs-text": "GET /odd\xe9 HTTP/1.1",
        "http-1.2": "GET /odd HTTP/1.2",
    }  # fmt: skip
    return [
        *[Odd1(f"line-{name}", plain(first=first), clause) for name, (first, clause) in firsts.items()],
        *[Odd1(f"line-{name}", plain(first=first), line, refuse=False) for name, first in loose.items()],
        Odd1("bare-lf-throughout", plain("X-A: b").replace(b"\r\n", b"\n"), "RFC 9112 section 2.2", refuse=False),
        Odd1("bare-cr-throughout", plain("X-A: b").replace(b"\r\n", b"\r") + b"\r\n\r\n", "RFC 9112 section 2.2"),
        Odd1("head-too-large", plain(*[f"X-{n}: {'v' * 1000}" for n in range(300)]), "RFC 9110 section 5.4"),
        Odd1("line-too-long", plain(first=f"GET /{'x' * 100 * KIB} HTTP/1.1"), "RFC 9112 section 3"),
    ]  # fmt: skip


def fields() -> list[Odd1]:
    """Fields (RFC 9110 section 5, RFC 9112 section 5), Host above all (RFC 9112 section 3.2)."""
    names = {
        "blank-inside": "X Y: 1", "empty": ": 1", "no-colon": "X-Nothing", "parenthesis": "X(Y): 1",
        "obs-text": "X\xe9: 1", "nul": "X\0Y: 1", "control": "X\x01: 1", "blank-behind": "X-Y : 1", "slash": "X/Y: 1",
        "bare-cr": "X\rY: 1",
    }  # fmt: skip
    values = {"nul": "X: a\0b", "bare-cr": "X: a\rb", "bare-cr-at-the-end": "X: a\r", "folded": "X: a\r\n b",
              "folded-tab": "X: a\r\n\tb", "folded-empty": "X: a\r\n \r\nY: b"}  # fmt: skip
    hosts = {
        "blank": "shapes.example other.example", "path": f"{HOST}/x", "user": f"user@{HOST}",
        "at": f"{HOST}@other.example",
        "other": "other.example", "list": f"{HOST}, {HOST}", "two-ports": f"{HOST}:80:81", "bad-port": f"{HOST}:abc",
        "fragment": f"{HOST}#", "question": f"{HOST}?", "backslash": f"{HOST}\\x", "sub": f"x.{HOST}",
        "nul": f"{HOST}\0",
        "prefix": f"{HOST}.other.example", "percent": "shapes%2eexample", "empty": "", "large-port": f"{HOST}:99999",
    }  # fmt: skip
    only = "RFC 9112 section 3.2: 400 for a Host that is missing, twice there, or invalid"
    return [
        *[Odd1(f"name-{name}", plain(field), "RFC 9110 section 5.1") for name, field in names.items()],
        *[Odd1(f"value-{name}", plain(field), "RFC 9110 section 5.5") for name, field in values.items()],
        Odd1("value-control", plain("X: a\x01b"), "RFC 9110 section 5.5", refuse=False),
        Odd1("value-delete", plain("X: a\x7fb"), "RFC 9110 section 5.5", refuse=False),
        *[Odd1(f"host-{name}", plain(host=host), only) for name, host in hosts.items()],
        Odd1("host-missing", plain("X-A: b", host=None), only),
        Odd1("host-twice", plain(f"Host: {HOST}"), only),
        Odd1("host-twice-differs", plain("Host: other.example"), only),
        Odd1("host-of-another-beside-absolute-form", plain(first=f"GET https://{HOST}/odd HTTP/1.1",
                                                           host="other.example"),
             "RFC 9112 section 3.2.2: to be replaced", refuse=False),
    ]  # fmt: skip


def chunks() -> list[Odd1]:
    """RFC 9112 section 7.1: the head has passed, so what matters is that no whole request reaches the origin."""
    clause = "RFC 9112 section 7.1"
    bad = {
        "hex-prefix": b"0x5\r\nhello\r\n0\r\n\r\n", "plus": b"+5\r\nhello\r\n0\r\n\r\n",
        "minus": b"-5\r\nhello\r\n0\r\n\r\n",
        "blank-before": b" 5\r\nhello\r\n0\r\n\r\n", "underscore": b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
        "overflow": b"10000000000000005\r\nhello\r\n0\r\n\r\n", "long": b"0" * 5000 + b"5\r\nhello\r\n0\r\n\r\n",
        "no-line-end-behind-data": b"5\r\nhello0\r\n\r\n", "bytes-behind-data": b"5\r\nhelloXX\r\n0\r\n\r\n",
        "bare-lf-behind-size": b"5\nhello\r\n0\r\n\r\n", "bare-lf-behind-data": b"5\r\nhello\n0\r\n\r\n",
        "bare-cr-behind-size": b"5\rhello\r\n0\r\n\r\n", "bare-lf-in-extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        "bare-cr-in-extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n", "nul-in-extension": b"5;\0\r\nhello\r\n0\r\n\r\n",
        "no-size": b"\r\nhello\r\n0\r\n\r\n", "extension-alone": b";a=b\r\nhello\r\n0\r\n\r\n",
        "word": b"five\r\nhello\r\n0\r\n\r\n",
        "wide-digit": b"\xef\xbc\x95" + b"\r\nhello\r\n0\r\n\r\n", "comma": b"5,5\r\nhello\r\n0\r\n\r\n",
        "minus-zero": b"5\r\nhello\r\n-0\r\n\r\n", "trailer-folded": b"5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n",
        "trailer-no-colon": b"5\r\nhello\r\n0\r\nGET /canary HTTP/1.1\r\n\r\n",
        "trailer-nul": b"5\r\nhello\r\n0\r\nX: a\0b\r\n\r\n",
        "trailer-blank-in-name": b"5\r\nhello\r\n0\r\nX Y: a\r\n\r\n",
        "trailer-bare-cr": b"5\r\nhello\r\n0\r\nX: a\rb\r\n\r\n",
    }  # fmt: skip
    fine = {"blank-behind-size": b"5 \r\nhello\r\n0\r\n\r\n", "blank-before-extension": b"5 ;a\r\nhello\r\n0\r\n\r\n",
            "trailer-length": b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n",
            "trailer-bare-lf": b"5\r\nhello\r\n0\r\nX: a\nY: b\r\n\r\n",
            "last-bare-lf": b"5\r\nhello\r\n0\r\n\n"}  # fmt: skip
    sent = "Transfer-Encoding: chunked"
    return [
        *[Odd1(f"chunk-{name}", post(sent, body=body), clause, in_body=True) for name, body in bad.items()],
        *[
            Odd1(f"chunk-{name}", post(sent, body=body), clause, refuse=False, in_body=True)
            for name, body in fine.items()
        ],
    ]


def shapes() -> list[Odd1]:
    """All of these."""
    return [*lengths(), *codings(), *lines(), *fields(), *chunks()]
