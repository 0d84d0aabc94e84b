"""The way to a server that a lane asks for while its connection is under way: name, admission, TCP."""

from __future__ import annotations

import asyncio

from certs.names import Host
from proxy import refusals
from proxy.admission import ResolveError
from proxy.parents import unreached
from proxy.refusals import Refusal, RefusedError
from proxy.session import Session
from proxy.tcp import Reader
from proxy.upstream import DialError, dial


async def is_elsewhere(session: Session, name: Host, address: Host) -> Refusal | None:
    """Why a client that was on its way to ``address`` may not ask for ``name`` there; None where it may.

    By the setting tunnel.address_check: the address has to be one of those that the name has here. Where the way in was
    told a name, that is no matter of addresses.
    """
    worker = session.worker
    if worker.settings.tunnel.address_check == "off" or not address.is_ip:
        return None
    try:
        addresses = await worker.resolver.resolve(name, session.peer)
    except ResolveError as error:
        return refusals.unresolved(name.text, session.id, error.timed_out, str(error))
    return None if address.text in addresses else refusals.address_mismatch(name.text, address.text, session.id)


async def reach(
    session: Session, host: Host, port: int, protocol: Reader, *, tunnel: bool = True
) -> tuple[asyncio.Transport, str]:
    """Open a connection for the protocol; the transport, and the address. Admission as for a CONNECT.

    Where the way in has said whereto, it is there, whatever the client's request names. Where the host is reached
    through a parent, and without ``tunnel``, it is a connection to the parent, to be asked in absolute-form (RFC 9112,
    section 3.2.2). Raises RefusedError where name, rules or network forbid it.
    """
    worker, id_ = session.worker, session.id
    if host.text == worker.site.name:
        raise RefusedError(refusals.own_name(host.text, id_))
    if session.towards is not None and session.goes_to(host) is session.towards[0]:
        if (refusal := await is_elsewhere(session, host, session.towards[0])) is not None:
            raise RefusedError(refusal)
        host, port = session.towards
    if (refusal := session.outdated(host.text)) is not None:
        raise RefusedError(refusal)
    began = session.loop.time()
    parent = worker.parents.of(session.tenant.tenant, host)
    try:
        # A name is the parent's to resolve; an address is judged here.
        named = parent is not None and not host.is_ip
        addresses = () if named else await worker.resolver.resolve(host, session.peer)
    except ResolveError as error:
        raise RefusedError(refusals.unresolved(host.text, id_, error.timed_out, str(error))) from None
    permitted = tuple(address for address in addresses if worker.egress.permits(address))
    if session.followed:
        session.stage("admission", began, listener=session.listener.name, host=host.text, port=port,
                      egress="permitted" if permitted or named else "denied", addresses=permitted or addresses,
                      parent=parent.address if parent is not None else None)  # fmt: skip
    if not (permitted or named):
        raise RefusedError(refusals.destination_prohibited(host.text, addresses[0] if addresses else None, id_))
    try:
        if parent is None:
            return await dial(permitted, port, lambda: protocol, worker.limits.connect_timeout)
        return await worker.parents.through(parent, host, port, protocol, worker.limits.connect_timeout, tunnel=tunnel)
    except DialError as error:
        raise RefusedError(unreached(error, host.text, port, id_)) from None
