"""KMIP forwarding: who a tenant is to its key managers (a client certificate), and who these must be (a server CA).

The client's key is uploaded, or made here with a request that the key manager's CA signs, so that no key is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.authority import key_sha256, spki_sha256
from certs.bundle import day
from certs.formats import BundleError, read_certificates
from certs.private_keys import KeyProblem, read_private_key
from certs.request import Subject, check_subject, make_client_request
from certs.signer import SigningKey
from control.built_in import pkcs8
from control.errors import Refused
from control.installation import Installation
from issuer.key_managers import CLIENT_KEY, PASSWORD
from kms.envelope import SealError, TenantKey
from store import kmip
from store.engine import Connection
from store.records import ChangeKind, KmipForwarding, KmipSecrets, Tenant

NOUN = "kmip_forwarding"
SUBJECT = "kmip"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an administrator brings. Without ``key``, the certificate is for the request that was made here."""

    client_certificate: bytes
    server_ca: bytes
    key: bytes | None = field(default=None, repr=False)
    passphrase: bytes | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def show(inst: Installation, tenant: str) -> KmipForwarding | None:
    """Who the tenant is; None where nobody has said so yet. Raises Refused for an unknown tenant."""
    with inst.reading(tenant) as (connection, found):
        return kmip.forwarding(connection, found.id)


def set_(inst: Installation, tenant: str, given: Credentials, now: datetime) -> KmipForwarding:
    """Save who the tenant is from now on; a running daemon connects anew within a second.

    Raises Refused: what cannot be read, is not valid now, does not belong together, or is for servers.
    """
    chain = _certificates("the client certificate", given.client_certificate)
    servers = _certificates("the server CA", given.server_ca)
    _check_client(chain[0], now)
    _check_server_ca(servers, now)
    if (given.username is None) != (given.password is None):
        raise Refused("a user's name and a password are given together or not at all")
    encoded = pkcs8(_uploaded(given)) if given.key is not None else None
    with inst.changing(tenant) as (connection, found):
        before, secrets = kmip.forwarding(connection, found.id), kmip.secrets_of(connection, found.id)
        key = inst.tenant_key(connection, found)
        opened = encoded or _requested(key, found, secrets)
        if opened is None:
            raise Refused(
                "no client key is given, and none was made here; give --client-key, or make one: sallyport kmip csr"
            )
        if not _belongs(opened, chain[0]):
            whose = "that is given" if encoded is not None else "of the request that was made here"
            raise Refused(f"the client certificate ({_name(chain[0])}) does not belong to the key {whose}")
        made = KmipForwarding(
            chain=tuple(each.public_bytes(Encoding.DER) for each in chain),
            server_ca=tuple(each.public_bytes(Encoding.DER) for each in servers),
            username=given.username,
            request=None,
            changed_at=now,
            changed_by=inst.actor.name,
        )
        password = None if given.password is None else key.seal(found.name, PASSWORD, given.password.encode())
        sealed = KmipSecrets(key.seal(found.name, CLIENT_KEY, opened), password, None)
        kmip.set_forwarding(connection, found.id, made, sealed, now, inst.actor.name)
        _record(inst, connection, found, "set", before, made, now)
    return made


def request(inst: Installation, tenant: str, subject: Subject, now: datetime) -> bytes:
    """Make a key that never leaves, and a request for a client's certificate on it (PKCS #10, DER).

    What is used now stays until the certificate comes. Raises Refused for a subject that cannot be.
    """
    if problems := check_subject(subject):
        raise Refused("; ".join(problems))
    made, csr = make_client_request(subject, inst.settings.signing.csr_key)
    encoded = csr.public_bytes(Encoding.DER)
    with inst.changing(tenant) as (connection, found):
        before, secrets = kmip.forwarding(connection, found.id), kmip.secrets_of(connection, found.id)
        key = inst.tenant_key(connection, found)
        now_there = before or KmipForwarding((), (), None, None, now, inst.actor.name)
        after = replace(now_there, request=encoded, changed_at=now, changed_by=inst.actor.name)
        sealed = replace(secrets, new_key=key.seal(found.name, CLIENT_KEY, pkcs8(made)))
        kmip.set_forwarding(connection, found.id, after, sealed, now, inst.actor.name)
        _record(inst, connection, found, "request", before, after, now)
    return encoded


def _certificates(what: str, data: bytes) -> list[x509.Certificate]:
    try:
        return read_certificates(data)
    except BundleError as error:
        raise Refused(f"{what} cannot be used: {error}") from None


def _check_client(certificate: x509.Certificate, now: datetime) -> None:
    name = _name(certificate)
    _check_dates(f"the client certificate ({name})", certificate, now)
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    except (ValueError, x509.DuplicateExtension):
        raise Refused(f"the client certificate ({name}) has extensions that cannot be read") from None
    if not {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(uses):
        raise Refused(
            f"the client certificate ({name}) is for no client: its extended key usage lacks clientAuth (RFC 5280 "
            "4.2.1.12); have one issued for that"
        )


def _check_server_ca(certificates: Sequence[x509.Certificate], now: datetime) -> None:
    for certificate in certificates:
        _check_dates(f"the server CA ({_name(certificate)})", certificate, now)


def _check_dates(what: str, certificate: x509.Certificate, now: datetime) -> None:
    if now < certificate.not_valid_before_utc:
        raise Refused(f"{what} is not valid before {day(certificate.not_valid_before_utc)}")
    if now > certificate.not_valid_after_utc:
        raise Refused(f"{what} expired on {day(certificate.not_valid_after_utc)}; bring a newer one")


def _uploaded(given: Credentials) -> SigningKey:
    assert given.key is not None  # noqa: S101 - asked for that case alone
    try:
        return read_private_key(given.key, given.passphrase)
    except KeyProblem as error:
        raise Refused(f"the client key cannot be used: {error}") from None


def _requested(key: TenantKey, tenant: Tenant, secrets: KmipSecrets) -> bytes | None:
    if secrets.new_key is None:
        return None
    try:
        return key.open(tenant.name, CLIENT_KEY, secrets.new_key)
    except SealError as error:
        raise Refused(f"the key of the request cannot be used: {error}") from None


def _belongs(key: bytes, certificate: x509.Certificate) -> bool:
    ours = load_der_private_key(key, None)
    assert isinstance(ours, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)  # noqa: S101 - no other is taken or made
    return key_sha256(ours.public_key()) == spki_sha256(certificate)


def _record(
    inst: Installation,
    connection: Connection,
    tenant: Tenant,
    verb: str,
    before: KmipForwarding | None,
    after: KmipForwarding,
    now: datetime,
) -> None:
    # What is used changes with the certificate, and not with a request for one.
    kind = ChangeKind.KMIP_REQUEST_MADE if verb == "request" else ChangeKind.KMIP_FORWARDING_CHANGED
    inst.record(connection, tenant, kind, f"{NOUN}.{verb}", SUBJECT,
                before and _told(before), _told(after), now)  # fmt: skip


def _told(forwarding: KmipForwarding) -> dict[str, object]:
    """What the audit log has of it: nothing secret."""
    told: dict[str, object] = {"username": forwarding.username, "request": forwarding.request is not None}
    for name, chain in (("client_certificate", forwarding.chain), ("server_ca", forwarding.server_ca)):
        if chain:
            told[name] = x509.load_der_x509_certificate(chain[0]).fingerprint(SHA256()).hex()
    return told


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "without a name"
