"""Signing CAs whose key stays in the organisation's key manager: looked at step by step.

Nothing is saved (:func:`control.signing_cas.connect`) that could not sign a moment before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certs.bundle import Bundle
from certs.names import Host, InvalidHost, parse_authority
from certs.signer import VerifyingKey
from certs.signing import examine_signing
from control.errors import Refused
from control.installation import Installation
from issuer.errors import Refusal
from issuer.key_managers import endpoints, reach_of
from store import kmip, signing_cas
from store.records import KmipKey, SigningCa

if TYPE_CHECKING:
    from kms.kmip.connection import Endpoint, Reach
    from kms.kmip.validation import Found

LONGEST_KEY_NAME = 255
DEFAULT_PORT = 5696
"""KMIP's, by IANA."""

type Tell = Callable[[Endpoint, Found], None]
"""Told of each step when it is done."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What an administrator says of an on-premises CA: its certificates, and where its key is."""

    files: tuple[bytes, ...]
    """The issuing certificate, and those above it, in one file or several."""
    key: KmipKey


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found of the certificates, and of each host the steps up to the first that failed."""

    bundle: Bundle
    steps: tuple[tuple[Endpoint, Found], ...]

    @property
    def problems(self) -> list[str]:
        """Why it could not sign; empty where it could."""
        wrong = [finding.message for finding in self.bundle.findings if finding.level == "error"]
        return wrong + [f"{endpoint}: {found.text}" for endpoint, found in self.steps if not found.passed]


def key_at(key_name: str, primary: str, alternate: str | None = None, *, pss: bool = False) -> KmipKey:
    """Where a key is, from HOST[:PORT]. An alternate without a port has the primary's. Raises Refused."""
    if not key_name or len(key_name) > LONGEST_KEY_NAME or not key_name.isprintable():
        raise Refused(f"the key's name must have 1 to {LONGEST_KEY_NAME} printable characters")
    host, port = _place("primary", primary, DEFAULT_PORT)
    other = None if alternate is None else _place("alternate", alternate, port)
    if other == (host, port):
        raise Refused("the alternate host is the primary one; leave it out")
    return KmipKey(key_name, host.text, port, other and other[0].text, other and other[1], pss)


def _place(which: str, text: str, default: int) -> tuple[Host, int]:
    try:
        return parse_authority(text, default_port=default)
    except InvalidHost as error:
        raise Refused(f"the {which} host {text!r}: {error}; expected HOST or HOST:PORT") from None


def examine(inst: Installation, tenant: str, wanted: Connection, now: datetime, tell: Tell | None = None) -> Examined:
    """Whether it could sign: the certificates, then the key manager step by step. Saves nothing.

    Raises Refused where the tenant has no KMIP forwarding, or is unknown.
    """
    with inst.reading(tenant) as (connection, found):
        existing = signing_cas.names_by_key(connection, found.id)
    bundle = examine_signing(wanted.files, now, None, existing)
    key = _key_of(bundle.chain[0]) if bundle.ok else None
    return Examined(bundle, _looked_at(inst, tenant, wanted.key, key, tell))


def examine_saved(
    inst: Installation, tenant: str, name: str, tell: Tell | None = None
) -> Sequence[tuple[Endpoint, Found]]:
    """The steps for one that was saved, by its name. Raises Refused where there is none, or its key is here."""
    with inst.reading(tenant) as (connection, found):
        ca = signing_cas.by_name(connection, found.id, name)
        key = None if ca is None else kmip.key_of(connection, ca.id)
    if ca is None or key is None:
        raise Refused(f"tenant {tenant} has no on-premises signing CA {name!r}; see: sallyport signing-ca list")
    return _looked_at(inst, tenant, key, _key_of(x509.load_der_x509_certificate(ca.certificate)), tell)


def refuse_unfit(inst: Installation, tenant: str, ca: SigningCa) -> None:
    """Raise Refused where neither host of an on-premises CA would sign for it now."""
    steps = examine_saved(inst, tenant, ca.name)
    failed = {endpoint: found.text for endpoint, found in steps if not found.passed}
    if len(failed) == len({endpoint for endpoint, _ in steps}):
        told = "; ".join(f"{endpoint}: {text}" for endpoint, text in failed.items())
        raise Refused(f"signing CA {ca.name}: its key manager would not sign: {told}")


def _looked_at(
    inst: Installation, tenant: str, key: KmipKey, public_key: VerifyingKey | None, tell: Tell | None
) -> tuple[tuple[Endpoint, Found], ...]:
    reach = _reach(inst, tenant)
    return asyncio.run(_steps(endpoints(key), reach, key, public_key, inst.settings.kmip.timeout, tell))


async def _steps(
    hosts: Sequence[Endpoint],
    reach: Reach,
    key: KmipKey,
    public_key: VerifyingKey | None,
    seconds: float,
    tell: Tell | None,
) -> tuple[tuple[Endpoint, Found], ...]:
    from kms.kmip.validation import steps

    done: list[tuple[Endpoint, Found]] = []
    for endpoint in hosts:
        async for found in steps(endpoint, reach, key.key_name, public_key, key.pss, seconds):
            done.append((endpoint, found))
            if tell is not None:
                tell(endpoint, found)
    return tuple(done)


def _reach(inst: Installation, tenant: str) -> Reach:
    with inst.reading(tenant) as (connection, found):
        forwarding, secrets = kmip.forwarding(connection, found.id), kmip.secrets_of(connection, found.id)
        key = inst.tenant_key(connection, found)
    try:
        return reach_of(key, tenant, forwarding, secrets, inst.settings)
    except Refusal as refusal:
        raise Refused(str(refusal)) from None


def _key_of(certificate: x509.Certificate) -> VerifyingKey:
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)  # noqa: S101 - others are refused as weak
    return key
