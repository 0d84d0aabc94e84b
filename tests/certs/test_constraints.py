"""Name constraints, form by form: what is permitted, what is excluded, and which constraints cannot be applied."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from certs.constraints import forbidden, names_of, unsound
from certs.facts import facts_of
from tests.harness.pki import Raw, common_name
from tests.scenarios import root


def name(text: str) -> x509.GeneralName:
    """``dns:…``, ``ip:…`` (address or network), ``mail:…``, ``cn:…``, ``uri:…``."""
    form, _, value = text.partition(":")
    if form == "ip":
        return x509.IPAddress(ipaddress.ip_network(value) if "/" in value else ipaddress.ip_address(value))
    if form == "cn":
        return x509.DirectoryName(common_name(value))
    kinds: dict[str, Callable[[str], x509.GeneralName]] = {
        "dns": x509.DNSName,
        "mail": x509.RFC822Name,
        "uri": x509.UniformResourceIdentifier,
    }
    return kinds[form](value)


def refusals(permitted: str, excluded: str, names: str) -> list[str]:
    limits = x509.NameConstraints(
        [name(each) for each in permitted.split()] or None, [name(each) for each in excluded.split()] or None
    )
    leaf = root().leaf("subject", san=[name(each) for each in names.split()])
    return list(forbidden(limits, names_of(facts_of(leaf.certificate))))


@pytest.mark.parametrize(
    ("permitted", "excluded", "names"),
    [
        ("dns:a.example", "", "dns:a.example dns:b.a.example dns:c.b.a.example"),
        ("dns:a.example dns:b.example", "", "dns:x.a.example dns:x.b.example"),
        ("dns:example", "", "dns:a.example"),
        ("dns:A.example", "", "dns:a.EXAMPLE"),
        ("", "dns:a.example", "dns:b.example dns:aa.example dns:example"),
        ("", "dns:a.example", "dns:*.b.example"),
        ("dns:a.example", "", "ip:192.0.2.1"),  # another form of name is not limited
        ("ip:192.0.2.0/24", "", "ip:192.0.2.255 dns:a.example"),
        ("", "ip:192.0.2.0/24", "ip:192.0.3.0 ip:2001:db8::1"),
        ("ip:2001:db8::/32", "", "ip:2001:db8:ffff::1"),
        ("mail:me@a.example", "", "mail:me@a.example"),
        ("mail:a.example", "", "mail:me@a.example mail:you@A.example"),
        ("mail:.a.example", "", "mail:me@b.a.example"),
        ("", "mail:.a.example", "mail:me@a.example"),
        ("", "mail:me@a.example", "mail:you@a.example"),
        ("", "cn:other", "cn:another"),
        ("cn:subject", "", "cn:SUBJECT"),
        ("dns:a.example", "", "dns:a.example uri:https://b.example/"),
    ],
)
def test_names_that_are_permitted(permitted: str, excluded: str, names: str) -> None:
    assert refusals(permitted, excluded, names) == []


@pytest.mark.parametrize(
    ("permitted", "excluded", "names", "what"),
    [
        ("dns:a.example", "", "dns:b.example", "'b.example' is not permitted"),
        ("dns:a.example", "", "dns:xa.example", "'xa.example' is not permitted"),
        ("dns:b.a.example", "", "dns:*.a.example", "'*.a.example' is not permitted"),
        ("", "dns:a.example", "dns:a.example", "'a.example' is excluded"),
        ("", "dns:.a.example", "dns:a.example", "'a.example' is excluded"),
        ("", "dns:.a.example", "dns:b.a.example", "'b.a.example' is excluded"),
        ("", "dns:b.a.example", "dns:*.a.example", "'*.a.example' is excluded"),
        ("dns:a.example", "dns:b.a.example", "dns:b.a.example", "'b.a.example' is excluded"),
        ("ip:192.0.2.0/24", "", "ip:192.0.3.1", "192.0.3.1 is not permitted"),
        ("ip:192.0.2.0/24", "", "ip:::1", "::1 is not permitted"),
        ("", "ip:192.0.2.0/24", "ip:192.0.2.9", "192.0.2.9 is excluded"),
        ("mail:me@a.example", "", "mail:you@a.example", "'you@a.example' is not permitted"),
        ("mail:a.example", "", "mail:me@b.a.example", "'me@b.a.example' is not permitted"),
        ("mail:.a.example", "", "mail:me@a.example", "'me@a.example' is not permitted"),
        ("", "mail:a.example", "mail:me@A.example", "'me@a.example' is excluded"),
        ("", "mail:.a.example", "mail:me@b.a.example", "'me@b.a.example' is excluded"),
        ("", "mail:me@a.example", "mail:me@a.example", "'me@a.example' is excluded"),
        ("cn:other", "", "dns:a.example", "the subject is not permitted"),
        ("", "cn:subject", "dns:a.example", "the subject is excluded"),
        ("", "cn:inner", "cn:inner", "the subject is excluded"),
        (
            "uri:a.example",
            "",
            "uri:https://a.example/",
            "a UniformResourceIdentifier is constrained in a form that is not understood here",
        ),
    ],
)
def test_names_that_are_forbidden(permitted: str, excluded: str, names: str, what: str) -> None:
    assert refusals(permitted, excluded, names) == [what]


def test_a_mail_address_in_the_subject_is_constrained_too() -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, "me@other.example")])
    names = names_of(facts_of(root().leaf(subject=subject).certificate))
    assert names.mailboxes == ("me@other.example",)
    limits = x509.NameConstraints([x509.RFC822Name("a.example")], None)
    assert list(forbidden(limits, names)) == ["'me@other.example' is not permitted"]


def test_an_empty_subject_is_no_directory_name() -> None:
    names = names_of(facts_of(root().leaf(subject=x509.Name([])).certificate))
    assert names.directory == ()
    assert list(forbidden(x509.NameConstraints([x509.DirectoryName(common_name("a"))], None), names)) == []


def test_more_than_can_be_compared_is_forbidden() -> None:
    networks = [x509.IPAddress(ipaddress.ip_network((number << 8, 24))) for number in range(200)]
    names = names_of(facts_of(root().leaf([f"10.0.0.{number}" for number in range(100)]).certificate))
    found = list(forbidden(x509.NameConstraints(None, networks), names))
    assert found == ["there are more names and name constraints than are compared here"]


def test_thousands_of_domains_under_thousands_of_constraints_are_looked_up_and_not_compared() -> None:
    domains = [f"{number}.example" for number in range(3000)]
    names = names_of(facts_of(root().leaf(domains).certificate))
    limits = x509.NameConstraints([x509.DNSName(domain) for domain in domains], None)
    start = time.process_time()
    assert list(forbidden(limits, names)) == []
    assert time.process_time() - start < 1  # nine million comparisons would take longer


@pytest.mark.parametrize("place", ["permitted", "excluded"])
@pytest.mark.parametrize("domain", ["a b", "a..b", "a.example.", "-\u007f", "x" * 64])
def test_a_constraint_that_is_no_domain_cannot_be_applied(place: str, domain: str) -> None:
    trees = [x509.DNSName(domain)]
    limits = x509.NameConstraints(
        trees if place == "permitted" else None,
        trees if place == "excluded" else None,
    )
    found = list(unsound(facts_of(root().intermediate(name_constraints=limits).certificate)))
    assert len(found) == 1
    assert "is no domain" in found[0]


@pytest.mark.parametrize("domain", ["a.example", ".a.example", "a_b.example", "example", "A.example"])
def test_a_constraint_that_is_a_domain_can_be_applied(domain: str) -> None:
    limits = x509.NameConstraints([x509.DNSName(domain)], [x509.DNSName(domain)])
    assert list(unsound(facts_of(root().intermediate(name_constraints=limits).certificate))) == []


@pytest.mark.parametrize("distance", ["800101", "810101"], ids=["minimum", "maximum"])
@pytest.mark.parametrize("place", ["a0", "a1"], ids=["permitted", "excluded"])
def test_a_minimum_or_maximum_cannot_be_applied(place: str, distance: str) -> None:
    value = bytes.fromhex(f"3015{place}133011820c6f746865722e6578616d706c{distance}")
    found = list(unsound(facts_of(root().intermediate(extra=[Raw("2.5.29.30", value)]).certificate)))
    assert found == ["a name constraint has a minimum or maximum, which must not be there"]


def test_everything_excluded_can_be_applied() -> None:
    empty = Raw("2.5.29.30", bytes.fromhex("3006a10430028200"))
    assert list(unsound(facts_of(root().intermediate(extra=[empty]).certificate))) == []


def test_what_has_no_constraints_is_sound() -> None:
    assert list(unsound(facts_of(root().certificate))) == []
