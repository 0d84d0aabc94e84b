"""Which hosts a request names."""

from __future__ import annotations

from mitmproxy import http

from certs.names import Host, parse_authority, parse_host


def hosts_of(flow: http.HTTPFlow) -> list[Host]:
    """Every host that the request names: where it goes, its authority, each Host field, the SNI; each once.

    They are one host in an honest request. Where they differ, which of them a server goes by is not known here, so a
    rule for any of them counts. Raises InvalidHost for one that cannot be read: then no rule can be held against it.
    """
    request = flow.request
    found = {parse_host(request.host).text: parse_host(request.host)} if request.host else {}
    for authority in (request.authority, *request.headers.get_all("host")):
        if authority and authority not in found:
            host, _ = parse_authority(authority, 0)
            found[host.text] = host
    sni = flow.client_conn.sni
    if sni and sni not in found:
        host = parse_host(sni)
        found[host.text] = host
    return list(found.values())
