"""How inspectors learn of connections: in mitmproxy's order, with its objects, once both legs are up or one has failed.

Nothing waits for an inspector while trust is decided. So a connection is introduced when it stands; one that came to
nothing is told whole, behind its end, where there is nothing left to end.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.proxy import commands, server_hooks
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.tls import (
    TlsClienthelloHook,
    TlsEstablishedClientHook,
    TlsEstablishedServerHook,
    TlsFailedClientHook,
    TlsFailedServerHook,
)
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.tls import ClientHello, ClientHelloData, TlsData

from proxy.lanes.inspection.hooks import InspectorFailed
from proxy.lanes.inspection.layer import LaneContext
from proxy.lanes.inspection.servers import describe
from proxy.log import WARNING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.lanes.inspection.inspectors import Inspectors, Plan
    from proxy.session import Session
    from proxy.tls_leg import TlsLeg
    from proxy.upstream import ServerLeg

REGULAR: Final = ProxyMode.parse("regular")
BEGINNING: Final = frozenset(
    {
        "client_connected", "server_connect", "server_connected", "tls_clienthello", "tls_established_client",
        "tls_established_server",
    }
)  # fmt: skip
"""Hooks at a connection's beginning."""
FAILURE: Final = BEGINNING | {
    "client_disconnected", "server_connect_error", "server_disconnected", "tls_failed_client", "tls_failed_server",
}  # fmt: skip
"""Hooks of one that comes to nothing."""
HEADER: Final = 4
"""Bytes of a handshake message before its body (RFC 8446, section 4)."""


class Failed(Enum):
    """How far a connection came that came to nothing."""

    REACH = auto()
    """There was no TCP to the server."""
    SERVER = auto()
    """The server's handshake failed, or its certificate was refused."""
    CLIENT = auto()
    """The client's handshake failed: most often it does not trust the leaf."""


def client_of(session: Session, leg: TlsLeg | None) -> Client:
    """The client as inspectors know it."""
    transport = session.client
    conn = Client(
        peername=transport.get_extra_info("peername") or ("", 0),
        sockname=transport.get_extra_info("sockname") or ("", 0),
        timestamp_start=session.worker.wall() - (session.loop.time() - session.started),
        state=ConnectionState.OPEN,
        proxy_mode=REGULAR,
        id=session.id,
    )
    if leg is not None:
        describe(conn, leg)
        conn.sni = (leg.tls.get_servername() or b"").decode("ascii", "replace") or None
    return conn


def server_named(conn: Server, host: str, port: int) -> Server:
    """Say of a server's connection where it leads: to the host that the certificate is checked for, with TLS."""
    conn.address = (host, port)
    conn.sni = host
    conn.tls = True
    return conn


def beginning(
    session: Session, inspectors: Inspectors, plan: Plan, context: Context, hello: bytes | bytearray
) -> Iterator[commands.StartHook]:
    """The hooks before the server's. ``hello`` is the ClientHello message, empty where the client speaks no TLS.

    Raises InspectorFailed where mitmproxy cannot read the hello: an inspector that decides by it has not seen it, and
    its ``on_error`` says what becomes of that.
    """
    yield server_hooks.ClientConnectedHook(context.client)
    asked = plan.hooks.get("tls_clienthello")
    if not hello or not asked:
        return
    try:
        shown = ClientHello(bytes(hello[HEADER:]))
    except Exception as error:  # its parser raises all kinds
        if all(hook.settings.on_error == "pass" for hook in asked):
            return
        raise InspectorFailed(asked[0].inspector, "tls_clienthello", f"mitmproxy cannot read it: {error}") from error
    data = ClientHelloData(context, shown)
    yield TlsClienthelloHook(data)
    if data.ignore_connection and inspectors.first_time("ignore_connection"):
        session.log(
            WARNING, "inspector cannot decide this", hook="tls_clienthello", wanted="ignore_connection",
            reason="what is not decrypted is Sallyport's own decision; the connection goes on",
        )  # fmt: skip


def established(context: Context, server: TlsLeg | None, client: TlsLeg | None) -> Iterator[commands.StartHook]:
    """The hooks of a connection whose legs are up. The server was judged before."""
    data = server_hooks.ServerConnectionHookData(client=context.client, server=context.server)
    yield server_hooks.ServerConnectHook(data)
    yield server_hooks.ServerConnectedHook(data)
    yield TlsEstablishedServerHook(TlsData(context.server, context, server.tls if server else None))
    yield TlsEstablishedClientHook(TlsData(context.client, context, client.tls if client else None))


def tell_failed(
    session: Session,
    inspectors: Inspectors,
    plan: Plan,
    host: str,
    port: int,
    hello: bytes | bytearray,
    side: ServerLeg,
    failed: Failed,
    reason: str,
) -> None:
    """Tell inspectors, behind its end, of a connection that came to nothing. What they do wrong is logged, no more."""
    if FAILURE.isdisjoint(plan.hooks):
        return
    context = LaneContext(client_of(session, None), inspectors.options)
    server = server_named(context.server, host, port)
    if side.leg is not None and side.leg.established:
        describe(server, side.leg)
    context.client.tls = True
    context.client.sni = host if hello else None
    context.client.timestamp_end = session.worker.wall()
    # The handshake's bytes and the legs may be gone by the time that an inspector has come back.
    hooks = [*_failure(context, failed, reason)]
    try:
        first = list(beginning(session, inspectors, plan, context, hello))
    except InspectorFailed:
        first = [server_hooks.ClientConnectedHook(context.client)]
    inspectors.run(_tell([*first, *hooks], lambda hook: inspectors.call(plan, hook)))


def _failure(context: Context, failed: Failed, reason: str) -> Iterator[commands.StartHook]:
    client, server = context.client, context.server
    data = server_hooks.ServerConnectionHookData(client=client, server=server)
    yield server_hooks.ServerConnectHook(data)
    if failed is Failed.REACH:
        server.error = reason
        yield server_hooks.ServerConnectErrorHook(data)
    else:
        yield server_hooks.ServerConnectedHook(data)
        if failed is Failed.SERVER:
            server.error = reason
            yield TlsFailedServerHook(TlsData(server, context))
        else:
            yield TlsEstablishedServerHook(TlsData(server, context))
            client.error = reason
            yield TlsFailedClientHook(TlsData(client, context))
        yield server_hooks.ServerDisconnectedHook(data)
    yield server_hooks.ClientDisconnectedHook(client)


async def _tell(hooks: list[commands.StartHook], call: Callable[[commands.StartHook], Awaitable[None] | None]) -> None:
    for hook in hooks:
        try:
            if (rest := call(hook)) is not None:
                await rest
        except InspectorFailed:  # it is in the log, and nothing depends on it
            continue
