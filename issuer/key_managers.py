"""From what the store has of a key manager to a signer: who we are there, how it is reached, what is told of it.

PyKMIP is imported with the first on-premises signing CA, and not before: it takes a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certs.mint import make_ready
from certs.names import parse_host
from certs.signer import RemoteSigner, SigningError
from config.settings import Settings
from issuer.errors import Refusal
from issuer.events import log_event
from issuer.metrics import Metrics, NullMetrics
from issuer.protocol import Code
from kms.envelope import SealError, TenantKey
from store import kmip
from store.engine import Connection
from store.records import KmipForwarding, KmipKey, KmipSecrets

if TYPE_CHECKING:
    from kms.kmip.connection import Endpoint, Reach
    from kms.kmip.errors import KmipError

SHARE = 0.6
"""Of ``limits.leaf_timeout``, for a signature at the most."""
CLIENT_KEY = "kmip-client-key"
PASSWORD = "kmip-password"  # noqa: S105 - what is sealed is called so
"""What the secrets are sealed as."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store has of a signing CA's key manager."""

    key: KmipKey
    forwarding: KmipForwarding | None
    secrets: KmipSecrets = field(repr=False)


def stored(connection: Connection, tenant_id: int, signing_ca_id: int) -> Stored | None:
    """None for a signing CA whose key is here. Raises StoreError."""
    key = kmip.key_of(connection, signing_ca_id)
    if key is None:
        return None
    return Stored(key, kmip.forwarding(connection, tenant_id), kmip.secrets_of(connection, tenant_id))


def endpoints(key: KmipKey) -> list[Endpoint]:
    """The primary, then the alternate where there is one."""
    from kms.kmip.connection import Endpoint

    found = [Endpoint(parse_host(key.primary_host), key.primary_port)]
    if key.alternate_host is not None and key.alternate_port is not None:
        found.append(Endpoint(parse_host(key.alternate_host), key.alternate_port))
    return found


def reach_of(
    tenant_key: TenantKey, tenant: str, forwarding: KmipForwarding | None, secrets: KmipSecrets, settings: Settings
) -> Reach:
    """How a tenant's key managers are reached. Raises Refusal: what is missing, or cannot be opened."""
    from kms.kmip.connection import Reach
    from kms.kmip.errors import KmipError
    from kms.kmip.identity import Identity, tls_context
    from kms.kmip.messages import Login

    if forwarding is None or not forwarding.chain or secrets.key is None:
        raise Refusal(
            Code.KEY_UNAVAILABLE,
            f"tenant {tenant} has no client certificate for its key manager; see: sallyport kmip set",
        )
    try:
        key = tenant_key.open(tenant, CLIENT_KEY, secrets.key)
        login = None
        if forwarding.username is not None and secrets.password is not None:
            login = Login(forwarding.username, tenant_key.open(tenant, PASSWORD, secrets.password).decode())
        context = tls_context(Identity(forwarding.chain, key, forwarding.server_ca))
    except (SealError, KmipError, ValueError, UnsupportedAlgorithm) as error:
        why = str(error) if isinstance(error, SealError | KmipError) else "it is damaged"
        raise Refusal(Code.KEY_UNAVAILABLE, f"the KMIP forwarding of tenant {tenant} cannot be used: {why}") from None
    return Reach(
        context,
        names_of(settings.resolver.hosts),
        settings.kmip.allow_private_addresses,
        settings.kmip.source_address,
        login,
    )


def names_of(hosts: dict[str, str]) -> dict[str, str]:
    """The configured names as they are compared."""
    return {parse_host(name).text: address for name, address in hosts.items()}


class KeyManagers:
    """Makes signers for one process, and says what happens to their connections. ``clock`` never goes back."""

    def __init__(
        self, settings: Settings, metrics: Metrics | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._metrics = metrics or NullMetrics()
        self._clock = clock

    def signer(self, tenant_key: TenantKey, tenant: str, ca: str, found: Stored, public_key: object) -> RemoteSigner:
        """One that is still to be started, on the event loop. May be made on a thread. Raises Refusal."""
        from kms.kmip.pool import Pool, PoolLimits
        from kms.kmip.signer import KmipSigner

        kmip_settings = self._settings.kmip
        reach = reach_of(tenant_key, tenant, found.forwarding, found.secrets, self._settings)
        # Whoever waits for a leaf is to hear of it before its own time is over.
        seconds = min(kmip_settings.timeout, self._settings.limits.leaf_timeout * SHARE)
        limits = PoolLimits(
            kmip_settings.connections, kmip_settings.queue, seconds, kmip_settings.signatures_per_second
        )
        pool = Pool(endpoints(found.key), reach, limits, self._clock, _Watcher(tenant, self._metrics))
        try:
            assert isinstance(public_key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)  # noqa: S101 - seen when it was saved
            signer = KmipSigner(pool, found.key.key_name, public_key, found.key.pss)
            make_ready(signer)
        except (SigningError, AssertionError) as error:
            raise Refusal(
                Code.KEY_UNAVAILABLE, f"signing CA {ca} of tenant {tenant} cannot be used: {error}"
            ) from error
        return signer


class _Watcher:
    """To the log, and to the metrics."""

    def __init__(self, tenant: str, metrics: Metrics) -> None:
        self._tenant = tenant
        self._metrics = metrics

    def failed(self, endpoint: Endpoint, error: KmipError) -> None:
        self._metrics.kmip_failed(str(endpoint), error.reason.value)
        log_event("kmip_failed", "debug", tenant=self._tenant, host=str(endpoint), reason=error.reason.value,
                  message=str(error))  # fmt: skip

    def broke(self, endpoint: Endpoint, error: KmipError) -> None:
        log_event("kmip_host_down", "warning", tenant=self._tenant, host=str(endpoint), reason=error.reason.value,
                  message=str(error))  # fmt: skip

    def mended(self, endpoint: Endpoint) -> None:
        log_event("kmip_host_up", tenant=self._tenant, host=str(endpoint))
