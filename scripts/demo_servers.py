"""The small PKI and the HTTPS servers of the demonstration: loopback, standard library, one thread a connection."""

from __future__ import annotations

import datetime as dt
import http.server
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC)  # noqa: TID251 - the demonstration's own certificates need dates around today


@dataclass(frozen=True)
class Identity:
    """A certificate with its key, and who signed it (None: itself)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    signer: Identity | None = None

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def chain_pem(self) -> bytes:
        """This certificate, then all above it, the root last."""
        return self.pem() + (self.signer.chain_pem() if self.signer else b"")


def issue(
    name: str,
    signer: Identity | None = None,
    *,
    ca: bool = False,
    host: str | None = None,
    start: dt.datetime = NOW - 30 * DAY,
    end: dt.datetime = NOW + 60 * DAY,
) -> Identity:
    """A certificate for ``name`` (a CA, or a server for ``host``), signed by ``signer`` or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    above = signer or Identity(None, key)  # type: ignore[arg-type] # only the key of it is used
    usages = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usages),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above.key.public_key()), critical=False)
    )
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return Identity(builder.sign(above.key, hashes.SHA256()), key, signer)


class Server(http.server.ThreadingHTTPServer):
    """An HTTPS server on a free port of loopback. It counts the requests that reach it."""

    daemon_threads = True

    def __init__(self, host: str, identity: Identity, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.host = host
        self.requests = 0
        certificate, key = folder / f"{host}.pem", folder / f"{host}.key"
        certificate.write_bytes(identity.chain_pem())
        key.touch(0o600)
        key.write_bytes(
            identity.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        # The handshake belongs to the connection's own thread: one client that dawdles must not hold up the others.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.server_address[1]}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what happens here all the time: the proxy looks at the certificate and leaves."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every GET with one line."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        body = f"Hello from {self.server.host}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the demonstration prints what matters."""
