"""TLS handshakes in memory: a server with a chain, good or bad, against a client context; no sockets."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

from OpenSSL import SSL, crypto

from tests.harness.pki import Issued


@dataclass
class Seen:
    """The client connection's app data, as the data plane sets one."""

    errors: list[tuple[int, int]] = field(default_factory=list)
    asked: bool = False
    stapled: bytes = b""

    def may_be_shown(self, connection: SSL.Connection) -> bool:
        return False


SEEN = object()


def server_context(
    leaf: Issued,
    chain: Sequence[bytes] | None = None,
    *,
    ciphers: str = "ALL",
    versions: tuple[int, int] = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION),
    stapled: bytes = b"",
) -> SSL.Context:
    """A server with this certificate and key, which sends the DER of ``chain`` behind it (default: its issuers).

    ``stapled``: the OCSP answer that it sends along to who asks for one.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    if stapled:
        context.set_ocsp_server_callback(lambda connection, data: stapled)
    context.set_cipher_list(f"{ciphers}:@SECLEVEL=0".encode())
    context.set_min_proto_version(versions[0])
    context.set_max_proto_version(versions[1])
    if chain is None:
        chain = [issued.raw for issued in leaf.line()[1:]]
    with warnings.catch_warnings():
        # pyOpenSSL would rather have cryptography's objects, which cannot hold all that is broken here.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.use_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, leaf.raw))
        context.use_privatekey(crypto.PKey.from_cryptography_key(leaf.key))
        for der in chain:
            context.add_extra_chain_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, der))
    return context


def shake_hands(
    client_context: SSL.Context,
    server: SSL.Context,
    host: str | None = None,
    *,
    altered: tuple[bytes, bytes] | None = None,
    app_data: object = SEEN,
    staple: bool = False,
) -> tuple[SSL.Connection, Seen]:
    """Run both sides to the end. Raises what the client raises (SSL.Error).

    ``altered``: bytes in what the server sends that arrive as others, of the same length. In TLS 1.2 its certificates
    are not encrypted. ``app_data``: what the client connection carries in place of a :class:`Seen`. ``staple``: the
    client asks for a stapled OCSP answer.
    """
    seen = Seen()
    client = SSL.Connection(client_context, None)
    client.set_app_data(seen if app_data is SEEN else app_data)
    client.set_connect_state()
    if staple:
        client.request_ocsp()
    if host is not None:
        client.set_tlsext_host_name(host.encode())
    far = SSL.Connection(server, None)
    far.set_accept_state()
    for _ in range(20):
        done = _step(client)
        _pass_on(client, far, None)
        try:
            far_done = _step(far)
        except SSL.Error:
            far_done = True
        _pass_on(far, client, altered)
        if done and far_done:
            return client, seen
    raise TimeoutError("the handshake does not end")


def _step(connection: SSL.Connection) -> bool:
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return False
    return True


def _pass_on(source: SSL.Connection, target: SSL.Connection, altered: tuple[bytes, bytes] | None) -> None:
    while True:
        try:
            data = source.bio_read(65536)
        except SSL.WantReadError:
            return
        target.bio_write(data.replace(*altered) if altered else data)
