"""What the configuration says of TLS with servers, put together for a tenant: versions, and client certificates.

The certificates' keys are files of the operator's, read when a worker starts: what is wrong with one keeps it from
starting, and is told before.
"""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL

from certs.bundle import read_certificates
from certs.formats import BundleError
from certs.host_patterns import HostIndex, parse_pattern
from certs.names import Host
from certs.private_keys import KeyProblem, read_private_key
from certs.trust import ClientIdentity, ServerTls
from config.settings import Tls, TlsServer

VERSIONS = {
    "1.0": SSL.TLS1_VERSION, "1.1": SSL.TLS1_1_VERSION, "1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION,
}  # fmt: skip
LARGEST_FILE = 1 << 20


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
    certificate_file, key_file = Path(server.certificate), Path(server.key)
    try:
        certificates = read_certificates(_read(certificate_file, f"{where}.certificate"))
    except BundleError as error:
        raise ValueError(f"{where}.certificate: {certificate_file}: {error}") from None
    data = _read(key_file, f"{where}.key")
    if stat.S_IMODE(key_file.stat().st_mode) & 0o007:
        raise ValueError(f"{where}.key: {key_file}: everybody can use this file; chmod it to 0600 or 0640")
    try:
        key = read_private_key(data, None)
    except KeyProblem as error:
        raise ValueError(f"{where}.key: {key_file}: {error}") from None
    return ClientIdentity(_in_order(certificates, key.public_key(), where, certificate_file), key)


def _in_order(
    certificates: list[x509.Certificate], public: object, where: str, file: Path
) -> tuple[x509.Certificate, ...]:
    """The key's own certificate first. Raises ValueError where it is not among them."""
    own = [each for each in certificates if each.public_key() == public]
    if not own:
        raise ValueError(f"{where}.certificate: {file}: no certificate in it is for the key of {where}.key")
    return (own[0], *(each for each in certificates if each != own[0]))


def _read(file: Path, where: str) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"{where}: {file}: {error.strerror}") from None
    if len(data) > LARGEST_FILE:
        raise ValueError(f"{where}: {file}: larger than {LARGEST_FILE >> 20} MiB")
    return data
