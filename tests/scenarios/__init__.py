"""Servers, good and bad: a function a case, its path and name its id, its docstring the verdict and the clause.

A case is judged three times: by ``certs.verify`` (``test_verify.py``), through the running proxy
(``test_through_the_proxy.py``), and, to compare, by curl and Chromium without us (``test_other_clients.py``). Where
those come to something else, the case records it with the reason: ``docs/verdicts.md`` has the table.
"""

from tests.scenarios import (
    authorities,
    chains,
    dates,
    form,
    handshakes,
    host_names,
    key_identifiers,
    keys,
    name_constraints,
    own_ca,
    policies,
    purpose,
    revocation,
    signatures,
    size,
)
from tests.scenarios.base import HOST, SCENARIOS, Scenario, Server, issuing, public, public_issuing, root

__all__ = [
    "HOST",
    "SCENARIOS",
    "Scenario",
    "Server",
    "authorities",
    "chains",
    "dates",
    "form",
    "handshakes",
    "host_names",
    "issuing",
    "key_identifiers",
    "keys",
    "name_constraints",
    "own_ca",
    "policies",
    "public",
    "public_issuing",
    "purpose",
    "revocation",
    "root",
    "signatures",
    "size",
]
