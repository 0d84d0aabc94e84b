"""Signing CAs, their whole life: requested or imported, validated, activated, revoked, deleted, downloaded.

Exactly one of a tenant is active, by a constraint of the database. Keys are made or opened here only to be sealed, and
checked before anything is saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key

from certs.authority import key_sha256, spki_sha256
from certs.bundle import Bundle, BundleFinding
from certs.private_keys import KeyProblem, Pkcs12, is_pkcs12, read_pkcs12, read_private_key
from certs.request import Subject, check_subject, make_request
from certs.signer import LocalSigner, SigningError, SigningKey
from certs.signing import examine_signing
from control import audit_log, on_premises
from control.built_in import BUILT_IN, CA_KEY, SealedAuthority, pkcs8, sealed_authority
from control.errors import Missing, Refused, Taken, refuse_errors
from control.installation import Installation, publish_root
from control.names import check_name, storable
from kms.envelope import SealError, TenantKey
from store import kmip, signing_cas, tenants
from store.engine import Connection
from store.records import ChangeKind, SigningCa, Tenant

NOUN = "signing_ca"
Part = Literal["root", "intermediate", "chain"]


@dataclass(frozen=True, slots=True)
class Upload:
    """What an administrator imports: certificate files, and the key's; or one PKCS #12 file, which has both."""

    certificates: tuple[bytes, ...]
    key: bytes | None = field(default=None, repr=False)
    passphrase: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Revoked:
    """What was revoked, and what took over where that was the active one."""

    ca: SigningCa
    successor: SigningCa | None
    remains: tuple[str, ...]
    """Where sealed copies of its key may still be."""


def listing(inst: Installation, tenant: str) -> list[SigningCa]:
    """The tenant's signing CAs, by name."""
    with inst.reading(tenant) as (connection, found):
        return signing_cas.listing(connection, found.id)


def show(inst: Installation, tenant: str, name: str | None = None) -> SigningCa:
    """The signing CA of that name; without one, the active one. Raises Refused where there is none."""
    with inst.reading(tenant) as (connection, found):
        if name is not None:
            return _one(connection, found, name)
        active = signing_cas.active(connection, found.id)
    assert active is not None  # noqa: S101 - the database has one for every tenant
    return active


def key_problem(inst: Installation, tenant: str, name: str) -> str | None:
    """Why the key of a signing CA cannot be used, in words; None where it can, or where there is nothing to sign with.

    Raises Refused for an unknown tenant.
    """
    with inst.reading(tenant) as (connection, found):
        ca = signing_cas.by_name(connection, found.id, name)
        if ca is None or ca.status in ("requested", "revoked"):
            return None
        return _key_problem(inst, connection, found, ca)


def part(inst: Installation, tenant: str, name: str | None, which: Part) -> tuple[x509.Certificate, ...]:
    """Certificates of a signing CA: its root, its intermediates, or all, the issuing one first and the root last.

    Raises Refused where there is no such signing CA, or no such certificate in it.
    """
    ca = show(inst, tenant, name)
    if not ca.chain:
        raise Refused(f"signing CA {ca.name} has no certificate yet; complete it with the one that was signed")
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


# --- a request, and its completion ---


def request(inst: Installation, tenant: str, name: str, subject: Subject, now: datetime) -> SigningCa:
    """Make a key and a request for a certificate on it (PKCS #10); the key is sealed, and never leaves.

    Raises Refused for a name or subject that cannot be.
    """
    check_name(name, "a signing CA")
    if problems := check_subject(subject):
        raise Refused("; ".join(problems))
    key, made = make_request(subject, inst.settings.signing.csr_key)
    sealed = _tenant_key(inst, tenant).seal(tenant, CA_KEY, pkcs8(key))
    with inst.changing(tenant) as (connection, found):
        _refuse_taken(connection, found, name)
        encoded, spki = made.public_bytes(Encoding.DER), key_sha256(key.public_key())
        added = signing_cas.add_request(connection, found.id, name, encoded, spki, sealed, now, inst.actor.name)
        _record(inst, connection, found, "request", None, added, now)
    return added


