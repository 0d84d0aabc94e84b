"""The keys that the issuer holds unsealed: each tenant's signing CA and leaf keys, until the change feed ends them.

Of a signing CA whose key stays in a key manager, what is held are connections to that.

A tenant's own key, which seals the others, is unwrapped where it is needed and not kept: that is once when a
tenant's keys are loaded and once for each new leaf key, every few days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certs.authority import is_self_signed
from certs.expiry import Validity
from certs.signer import LocalSigner, RemoteSigner, Signer, SigningError
from issuer import key_managers
from issuer.errors import Refusal, Superseded
from issuer.key_managers import KeyManagers
from issuer.protocol import Code, KeyKind
from issuer.recorded import MOST_HOSTS, RecordedHosts
from kms.envelope import SealError, TenantKey
from kms.provider import KeyProvider
from store import changes, leaves, signing_cas, tenants
from store.engine import Connection, Store
from store.records import LeafKey, SigningCa

KINDS: tuple[KeyKind, ...] = ("ecdsa", "rsa")


@dataclass(frozen=True, slots=True)
class HeldLeafKey:
    """A leaf key pair; ``pkcs8`` is what the workers get."""

    id: int
    kind: KeyKind
    created_at: datetime
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
    pkcs8: bytes = field(repr=False)
    hosts: RecordedHosts = field(repr=False, compare=False)


@dataclass(slots=True, eq=False)
class WorkingSet:
    """What a tenant's leaves are made with. Replaced whole when another CA becomes the active one."""

    tenant: str
    tenant_id: int
    ca_id: int
    issuer: x509.Certificate
    chain: tuple[bytes, ...]
    validity: Validity
    """Of the whole chain, the root too: clients look at the dates of what they trust."""
    signer: Signer | RemoteSigner = field(repr=False)
    as_of: int
    generation: int
    untrusted: bool = False
    """Not the tenant's active CA, but the one that clients are warned by."""
    leaf_keys: dict[KeyKind, HeldLeafKey] = field(default_factory=dict, repr=False)
    signs_elsewhere: bool = field(init=False)
    """Whether its key is in a key manager."""

    def __post_init__(self) -> None:
        # Looked at once: to compare an object with a protocol takes longer than to find a leaf.
        self.signs_elsewhere = isinstance(self.signer, RemoteSigner)

    @property
    def signs_at_once(self) -> bool:
        """Whether a signature is a matter of a fraction of a millisecond: an ECDSA key in this process.

        RSA takes some milliseconds, and a signer elsewhere as long as the way there.
        """
        return isinstance(self.signer, LocalSigner) and isinstance(self.issuer.public_key(), ec.EllipticCurvePublicKey)

    def kind_for(self, wanted: KeyKind) -> KeyKind:
        """RSA leaves are for clients that can verify no ECDSA; a CA that signs with ECDSA can't help them."""
        return wanted if isinstance(self.signer.public_key(), rsa.RSAPublicKey) else "ecdsa"

    def leaf_key(self, kind: KeyKind, now: datetime, lifetime: timedelta) -> HeldLeafKey | None:
        """The key of new leaves; None where there is none yet, or it is ``lifetime`` old."""
        key = self.leaf_keys.get(kind)
        return None if key is None or now - key.created_at >= lifetime else key


class Keyring:
    """The working sets that are held: a tenant's, and its untrusted one. Only the event loop's thread changes it."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, bool], WorkingSet] = {}
        self.seen = 0
        """The newest entry of the change feed that was acted on."""

    def held(self, tenant: str, untrusted: bool = False) -> WorkingSet | None:
        """The tenant's working set, None where it has yet to be loaded."""
        return self._held.get((tenant, untrusted))

    def holds(self, working: WorkingSet) -> bool:
        """Whether this working set is still the tenant's."""
        return self._held.get((working.tenant, working.untrusted)) is working

    def put(self, working: WorkingSet) -> bool:
        """Hold a working set; False where a change was acted on since it was read, so that it is to be read again."""
        if working.as_of < self.seen:
            return False
        self._held[working.tenant, working.untrusted] = working
        if isinstance(working.signer, RemoteSigner):
            working.signer.start()
        return True

    def forget(self, tenant_id: int) -> list[WorkingSet]:
        """Drop all keys of a tenant; what was dropped is returned."""
        dropped = self.of(tenant_id)
        for working in dropped:
            del self._held[working.tenant, working.untrusted]
            if isinstance(working.signer, RemoteSigner):
                working.signer.stop()
        return dropped

    def close(self) -> None:
        """Drop all."""
        for working in list(self._held.values()):
            self.forget(working.tenant_id)

    def of(self, tenant_id: int) -> list[WorkingSet]:
        """The working sets of a tenant by its number."""
        return [working for working in self._held.values() if working.tenant_id == tenant_id]


