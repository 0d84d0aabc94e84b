"""Proxy-Authorization: Basic, as clients send it and as strangers do."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.basic import Credentials, challenge, parse, presented


def field(text: str | bytes) -> bytes:
    return b"Basic " + base64.b64encode(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("value", "credentials"),
    [
        (field("Aladdin:open sesame"), Credentials("Aladdin", "open sesame")),
        (field("test:123\u00a3"), Credentials("test", "123\u00a3")),  # RFC 7617, section 2.1
        (field("a:b:c"), Credentials("a", "b:c")),
        (field("a:"), Credentials("a", "")),
        (b"bAsIc   " + field("a:b")[6:], Credentials("a", "b")),
        (field("e\u0301:u\u0308"), Credentials("\u00e9", "\u00fc")),  # decomposed, as some clients send it
    ],
)
def test_what_clients_send(value: bytes, credentials: Credentials) -> None:
    assert parse(value) == credentials


@pytest.mark.parametrize(
    "value",
    [
        b"", b"Basic", b"Basic ", b"Basic =", b"Basic a", b"Bearer abc", b"Basic YTpi, Basic YTpi", b"Basic YTpi x",
        field("no colon"), field(":no name"), field(b"\xff:x"), field("n" * 300 + ":p"), field("n:" + "p" * 1025),
        field("n:" + "p" * 5000), b"Negotiate YTpi", b"Basic\tYTpi", b"BasicYTpi", b"Basic YT\npi", b"Basic YTpi\xa0",
    ],
)  # fmt: skip
def test_what_is_no_credentials(value: bytes) -> None:
    assert parse(value) is None


def test_cut_anywhere_it_is_never_somebody_elses() -> None:
    whole = field("alice@acme:secret")
    found = [parse(whole[:end]) for end in range(len(whole))]
    assert {each.name for each in found if each is not None} <= {"alice@acme"}


@settings(max_examples=100)
@given(st.binary(max_size=80))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    for value in (data, b"Basic " + data, b"Basic " + base64.b64encode(data)):
        found = parse(value)
        assert found is None or found.name


def test_a_field_that_stands_twice_is_nobodys() -> None:
    twice = presented([(b"host", b"x"), (b"proxy-authorization", field("a:b")), (b"proxy-authorization", field("a:b"))])
    assert twice is not None
    assert parse(twice) is None
    assert presented([(b"authorization", field("a:b"))]) is None


def test_the_password_is_in_no_repr() -> None:
    assert "secret" not in repr(parse(field("a:secret")))
    assert challenge("Here") == 'Basic realm="Here", charset="UTF-8"'