def request_on_premises(
    inst: Installation, tenant: str, name: str, subject: Subject, wanted: on_premises.Enrolment, now: datetime
) -> tuple[SigningCa, tuple[str, ...]]:
    """Make a request on a key that stays in a key manager, which signs it; it waits for its certificate here.

    Where that is wanted, the key pair is made there first. Returns what the administrator should know, too. Raises
    Refused: a name or subject that cannot be or is taken, a key of another signing CA, or whatever the key manager
    has against it.
    """
    check_name(name, "a signing CA")
    if problems := check_subject(subject):
        raise Refused("; ".join(problems))
    with inst.reading(tenant) as (connection, found):
        _refuse_taken(connection, found, name)
    made = on_premises.enrol(inst, tenant, wanted, subject)
    encoded, spki = made.request.public_bytes(Encoding.DER), key_sha256(made.key)
    with inst.changing(tenant) as (connection, found):
        _refuse_taken(connection, found, name)
        _refuse_known_key(connection, found, name, spki)
        added = signing_cas.add_request(connection, found.id, name, encoded, spki, None, now, inst.actor.name)
        kmip.set_key(connection, added.id, wanted.key)
        _record(inst, connection, found, "request", None, added, now)
    return added, made.remarks


def validate_completion(inst: Installation, tenant: str, name: str, files: Sequence[bytes], now: datetime) -> Bundle:
    """What the files hold, and whether they complete the request. Saves nothing. Raises Refused where there is none."""
    with inst.reading(tenant) as (connection, found):
        ca = _requested(_one(connection, found, name))
    return _examined_for(ca, files, now)


def complete(
    inst: Installation,
    tenant: str,
    name: str,
    files: Sequence[bytes],
    now: datetime,
    activated: bool = False,
    tell: on_premises.Tell | None = None,
) -> tuple[SigningCa, Bundle]:
    """Save the signed chain of a request, in one file or several; ``activated``: and make it the active one.

    Where its key is in a key manager, all hosts of that must sign a trial now; ``tell`` is told of each step. Raises
    Refused: no such request, files with an error (all findings with it), or a step that failed.
    """
    bundle = validate_completion(inst, tenant, name, files, now)
    refuse_errors(name, bundle)
    if (ca := show(inst, tenant, name)).kind == "on_premises":
        on_premises.refuse_incomplete(inst, tenant, ca, tell)
    with inst.changing(tenant) as (connection, found):
        before = _requested(_one(connection, found, name))
        refuse_errors(name, _examined_for(before, files, now))  # the request may be another one by now
        signing_cas.complete(connection, before.id, _encoded(bundle), now, inst.actor.name)
        after = _one(connection, found, name)
        _record(inst, connection, found, "complete", before, after, now)
        if activated:
            after = _activate(inst, connection, found, after, now)
    if activated:
        publish_root(inst, tenant)
    return after, bundle


# --- an import ---


def validate_import(inst: Installation, tenant: str, upload: Upload, now: datetime) -> Bundle:
    """What the files hold, and whether they could be imported. Saves nothing. Raises Refused for an unknown tenant."""
    with inst.reading(tenant) as (connection, found):
        existing = signing_cas.names_by_key(connection, found.id)
        revoked = signing_cas.revoked_keys(connection, found.id)
    return _opened(upload, now, existing, revoked)[1]


def import_(
    inst: Installation, tenant: str, name: str, upload: Upload, now: datetime, activated: bool = False
) -> tuple[SigningCa, Bundle]:
    """Save a CA that was made elsewhere: its certificates and its private key, which is sealed.

    ``activated``: and make it the active one. Raises Refused: a name that cannot be or is taken, a key that cannot be
    read, or files with an error (all findings with it).
    """
    check_name(name, "a signing CA")
    with inst.reading(tenant) as (connection, found):
        existing = signing_cas.names_by_key(connection, found.id)
        revoked = signing_cas.revoked_keys(connection, found.id)
    key, bundle = _opened(upload, now, existing, revoked)
    refuse_errors(name, bundle)
    assert key is not None  # noqa: S101 - without one there is an error
    sealed = _tenant_key(inst, tenant).seal(tenant, CA_KEY, pkcs8(key))
    with inst.changing(tenant) as (connection, found):
        _refuse_taken(connection, found, name)
        spki = key_sha256(key.public_key())
        known = signing_cas.names_by_key(connection, found.id)
        if spki in known.values() or spki in signing_cas.revoked_keys(connection, found.id):
            raise Refused(f"{name}: a signing CA with this key was added meanwhile; see: sallyport signing-ca list")
        added = signing_cas.add(
            connection, found.id, name, "imported", _encoded(bundle), sealed, None, now, inst.actor.name
        )
        _record(inst, connection, found, "import", None, added, now)
        if activated:
            added = _activate(inst, connection, found, added, now)
    if activated:
        publish_root(inst, tenant)
    return added, bundle


# --- on premises ---


