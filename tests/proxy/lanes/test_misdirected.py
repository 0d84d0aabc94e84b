from __future__ import annotations

import pytest

from proxy.lanes.misdirected import Addressee

THE_SAME = [
    ("good.example", b"good.example"),
    ("good.example", b"good.example:443"),
    ("good.example", b"good.example:8443"),
    ("good.example", b"good.example:"),
    ("good.example", b"GOOD.Example"),
    ("good.example", b"good.example."),
    ("good.example", b"good.example.:443"),
    ("xn--bcher-kva.example", b"xn--bcher-kva.example"),
    ("xn--bcher-kva.example", b"XN--Bcher-KVA.example"),
    ("192.0.2.1", b"192.0.2.1"),
    ("192.0.2.1", b"192.0.2.1:8443"),
    ("2001:db8::1", b"[2001:db8::1]"),
    ("2001:db8::1", b"[2001:DB8:0::1]:443"),
]

ANOTHER = [
    ("good.example", b""),
    ("good.example", b"evil.example"),
    ("good.example", b"www.good.example"),
    ("good.example", b"example"),
    ("good.example", b"good.example.evil.example"),
    ("good.example", b"good.example evil.example"),
    ("good.example", b"good.example,evil.example"),
    ("good.example", b"good.example@evil.example"),
    ("good.example", b"user@good.example"),
    ("good.example", b"evil.example:443@good.example"),
    ("good.example", b"good.example/evil.example"),
    ("good.example", b"good.example\\evil.example"),
    ("good.example", b"good.example:443:80"),
    ("good.example", b"good.example:x"),
    ("good.example", b"good.example:0"),
    ("good.example", b"good.example:65536"),
    ("good.example", b"good.example.."),
    ("good.example", b".good.example"),
    ("good.example", b"*.example"),
    ("good.example", b"g%6Fod.example"),
    ("good.example", b"good.example\0"),
    ("good.example", "\uff47ood.example".encode()),
    ("xn--bcher-kva.example", "b\xfccher.example".encode()),
    ("good.example", b"\xff"),
    ("good.example", b"a" * 5000),
    ("192.0.2.1", b"192.0.2.2"),
    ("192.0.2.1", b"3221225985"),
    ("192.0.2.1", b"0xc0.0.2.1"),
    ("192.0.2.1", b"[::ffff:192.0.2.1]"),
    ("2001:db8::1", b"2001:db8::1"),
    ("2001:db8::1", b"[2001:db8::2]"),
    ("2001:db8::1", b"[2001:db8::1%25eth0]"),
]


@pytest.mark.parametrize(("host", "raw"), THE_SAME)
def test_every_spelling_of_the_host_is_accepted(host: str, raw: bytes) -> None:
    addressee = Addressee(host)
    assert addressee.accepts(raw)
    assert addressee.accepts(raw)


@pytest.mark.parametrize(("host", "raw"), ANOTHER)
def test_what_does_not_name_the_host_is_not_accepted(host: str, raw: bytes) -> None:
    addressee = Addressee(host)
    assert not addressee.accepts(raw)
    assert not addressee.accepts(raw)


def test_no_value_that_was_asked_before_changes_what_is_accepted() -> None:
    addressee = Addressee("good.example")
    for _ in range(2):
        assert addressee.accepts(b"good.example:8443")
        assert not addressee.accepts(b"evil.example")
        assert addressee.accepts(b"good.example")
