"""Whom a tenant trusts, and the TLS context of the server leg that asks OpenSSL for its opinion.

An :class:`Anchor` ends a path; a helper only helps to build one. Of a bundle that an administrator added, the topmost
certificate alone is an anchor: with the others as anchors too, the topmost one's constraints and expiry would count
for nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from OpenSSL import SSL, crypto

from certs.authority import excess
from certs.facts import NameKey, kept_subject
from certs.failures import EXCESSIVE_KEY
from certs.signer import SigningKey

_COMMON_STORES = 4
_TRUSTED_FIRST = 0x8000  # X509_V_FLAG_TRUSTED_FIRST; pyOpenSSL has no name for it
VERIFY_DEPTH = 10
"""Certificates between the server's own and the anchor, at most."""

# Forward secrecy only, AEAD first; CBC with ECDHE for servers that have nothing newer. TLS 1.3's suites are not in this
# list and are all good. aNULL, PSK and SRP would do without a certificate; SECLEVEL 2 is 112 bits.
SERVER_LEG_CIPHERS = (
    "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:"
    "!aNULL:!eNULL:!PSK:!SRP:!kRSA:!DSS:!AESCCM:!ARIA:!CAMELLIA:@SECLEVEL=2"
)


# For hosts that the operator says are old: RSA key exchange and CBC too. No finite-field DH, whose size nothing would
# look at on this level; the strength of keys and signatures in the chain is judged as everywhere.
OLD_SERVER_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:kRSA+AES:!aNULL:!eNULL:!PSK:!SRP:!DSS:!AESCCM:@SECLEVEL=0"


@dataclass(frozen=True, slots=True, eq=False)
class ClientIdentity:
    """What is shown to a server that asks for a client certificate: the certificate, those above it, and its key."""

    certificates: tuple[x509.Certificate, ...]
    key: SigningKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How TLS is spoken with a server: from which version on (pyOpenSSL's constants), and with which certificate.

    ``asked``: what becomes of a connection whose server asks for a certificate where there is none to show: the
    handshake goes on without (none), or it is blocked, or the client has it undecrypted (bypass).
    """

    minimum: int = SSL.TLS1_2_VERSION
    identity: ClientIdentity | None = None
    asked: Literal["none", "block", "bypass"] = "none"
    stapled: bool = False
    """The server is asked to send an OCSP answer about its certificate along (RFC 6066 8)."""

    @property
    def blocks_who_asks(self) -> bool:
        """A server that asks for a certificate is blocked."""
        return self.identity is None and self.asked == "block"

    @property
    def bypasses_who_asks(self) -> bool:
        """A server that asks for a certificate is left to the client."""
        return self.identity is None and self.asked == "bypass"


USUAL = ServerTls()


@dataclass(frozen=True, slots=True)
class Anchor:
    """A certificate in which a path may end. ``common``: of the common store; else the tenant's own."""

    certificate: x509.Certificate
    common: bool


class TrustStore:
    """A tenant's anchors and helpers. Immutable: another set is another store.

    ``common`` are the anchors of the common store, ``own`` the tenant's bundles, each in order with the topmost
    certificate last. An anchor that is both is the tenant's own, and so is judged by the milder rules.
    Raises ValueError for a certificate of which the subject cannot be read.
    """

    __slots__ = ("_anchors_by_subject", "_by_certificate", "_helpers_by_subject", "anchors", "helpers")

    anchors: tuple[Anchor, ...]
    helpers: tuple[x509.Certificate, ...]

    def __init__(self, common: Sequence[x509.Certificate], own: Sequence[Sequence[x509.Certificate]]) -> None:
        kept = {bundle[-1]: Anchor(bundle[-1], common=False) for bundle in own if bundle}
        for certificate in common:
            kept.setdefault(certificate, Anchor(certificate, common=True))
        helpers = dict.fromkeys(c for bundle in own for c in bundle[:-1] if c not in kept)
        self.anchors = tuple(kept.values())
        self.helpers = tuple(helpers)
        self._by_certificate = kept
        self._anchors_by_subject: dict[NameKey, list[Anchor]] = {}
        for anchor in self.anchors:
            self._anchors_by_subject.setdefault(kept_subject(anchor.certificate), []).append(anchor)
        self._helpers_by_subject: dict[NameKey, list[x509.Certificate]] = {}
        for helper in self.helpers:
            self._helpers_by_subject.setdefault(kept_subject(helper), []).append(helper)

    def anchor(self, certificate: x509.Certificate) -> Anchor | None:
        """The anchor that this very certificate is, or None."""
        return self._by_certificate.get(certificate)

    def anchors_named(self, subject: NameKey) -> Sequence[Anchor]:
        return self._anchors_by_subject.get(subject, ())

    def helpers_named(self, subject: NameKey) -> Sequence[x509.Certificate]:
        return self._helpers_by_subject.get(subject, ())

    def openssl_store(self) -> Iterator[crypto.X509]:
        """The anchors as pyOpenSSL has them."""
        return (_for_openssl(anchor.certificate) for anchor in self.anchors)

    def configure(self, context: SSL.Context) -> None:
        """Make these anchors, and no others, those of the context."""
        store = context.get_cert_store()
        if store is None:
            raise ValueError("the TLS context has no certificate store")
        for certificate in self.openssl_store():
            store.add_cert(certificate)
        # An uploaded intermediate without its root is an anchor too (PARTIAL_CHAIN); what the server sends must not
        # lead away from an anchor that would do (TRUSTED_FIRST).
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN | _TRUSTED_FIRST)


