"""curl and Chromium without us: what is recorded of them is so, and the table in ``docs/verdicts.md`` says it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.programs import need
from tests.scenarios import SCENARIOS
from tests.scenarios.other_clients import ask_chromium, ask_curl, curl_version
from tests.scenarios.serving import Serving
from tests.scenarios.table import of_chromium, of_curl, section, written

LIBRARY = "OpenSSL 3.0."
"""The records on curl are of this; another one's checks may be others."""
SOME = (
    "chains/one_intermediate",
    "chains/a_cross_certificate_that_has_expired",
    "chains/an_intermediate_that_forbids_beside_one_that_does_not",
    "chains/no_intermediate",
    "chains/an_end_in_an_unknown_root",
    "chains/a_self_signed_server_certificate",
    "authorities/an_issuer_that_is_no_ca",
    "authorities/one_ca_more_than_the_path_length_allows",
    "dates/a_server_certificate_that_ended_an_hour_ago",
    "dates/a_server_certificate_of_tomorrow",
    "form/an_unknown_critical_extension",
    "form/version_4",
    "host_names/a_certificate_for_another_host",
    "host_names/the_common_name_alone",
    "host_names/an_address",
    "handshakes/tls_1_1_at_most",
    "name_constraints/an_excluded_name",
    "own_ca/a_chain_over_our_own_signing_key",
    "purpose/a_certificate_for_clients_only",
    "signatures/a_server_certificate_that_was_changed",
    "signatures/a_sha1_signature_on_the_server_certificate",
)
"""What Chromium is asked here: what no new version of it will see in another way. ``make verdicts`` asks it for all."""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    need("nginx")
    with Serving(tmp_path_factory.mktemp("clients"), SCENARIOS) as running:
        yield running


def test_the_document_has_the_table() -> None:
    assert written() == section(), "run `make verdicts`"


def test_curl_says_what_is_recorded(serving: Serving, tmp_path: Path) -> None:
    need("curl")
    if LIBRARY not in curl_version():
        pytest.skip(f"the records are of curl with {LIBRARY}x, and this is {curl_version()}; see `make verdicts`")
    said = ask_curl(tmp_path, serving, serving.scenarios)
    wrong = {one.id: said[one.id] for one in serving.scenarios if said[one.id].says != of_curl(one)}
    assert not wrong


@pytest.mark.timeout(400)
def test_chromium_says_what_is_recorded_of_some(serving: Serving, tmp_path: Path) -> None:
    asked = [one for one in serving.scenarios if one.id in SOME]
    assert len(asked) == len(SOME)
    _, said = ask_chromium(tmp_path, serving, asked)
    wrong = {one.id: said[one.id] for one in asked if said[one.id].says != of_chromium(one)}
    assert not wrong
