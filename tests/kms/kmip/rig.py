"""A key manager's PKI for these tests, and how it is reached."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs.names import parse_host
from kms.kmip.connection import Endpoint, Reach
from kms.kmip.identity import Identity, tls_context
from tests.harness.kmip_server import client_certificate
from tests.harness.pki import Authority, Issued, kept_key

HOST = "kms.example"
SIGNING_KEY = cast(rsa.RSAPrivateKey, kept_key("rsa2048", 7))


@cache
def root() -> Authority:
    """Of the key manager's certificate and of those of its clients."""
    return Authority.root("Key Manager Root")


@cache
def server_identity() -> Issued:
    return root().leaf([HOST, "other.example", "127.0.0.1"])


@cache
def client() -> Issued:
    return client_certificate(root())


def identity_of(issued: Issued, server_ca: Authority | None = None) -> Identity:
    key = issued.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return Identity((issued.raw,), key, ((server_ca or root()).raw,))


def reach(identity: Identity | None = None, **more: Any) -> Reach:
    """How the tests' servers on loopback are reached: by names that are known, private addresses allowed."""
    names = {HOST: "127.0.0.1", "other.example": "127.0.0.1", "wrong.example": "127.0.0.1"}
    settings: dict[str, Any] = {"names": names, "private": True} | more
    return Reach(tls_context(identity or identity_of(client())), **settings)


def at(port: int, host: str = HOST) -> Endpoint:
    return Endpoint(parse_host(host), port)
