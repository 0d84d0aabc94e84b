"""Hosts that must not be written down are found in whatever way a text names them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.mentions import MOST_KEPT, Mentions
from certs.names import InvalidHost

SOME = Mentions(["bank.example", "*.clinic.example", "192.0.2.7", "2001:db8::7", "bücher.example"])


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("bank.example", True),
        ("BANK.example.", True),
        ("www.bank.example", False),
        ("bank.example.org", False),
        ("clinic.example", False),
        ("a.b.clinic.example", True),
        ("192.0.2.7", True),
        ("192.0.2.70", False),
        ("2001:DB8:0::7", True),
        ("[2001:db8::7]", True),
        ("xn--bcher-kva.example", True),
        ("", False),
        ("10.0.0.0/24", False),
        ("not a host", False),
    ],
)
def test_a_host_is_covered_in_any_spelling(host: str, covered: bool) -> None:
    assert [SOME.covers(host), SOME.covers(host)] == [covered, covered]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("bank.example", True),
        ("no connection to bank.example:443 (refused)", True),
        ("https://user@Bank.Example/login?x=1", True),
        ("/redirect/https%3A%2F%2Fbank.example%2Flogin", True),
        ("/r?u=https%253A%252F%252Fbank.example", True),
        ("/r?u=100%", False),
        ("*.clinic.example", False),
        ("the certificate is for www.clinic.example, not for it", True),
        ("bücher.example has no address", True),
        ("address 192.0.2.7 refused", True),
        ("[2001:db8::7]:443", True),
        ("at 12:30:07 from 2001:db8::70", False),
        ("notbank.example", False),
        ("bank.example.org", False),
        ("bank", False),
        ("", False),
    ],
)
def test_a_text_that_names_one_is_told(text: str, named: bool) -> None:
    assert SOME.named_in(text) is named


def test_a_host_of_one_label_is_a_word_of_its_own() -> None:
    assert Mentions(["intranet"]).named_in("no route to intranet")
    assert not Mentions(["intranet"]).named_in("no route to intranets or intranet.example")


def test_a_pattern_that_is_no_host_is_refused_with_itself() -> None:
    with pytest.raises(InvalidHost, match=r"^a b: "):
        Mentions(["good.example", "a b"])


def test_what_strangers_ask_does_not_pile_up() -> None:
    mentions = Mentions(["bank.example"])
    for number in range(MOST_KEPT + 10):
        mentions.covers(f"h{number}.example")
    assert len(mentions._kept) <= MOST_KEPT
    assert mentions.covers("bank.example")


@given(st.text(max_size=200), st.sampled_from([" ", "/", '"', "@", "(", "\n", "://", "%2F", "="]))
def test_no_text_around_a_name_hides_it(text: str, edge: str) -> None:
    assert SOME.named_in(f"{text}{edge}bank.example/{text}")


@pytest.mark.parametrize("text", ["a" * 100_000, "a.-" * 30_000, ":" * 100_000, "%25" * 30_000, "f:" * 50_000])
def test_a_long_text_costs_little(text: str) -> None:
    began = time.process_time()
    assert not SOME.named_in(text)
    assert time.process_time() - began < 2
