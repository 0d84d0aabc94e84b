"""What a listener of mode ``explicit-tls`` shows its clients: a certificate of the operator's, or a leaf of ours.

A certificate of the operator's is a pair of files, read again when they change: who renews certificates need not
restart anything. A leaf is of the tenant's active CA, for one of the names that the listener says it has, and no other.
Clients may be asked for a certificate too, and may be told apart by the CA that vouches for theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from certs.bundle import read_certificates
from certs.formats import BundleError
from certs.names import Host, InvalidHost, parse_host
from config.settings import Listener, Settings
from issuer.client import IssuerUnavailable
from issuer.protocol import Code
from proxy.client_hello import ClientHello
from proxy.identity_files import changed_at, read_file, read_identity
from proxy.leaves import LONG_ENOUGH, Shown, key_type, leaf_context
from proxy.log import INFO, WARNING
from proxy.server_rules import VERSIONS

if TYPE_CHECKING:
    from proxy.worker import Worker

LOOK_SECONDS = 1.0
"""How often it is looked whether the files are others by now."""
_SESSIONS = b"sallyport proxy"

Done = Callable[[SSL.Connection | Shown | Exception], None]


class UnknownNameError(ValueError):
    """The client asks for a name that the listener does not have."""


class OuterIdentity:
    """The certificate of one listener."""

    def __init__(self, worker: Worker, listener: Listener) -> None:
        """Raises ValueError, one line, for files that cannot be used."""
        self._worker = worker
        self._listener = listener
        self._names = tuple(parse_host(name) for name in listener.tls.names)
        self._given: Given | None = None
        if listener.tls.certificate is not None:
            self._given = Given(listener, VERSIONS[worker.settings.tls.client_minimum])
        self._looked = worker.loop.time()

    def ask(self, name: Host | None, reached: str, hello: ClientHello, done: Done, connection: str) -> None:
        """``done`` gets what to show a client that asks for ``name``. Raises UnknownNameError.

        Clients that know the proxy by an address ask for no name (RFC 6066, section 3): ``reached`` is the one that
        they have connected to.
        """
        if self._given is not None:
            self._look(self._given)
            return done(self._given.connection())
        if name is not None and name not in self._names:
            raise UnknownNameError(f"{name.text} is none of the names of listener {self._listener.name} (tls.names)")
        host = (name or next((each for each in self._names if each.text == reached), self._names[0])).text
        worker = self._worker
        snapshot = worker.snapshots.current.get(self._listener.tenant or "")
        if snapshot is None:
            return done(ValueError(f"there is no tenant {self._listener.tenant}"))
        kind = key_type(snapshot, hello.ecdsa)
        later = worker.wall() + LONG_ENOUGH
        if (shown := worker.leaves.kept(snapshot, host, kind, later)) is not None:
            return done(shown)
        return worker.leaves.ask(snapshot, host, kind, later, done, connection)

    def outdated(self, outcome: SSL.Connection | Shown | Exception) -> bool:
        """Whether the answer is of before another CA became the active one, so that it is to be asked for again."""
        if isinstance(outcome, IssuerUnavailable):
            return outcome.code == Code.UNKNOWN_LEAF_KEY
        snapshot = self._worker.snapshots.current.get(self._listener.tenant or "")
        return isinstance(outcome, Shown) and (snapshot is None or not outcome.current(snapshot, False))

    def leaf_of(self, tenant: str) -> bool:
        """Whether what is shown is a leaf of the tenant's active CA."""
        return self._given is None and self._listener.tenant == tenant

    def tenant_of(self, tls: SSL.Connection) -> str:
        """The tenant whose CA vouches for the client's certificate; empty where none is told apart by it."""
        return self._given.tenant_of(tls) if self._given is not None else ""

    def _look(self, given: Given) -> None:
        now = self._worker.loop.time()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            if given.read_again():
                self._worker.log.event(INFO, "certificate read again", listener=self._listener.name)
        except ValueError as error:  # the one that is there goes on
            self._worker.log.event(WARNING, "certificate not read", listener=self._listener.name, reason=str(error))


