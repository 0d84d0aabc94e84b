"""The certificates of a tenant that end soon or have ended, the soonest first, each with what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cryptography import x509

from certs.expiry import Expiry, Validity, first_to_end
from certs.reading import common_name
from control.installation import Installation
from store import kmip, signing_cas, trusted_cas
from store.records import KmipForwarding, SigningCa, TrustedCa


class Use(StrEnum):
    """What a certificate is for."""

    SIGNING_CA = "signing CA"
    TRUSTED_CA = "trusted CA"
    KMIP_CLIENT = "client certificate for key managers"
    KMIP_SERVER_CA = "CA of the key managers"


@dataclass(frozen=True, slots=True)
class Expiring:
    """What ends with a certificate. ``name``: the CA's; ``in_use``: it is active.

    ``certificate`` is the one that ends first; ``validity`` is that of all that has to be valid.
    """

    use: Use
    name: str
    in_use: bool
    certificate: x509.Certificate = field(repr=False)
    validity: Validity
    expiry: Expiry
    what_to_do: str


def expiring(inst: Installation, tenant: str, now: datetime, *, all_of_them: bool = False) -> tuple[Expiring, ...]:
    """What has ended, or has less than a tenth of its lifetime left (:mod:`certs.expiry`); or all, ends far off too.

    Raises Refused for an unknown tenant.
    """
    with inst.reading(tenant) as (connection, found):
        signing = signing_cas.listing(connection, found.id)
        trusted = trusted_cas.listing(connection, found.id)
        forwarding = kmip.forwarding(connection, found.id)
    told = [*_signing(signing, now), *_trusted(trusted, now), *_key_managers(forwarding, now)]
    ending = (one for one in told if all_of_them or one.expiry in (Expiry.NEAR_END, Expiry.EXPIRED))
    return tuple(sorted(ending, key=lambda one: (one.validity.ends, one.use, one.name)))


def _signing(cas: Sequence[SigningCa], now: datetime) -> Iterator[Expiring]:
    for ca in cas:
        if ca.status not in ("active", "inactive"):
            continue  # it has no certificate yet, or signs nothing ever again
        active = ca.status == "active"
        if active:
            todo = "get another signing CA, have devices trust its root, and activate it; until then, from its end on, "
            todo += "nothing is intercepted for this tenant"
        else:
            todo = "nothing, or delete it: it is not in use, and cannot be once it has ended"
        yield _one(Use.SIGNING_CA, ca.name, active, ca.chain, now, todo)


def _trusted(cas: Sequence[TrustedCa], now: datetime) -> Iterator[Expiring]:
    for ca in cas:
        if ca.active:
            todo = "get the CA's new certificate from whoever runs it, and add it; from its end on, servers behind it "
            todo += "are blocked"
        else:
            todo = "nothing, or delete it: it is not in use"
        # Its anchor alone: intermediates that have ended are replaced by those that servers send.
        yield _one(Use.TRUSTED_CA, ca.name, ca.active, ca.chain[-1:], now, todo)


def _key_managers(forwarding: KmipForwarding | None, now: datetime) -> Iterator[Expiring]:
    if forwarding is None:
        return
    effect = "from its end on, key managers cannot be asked, and signing CAs whose keys they have sign nothing new"
    for use, chain, todo in (
        (Use.KMIP_CLIENT, forwarding.chain, f"have a new one signed (kmip csr) and bring it (kmip set); {effect}"),
        (Use.KMIP_SERVER_CA, forwarding.server_ca, f"bring the CA's new certificate (kmip set); {effect}"),
    ):
        if chain:
            yield _one(use, "", True, chain, now, todo)


def _one(use: Use, name: str, in_use: bool, chain: Sequence[bytes], now: datetime, todo: str) -> Expiring:
    certificates = [x509.load_der_x509_certificate(der) for der in chain]
    validity, first = Validity.of(certificates), first_to_end(certificates)
    return Expiring(use, name or common_name(first), in_use, first, validity, validity.expiry(now), todo)
