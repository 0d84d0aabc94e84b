"""Signing CAs: list, show, and the certificates to download. Keys are never read here."""

from __future__ import annotations

from typing import Literal

from cryptography import x509

from control.errors import Refused
from control.installation import Installation
from store import signing_cas
from store.records import SigningCa

Part = Literal["root", "intermediate", "chain"]


def listing(inst: Installation, tenant: str) -> list[SigningCa]:
    """The tenant's signing CAs, by name."""
    with inst.reading(tenant) as (connection, found):
        return signing_cas.listing(connection, found.id)


def show(inst: Installation, tenant: str, name: str | None = None) -> SigningCa:
    """The signing CA of that name; without one, the active one. Raises Refused where there is none."""
    with inst.reading(tenant) as (connection, found):
        if name is None:
            ca = signing_cas.active(connection, found.id)
            problem = f"tenant {tenant} has no active signing CA; activate one"
        else:
            ca = signing_cas.by_name(connection, found.id, name)
            problem = f"tenant {tenant} has no signing CA {name!r}; see: sallyport signing-ca list"
    if ca is None:
        raise Refused(problem)
    return ca


def part(inst: Installation, tenant: str, name: str | None, which: Part) -> tuple[x509.Certificate, ...]:
    """Certificates of a signing CA: its root, its intermediates, or all, the issuing one first and the root last.

    Raises Refused where there is no such signing CA, or no such certificate in it.
    """
    ca = show(inst, tenant, name)
    chain = tuple(x509.load_der_x509_certificate(der) for der in ca.chain)
    rooted = chain[-1].subject == chain[-1].issuer
    if which == "chain":
        return chain
    if which == "root":
        if not rooted:
            raise Refused(f"signing CA {ca.name}: its chain has no root; get it from whoever signed it")
        return chain[-1:]
    if not (intermediates := chain[:-1] if rooted else chain):
        raise Refused(f"signing CA {ca.name}: its root issues the leaves, there is no intermediate")
    return intermediates
