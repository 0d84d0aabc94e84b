"""What peers are told of names."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import dns.message
import dns.name
import pytest
from dns.opcode import NOTIFY, QUERY, Opcode
from dns.rcode import FORMERR, NOERROR, NOTIMP, NXDOMAIN, SERVFAIL, Rcode
from dns.rdataclass import CH, IN, RdataClass
from dns.rdatatype import AAAA, HTTPS, MX, SVCB, A, RdataType
from hypothesis import given
from hypothesis import strategies as st

from proxy import admission
from proxy.admission import Resolver
from proxy.wireguard import names

HOSTS = {"four.example": "192.0.2.4", "six.example": "2001:db8::6", "xn--bcher-kva.example": "192.0.2.5"}


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    made = Resolver(HOSTS, 5, threads=2)
    yield made
    made.close()


def question(name: str, kind: RdataType, opcode: Opcode = QUERY, of: RdataClass = IN, edns: bool = False) -> bytes:
    made = dns.message.make_query(name, kind, of, use_edns=edns, id=4711)
    made.set_opcode(opcode)
    return made.to_wire()


def ask(resolver: Resolver, wire: bytes) -> dns.message.Message | None:
    said = asyncio.run(names.answer(wire, resolver, "10.113.0.2"))
    if said is None:
        return None
    assert len(said) <= names.LONGEST_ANSWER
    return dns.message.from_wire(said)


def told(
    resolver: Resolver, name: str, kind: RdataType, opcode: Opcode = QUERY, of: RdataClass = IN, edns: bool = False
) -> tuple[Rcode, list[str]]:
    found = ask(resolver, question(name, kind, opcode, of, edns))
    assert found is not None
    # The letters too: a resolver may compare them (draft-vixie-dnsext-dns0x20).
    assert (found.id, str(found.question[0].name).rstrip(".")) == (4711, name)
    assert (found.edns >= 0) is edns
    return found.rcode(), [str(each) for records in found.answer for each in records]


@pytest.mark.parametrize("edns", [False, True])
def test_configured_names_have_the_addresses_of_their_family(resolver: Resolver, edns: bool) -> None:
    assert told(resolver, "four.example", A, edns=edns) == (NOERROR, ["192.0.2.4"])
    assert told(resolver, "fOUr.exAmple", A, edns=edns) == (NOERROR, ["192.0.2.4"])
    assert told(resolver, "xn--bcher-kva.example", A, edns=edns) == (NOERROR, ["192.0.2.5"])
    assert told(resolver, "six.example", AAAA, edns=edns) == (NOERROR, ["2001:db8::6"])
    assert told(resolver, "four.example", AAAA, edns=edns) == (NOERROR, [])


def test_that_a_host_offers_https_otherwise_is_not_told(resolver: Resolver) -> None:
    assert told(resolver, "four.example", HTTPS) == (NOERROR, [])
    assert told(resolver, "four.example", SVCB) == (NOERROR, [])


def test_all_else_is_not_implemented(resolver: Resolver) -> None:
    assert told(resolver, "four.example", MX) == (NOTIMP, [])
    assert told(resolver, "four.example", A, of=CH) == (NOTIMP, [])
    assert told(resolver, "four.example", A, NOTIFY) == (NOTIMP, [])
    two = dns.message.make_query("four.example", A)
    two.question *= 2
    found = ask(resolver, two.to_wire())
    assert found is not None
    assert found.rcode() == FORMERR


def test_the_systems_resolver_knows_the_rest(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(name: str, *_: object, **__: object) -> object:
        if name == "none.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if name == "later.example":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        both = ["192.0.2.1", "::1", "2001:db8:ffff::1"]
        many = [f"{start}{n:x}" for n in range(99) for start in ("2001:db8::", "::ffff:0:")]
        return [(None, None, None, "", (each, 0)) for each in (both if name == "both.example" else many)]

    monkeypatch.setattr(admission.socket, "getaddrinfo", lookup)
    monkeypatch.setattr(names, "reachable", lambda address: address != "2001:db8:ffff::1")
    assert told(resolver, "both.example", A) == (NOERROR, ["192.0.2.1"])
    # An address that there is no way to would have the peer wait for nothing.
    assert told(resolver, "both.example", AAAA) == (NOERROR, ["::1"])
    assert told(resolver, "none.example", A) == (NXDOMAIN, [])
    assert told(resolver, "later.example", A) == (SERVFAIL, [])
    code, many = told(resolver, "many.example", AAAA, edns=True)
    assert (code, len(many)) == (NOERROR, names.MOST_ADDRESSES)


def test_a_name_that_is_no_hosts_is_unknown(resolver: Resolver) -> None:
    for name in ("_srv.four.example", ""):
        found = ask(resolver, question(name or ".", A))
        assert found is not None
        assert found.rcode() == NXDOMAIN
    dot = dns.name.Name((b"four.example", b""))  # one label, with a dot in it
    found = ask(resolver, dns.message.make_query(dot, A).to_wire())
    assert found is not None
    assert found.rcode() == NXDOMAIN


def test_what_is_no_question_gets_no_answer(resolver: Resolver) -> None:
    asked = dns.message.from_wire(question("four.example", A))
    assert ask(resolver, dns.message.make_response(asked).to_wire()) is None
    assert ask(resolver, question("four.example", A) + bytes(5000)) is None
    crowded = bytearray(question("four.example", A))
    crowded[10:12] = (1000).to_bytes(2)
    assert ask(resolver, bytes(crowded)) is None


def test_what_there_is_a_way_to_is_the_kernels_to_say() -> None:
    assert names.reachable("::1")
    assert not names.reachable("no address")


WHOLE = question("four.example", A, edns=True)


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
