"""TLS 1.2 renegotiation, again and again: cheap to ask for, costly to do."""

from __future__ import annotations

import select

from OpenSSL import SSL

from bench.abuse.aim import GONE, Aim, Report, clock


def renegotiation(aim: Aim) -> Report:
    """Ask for as many as are granted, over one connection after another."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.load_verify_locations(str(aim.root))
    granted = asked = connections = 0
    more = clock(aim.seconds)
    while more():
        try:
            with aim.tunnel() as tunnel:
                tunnel.setblocking(False)
                tls = SSL.Connection(context, tunnel)
                tls.set_tlsext_host_name(aim.host.encode())
                tls.set_connect_state()
                if not _shaken(tls, tunnel.fileno()):
                    continue
                connections += 1
                for _ in range(1000):
                    if not more():
                        break
                    asked += 1
                    before = tls.total_renegotiations()
                    tls.renegotiate()
                    if not _shaken(tls, tunnel.fileno()) or tls.total_renegotiations() == before:
                        break
                    granted += 1
        except (*GONE, SSL.Error):
            continue
    return Report(f"{asked} asked for over {connections} connections, {granted} granted")


def _shaken(tls: SSL.Connection, number: int) -> bool:
    """Whether the handshake came to its end within three seconds."""
    in_time = clock(3)
    while in_time():
        try:
            tls.do_handshake()
        except SSL.WantReadError:
            select.select([number], [], [], 0.5)
        except SSL.Error:
            return False
        else:
            return True
    return False
