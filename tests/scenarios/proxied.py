"""A daemon that trusts for each case what the case is about, and a client that asks it for one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256

from certs.names import parse_host
from certs.verdict import Action, Defect
from config.loader import load
from control import host_exceptions, signing_cas
from control.host_exceptions import Wanted
from control.installation import DEFAULT_TENANT, Installation
from control.signing_cas import Upload
from store import trusted_cas
from tests.harness.daemon import Daemon
from tests.harness.pki import NOW, Issued
from tests.harness.raw_http import Ended, Way, connect
from tests.scenarios.base import Scenario, publisher
from tests.scenarios.revocation import PKI
from tests.scenarios.serving import Serving


def prepared(folder: Path, serving: Serving) -> Daemon:
    """A daemon, not started yet, for which each case's own anchors count at its host, and its signing CAs are ours.

    It asks about revocation, softly but for the hosts of the cases that say otherwise.

    The anchors go into the store as they are: those that are weak or expired are refused by the command, as they
    should, and one can be for a hundred hosts there at most.
    """
    names = [one for one in serving.scenarios if not parse_host(one.server.host).is_ip]
    daemon = Daemon(
        folder,
        hosts={one.server.host: serving.address(one) for one in names} | {PKI: "127.0.0.1"},
        extra={
            "verification": {
                # What one case shows must not complete the chain of another.
                "complete_chains": False,
                "revocation": "soft",
                "fetch": {"ports": [publisher().port], "private": ["127.0.0.0/8"]},
            }
        },
        common=list({anchor.raw: anchor for one in serving.scenarios for anchor in one.server.common}.values()),
    )
    with Installation.open(load(daemon.config, {}, folder).settings, NOW) as inst:
        with inst.changing(DEFAULT_TENANT) as (connection, tenant):
            for place, (bundle, hosts) in enumerate(_bundles(serving.scenarios)):
                chain = [issued.raw for issued in bundle]
                anchor = bundle[-1].certificate.fingerprint(SHA256())
                trusted_cas.add(connection, tenant.id, f"case {place}", True, chain, anchor, NOW, "tests", hosts)
        for one in serving.scenarios:
            if one.server.hard:
                row = Wanted(one.server.host, Defect.REVOCATION_UNKNOWN, Action.BLOCK, "a case")
                host_exceptions.add(inst, DEFAULT_TENANT, row, NOW)
        for place, one in enumerate(serving.scenarios):
            for authority in one.server.ours:
                upload = Upload((authority.chain_pem(with_root=True),), authority.key_pem())
                signing_cas.import_(inst, DEFAULT_TENANT, f"case {place}", upload, NOW)
    return daemon


def _bundles(scenarios: Sequence[Scenario]) -> Sequence[tuple[Sequence[Issued], list[str]]]:
    """The tenant's own CAs, each with the hosts of the cases that trust it."""
    found: dict[tuple[bytes, ...], tuple[Sequence[Issued], list[str]]] = {}
    for one in scenarios:
        for bundle in one.server.bundles:
            found.setdefault(tuple(issued.raw for issued in bundle), (bundle, []))[1].append(one.server.host)
    return list(found.values())


@dataclass(frozen=True)
class Answer:
    """What a client of the proxy got: the status, the Proxy-Status field, and the problem document, if it was one."""

    status: int
    proxy_status: str
    problem: dict[str, Any]

    @property
    def defects(self) -> tuple[str, ...]:
        """All that was found, each once, in order."""
        return tuple(dict.fromkeys(finding["defect"] for finding in self.problem.get("findings", ())))


def ask(daemon: Daemon, serving: Serving, scenario: Scenario) -> Answer:
    """One request for the case through the proxy, over a connection of its own."""
    host, port = scenario.server.host, serving.port(scenario)
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with connect(Way("proxied", daemon.proxy, str(daemon.root)), host, port, "http/1.1") as pipe:
        fields = f"Host: {shown}\r\nAccept: application/problem+json\r\nConnection: close\r\n"
        pipe.send(f"GET / HTTP/1.1\r\n{fields}\r\n".encode())
        with contextlib.suppress(Ended):
            while True:
                pipe.receive()
        head, _, body = bytes(pipe.received).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    problem = json.loads(body) if headers.get("content-type") == "application/problem+json" else {}
    return Answer(int(first.split()[1]), headers.get("proxy-status", ""), problem)
