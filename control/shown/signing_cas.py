"""Signing CAs, and requests for their certificates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from control.shown import certificates, expiry
from store.records import KmipKey, SigningCa


def request_pem(ca: SigningCa) -> bytes:
    """The request of a signing CA as PEM (RFC 7468 section 7)."""
    from cryptography.x509 import load_der_x509_csr

    assert ca.request is not None  # noqa: S101 - asked for requests alone
    return load_der_x509_csr(ca.request).public_bytes(Encoding.PEM)


def kind(record: SigningCa) -> str:
    """The kind as people write it: ``built-in``."""
    return record.kind.replace("_", "-")


def as_object(record: SigningCa, now: datetime) -> dict[str, Any]:
    """The record for JSON, its certificates in order, the issuing one first and the root last.

    It ends with the first of them that does: behind that no leaf of it verifies.
    """
    chain = certificates.load(record.chain)
    return {
        "name": record.name,
        "kind": kind(record),
        "status": record.status,
        "created_at": record.created_at,
        "changed_at": record.changed_at,
        "changed_by": record.changed_by,
        **expiry.as_object(chain, now),
        "request": request_pem(record).decode() if record.status == "requested" else None,
        "certificates": certificates.as_objects(chain),
    }


def key_as_object(key: KmipKey | None) -> dict[str, Any] | None:
    """Where an on-premises CA's key is, for JSON; None: it is here."""
    if key is None:
        return None
    alternate = None if key.alternate_host is None else _place(key.alternate_host, key.alternate_port)
    primary = _place(key.primary_host, key.primary_port)
    return {"key_name": key.key_name, "primary": primary, "alternate": alternate, "pss": key.pss}


def _place(host: str, port: int | None) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
