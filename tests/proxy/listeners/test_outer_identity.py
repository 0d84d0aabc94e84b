"""Whose a client with a certificate is, while the files that say so change."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL, crypto

from config.settings import Listener
from proxy.listeners.outer_identity import Given
from tests.harness.pki import Authority, Issued

ACME = Authority.root("Acme Clients")
BETA = Authority.root("Beta Clients")
PUBLIC = Authority.root("Public Root")


def given(folder: Path, authority: Authority) -> Given:
    certificate, key = PUBLIC.leaf("proxy.example").write(folder, "proxy")
    (folder / "clients.pem").write_bytes(authority.pem())
    tls = {
        "certificate": str(certificate), "key": str(key), "client_certificates": "required",
        "client_cas": [{"file": str(folder / "clients.pem"), "tenant": "acme"}],
    }  # fmt: skip
    listener = Listener.model_validate({"name": "given", "mode": "explicit-tls", "bind": "127.0.0.1:0", "tls": tls})
    return Given(listener, SSL.TLS1_2_VERSION)


def handshake(server: SSL.Connection, client: Issued) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.use_certificate(crypto.X509.from_cryptography(client.certificate))
    pem = client.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, pem))
    other = SSL.Connection(context, None)
    other.set_connect_state()
    for _ in range(4):
        for one, two in ((other, server), (server, other)):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                two.bio_write(one.bio_read(65536))


def test_a_handshake_is_of_the_tenant_whose_ca_it_was_verified_by(tmp_path: Path) -> None:
    files = given(tmp_path, ACME)
    under_way = files.connection()
    (tmp_path / "clients.pem").write_bytes(BETA.pem())
    os.utime(tmp_path / "clients.pem", ns=(1, 1))
    assert files.read_again()
    client = ACME.leaf("client.example", eku=["client"])
    handshake(under_way, client)
    assert files.tenant_of(under_way) == "acme"
    with pytest.raises(SSL.Error):
        handshake(files.connection(), client)
