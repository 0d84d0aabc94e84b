"""Two tenants on one listener, told apart by credentials and by network, and clients that look for the other's.

Each client connection may be any of four kinds: by the credentials of either tenant, or from the network of either. It
offers a TLS session of its own tenant's or of the other's, and says what it was shown.
"""

from __future__ import annotations

import base64
import random
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.harness.daemon import Daemon
from tests.harness.pki import Authority

SHARED = "shared"
TENANTS = ("acme", "beta")
NETWORKS = {"acme": "127.0.0.2", "beta": "127.0.0.3"}
"""From where a client is whose; each is a network of one address."""
USER, PASSWORD = "alice", "correct horse battery {tenant}"
"""The same name for both."""
LISTENERS = ((SHARED, "default"), *(("its-" + tenant, tenant) for tenant in TENANTS))


def ways(**authentication: Any) -> Mapping[str, Mapping[str, Any]]:
    """The shared listener's configuration, for ``Daemon(listeners=LISTENERS, ways=…)``."""
    networks = [{"network": f"{address}/32", "tenant": tenant} for tenant, address in NETWORKS.items()]
    return {
        SHARED: {
            "tenant": None,
            "networks": networks,
            "authentication": {"tenants": list(TENANTS), **authentication},
        }
    }


def password(tenant: str) -> str:
    return PASSWORD.format(tenant=tenant)


def basic(name: str, secret: str) -> str:
    """The value of Proxy-Authorization."""
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


def prepare(daemon: Daemon, trusted: Mapping[str, Authority]) -> None:
    """Give each tenant its user and its own trusted CA. The daemon may run or not."""
    for tenant in TENANTS:
        daemon.told("proxy-user", "add", USER, "--password-file", "-", tenant=tenant, stdin=password(tenant))
        path = daemon.folder / f"trusted-{tenant}.pem"
        path.write_bytes(trusted[tenant].pem())
        daemon.told("trusted-ca", "add", "own", str(path), tenant=tenant)


class Connection:
    """One connection to the proxy."""

    def __init__(self, address: str, source: str = "127.0.0.1", seconds: float = 60) -> None:
        host, _, port = address.rpartition(":")
        self.socket: socket.socket = socket.create_connection((host, int(port)), seconds, source_address=(source, 0))
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def ask(self, first: str, *fields: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """Send a request, and read the answer: its status, its fields (names in lower case), its body."""
        self.socket.sendall("\r\n".join((f"{first} HTTP/1.1", *fields, "", "")).encode() + body)
        return self.answer()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read an answer. Raises ConnectionError where none comes."""
        line = self.file.readline()
        if not line:
            raise ConnectionError("the proxy closed the connection")
        fields = {}
        while (field_line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = field_line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        status = int(line.split()[1])
        return status, fields, self.file.read(int(fields.get("content-length", "0")))

    def connect(self, target: str, credentials: str | None = None) -> tuple[int, dict[str, str], bytes]:
        """CONNECT."""
        said = () if credentials is None else (f"Proxy-Authorization: {credentials}",)
        return self.ask(f"CONNECT {target}", f"Host: {target}", *said)

    def tls(self, context: ssl.SSLContext, host: str, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """TLS through the tunnel; from here on :meth:`ask` is inside of it."""
        self.file.close()
        wrapped = context.wrap_socket(self.socket, server_hostname=host, session=session)
        self.socket = wrapped
        self.file = wrapped.makefile("rb")
        return wrapped


@dataclass
class Told:
    """What came of many connections."""

    kinds: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    problems: list[str] = field(default_factory=list)


class Load:
    """Clients of both tenants at once. ``private``: for each tenant, a host that its own trusted CA vouches for."""

    def __init__(self, daemon: Daemon, common: str, private: Mapping[str, str], seed: int = 1) -> None:
        """``common`` and ``private`` are HOST:PORT."""
        self.daemon = daemon
        self.common = common
        self.private = private
        self.seed = seed
        self.context = ssl.create_default_context()
        self.issuers: dict[str, set[bytes]] = {}
        for tenant in TENANTS:
            chain = self._chain(tenant)
            self.context.load_verify_locations(cadata=chain.decode())
            self.issuers[tenant] = {one.subject.public_bytes() for one in x509.load_pem_x509_certificates(chain)}
        # Both roots are trusted here, so that whose leaf it is is seen, and not only that it is another's.
        assert not self.issuers[TENANTS[0]] & self.issuers[TENANTS[1]]
        self.told = Told()
        self._sessions: dict[tuple[str, str], ssl.SSLSession] = {}
        self._lock = threading.Lock()
        self._left = 0

    def _chain(self, tenant: str) -> bytes:
        path = Path(self.daemon.folder, f"chain-{tenant}.pem")
        self.daemon.told("signing-ca", "download", "--chain", "--output", str(path), tenant=tenant)
        return path.read_bytes()

    def run(self, connections: int, threads: int = 4) -> Told:
        """So many connections, and what came of them."""
        self._left = connections
        chances = [random.Random(self.seed + number) for number in range(threads)]  # noqa: S311 - what clients happen to do
        running = [threading.Thread(target=self._work, args=(chance,)) for chance in chances]
        for each in running:
            each.start()
        for each in running:
            each.join()
        return self.told

    def _work(self, chance: random.Random) -> None:
        while True:
            with self._lock:
                if self._left <= 0:
                    return
                self._left -= 1
            tenant, by = chance.choice(TENANTS), chance.choice(("credentials", "network"))
            other = TENANTS[1 - TENANTS.index(tenant)]
            target, expected = chance.choice(
                ((self.common, 200), (self.common, 200), (self.private[tenant], 200), (self.private[other], 502))
            )
            offered = self._sessions.get((chance.choice(TENANTS), target))
            try:
                self._one(tenant, by, target, expected, offered)
            except (OSError, ValueError) as error:
                self._problem(f"{tenant} by {by} to {target}: {error!r}")

    def _one(self, tenant: str, by: str, target: str, expected: int, offered: ssl.SSLSession | None) -> None:
        source = NETWORKS[tenant] if by == "network" else "127.0.0.1"
        credentials = basic(f"{USER}@{tenant}", password(tenant)) if by == "credentials" else None
        with Connection(self.daemon.addresses[SHARED], source) as connection:
            status, _, _ = connection.connect(target, credentials)
            if status != 200:
                return self._problem(f"{tenant} by {by} to {target}: {status} to the CONNECT")
            tls = connection.tls(self.context, target.partition(":")[0], offered)
            leaf = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
            if leaf.issuer.public_bytes() not in self.issuers[tenant]:
                self._problem(f"{tenant} by {by} to {target}: a leaf of {leaf.issuer.rfc4514_string()}")
            status, _, _ = connection.ask("GET /", f"Host: {target}", "Accept: text/html")
            if status != expected:
                self._problem(f"{tenant} by {by} to {target}: {status}, not {expected}")
            with self._lock:
                self.told.kinds[f"{tenant} by {by}"] += 1
                self.told.resumed += bool(tls.session_reused)
                if tls.session is not None:
                    self._sessions[tenant, target] = tls.session
        return None

    def _problem(self, what: str) -> None:
        with self._lock:
            self.told.problems.append(what)