def connect(
    inst: Installation,
    tenant: str,
    name: str,
    wanted: on_premises.Connection,
    now: datetime,
    activated: bool = False,
    tell: on_premises.Tell | None = None,
) -> tuple[SigningCa, Bundle]:
    """Save a CA whose key stays in a key manager, where that would sign for it now, both hosts of it.

    ``activated``: and make it the active one. ``tell`` is told of each step. Raises Refused: a name that cannot be or
    is taken, certificates with an error (all findings with it), or a step that failed.
    """
    check_name(name, "a signing CA")
    with inst.reading(tenant) as (connection, found):
        _refuse_taken(connection, found, name)
    examined = on_premises.examine(inst, tenant, wanted, now, tell)
    refuse_errors(name, examined.bundle)
    if examined.problems:
        raise Refused(f"{name}: {'; '.join(examined.problems)}")
    spki = spki_sha256(examined.bundle.chain[0])
    with inst.changing(tenant) as (connection, found):
        _refuse_taken(connection, found, name)
        _refuse_known_key(connection, found, name, spki)
        chain = _encoded(examined.bundle)
        added = signing_cas.add(connection, found.id, name, "on_premises", chain, None, None, now, inst.actor.name)
        kmip.set_key(connection, added.id, wanted.key)
        _record(inst, connection, found, "connect", None, added, now)
        if activated:
            added = _activate(inst, connection, found, added, now)
    if activated:
        publish_root(inst, tenant)
    return added, examined.bundle


# --- the active one, and the end ---


def activate(inst: Installation, tenant: str, name: str, now: datetime) -> SigningCa:
    """Make it the tenant's active one; the daemon purges what was made with the other. Once more is no change.

    Raises Refused where there is none of that name, or it could not sign leaves that verify: it waits for its
    certificate, was revoked, is not valid now, its key cannot be opened, or its key manager would not sign.
    """
    with inst.reading(tenant) as (connection, found):
        ca = _one(connection, found, name)
    if ca.kind == "on_premises" and ca.status == "inactive":
        on_premises.refuse_unfit(inst, tenant, ca)  # before the transaction: a key manager takes its time
    with inst.changing(tenant) as (connection, found):
        ca = _one(connection, found, name)
        if ca.status != signing_cas.ACTIVE:
            ca = _activate(inst, connection, found, ca, now)
    publish_root(inst, tenant)
    return ca


def rename(inst: Installation, tenant: str, old: str, new: str, now: datetime) -> SigningCa:
    """Give it another name. Raises Refused for one that cannot be or is taken, and where there is none of the old."""
    check_name(new, "a signing CA")
    with inst.changing(tenant) as (connection, found):
        before = _one(connection, found, old)
        if old == new:
            return before
        _refuse_taken(connection, found, new)
        signing_cas.rename(connection, before.id, new, now, inst.actor.name)
        after = _one(connection, found, new)
        _record(inst, connection, found, "rename", before, after, now)
        return after


def revoke(inst: Installation, tenant: str, name: str, now: datetime) -> Revoked:
    """Destroy its key, for good. Where it was the active one, the built-in CA takes over.

    Where that is what is revoked, or none is valid, a new one is made first.
    Raises Refused where there is none of that name, or it is revoked already.
    """
    with inst.reading(tenant) as (connection, found):
        ca = _one(connection, found, name)
        needed = ca.kind == "built_in" or not _built_ins(connection, found, now)
    # Its keys may take seconds, so they are made outside of the transaction.
    fresh = _fresh_built_in(inst, tenant, now) if needed else None
    with inst.changing(tenant) as (connection, found):
        ca = _one(connection, found, name)
        if ca.status == "revoked":
            raise Refused(f"signing CA {name} is revoked already")
        if fresh is None and (ca.kind == "built_in" or not _built_ins(connection, found, now)):
            raise Refused(f"signing CA {name} was changed by somebody else meanwhile; try again")
        successor = None
        if fresh is not None:
            free = _free_name(connection, found)
            successor = fresh.save(connection, found.id, free, inst.actor.name, now)
            _record(inst, connection, found, "add", None, successor, now)
        if ca.status == signing_cas.ACTIVE:
            successor = _activate(inst, connection, found, successor or _built_ins(connection, found, now)[0], now)
        else:
            successor = None
        signing_cas.end(connection, ca.id, "revoked", now, inst.actor.name)
        after = _one(connection, found, name)
        _record(inst, connection, found, "revoke", ca, after, now)
    if successor is not None:
        publish_root(inst, tenant)
    return Revoked(after, successor, inst.wipe())


