"""Each case, judged by ``certs.verify``: by our own checks alone, and after a handshake with OpenSSL on both sides."""

from __future__ import annotations

import pytest
from OpenSSL import SSL

from tests.scenarios import SCENARIOS, Scenario
from tests.scenarios.judging import after_handshake, as_it_is

each = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
SERVED = [one for one in SCENARIOS if not (one.server.unserved or one.server.not_in_memory)]


@each
def test_our_checks_alone_find(scenario: Scenario) -> None:
    assert as_it_is(scenario.server).defects == scenario.as_it_is


@pytest.mark.parametrize("scenario", SERVED, ids=lambda scenario: scenario.id)
def test_after_a_handshake_there_is(scenario: Scenario) -> None:
    assert after_handshake(scenario.server).defects == scenario.defects


@pytest.mark.parametrize(
    "id",
    [
        "chains/one_intermediate",
        "keys/a_server_key_of_1024_bits",
        "signatures/a_sha1_signature_on_the_server_certificate",
        "chains/a_self_signed_server_certificate",
        "dates/a_server_certificate_that_ended_an_hour_ago",
    ],
)
def test_tls_1_2_makes_no_difference(id: str) -> None:
    scenario = next(one for one in SCENARIOS if one.id == id)
    assert after_handshake(scenario.server, (SSL.TLS1_2_VERSION, SSL.TLS1_2_VERSION)).defects == scenario.defects


def test_what_is_recorded_apart_differs() -> None:
    """``as_it_is`` is written only where a handshake comes to something else."""
    apart = [one for one in SCENARIOS if one.as_it_is != one.defects]
    assert apart
    assert all(one in SERVED or one.server.not_in_memory for one in apart)
