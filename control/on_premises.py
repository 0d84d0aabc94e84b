"""Signing CAs whose key stays in the organisation's key manager: looked at step by step; requests on such keys.

Nothing is saved (:func:`control.signing_cas.connect`) that could not sign a moment before.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certs.bundle import Bundle
from certs.names import Host, InvalidHost, parse_authority
from certs.public_keys import PublicKeyProblem, read_public_key
from certs.request import Subject, unsigned_request
from certs.signer import SigningError, VerifyingKey
from certs.signing import examine_signing
from control.errors import Missing, Refused
from control.installation import Installation
from control.names import storable
from issuer.errors import Refusal
from issuer.key_managers import endpoints, reach_of
from store import kmip, signing_cas
from store.records import KmipKey, SigningCa

if TYPE_CHECKING:
    from kms.kmip.connection import Endpoint, Reach
    from kms.kmip.validation import Found

LONGEST_KEY_NAME = 255
BITS = 3072
"""Of a new RSA key, where nothing says how many."""
AT_ONCE = 4
"""Times that one process asks key managers at once: one that says nothing holds a thread up until the time-out."""
DEFAULT_PORT = 5696
"""KMIP's, by IANA."""

OF_ANOTHER_KEY = frozenset({"algorithm", "signature"})
"""The steps that fail where the public key is not that of the private one."""

type Tell = Callable[[Endpoint, Found], None]
"""Told of each step when it is done."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What an administrator says of an on-premises CA: its certificates, and where its key is."""

    files: tuple[bytes, ...]
    """The issuing certificate, and those above it, in one file or several."""
    key: KmipKey


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an administrator says of a key for which a certificate is to be asked."""

    key: KmipKey
    create: bool = False
    """Have the key pair made in the key manager first."""
    bits: int | None = None
    """Of a new key; None: as ``signing.csr_key`` has it, where that is RSA, else 3072."""
    public_key: bytes | None = field(default=None, repr=False)
    """A file with the public half, or with a certificate of it, where the key manager does not give it."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A request that the key has signed. ``remarks``: what the administrator should know of it, a line for each."""

    request: x509.CertificateSigningRequest
    key: VerifyingKey
    remarks: tuple[str, ...] = ()


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
    # KMIP's text is UTF-8; what encodes it here writes ASCII alone.
    if not key_name or len(key_name) > LONGEST_KEY_NAME or not (key_name.isascii() and key_name.isprintable()):
        raise Refused(f"the key's name must have 1 to {LONGEST_KEY_NAME} printable characters of ASCII")
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


def key_of(inst: Installation, tenant: str, name: str) -> KmipKey | None:
    """Where the key of a signing CA is; None where that is here, or there is no such CA. Raises Refused."""
    with inst.reading(tenant) as (connection, found):
        ca = signing_cas.by_name(connection, found.id, name) if storable(name) else None
        return None if ca is None else kmip.key_of(connection, ca.id)


def examine_saved(
    inst: Installation, tenant: str, name: str, tell: Tell | None = None
) -> Sequence[tuple[Endpoint, Found]]:
    """The steps for one that was saved, by its name. Raises Refused where there is none, or its key is here."""
    with inst.reading(tenant) as (connection, found):
        ca = signing_cas.by_name(connection, found.id, name) if storable(name) else None
        key = None if ca is None else kmip.key_of(connection, ca.id)
    if ca is None or key is None:
        raise Missing(f"tenant {tenant} has no on-premises signing CA {name!r}; see: sallyport signing-ca list")
    # Where the certificate is still to come, the request has the key.
    return _looked_at(inst, tenant, key, _key_of(_carrier(ca)), tell)


def enrol(inst: Installation, tenant: str, wanted: Enrolment, subject: Subject) -> Enrolled:
    """A request for a certificate of a key in a key manager, which that has signed. Saves nothing here.

    Where ``wanted.create`` is set, the key pair is made there: once all hosts have been connected to, and none has
    anything of its name. Any other key must be one that both hosts sign with now. Raises Refused.
    """
    given = None if wanted.public_key is None else _public_key(wanted.public_key)
    return _asked(_enrolled(_reach(inst, tenant), wanted, given, subject, inst))


