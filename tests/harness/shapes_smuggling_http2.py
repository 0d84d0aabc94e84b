"""HTTP/2 requests that are malformed (RFC 9113 section 8.1.1), many of them two in the eyes of an HTTP/1 server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.harness.shapes import HOST
from tests.harness.shapes_http2_end import Body, Frame, Head, Odd, Pairs

GOOD: dict[str, str] = {":method": "GET", ":scheme": "https", ":authority": HOST, ":path": "/odd"}


@dataclass(frozen=True)
class Odd2:
    """``refuse``: it must not pass; else it may. ``in_body``: the head is good, and may have passed."""

    name: str
    frames: tuple[Frame, ...]
    clause: str
    refuse: bool = True
    in_body: bool = False


def request(*more: tuple[str, str], end: bool = True, pseudo: Mapping[str, str | None] | None = None) -> Head:
    """A request with these fields, and with these pseudo fields otherwise (None: not at all)."""
    fields = dict(GOOD)
    for name, value in (pseudo or {}).items():
        if value is None:
            del fields[f":{name}"]
        else:
            fields[f":{name}"] = value
    return Head("/odd", (*fields.items(), *more), end=end)


def raw(*fields: tuple[str, str], end: bool = True) -> Head:
    """A header block with just these fields."""
    pairs: Pairs = fields
    return Head("/odd", pairs, end=end)


def names_and_values() -> list[Odd2]:
    """RFC 9113 section 8.2.1."""
    clause = "RFC 9113 section 8.2.1"
    fields = {
        "upper-case-name": ("X-Upper", "1"), "mixed-case-name": ("transfer-Encoding", "chunked"),
        "cr-in-value": ("x-a", "b\rc"),
        "lf-in-value": ("x-a", "b\nc"), "nul-in-value": ("x-a", "b\0c"),
        "request-in-value": ("x-a", "b\r\n\r\nGET /canary HTTP/1.1\r\nHost: x"), "crlf-in-name": ("x-a: b\r\nx-c", "d"),
        "lf-in-name": ("x\na", "b"), "nul-in-name": ("x\0a", "b"), "blank-in-name": ("x a", "b"),
        "colon-in-name": ("x:a", "b"),
        "empty-name": ("", "b"), "obs-text-in-name": ("x\xe9", "b"), "control-in-name": ("x\x01", "b"),
        "delete-in-name": ("x\x7f", "b"), "blank-before-value": ("x-a", " b"), "blank-behind-value": ("x-a", "b "),
        "tab-before-value": ("x-a", "\tb"),
    }  # fmt: skip
    return [Odd2(f"h2-{name}", (request(pair),), clause) for name, pair in fields.items()]


def of_connections() -> list[Odd2]:
    """RFC 9113 section 8.2.2."""
    clause = "RFC 9113 section 8.2.2"
    fields = {
        "transfer-encoding": ("transfer-encoding", "chunked"), "connection": ("connection", "close"),
        "keep-alive": ("keep-alive", "timeout=5"), "proxy-connection": ("proxy-connection", "keep-alive"),
        "upgrade": ("upgrade", "h2c"), "te-gzip": ("te", "gzip"), "te-list": ("te", "trailers, gzip"),
    }  # fmt: skip
    return [
        *[Odd2(f"h2-{name}", (request(pair),), clause) for name, pair in fields.items()],
        Odd2("h2-transfer-encoding-with-body", (request(("transfer-encoding", "chunked"), pseudo={"method": "POST"},
                                                        end=False),
             Body("/odd", b"0\r\n\r\nGET /canary HTTP/1.1\r\n\r\n", end=True)), clause),
    ]  # fmt: skip


def pseudo_fields() -> list[Odd2]:
    """RFC 9113 sections 8.3 and 8.3.1."""
    clause, one = "RFC 9113 section 8.3", "RFC 9113 section 8.3.1"
    changed: dict[str, dict[str, str | None]] = {
        "path-with-blank": {"path": "/a b"}, "path-with-request": {"path": "/a HTTP/1.1\r\nHost: x\r\n\r\nGET /canary"},
        "path-with-tab": {"path": "/a\tb"}, "path-empty": {"path": ""}, "path-without-slash": {"path": "odd"},
        "path-absolute": {"path": "https://other.example/"}, "path-with-nul": {"path": "/a\0"},
        "path-missing": {"path": None}, "method-missing": {"method": None}, "scheme-missing": {"scheme": None},
        "method-with-blank": {"method": "GET /canary HTTP/1.1\r\n\r\nGET"}, "method-empty": {"method": ""},
        "method-with-cr": {"method": "GET\r"}, "scheme-odd": {"scheme": "https://other.example/?"},
        "scheme-with-blank": {"scheme": "https x"}, "authority-with-blank": {"authority": f"{HOST} x"},
        "authority-with-path": {"authority": f"{HOST}/x"}, "authority-with-user": {"authority": f"user@{HOST}"},
        "authority-with-request": {"authority": f"{HOST}\r\n\r\nGET /canary HTTP/1.1\r\nHost: x"},
        "authority-other": {"authority": "other.example"}, "authority-empty": {"authority": ""},
        "authority-two-ports": {"authority": f"{HOST}:80:81"}, "authority-missing": {"authority": None},
    }  # fmt: skip
    doubled = [(name, (name, value)) for name, value in GOOD.items()]
    return [
        *[Odd2(f"h2-{name}", (request(pseudo=change),), one) for name, change in changed.items()],
        *[Odd2(f"h2-two-{name[1:]}s", (raw(*GOOD.items(), more),), clause) for name, more in doubled],
        Odd2("h2-host-differs", (request(("host", "other.example")),), one),
        Odd2("h2-two-hosts", (request(("host", HOST), ("host", HOST), pseudo={"authority": None}),), one),
        Odd2("h2-host-with-request", (request(("host", f"{HOST}\r\n\r\nGET /canary")),), one),
        Odd2("h2-unknown-pseudo", (raw(*GOOD.items(), (":odd", "1")),), clause),
        Odd2("h2-status-in-a-request", (raw(*GOOD.items(), (":status", "200")),), clause),
        Odd2("h2-pseudo-behind-fields", (raw(*list(GOOD.items())[:3], ("x-a", "b"), (":path", "/odd")),), clause),
        Odd2("h2-no-pseudo", (raw(("x-a", "b")),), clause),
        Odd2("h2-connect", (raw((":method", "CONNECT"), (":authority", f"{HOST}:443")),), "RFC 9113 section 8.5"),
        Odd2("h2-protocol-not-offered", (raw(*GOOD.items(), (":protocol", "websocket")),), "RFC 8441 section 4"),
        Odd2("h2-fragment-in-path", (request(pseudo={"path": "/a#b"}),), one, refuse=False),
        Odd2("h2-path-asterisk-get", (request(pseudo={"path": "*"}),), one, refuse=False),
        Odd2("h2-obs-text-in-path", (request(pseudo={"path": "/\xe9"}),), "RFC 3986 section 3.3", refuse=False),
    ]


def bodies() -> list[Odd2]:
    """Lengths that do not fit (RFC 9113 section 8.1.1), trailers, frames where none may be."""
    clause, frames = "RFC 9113 section 8.1.1", "RFC 9113 sections 5.1 and 6"
    sizes = {"short": "10", "long": "3", "zero": "0"}
    words = {"plus": "+5", "word": "five", "list": "5, 6", "empty": "", "request": "5\r\n\r\nGET /canary"}
    return [
        *[Odd2(f"h2-length-{name}", (request(("content-length", size), pseudo={"method": "POST"}, end=False),
               Body("/odd", b"hello", end=True)), clause, in_body=True) for name, size in sizes.items()],
        *[Odd2(f"h2-length-{name}", (request(("content-length", word), pseudo={"method": "POST"}, end=False),
               Body("/odd", b"hello", end=True)), clause) for name, word in words.items()],
        Odd2("h2-lengths-differ", (request(("content-length", "5"), ("content-length", "6"), pseudo={"method": "POST"},
                                           end=False),
             Body("/odd", b"hello", end=True)), clause),
        Odd2("h2-length-without-body", (request(("content-length", "5"), pseudo={"method": "POST"}),), clause),
        Odd2("h2-trailers-with-pseudo", (request(pseudo={"method": "POST"}, end=False), Body("/odd", b"x"),
             raw((":path", "/canary"))), "RFC 9113 section 8.1", in_body=True),
        Odd2("h2-trailers-without-end", (request(pseudo={"method": "POST"}, end=False), Body("/odd", b"x"),
                                         raw(("x-a", "b"), end=False),
             Body("/odd", b"y", end=True)), "RFC 9113 section 8.1", in_body=True),
        Odd2("h2-trailers-with-lf", (request(pseudo={"method": "POST"}, end=False), Body("/odd", b"x"),
                                     raw(("x-a", "b\nc"))),
             "RFC 9113 section 8.2.1", in_body=True),
        Odd2("h2-data-without-head", (Body("/odd", b"x", end=True),), frames),
        Odd2("h2-continuation-alone", (Odd(9, b"\x82", "/odd", 4),), frames),
        Odd2("h2-frame-inside-a-block", (Odd(1, b"\x82\x87", "/odd", 1), Odd(6, b"12345678")), frames),
        Odd2("h2-settings-cut", (Odd(4, b"\0\0\0"),), "RFC 9113 section 6.5"),
        Odd2("h2-padding-too-long", (request(pseudo={"method": "POST"}, end=False), Odd(0, b"\xffab", "/odd", 9)),
             "RFC 9113 section 6.1", in_body=True),
        Odd2("h2-push-promise", (Odd(5, b"\0\0\0\2\x82", "/odd", 4),), "RFC 9113 section 8.4"),
    ]  # fmt: skip


def shapes() -> list[Odd2]:
    """All of these."""
    return [*names_and_values(), *of_connections(), *pseudo_fields(), *bodies()]