def load(
    store: Store, provider: KeyProvider, managers: KeyManagers, tenant: str, untrusted: bool = False
) -> WorkingSet:
    """Read and unseal what a tenant's leaves are made with. Waits for the store and the key management service.

    ``untrusted``: those that clients are to be warned by. Raises Refusal, or StoreError.
    """
    with store.reading() as connection:
        as_of = changes.latest(connection)
        found = tenants.by_name(connection, tenant)
        if found is None:
            raise Refusal(Code.UNKNOWN_TENANT, f"there is no tenant {tenant!r}")
        ca = (signing_cas.untrusted if untrusted else signing_cas.active)(connection, found.id)
        if ca is None:  # an active one every tenant has
            raise Refusal(
                Code.KEY_UNAVAILABLE, f"tenant {tenant} has no CA to warn clients by; set the action warn once more"
            )
        elsewhere = key_managers.stored(connection, found.id, ca.id)
        sealed = None if elsewhere is not None else signing_cas.sealed_key(connection, ca.id)
        wrapped = tenants.wrapped_key(connection, found.id)
        newest = [leaves.newest_key(connection, found.id, ca.id, kind) for kind in KINDS]
        stored = [(key, _recorded(connection, key)) for key in newest if key is not None]
    tenant_key = unwrap(provider, wrapped, tenant)
    certificates = [x509.load_der_x509_certificate(der) for der in ca.chain]
    issuer = certificates[0]
    signer: Signer | RemoteSigner
    if elsewhere is not None:
        signer = managers.signer(tenant_key, tenant, ca.name, elsewhere, issuer.public_key())
    else:
        assert sealed is not None  # noqa: S101 - read just above
        signer = _signer(tenant_key, tenant, ca, sealed, issuer)
    working = WorkingSet(
        tenant=tenant,
        tenant_id=found.id,
        ca_id=ca.id,
        issuer=issuer,
        # A self-signed root is not sent with the leaf (RFC 8446 4.4.2): who trusts it has it.
        chain=ca.chain[:-1] if is_self_signed(certificates[-1]) else ca.chain,
        validity=Validity.of(certificates),
        signer=signer,
        as_of=as_of,
        generation=found.generation,
        untrusted=untrusted,
    )
    for key, hosts in stored:
        held = _open_leaf_key(tenant_key, tenant, key, hosts)
        working.leaf_keys[held.kind] = held
    return working


def make_leaf_key(
    store: Store,
    provider: KeyProvider,
    working: WorkingSet,
    kind: KeyKind,
    clock: Callable[[], datetime],
    lifetime: timedelta,
) -> HeldLeafKey:
    """A new leaf key, sealed and stored; or the one that another process has stored meanwhile.

    Raises Superseded where the CA is no longer the active one, Refusal, or StoreError.
    """
    private_key = ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else rsa.generate_private_key(65537, 2048)
    pkcs8 = private_key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with store.reading() as connection:
        require_current(connection, working)
        wrapped = tenants.wrapped_key(connection, working.tenant_id)
    tenant_key = unwrap(provider, wrapped, working.tenant)
    sealed = tenant_key.seal(working.tenant, "leaf-key", pkcs8)
    with store.transaction() as connection:
        require_current(connection, working)
        now = clock()
        stored = leaves.newest_key(connection, working.tenant_id, working.ca_id, kind)
        if stored is not None and now - stored.created_at < lifetime:
            return _open_leaf_key(tenant_key, working.tenant, stored, _recorded(connection, stored))
        new = leaves.add_key(connection, working.tenant_id, working.ca_id, kind, sealed, now)
    return HeldLeafKey(new.id, kind, new.created_at, private_key.public_key(), pkcs8, RecordedHosts(()))


