"""``sallyport kmip forwarder``: a small process between data plane and key manager; no configuration, no state."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import clock, output

if TYPE_CHECKING:
    from kms.kmip.connection import Endpoint
    from kms.kmip.forwarder import Forwarder

OTHERS_MAY_READ = 0o077
OTHER_FILES = 64
"""That are open beside those of connections."""


@click.command(name="forwarder")
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where the data plane connects to.")
@click.option("--target", "targets", required=True, multiple=True, metavar="HOST[:PORT]",
              help="The key manager; may be repeated, in the order in which they are tried.")  # fmt: skip
@click.option("--cert", required=True, metavar="F", help="The forwarder's own certificate, and those above it.")
@click.option("--key", required=True, metavar="F", help="Its key (0600).")
@click.option("--client-ca", required=True, metavar="F", help="The CA of the clients that may connect.")
@click.option("--target-cert", required=True, metavar="F", help="The client certificate for the key manager.")
@click.option("--target-key", required=True, metavar="F", help="Its key (0600).")
@click.option("--target-ca", required=True, metavar="F", help="The CA of the key manager's certificate.")
@click.option("--key-name", "names", multiple=True, metavar="NAME",
              help="Only keys of this name may be used; may be repeated. Without it: all.")  # fmt: skip
@click.option("--source-address", metavar="ADDRESS", help="The address from which the key manager is connected to.")
@click.option("--health", metavar="HOST:PORT", help="Answer /healthz there, in plain HTTP.")
@click.option("--connections", type=click.IntRange(1, 10_000), default=64, show_default=True, help="At a time.")
@click.option("--rate", type=click.IntRange(1, 100_000), default=500, show_default=True, help="Requests a second.")
def command(
    listen: str,
    targets: tuple[str, ...],
    cert: str,
    key: str,
    client_ca: str,
    target_cert: str,
    target_key: str,
    target_ca: str,
    names: tuple[str, ...],
    source_address: str | None,
    health: str | None,
    connections: int,
    rate: int,
) -> None:
    """Pass DiscoverVersions, Query, Locate, GetAttributes and Sign on to a key manager, and nothing else.

    In the foreground, until SIGTERM. Events go to standard error as JSON lines.
    """
    from kms.kmip.connection import Reach
    from kms.kmip.errors import KmipError
    from kms.kmip.forwarder import Forwarder, ForwarderLimits
    from kms.kmip.identity import Identity, tls_context

    _enough_files(connections)
    place, watched = _place(listen), None if health is None else _place(health)
    ends = [_endpoint(target) for target in targets]
    chain, authorities = _certificates(target_cert), _certificates(target_ca)
    try:
        context = tls_context(Identity(chain, _key(target_key), authorities))
    except KmipError:
        output.misuse(f"{target_cert}, {target_key} or {target_ca} cannot be used: certificate and key belong together")
    limits = ForwarderLimits(connections=connections, rate=rate, rate_each=rate)
    reach = Reach(context, private=True, source=source_address)
    forwarder = Forwarder(ends, reach, limits, frozenset(names) or None, _log, time.monotonic)
    try:
        asyncio.run(_run(forwarder, place, _server_context(cert, key, client_ca), watched))
    except OSError as error:
        output.misuse(f"{listen if health is None else f'{listen} or {health}'}: {error.strerror or error}")


async def _run(
    forwarder: Forwarder, place: tuple[str, int], context: ssl.SSLContext, watched: tuple[str, int] | None
) -> None:
    from proxy.monitor_http import Server

    async def answer(path: str, _accept: str) -> Any:
        return _health(forwarder, path)

    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    listening = [await forwarder.listen(*place, context)]
    if watched is not None:
        http = Server(answer, lambda error: _log("fault", reason=type(error).__name__))
        listening.append(await loop.create_server(http.connection, *watched))
    watching = loop.create_task(forwarder.watch())
    where = [f"{host}:{port}" for server in listening for host, port, *_ in (server.sockets[0].getsockname(),)]
    _log("ready", listens=where[0], health=where[1] if len(where) > 1 else None)
    await ending.wait()
    for server in listening:
        server.close()
    watching.cancel()
    _log("ended")


def _health(forwarder: Forwarder, path: str) -> Any:
    from proxy.monitor_http import Reply

    if path != "/healthz":
        return None
    if forwarder.unwell is None:
        return Reply(200, b"ok\n")
    return Reply(503, f"no target: {forwarder.unwell}\n".encode())


def _server_context(cert: str, key: str, client_ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _private(key)
    try:
        context.load_verify_locations(cadata=b"".join(_certificates(client_ca)))
        context.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError):
        output.misuse(f"{cert}, {key} or {client_ca} cannot be used: certificate and key belong together, in PEM")
    return context


def _enough_files(connections: int) -> None:
    """Have as many open files as that takes: one for a handshake, two for a connection and the one out."""
    needed = 3 * connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            most = max(1, (hard - OTHER_FILES) // 3)
            output.misuse(
                f"--connections {connections} needs {needed} open files, and this process may have {hard}: at most "
                f"{most}, or raise that limit (ulimit -Hn, LimitNOFILE=)"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _place(text: str) -> tuple[str, int]:
    from certs.names import InvalidHost, parse_authority

    try:
        host, port = parse_authority(text)
    except InvalidHost as error:
        output.misuse(f"{text}: {error}; expected HOST:PORT")
    return host.text, port


def _endpoint(text: str) -> Endpoint:
    from certs.names import InvalidHost, parse_authority
    from kms.kmip.connection import DEFAULT_PORT, Endpoint

    try:
        return Endpoint(*parse_authority(text, default_port=DEFAULT_PORT))
    except InvalidHost as error:
        output.misuse(f"{text}: {error}; expected HOST or HOST:PORT")


def _certificates(name: str) -> tuple[bytes, ...]:
    from cryptography.hazmat.primitives.serialization import Encoding

    from certs.formats import BundleError, read_certificates

    try:
        found = read_certificates(output.read_input(name))
    except BundleError as error:
        output.misuse(f"{name}: {error}")
    return tuple(each.public_bytes(Encoding.DER) for each in found)


def _key(name: str) -> bytes:
    from certs.private_keys import KeyProblem, read_private_key
    from control.built_in import pkcs8

    _private(name)
    try:
        return pkcs8(read_private_key(output.read_input(name), None))
    except KeyProblem as error:
        output.misuse(f"{name}: {error}")


def _private(name: str) -> None:
    try:
        mode = Path(name).stat().st_mode
    except OSError as error:
        output.misuse(f"{name}: {error.strerror or error}")
    if mode & OTHERS_MAY_READ:
        output.misuse(f"{name}: others may read this private key; chmod 600 it")


def _log(event: str, /, **fields: object) -> None:
    now = clock.now().timestamp()
    told = {name: value for name, value in fields.items() if value not in (None, ())}
    sys.stderr.write(json.dumps({"time": round(now, 3), "event": event, "from": "kmip forwarder", **told}) + "\n")
    sys.stderr.flush()
