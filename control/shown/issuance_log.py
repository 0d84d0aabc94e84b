"""Leaves that were issued."""

from __future__ import annotations

import hashlib
from typing import Any

from store.records import IssuedLeaf


def sha256(one: IssuedLeaf) -> str:
    """The fingerprint of its certificate, hexadecimal."""
    return hashlib.sha256(one.certificate).hexdigest()


def as_object(one: IssuedLeaf) -> dict[str, Any]:
    """The record for JSON."""
    return {
        "id": one.id,
        "tenant": one.tenant,
        "signing_ca": one.signing_ca,
        "host": one.host,
        "serial": one.serial,
        "issued_at": one.issued_at,
        "not_before": one.not_before,
        "not_after": one.not_after,
        "sha256": sha256(one),
    }
