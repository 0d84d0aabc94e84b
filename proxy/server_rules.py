"""What the configuration says of TLS with servers, put together for a tenant: versions, and client certificates.

The certificates' keys are files of the operator's, read when a worker starts: what is wrong with one keeps it from
starting, and is told before.
"""

from __future__ import annotations

from OpenSSL import SSL

from certs.host_patterns import HostIndex, parse_pattern
from certs.names import Host
from certs.trust import ClientIdentity, ServerTls
from config.settings import Tls, TlsServer
from proxy.identity_files import read_identity

VERSIONS = {
    "1.0": SSL.TLS1_VERSION, "1.1": SSL.TLS1_1_VERSION, "1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION,
}  # fmt: skip


class ServerRules:
    """How TLS is spoken with which server, for one tenant. The closest pattern counts, and of equals the first."""

    def __init__(self, usual: ServerTls, index: HostIndex[list[ServerTls]] | None) -> None:
        self.usual = usual
        self._index = index

    def of(self, host: Host) -> ServerTls:
        """How it is spoken with this one."""
        if self._index is not None:
            for found in self._index.find(host):
                return found[0]
        return self.usual


def server_rules(tls: Tls, tenant: str, stapled: bool = False) -> ServerRules:
    """The rules of a tenant. Raises ValueError, one line, for a file that cannot be used.

    ``stapled``: servers are asked to send an OCSP answer along.
    """
    usual = ServerTls(VERSIONS[tls.server_minimum], None, tls.client_certificate, stapled)
    index: HostIndex[list[ServerTls]] | None = None
    for place, server in enumerate(tls.servers):
        if not {"*", tenant}.isdisjoint(server.tenants):
            made = ServerTls(
                VERSIONS[server.minimum or tls.server_minimum],
                _identity(server, f"tls.servers[{place}]"),
                server.client_certificate or tls.client_certificate,
                stapled,
            )
            index = index or HostIndex(list)
            for text in server.hosts:
                index.at(parse_pattern(text)).append(made)
    return ServerRules(usual, index)


def check(tls: Tls) -> str | None:
    """What is wrong with the files, for a start that says so; None where nothing is."""
    try:
        for place, server in enumerate(tls.servers):
            _identity(server, f"tls.servers[{place}]")
    except ValueError as error:
        return str(error)
    return None


def _identity(server: TlsServer, where: str) -> ClientIdentity | None:
    if server.certificate is None or server.key is None:
        return None
    return ClientIdentity(*read_identity(server.certificate, server.key, where))
