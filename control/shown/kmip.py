"""Key managers: who a tenant is to them, and the steps by which it is found out whether one would sign."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_csr

from control.shown import certificates, expiry
from store.records import KmipForwarding

if TYPE_CHECKING:
    from kms.kmip.connection import Endpoint
    from kms.kmip.validation import Found

ADVICE = {
    "address": "Check the name. Addresses of private networks, loopback and link-local ones are refused unless "
    "the operator sets kmip.allow_private_addresses.",
    "connection": "See that the key manager listens at that port, and that the firewalls between let our address in.",
    "tls": "Compare the server CA of KMIP forwarding with who issued the key manager's certificate, and its names.",
    "versions": "See that the key manager knows our client certificate, and the user that it takes from it.",
    "operations": "Another interface of the key manager may be meant, or KMIP 1.2 is switched off there.",
    "key": "Compare the name with the one in the key manager, and see that our user may use the key.",
    "state": "Activate the key in the key manager, or name one that is active.",
    "algorithm": "Name the key that the certificate was made for, or bring that key's certificate.",
    "usage": "Let the key sign: set Sign in its usage mask in the key manager.",
    "signature": "Let our user sign with the key; where it is another certificate's, name the one that fits this.",
}
"""What to do where a step fails, by the step."""


def step_as_object(endpoint: Endpoint, found: Found) -> dict[str, Any]:
    """A step for JSON; ``advice`` is there where it failed."""
    from kms.kmip.validation import MEANING

    return {
        "host": str(endpoint),
        "step": found.step.value,
        "meaning": MEANING[found.step],
        "passed": found.passed,
        "text": found.text,
        "advice": None if found.passed else ADVICE[found.step.value],
    }


def steps_as_objects(steps: Sequence[tuple[Endpoint, Found]]) -> list[dict[str, Any]]:
    """Several, in their order."""
    return [step_as_object(endpoint, found) for endpoint, found in steps]


def as_object(record: KmipForwarding, now: datetime) -> dict[str, Any]:
    """The record for JSON; nothing of it is secret."""
    client = certificates.load(record.chain)
    return {
        "username": record.username,
        "changed_at": record.changed_at,
        "changed_by": record.changed_by,
        **expiry.as_object(client, now),
        "client_certificates": certificates.as_objects(client),
        "server_ca": certificates.as_objects(certificates.load(record.server_ca)),
        "request": None if record.request is None else request_pem(record.request).decode(),
    }


def request_pem(request: bytes) -> bytes:
    """A request as PEM (RFC 7468 section 7)."""
    return load_der_x509_csr(request).public_bytes(Encoding.PEM)
