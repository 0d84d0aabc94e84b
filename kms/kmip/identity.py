"""Mutual TLS with a key manager: who we are, and who it must be.

TLS is the standard library's: it checks the host's name, sends SNI and speaks with IPv6. It loads a private key from a
file only, so the key goes through one that exists in memory alone, encrypted with a passphrase that nobody else sees.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import ssl
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_der_private_key,
)

from kms.kmip.errors import KmipError, Reason


@dataclass(frozen=True, slots=True)
class Identity:
    """The client's certificate with those above it (DER), its key (PKCS #8), and the CA that issues the server's."""

    chain: tuple[bytes, ...]
    key: bytes = field(repr=False)
    server_ca: tuple[bytes, ...] = ()


def tls_context(identity: Identity) -> ssl.SSLContext:
    """TLS 1.2 or 1.3, for servers that the given CA vouches for and no other.

    Raises KmipError where the certificate and the key cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = True
    context.hostname_checks_common_name = False  # RFC 9525 4.1
    context.verify_mode = ssl.CERT_REQUIRED
    # The CA that was given is trusted, whether or not it is a root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=b"".join(identity.server_ca))
        _load(context, identity)
    except (ssl.SSLError, OSError, ValueError, TypeError):
        # What OpenSSL says could quote what it was given.
        raise KmipError(Reason.TLS, "the client certificate and key, or the server CA, cannot be used") from None
    return context


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    passphrase = secrets.token_bytes(32).hex().encode()
    key = load_der_private_key(identity.key, None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))
    chain = "".join(map(ssl.DER_cert_to_PEM_cert, identity.chain)).encode()
    with contextlib.ExitStack() as files:
        names: list[str] = []
        for content in (chain, sealed):
            number = os.memfd_create("kmip", os.MFD_CLOEXEC)
            files.callback(os.close, number)
            os.write(number, content)
            names.append(f"/proc/self/fd/{number}")
        context.load_cert_chain(names[0], names[1], passphrase)