def delete(inst: Installation, tenant: str, name: str, now: datetime) -> tuple[str, ...]:
    """Take it away, its keys included; what it signed stays recorded. Returns where sealed copies of them may still be.

    Raises Refused where there is none of that name, it is the active one, or the built-in one that is to take over.
    """
    with inst.changing(tenant) as (connection, found):
        ca = _one(connection, found, name)
        if ca.status == signing_cas.ACTIVE:
            raise Refused(f"signing CA {name} is the active one; activate another first")
        others = [each for each in _built_ins(connection, found, now) if each.id != ca.id]
        if ca.kind == "built_in" and ca.status != "revoked" and not others:
            raise Refused(f"signing CA {name} takes over where another is revoked, so it stays")
        signing_cas.end(connection, ca.id, "deleted", now, inst.actor.name)
        _record(inst, connection, found, "delete", ca, None, now)
    return inst.wipe()


# --- what they share ---


def _activate(inst: Installation, connection: Connection, tenant: Tenant, ca: SigningCa, now: datetime) -> SigningCa:
    """In the caller's transaction. Raises Refused."""
    if ca.status == "requested":
        raise Refused(f"signing CA {ca.name} has no certificate yet; complete it with the one that was signed")
    if ca.status == "revoked":
        raise Refused(f"signing CA {ca.name} was revoked, which is for good; activate another")
    for der in ca.chain:
        certificate = x509.load_der_x509_certificate(der)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            span = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
            subject = certificate.subject.rfc4514_string()
            raise Refused(f"signing CA {ca.name}: {subject} is valid from {span}; no leaf of it would verify now")
    if problem := _key_problem(inst, connection, tenant, ca):
        raise Refused(f"signing CA {ca.name}: {problem}")
    before = signing_cas.active(connection, tenant.id)
    signing_cas.activate(connection, tenant.id, ca.id, now, inst.actor.name)
    after = _one(connection, tenant, ca.name)
    inst.record(connection, tenant, ChangeKind.SIGNING_CA_ACTIVATED, f"{NOUN}.activate", ca.name,
                _told(before) if before else None, _told(after), now)  # fmt: skip
    return after