@lru_cache(maxsize=1024)
def _for_openssl(certificate: x509.Certificate) -> crypto.X509:
    """The certificate for OpenSSL, parsed once: stores of one program have most of their anchors in common."""
    return crypto.X509.from_cryptography(certificate)


def parse_common_store(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a common store's PEM file, each once. The last few files are remembered.

    Raises ValueError, one line, where there is none or one cannot be read.
    """
    # The bytes are the key of the cache: hashing a few hundred KiB costs less than parsing them, and few are kept.
    return _parsed(pem)


@lru_cache(maxsize=_COMMON_STORES)
def _parsed(pem: bytes) -> tuple[x509.Certificate, ...]:
    try:
        with warnings.catch_warnings():
            # Some roots of the common store have the serial number 0, about which cryptography warns.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ValueError(f"the common store holds no certificates that can be read: {error}") from error
    return tuple(dict.fromkeys(certificates))


class Collector(Protocol):
    """What :func:`collect` and the like write to: a connection's app data from before the handshake."""

    errors: list[tuple[int, int]]
    asked: bool
    """The server asked for a client certificate."""
    stapled: bytes
    """The OCSP answer that the server sent along; empty where it sent none, or was not asked for one."""

    def may_be_shown(self, connection: SSL.Connection) -> bool | None:
        """Whether the server, whose certificate is there and verified by now, may be shown the context's.

        None: that is not known yet. The handshake waits, and this is asked again each time that it is called to go on.
        """


def collect(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """The verify callback of the server leg: write down what OpenSSL objects to, and let the handshake go on.

    Each (X509_V_ERR code, depth) goes once into ``connection.get_app_data().errors``. It must be judged
    (:func:`certs.verify.judge`) before the first byte of a request is sent. A connection without app data fails its
    handshake here: pyOpenSSL raises the AttributeError from ``do_handshake``.

    What nobody vouches for must not cost much all the same. OpenSSL goes down the chain, and verifies the next
    signature with the key of the certificate that it has just told of here; so where it has objected to anything, a
    key in :func:`certs.authority.excess` ends the handshake (:data:`certs.failures.EXCESSIVE_KEY`). What leads to an
    anchor without objection has no keys but those that the anchor vouches for.
    """
    errors: list[tuple[int, int]] = connection.get_app_data().errors
    if not ok and (error, depth) not in errors:
        errors.append((error, depth))
    if errors and _excessive(certificate):
        # pyOpenSSL raises it from do_handshake, like what OpenSSL itself ends a handshake for.
        raise SSL.Error([("SSL routines", "", EXCESSIVE_KEY)])
    return True


def _excessive(certificate: crypto.X509) -> bool:
    """Whether no signature is verified with the certificate's key. One that cannot be read verifies none either."""
    try:
        return excess(certificate.get_pubkey().to_cryptography_key()) is not None
    except (crypto.Error, ValueError, UnsupportedAlgorithm):
        return False


@SSL._ffi.callback("int(SSL *, void *)")  # type: ignore[attr-defined,untyped-decorator]
def note_request(ssl: object, _: object) -> int:
    """OpenSSL's certificate callback, called on the client's side just when the server asks for a certificate.

    By then the server's own has been verified, in TLS 1.2 and 1.3. 0 fails the handshake, as an exception here does; a
    negative number suspends it (SSL_CTX_set_cert_cb(3)): ``do_handshake`` raises WantX509LookupError.
    """
    connection = SSL.Connection._reverse_mapping[ssl]
    noted: Collector = connection.get_app_data()
    noted.asked = True
    shown = True if connection.get_certificate() is None else noted.may_be_shown(connection)
    return -1 if shown is None else int(shown)


def keep_stapled(connection: SSL.Connection, answer: bytes, _: object) -> bool:
    """The OCSP callback of the server leg: keep what was sent along, to be judged with the chain later on."""
    connection.get_app_data().stapled = answer
    return True


def server_leg_context(trust: TrustStore, tls: ServerTls = USUAL) -> SSL.Context:
    """A client context that verifies against these anchors, collects every objection, and refuses weak TLS.

    TLS 1.2 and 1.3, security level 2, forward secrecy only, no compression, renegotiation or session reuse; for an
    older minimum, the ciphers of that time. Every connection of it needs app data for :func:`collect`.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(tls.minimum)
    old = tls.minimum < SSL.TLS1_2_VERSION
    context.set_cipher_list((OLD_SERVER_CIPHERS if old else SERVER_LEG_CIPHERS).encode())
    if tls.identity is not None:
        own, *above = tls.identity.certificates
        context.use_certificate(own)
        context.use_privatekey(tls.identity.key)
        for certificate in above:
            context.add_extra_chain_cert(certificate)
    SSL._lib.SSL_CTX_set_cert_cb(context._context, note_request, SSL._ffi.NULL)  # type: ignore[attr-defined]
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_verify(SSL.VERIFY_PEER, collect)
    context.set_verify_depth(VERIFY_DEPTH)
    if tls.stapled:
        context.set_ocsp_client_callback(keep_stapled)
    trust.configure(context)
    return context
