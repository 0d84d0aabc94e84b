"""Built-in authorities for the tests of what they sign; made once per process, since RSA keys take seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certs.authority import BuiltInAuthority, make_built_in
from certs.names import parse_host
from certs.profile import LeafRequest
from certs.signer import LocalSigner

NOW = datetime.now(UTC)  # noqa: TID251 - openssl, which also judges these certificates, has no other clock
WEEK = timedelta(days=7)
LEAF_KEY = ec.generate_private_key(ec.SECP256R1())

type Algorithm = Literal["ecdsa", "rsa"]


def authority(algorithm: Algorithm = "ecdsa") -> BuiltInAuthority:
    return _authority(algorithm)


@cache
def _authority(algorithm: Algorithm) -> BuiltInAuthority:
    return make_built_in("default", "test installation", NOW, algorithm)


def signer(algorithm: Algorithm = "ecdsa") -> LocalSigner:
    return LocalSigner(authority(algorithm).intermediate_key)


@cache
def leaf_key(algorithm: Algorithm) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    return LEAF_KEY if algorithm == "ecdsa" else rsa.generate_private_key(65537, 2048)


def request(
    host: str = "www.example.com", algorithm: Algorithm = "ecdsa", server_not_after: datetime | None = NOW + 90 * WEEK
) -> LeafRequest:
    return LeafRequest(
        parse_host(host), leaf_key(algorithm).public_key(), authority(algorithm).intermediate, server_not_after
    )