def older_leaf_key(store: Store, provider: KeyProvider, working: WorkingSet, leaf_key_id: int) -> HeldLeafKey:
    """A leaf key of the tenant's active CA that is not the current one any more, for leaves that are still shown.

    Raises Superseded, Refusal, or StoreError.
    """
    with store.reading() as connection:
        require_current(connection, working)
        stored = leaves.key_by_id(connection, working.tenant_id, leaf_key_id)
        wrapped = tenants.wrapped_key(connection, working.tenant_id)
    if stored is None or stored.signing_ca_id != working.ca_id:
        raise Refusal(
            Code.UNKNOWN_LEAF_KEY, f"tenant {working.tenant} has no leaf key {leaf_key_id} under its active signing CA"
        )
    # Nothing new is made with it.
    return _open_leaf_key(unwrap(provider, wrapped, working.tenant), working.tenant, stored, RecordedHosts(None))


def require_current(connection: Connection, working: WorkingSet) -> None:
    """Raise Superseded where leaves of its tenant are not signed with the working set's CA in this transaction."""
    if working.ca_id not in signing_cas.issuing(connection, working.tenant_id):
        raise Superseded


def unwrap(provider: KeyProvider, wrapped: bytes, tenant: str) -> TenantKey:
    """The key that a tenant's secrets are sealed with. Raises Refusal."""
    try:
        return TenantKey(provider.unwrap(wrapped, tenant))
    except SealError as error:
        raise Refusal(Code.KEY_UNAVAILABLE, f"the key of tenant {tenant} cannot be unwrapped: {error}") from error


def _signer(tenant_key: TenantKey, tenant: str, ca: SigningCa, sealed: bytes, issuer: x509.Certificate) -> LocalSigner:
    what = f"the key of signing CA {ca.name} of tenant {tenant}"
    try:
        plain = tenant_key.open(tenant, "signing-ca-key", sealed)
        # OpenSSL's check of an RSA key takes up to half a second, for which every client would wait at each purge: the
        # key was checked before it was sealed, and a seal opens for nothing else.
        private_key = serialization.load_der_private_key(plain, None, unsafe_skip_rsa_key_validation=True)
        if not isinstance(private_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise Refusal(Code.KEY_UNAVAILABLE, f"{what} is of a kind that signs no leaves")
        signer = LocalSigner(private_key)
    except (SealError, SigningError) as error:
        raise Refusal(Code.KEY_UNAVAILABLE, f"{what} cannot be used: {error}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Its text could quote what was parsed, which is a private key.
        raise Refusal(Code.KEY_UNAVAILABLE, f"{what} is damaged; restore a backup") from None
    if signer.public_key() != issuer.public_key():
        raise Refusal(Code.KEY_UNAVAILABLE, f"{what} does not fit its certificate; restore a backup")
    return signer


def _recorded(connection: Connection, key: LeafKey) -> RecordedHosts:
    return RecordedHosts(leaves.hosts(connection, key.id, MOST_HOSTS))


def _open_leaf_key(tenant_key: TenantKey, tenant: str, stored: LeafKey, hosts: RecordedHosts) -> HeldLeafKey:
    what = f"leaf key {stored.id} of tenant {tenant}"
    try:
        pkcs8 = tenant_key.open(tenant, "leaf-key", stored.sealed)
        private_key = serialization.load_der_private_key(pkcs8, None)
    except SealError as error:
        raise Refusal(Code.KEY_UNAVAILABLE, f"{what} cannot be opened: {error}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Refusal(Code.KEY_UNAVAILABLE, f"{what} is damaged; restore a backup") from None
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        return HeldLeafKey(stored.id, "ecdsa", stored.created_at, private_key.public_key(), pkcs8, hosts)
    if isinstance(private_key, rsa.RSAPrivateKey):
        return HeldLeafKey(stored.id, "rsa", stored.created_at, private_key.public_key(), pkcs8, hosts)
    raise Refusal(Code.KEY_UNAVAILABLE, f"{what} is neither ECDSA nor RSA")
