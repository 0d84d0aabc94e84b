"""A real KMIP server for tests: PyKMIP's, in a process of its own, with mutual TLS 1.2 and 1.3.

    with KmipServer(tmp_path, identity=issuing.leaf("kms.example"), clients=root) as server:
        server.register("signing", key)
        server.port

Its own TLS setting knows 1.2 alone, so that is replaced, and the port is one that the system chooses. What it does for
each signature, loading the key anew with all checks, it does here without the check: the tests are not about its speed.
"""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, Self, Unpack

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kmip import enums
from kmip.pie.client import ProxyKmipClient
from kmip.pie.objects import PrivateKey, PublicKey

from tests.harness.pki import Authority, Issued, Overrides
from tests.harness.processes import wait_for

USER = "sallyport"
"""Whose certificate it is that comes: PyKMIP lets nobody but a key's owner use it."""
SIGN = (enums.CryptographicUsageMask.SIGN,)


def client_certificate(clients: Authority, **overrides: Unpack[Overrides]) -> Issued:
    """A client's certificate that the server takes."""
    return clients.leaf(USER, **({"eku": ["client"], "san": None} | overrides))


class KmipServer:
    """PyKMIP's server on loopback. ``clients``: the CA whose client certificates it takes."""

    def __init__(self, folder: Path, identity: Issued, clients: Authority, versions: str = "1.2,1.3") -> None:
        self.folder = folder
        self.port = 0
        self._identity = identity
        self._clients = clients
        self._versions = versions
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "server.pem").write_bytes(identity.chain_pem())
        (folder / "server.key").write_bytes(identity.key_pem())
        (folder / "clients.pem").write_bytes(clients.pem())
        admin = client_certificate(clients)
        (folder / "admin.pem").write_bytes(admin.chain_pem())
        (folder / "admin.key").write_bytes(admin.key_pem())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, on the port that it had before where it had one."""
        told = self.folder / "port"
        told.unlink(missing_ok=True)
        command = [sys.executable, "-W", "ignore", "-m", "tests.harness.kmip_server", str(self.folder), str(self.port)]
        # It has a process of its own beside it, which would outlive it.
        self._process = subprocess.Popen(
            [*command, self._versions], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_for("the KMIP server listens", told.exists, 30)
        self.port = int(told.read_text())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it at once, its connections with it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Let it hang: connections stay, nothing is answered."""
        os.killpg(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def admin(self) -> Any:
        """PyKMIP's own client, for putting keys in."""
        return ProxyKmipClient(
            hostname="127.0.0.1",
            port=self.port,
            cert=str(self.folder / "admin.pem"),
            key=str(self.folder / "admin.key"),
            ca=str(self.folder / "clients.pem"),
            config_file="/dev/null",
        )

    def signed(self) -> int:
        """How many signatures it was asked for, by its log."""
        logs = self.folder.glob("server.log*")
        return sum(log.read_text().count("Processing operation: Sign\n") for log in logs)

    def register(self, name: str, key: rsa.RSAPrivateKey, usage: tuple[Any, ...] = SIGN, active: bool = True) -> str:
        """Put a private key in; its Unique Identifier."""
        value = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        made = PrivateKey(
            enums.CryptographicAlgorithm.RSA, key.key_size, value, enums.KeyFormatType.PKCS_1, list(usage), name
        )
        return self._registered(made, active)

    def register_public(self, name: str, key: rsa.RSAPublicKey) -> str:
        """Put a public key in; its Unique Identifier."""
        value = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
        verify = [enums.CryptographicUsageMask.VERIFY]
        form = enums.KeyFormatType.PKCS_1
        made = PublicKey(enums.CryptographicAlgorithm.RSA, key.key_size, value, form, verify, name)
        return self._registered(made, active=False)

    def _registered(self, made: Any, active: bool) -> str:
        # Its client asks ssl for what is deprecated.
        with warnings.catch_warnings(action="ignore"), self.admin() as client:
            identifier: str = client.register(made)
            if active:
                client.activate(identifier)
        return identifier


def main(folder: Path, port: int, versions: str) -> None:
    """Serve until killed."""
    from kmip.services.server import server
    from kmip.services.server.crypto import engine as crypto

    config = folder / "server.conf"
    config.write_text(
        "[server]\nhostname=127.0.0.1\nport=5696\n"
        f"certificate_path={folder}/server.pem\nkey_path={folder}/server.key\nca_path={folder}/clients.pem\n"
        f"auth_suite=TLS1.2\npolicy_path={folder}\nenable_tls_client_auth=True\ndatabase_path={folder}/kmip.db\n"
        "logging_level=INFO\n"
    )
    made = server.KmipServer(
        config_path=str(config), log_path=str(folder / "server.log"), database_path=str(folder / "kmip.db")
    )
    made.config.settings["port"] = port
    made.auth_suite._protocol = ssl.PROTOCOL_TLS_SERVER
    load = crypto.CryptographyEngine._create_RSA_private_key

    def quickly(self: Any, data: bytes) -> Any:
        for read in (serialization.load_der_private_key, serialization.load_pem_private_key):
            try:
                return read(data, None, unsafe_skip_rsa_key_validation=True)
            except ValueError:
                continue
        return load(self, data)

    crypto.CryptographyEngine._create_RSA_private_key = quickly
    made.start()
    made._socket.context.maximum_version = ssl.TLSVersion.TLSv1_3 if "1.3" in versions else ssl.TLSVersion.TLSv1_2
    made._socket.listen(128)
    (folder / "port.new").write_text(str(made._socket.getsockname()[1]))
    (folder / "port.new").rename(folder / "port")
    made.serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
