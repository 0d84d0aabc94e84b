"""What peers are told of names."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.dns import DNSMessage, Question
from mitmproxy.net.dns import classes, op_codes, response_codes, types

from proxy import admission
from proxy.admission import Resolver
from proxy.wireguard import dns

HOSTS = {"four.example": "192.0.2.4", "six.example": "2001:db8::6"}


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    made = Resolver(HOSTS, 5, threads=2)
    yield made
    made.close()


def question(name: str, kind: int, *, op_code: int = op_codes.QUERY, class_: int = classes.IN, count: int = 1) -> bytes:
    asked = [Question(name, kind, class_)] * count
    return DNSMessage(4711, True, op_code, False, False, True, False, 0, 0, asked, [], [], []).packed


def ask(resolver: Resolver, message: bytes) -> DNSMessage | None:
    said = asyncio.run(dns.answer(message, resolver, "10.113.0.2"))
    if said is None:
        return None
    assert len(said) <= 512
    return DNSMessage.unpack(said)


def told(resolver: Resolver, name: str, kind: int, **more: int) -> tuple[int, list[str]]:
    found = ask(resolver, question(name, kind, **more))
    assert found is not None
    assert (found.id, found.query, [each.name for each in found.questions][:1]) == (4711, False, [name])
    return found.response_code, [str(each) for each in found.answers]


def test_configured_names_have_the_addresses_of_their_family(resolver: Resolver) -> None:
    assert told(resolver, "four.example", types.A) == (response_codes.NOERROR, ["192.0.2.4"])
    assert told(resolver, "Four.Example", types.A) == (response_codes.NOERROR, ["192.0.2.4"])
    assert told(resolver, "six.example", types.AAAA) == (response_codes.NOERROR, ["2001:db8::6"])
    assert told(resolver, "four.example", types.AAAA) == (response_codes.NOERROR, [])


def test_that_a_host_offers_https_otherwise_is_not_told(resolver: Resolver) -> None:
    assert told(resolver, "four.example", types.HTTPS) == (response_codes.NOERROR, [])
    assert told(resolver, "four.example", types.SVCB) == (response_codes.NOERROR, [])


def test_all_else_is_not_implemented(resolver: Resolver) -> None:
    assert told(resolver, "four.example", types.MX) == (response_codes.NOTIMP, [])
    assert told(resolver, "four.example", types.A, class_=classes.CH) == (response_codes.NOTIMP, [])
    assert told(resolver, "four.example", types.A, op_code=op_codes.NOTIFY) == (response_codes.NOTIMP, [])
    assert told(resolver, "four.example", types.A, count=2) == (response_codes.FORMERR, [])


def test_the_systems_resolver_knows_the_rest(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(name: str, *_: object, **__: object) -> object:
        if name == "none.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if name == "later.example":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        addresses = (
            ["192.0.2.1", "::1", "2001:db8:ffff::1"] if name == "both.example" else [f"192.0.2.{n}" for n in range(99)]
        )
        return [(None, None, None, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(admission.socket, "getaddrinfo", lookup)
    monkeypatch.setattr(dns, "reachable", lambda address: address == "::1")
    assert told(resolver, "both.example", types.A) == (response_codes.NOERROR, ["192.0.2.1"])
    # An address that there is no way to would have the peer wait for nothing.
    assert told(resolver, "both.example", types.AAAA) == (response_codes.NOERROR, ["::1"])
    assert told(resolver, "none.example", types.A) == (response_codes.NXDOMAIN, [])
    assert told(resolver, "later.example", types.A) == (response_codes.SERVFAIL, [])
    code, many = told(resolver, "many.example", types.A)
    assert (code, 10 < len(many) < 30) == (response_codes.NOERROR, True)


def test_a_name_that_is_no_hosts_is_unknown(resolver: Resolver) -> None:
    assert told(resolver, "_srv.four.example", types.A)[0] == response_codes.NXDOMAIN
    assert told(resolver, "", types.A)[0] == response_codes.NXDOMAIN


def test_an_answer_gets_no_answer(resolver: Resolver) -> None:
    answer = DNSMessage.unpack(question("four.example", types.A)).succeed([]).packed
    assert ask(resolver, answer) is None
    assert ask(resolver, question("four.example", types.A) + bytes(5000)) is None


WHOLE = question("four.example", types.A)


@given(
    st.binary(max_size=64)
    | st.integers(0, len(WHOLE)).map(lambda end: WHOLE[:end])
    | st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)).map(
        lambda edit: WHOLE[: edit[0]] + bytes([edit[1]]) + WHOLE[edit[0] + 1 :]
    )
)
def test_bytes_that_are_no_question_do_no_harm(data: bytes) -> None:
    resolver = Resolver(HOSTS, 5, threads=1)
    # Names that nobody has configured are known not to be there, so that none is looked up.
    resolver.at_once = lambda host: resolver._hosts.get(host.text, ())  # type: ignore[method-assign] # see above
    ask(resolver, data)
    resolver.close()