async def _enrolled(
    reach: Reach, wanted: Enrolment, given: VerifyingKey | None, subject: Subject, inst: Installation
) -> Enrolled:
    from kms.kmip.enrolment import EnrolmentError, create_key, public_key

    hosts, name, seconds = endpoints(wanted.key), wanted.key.key_name, inst.settings.kmip.timeout
    remarks: tuple[str, ...] = ()
    try:
        if wanted.create:
            key, protected = await create_key(hosts, reach, name, wanted.bits or _bits(inst), seconds)
            hosts = hosts[:1]  # the others may have to hear of it first
            remarks = (f"the key pair {name} was made at {hosts[0]}, and is active",)
            if not protected:
                remarks += ("the key manager knows no attribute by which a key never leaves it; see to it there",)
        else:
            key = given or await public_key(hosts[0], reach, name, seconds)
    except EnrolmentError as error:
        raise Refused(str(error)) from None
    hint = f"; the key pair {name} was made and stays: ask again without --create-key" if wanted.create else ""
    steps = await _steps(hosts, reach, wanted.key, key, seconds, None)
    if not wanted.create and any(not found.passed and found.step in OF_ANOTHER_KEY for _, found in steps):
        whose = "that the key manager gives" if given is None else "that was given"
        hint = f"; the public key {whose} may be of another key: look for the right one, and give it with --public-key"
    try:
        _refuse_failed(steps)
        return Enrolled(await _signed(hosts, reach, wanted.key, key, subject, seconds), key, remarks)
    except (SigningError, Refused) as error:
        raise Refused(f"{error}{hint}") from None


async def _signed(
    hosts: Sequence[Endpoint], reach: Reach, key: KmipKey, public_key: VerifyingKey, subject: Subject, seconds: float
) -> x509.CertificateSigningRequest:
    from kms.kmip.pool import Pool, PoolLimits
    from kms.kmip.signer import KmipSigner

    unsigned = unsigned_request(subject, public_key, key.pss)
    signer = KmipSigner(
        Pool(hosts, reach, PoolLimits(1, 1, seconds), time.monotonic), key.key_name, public_key, key.pss
    )
    try:
        return unsigned.signed(await signer.signature(unsigned.info))
    finally:
        signer.stop()


def _public_key(data: bytes) -> VerifyingKey:
    try:
        return read_public_key(data)
    except PublicKeyProblem as error:
        raise Refused(f"the public key cannot be used: {error}") from None


def _bits(inst: Installation) -> int:
    kind, _, size = inst.settings.signing.csr_key.partition("-")
    return int(size) if kind == "rsa" else BITS


def refuse_incomplete(inst: Installation, tenant: str, ca: SigningCa, tell: Tell | None) -> None:
    """Raise Refused where any host of an on-premises CA would not sign for it now, as before a CA is connected."""
    _refuse_failed(examine_saved(inst, tenant, ca.name, tell))


def _refuse_failed(steps: Sequence[tuple[Endpoint, Found]]) -> None:
    if wrong := [f"{endpoint}: {found.text}" for endpoint, found in steps if not found.passed]:
        raise Refused("; ".join(wrong))


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
    return _asked(_steps(endpoints(key), reach, key, public_key, inst.settings.kmip.timeout, tell))


_turn = threading.BoundedSemaphore(AT_ONCE)


def _asked[T](asking: Coroutine[Any, Any, T]) -> T:
    """What comes of it. Raises Refused where too many ask already: whoever waited would hold a thread up, too."""
    if not _turn.acquire(blocking=False):
        asking.close()
        raise Refused(f"key managers are asked {AT_ONCE} things at once already; try again in a moment")
    try:
        return asyncio.run(asking)
    finally:
        _turn.release()


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


def _carrier(ca: SigningCa) -> x509.Certificate | x509.CertificateSigningRequest:
    if ca.chain:
        return x509.load_der_x509_certificate(ca.certificate)
    assert ca.request is not None  # noqa: S101 - every CA without a certificate has one
    return x509.load_der_x509_csr(ca.request)


def _key_of(certificate: x509.Certificate | x509.CertificateSigningRequest) -> VerifyingKey:
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)  # noqa: S101 - others are refused as weak
    return key
