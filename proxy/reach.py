"""The way to a server that a lane asks for while its connection is under way: name, admission, TCP."""

from __future__ import annotations

import asyncio

from certs.names import Host
from proxy import refusals
from proxy.admission import ResolveError
from proxy.refusals import RefusedError
from proxy.session import Session
from proxy.upstream import DialError, dial


async def reach(
    session: Session, host: Host, port: int, protocol: asyncio.BaseProtocol
) -> tuple[asyncio.Transport, str]:
    """Open a connection for the protocol; the transport, and the address. Admission as for a CONNECT.

    Where the way in has said whereto, it is there, whatever the request names. Raises RefusedError where name, rules or
    network forbid it.
    """
    if session.towards is not None:
        host, port = session.towards
    worker, id_ = session.worker, session.id
    if (refusal := session.outdated(host.text)) is not None:
        raise RefusedError(refusal)
    began = session.loop.time()
    try:
        addresses = await worker.resolver.resolve(host, session.peer)
    except ResolveError as error:
        raise RefusedError(refusals.unresolved(host.text, id_, error.timed_out, str(error))) from None
    permitted = tuple(address for address in addresses if worker.egress.permits(address))
    if session.followed:
        session.stage("admission", began, listener=session.listener.name, host=host.text, port=port,
                      egress="permitted" if permitted else "denied", addresses=permitted or addresses)  # fmt: skip
    if not permitted:
        raise RefusedError(refusals.destination_prohibited(host.text, addresses[0] if addresses else None, id_))
    try:
        return await dial(permitted, port, lambda: protocol, worker.limits.connect_timeout)
    except DialError as error:
        raise RefusedError(refusals.unreachable(error.error, host.text, port, id_, str(error))) from None
