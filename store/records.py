"""What the repositories hand out: frozen records. Certificates are DER, datetimes aware UTC.

A tuple of certificates runs from the issuing certificate upwards; its last entry is the root or the anchor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class ChangeKind(StrEnum):
    """What an entry of the change feed is about."""

    TENANT_CREATED = "tenant_created"
    TENANT_DELETED = "tenant_deleted"
    TRUSTED_CA_ADDED = "trusted_ca_added"
    TRUSTED_CA_CHANGED = "trusted_ca_changed"
    TRUSTED_CA_DELETED = "trusted_ca_deleted"
    SIGNING_CA_ADDED = "signing_ca_added"
    SIGNING_CA_ACTIVATED = "signing_ca_activated"
    SIGNING_CA_CHANGED = "signing_ca_changed"
    UNTRUSTED_CA_MADE = "untrusted_ca_made"
    ERROR_SETTINGS_CHANGED = "error_settings_changed"
    HOST_EXCEPTIONS_CHANGED = "host_exceptions_changed"
    KMIP_FORWARDING_CHANGED = "kmip_forwarding_changed"
    KMIP_REQUEST_MADE = "kmip_request_made"
    BYPASS_RULE_ADDED = "bypass_rule_added"
    BYPASS_RULE_REMOVED = "bypass_rule_removed"
    PROXY_USERS_CHANGED = "proxy_users_changed"
    WIREGUARD_PEER_ADDED = "wireguard_peer_added"
    WIREGUARD_PEER_REMOVED = "wireguard_peer_removed"


@dataclass(frozen=True, slots=True)
class Tenant:
    """One organisation, or one part of it. ``generation`` numbers its working sets."""

    id: int
    name: str
    generation: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SigningCa:
    """A certificate set that can sign leaves. Its sealed key is read apart, so that no listing carries it.

    ``status``: active, inactive, requested (``request`` is to be signed, there is no certificate yet) or revoked;
    untrusted: signs what clients are to be warned by, and is in no listing.
    """

    id: int
    tenant_id: int
    name: str
    kind: str
    status: str
    certificate: bytes
    chain: tuple[bytes, ...]
    request: bytes | None
    created_at: datetime
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True, slots=True)
class KmipKey:
    """Where the key of an on-premises signing CA is. ``pss``: an RSA key signs by RSASSA-PSS."""

    key_name: str
    primary_host: str
    primary_port: int
    alternate_host: str | None = None
    alternate_port: int | None = None
    pss: bool = False


@dataclass(frozen=True, slots=True)
class KmipForwarding:
    """Who a tenant is to its key managers, and who they must be. The secrets are read apart.

    ``chain`` is empty until there is a client certificate; ``request`` waits for one.
    """

    chain: tuple[bytes, ...]
    server_ca: tuple[bytes, ...]
    username: str | None
    request: bytes | None
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True, slots=True)
class KmipSecrets:
    """What is sealed of the same: the client's key, its login's password, the key of a request."""

    key: bytes | None = field(repr=False)
    password: bytes | None = field(repr=False)
    new_key: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class TrustedCa:
    """A private CA that a tenant trusts beside the common store, for all hosts or those of the patterns ``hosts``."""

    id: int
    tenant_id: int
    name: str
    active: bool
    chain: tuple[bytes, ...]
    created_at: datetime
    changed_at: datetime
    changed_by: str
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProxyUser:
    """Somebody who tells the proxy by name and password whose its connections are. The hash is read apart."""

    id: int
    tenant_id: int
    name: str
    created_at: datetime
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True, slots=True)
class BypassRule:
    """Hosts that a tenant's traffic is not decrypted for; ``pattern`` is as :func:`certs.bypass.parse_rule` writes it.

    ``expires_at``: from then on it no longer counts; None: it has no end.
    """

    id: int
    tenant_id: int
    pattern: str
    reason: str | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class WireGuardPeer:
    """A device that reaches the tenant's listeners through WireGuard. ``public_key``: Curve25519, 32 bytes.

    ``ipv4`` and ``ipv6`` are its addresses in the tunnel; the latter is None where tunnels have no IPv6.
    """

    id: int
    tenant_id: int
    name: str
    public_key: bytes
    ipv4: str
    ipv6: str | None
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class HostException:
    """What is done about one defect of the hosts of a pattern, in place of the tenant's error settings.

    ``defect``: a defect's name, or ``untrusted``. ``fingerprint``: SHA-256 of the certificate or key that it is for;
    None: of any. ``expires_at``: from when on it no longer counts; None: it does not end.
    """

    id: int
    tenant_id: int
    pattern: str
    defect: str
    action: str
    fingerprint: bytes | None
    expires_at: datetime | None
    reason: str
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that somebody changed. ``before`` and ``after`` are JSON objects of what it was and is.

    ``generation``: the tenant's, which it made; None for an old entry.
    """

    id: int
    tenant: str | None
    at: datetime
    actor: str
    origin: str
    action: str
    subject: str
    before: str | None
    after: str | None
    generation: int | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A client refuses our certificate for a host, and takes it for others. ``how``: by an alert, or it just closed."""

    host: str
    client: str
    count: int
    how: str
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class RecentServer:
    """A server that was judged, as it was when it was last looked at.

    ``presented``: what it sent, its own certificate first; None: not kept. ``added`` completed its chain. ``shown``: it
    showed a certificate of its own that can be read. ``anchor_sha256``: in which its chain ended; None: in none.
    ``defects`` and ``action`` are what was found and done.
    """

    host: str
    port: int
    last_at: datetime
    shown: bool
    anchor_sha256: bytes | None
    defects: tuple[str, ...]
    action: str
    presented: tuple[bytes, ...] | None = field(default=None, repr=False)
    added: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class VerdictCount:
    """How many servers were judged so within ten minutes. ``defect``: the first that was found, or ``none``."""

    begins_at: datetime
    defect: str
    action: str
    count: int


@dataclass(frozen=True, slots=True)
class BlockedHost:
    """How often a host was blocked, when last (the beginning of that hour), and how often for which first defect."""

    host: str
    count: int
    last_at: datetime
    defects: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LeafKey:
    """The sealed key pair of a tenant's leaves under one signing CA."""

    id: int
    tenant_id: int
    signing_ca_id: int
    kind: str
    sealed: bytes = field(repr=False)
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewLeaf:
    """A leaf that is to be recorded. ``serial`` is hexadecimal, ``host`` normalised."""

    tenant_id: int
    signing_ca_id: int
    leaf_key_id: int
    host: str
    serial: str
    not_before: datetime
    not_after: datetime
    certificate: bytes
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf that was recorded."""

    id: int
    tenant_id: int
    signing_ca_id: int
    leaf_key_id: int
    host: str
    serial: str
    not_before: datetime
    not_after: datetime
    certificate: bytes
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class IssuedLeaf:
    """The same for who reads what was issued, with the names of its tenant and its signing CA."""

    id: int
    tenant: str
    signing_ca: str
    host: str
    serial: str
    not_before: datetime
    not_after: datetime
    certificate: bytes
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change feed."""

    id: int
    tenant_id: int
    generation: int
    kind: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may use console and REST API. ``tenants``: their names; None: all there are and will be.

    Its password's hash and its second factor's secret are read apart, so that no listing carries them.
    """

    id: int
    name: str
    role: str
    tenants: tuple[str, ...] | None
    enabled: bool
    second_factor: bool
    password_given_at: datetime | None
    """When somebody else gave its password, which is to be changed; None: it is the person's own."""
    created_at: datetime
    changed_at: datetime
    changed_by: str
    signed_in_at: datetime | None


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """An account's second factor: its sealed secret, the latest time step that was used, and one to be confirmed."""

    sealed: bytes | None = field(repr=False)
    step: int
    sealed_new: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody signed in. ``awaits_code``: not quite, the second factor is still to come."""

    id: int
    account_id: int
    awaits_code: bool
    origin: str
    created_at: datetime
    used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A program's way in, in an account's name. ``tenants`` as in :class:`Account`, and at most the account's."""

    id: int
    account_id: int
    account: str
    name: str
    scope: str
    tenants: tuple[str, ...] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Guesses:
    """How often in a row, and when last, a password or code was wrong."""

    count: int
    last_at: datetime