class Given:
    """A certificate and key in files, and the CAs that may vouch for clients."""

    def __init__(self, listener: Listener, minimum: int) -> None:
        """Raises ValueError, one line, where one cannot be used."""
        self._tls = listener.tls
        self._where = f"listener {listener.name}: tls"
        self._minimum = minimum
        self._tenants: WeakKeyDictionary[SSL.Context, dict[bytes, str]] = WeakKeyDictionary()
        """Of each context the anchors' tenants: a handshake may end after the files were read again."""
        self._seen = self._state()
        self._context = self._read()

    def connection(self) -> SSL.Connection:
        """The server's side of a connection."""
        tls = SSL.Connection(self._context, None)
        tls.set_accept_state()
        return tls

    def read_again(self) -> bool:
        """Read the files where they have changed; whether they had. Raises ValueError, and then all is as before."""
        state = self._state()
        if state == self._seen:
            return False
        self._seen = state
        self._context = self._read()
        return True

    def tenant_of(self, tls: SSL.Connection) -> str:
        """See :meth:`OuterIdentity.tenant_of`. The anchor that OpenSSL's chain ends in decides."""
        chain = tls.get_verified_chain() or []
        if not chain:
            return ""
        return self._tenants[tls.get_context()][crypto.dump_certificate(crypto.FILETYPE_ASN1, chain[-1])]

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        pair = (self._tls.certificate, self._tls.key)
        return changed_at((*(name for name in pair if name is not None), *self._client_cas()))

    def _client_cas(self) -> tuple[str, ...]:
        return tuple(each.file for each in self._tls.client_cas)

    def _read(self) -> SSL.Context:
        certificate, key = self._tls.certificate, self._tls.key
        assert certificate is not None  # noqa: S101 - the settings have both or neither
        assert key is not None  # noqa: S101 - the same
        certificates, private = read_identity(certificate, key, self._where)
        context = leaf_context(
            tuple(each.public_bytes(Encoding.DER) for each in certificates[1:]), private, self._minimum
        )
        context.use_certificate(crypto.X509.from_cryptography(certificates[0]))
        context.set_session_id(_SESSIONS)
        if self._tls.client_cas:
            # A session that is resumed has no chain, and so would not say whose CA vouches for the client.
            context.set_options(SSL.OP_NO_TICKET)
            self._tenants[context] = self._ask_clients(context)
        return context

    def _ask_clients(self, context: SSL.Context) -> dict[bytes, str]:
        """Have clients show a certificate; the anchors' tenants."""
        tenants: dict[bytes, str] = {}
        store = context.get_cert_store()
        assert store is not None  # noqa: S101 - a context has one
        for place, each in enumerate(self._tls.client_cas):
            where = f"{self._where}.client_cas[{place}]"
            try:
                found = read_certificates(read_file(Path(each.file), where))
            except BundleError as error:
                raise ValueError(f"{where}: {each.file}: {error}") from None
            for certificate in found:
                store.add_cert(crypto.X509.from_cryptography(certificate))
                context.add_client_ca(crypto.X509.from_cryptography(certificate))
                encoded = certificate.public_bytes(Encoding.DER)
                if tenants.setdefault(encoded, each.tenant or "") != (each.tenant or ""):
                    raise ValueError(f"{where}: {each.file}: a certificate in it is that of another tenant too")
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        mode = SSL.VERIFY_PEER
        if self._tls.client_certificates == "required":
            mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        context.set_verify(mode)
        return tenants


def check(settings: Settings) -> str | None:
    """What is wrong with what listeners are to show, for a start that says so; None where nothing is."""
    for place, listener in enumerate(settings.listeners):
        for name in listener.tls.names:
            try:
                parse_host(name)
            except InvalidHost as error:
                return f"listeners[{place}].tls.names: {name!r}: {error}"
        if listener.tls.certificate is not None:
            try:
                Given(listener, VERSIONS[settings.tls.client_minimum])
            except ValueError as error:
                return str(error)
    return None