def _key_problem(inst: Installation, connection: Connection, tenant: Tenant, ca: SigningCa) -> str | None:
    """Why the key cannot sign: it does not open, or is not the certificate's. None where it can.

    Of an on-premises one only whether it can be asked for; whether it then signs, its key manager knows.
    """
    if ca.kind == "on_premises":
        forwarding = kmip.forwarding(connection, tenant.id)
        return (
            None
            if forwarding and forwarding.chain
            else "there is no client certificate for its key manager; see: sallyport kmip set"
        )
    try:
        key = TenantKey(inst.provider.unwrap(tenants.wrapped_key(connection, tenant.id), tenant.name))
        plain = key.open(tenant.name, CA_KEY, signing_cas.sealed_key(connection, ca.id))
        # OpenSSL's check of an RSA key takes up to half a second, and whatever writes waits for this transaction: the
        # key was checked before it was sealed, and a seal opens for nothing else.
        opened = load_der_private_key(plain, None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(opened, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)  # noqa: S101 - as it was saved
        public = LocalSigner(opened).public_key()
    except (SealError, SigningError) as error:
        return f"its key cannot be used: {error}"
    except (ValueError, TypeError, AssertionError, UnsupportedAlgorithm):
        # The text of these could quote what was parsed, which is a private key.
        return "its key is damaged; restore a backup"
    if public != x509.load_der_x509_certificate(ca.certificate).public_key():
        return "its key is not its certificate's; restore a backup"
    return None


def _opened(
    upload: Upload, now: datetime, existing: dict[str, bytes], revoked: frozenset[bytes]
) -> tuple[SigningKey | None, Bundle]:
    """The key and the judged certificates of an upload; a key that cannot be read is a finding like others."""
    files = list(upload.certificates)
    try:
        if upload.key is None:
            holder = _holder(files)
            files.remove(holder)
            store = read_pkcs12(holder, upload.passphrase)
            key, files = store.key, [*_file(store), *files]
        elif is_pkcs12(upload.key):
            store = read_pkcs12(upload.key, upload.passphrase)
            key, files = store.key, [*files, *_file(store)]
        else:
            key = read_private_key(upload.key, upload.passphrase)
    except KeyProblem as error:
        return None, Bundle((), (BundleFinding("error", error.code, str(error)),))
    if key_sha256(key.public_key()) in revoked:
        gone = "the private key is of a signing CA that was revoked here, which is for good; have one made with another"
        return None, Bundle((), (BundleFinding("error", "revoked", gone),))
    return key, examine_signing(files, now, key.public_key(), existing)


def _holder(files: Sequence[bytes]) -> bytes:
    """The one PKCS #12 file among those of an upload. Raises KeyProblem."""
    holders = [each for each in files if is_pkcs12(each)]
    if len(holders) != 1:
        raise KeyProblem("no_key", "there is no private key; give its file, or one PKCS #12 file that has both")
    return holders[0]


def _file(store: Pkcs12) -> list[bytes]:
    """The certificates of a PKCS #12 file, as a file of their own."""
    return [store.pem()] if store.certificates else []


def _examined_for(ca: SigningCa, files: Sequence[bytes], now: datetime) -> Bundle:
    assert ca.request is not None  # noqa: S101 - every request has one
    return examine_signing(files, now, x509.load_der_x509_csr(ca.request).public_key(), for_request=True)


def _encoded(bundle: Bundle) -> list[bytes]:
    return [certificate.public_bytes(Encoding.DER) for certificate in bundle.chain]


def _fresh_built_in(inst: Installation, tenant: str, now: datetime) -> SealedAuthority:
    key = _tenant_key(inst, tenant)
    return sealed_authority(key, tenant, inst.name, now, inst.settings.signing.built_in)


def _built_ins(connection: Connection, tenant: Tenant, now: datetime) -> list[SigningCa]:
    """Those that could take over now, the newest first."""
    ready = [
        ca
        for ca in signing_cas.listing(connection, tenant.id)
        if ca.kind == "built_in"
        and ca.status in (signing_cas.ACTIVE, "inactive")
        and all(x509.load_der_x509_certificate(der).not_valid_after_utc > now for der in ca.chain)
    ]
    return sorted(ready, key=lambda ca: ca.created_at, reverse=True)


def _free_name(connection: Connection, tenant: Tenant) -> str:
    number = 2
    while signing_cas.by_name(connection, tenant.id, f"{BUILT_IN}-{number}") is not None:
        number += 1
    return f"{BUILT_IN}-{number}"


def _tenant_key(inst: Installation, tenant: str) -> TenantKey:
    with inst.reading(tenant) as (connection, found):
        return inst.tenant_key(connection, found)


def _requested(ca: SigningCa) -> SigningCa:
    if ca.status != "requested":
        raise Refused(f"signing CA {ca.name} waits for no certificate: it is {ca.status}")
    return ca


def _one(connection: Connection, tenant: Tenant, name: str) -> SigningCa:
    found = signing_cas.by_name(connection, tenant.id, name) if storable(name) else None
    if found is None:
        became = audit_log.what_happened(connection, tenant, NOUN, name)
        raise Missing(f"tenant {tenant.name} has no signing CA {name!r}{became}; see: sallyport signing-ca list")
    return found


def _refuse_taken(connection: Connection, tenant: Tenant, name: str) -> None:
    if signing_cas.by_name(connection, tenant.id, name) is not None:
        raise Taken(f"tenant {tenant.name} has a signing CA {name!r} already; choose another name")


def _refuse_known_key(connection: Connection, tenant: Tenant, name: str, spki: bytes) -> None:
    known = signing_cas.names_by_key(connection, tenant.id)
    if spki in known.values() or spki in signing_cas.revoked_keys(connection, tenant.id):
        raise Taken(
            f"{name}: a signing CA with this key is there already, or was revoked; see: sallyport signing-ca list"
        )


def _record(
    inst: Installation,
    connection: Connection,
    tenant: Tenant,
    verb: str,
    before: SigningCa | None,
    after: SigningCa | None,
    now: datetime,
) -> None:
    subject = before or after
    assert subject is not None  # noqa: S101 - a change is of something
    kind = ChangeKind.SIGNING_CA_ADDED if before is None else ChangeKind.SIGNING_CA_CHANGED
    inst.record(
        connection, tenant, kind, f"{NOUN}.{verb}", subject.name, before and _told(before), after and _told(after), now
    )


def _told(ca: SigningCa) -> dict[str, object]:
    """What the audit log has of it."""
    told: dict[str, object] = {"name": ca.name, "kind": ca.kind, "status": ca.status}
    if ca.chain:
        told["sha256"] = x509.load_der_x509_certificate(ca.certificate).fingerprint(SHA256()).hex()
    return told
