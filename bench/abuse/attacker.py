"""The process that attacks: ``python -m bench.abuse.attacker NAME AIM``, its report as JSON on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.abuse import crowd, headers, hello, http2, pointers, renegotiation, servers, slow
from bench.abuse.aim import Aim, Report
from bench.machine import descriptor_limit

BOTH = ("fast", "inspected")
ONE = ("fast",)
"""What ends before there is a lane is tried once."""


@dataclass(frozen=True)
class Attack:
    """``seconds`` bound it; ``kib`` is the memory that it may cost beyond the quiet."""

    run: Callable[[Aim], Report] | None
    lanes: tuple[str, ...]
    seconds: float
    kib: int = 128 * 1024
    descriptors: int | None = None
    """The daemon's own, where they are what is attacked."""
    points: bool = False
    """It is about what certificates point to: the daemon asks about revocation, and trusts a CA of the attacker's."""


ATTACKS: dict[str, Attack] = {
    "hello-16mb": Attack(hello.huge_hello, ONE, 15),
    "connect-headers": Attack(headers.connect_headers, ONE, 15),
    "request-headers": Attack(headers.request_headers, BOTH, 15),
    "slow-connect": Attack(slow.slow_connect, ONE, 60),
    "slow-tls": Attack(slow.slow_tls, ONE, 60),
    "slow-request": Attack(slow.slow_request, BOTH, 60),
    "slow-read": Attack(slow.slow_read, BOTH, 85),
    "h2-resets": Attack(http2.resets, BOTH, 30),
    "h2-continuation": Attack(http2.continuation, BOTH, 15),
    "h2-empty-continuation": Attack(http2.empty_continuation, BOTH, 15),
    "h2-settings": Attack(http2.settings, BOTH, 15),
    "h2-pings": Attack(http2.pings, BOTH, 15),
    "h2-empty-data": Attack(http2.empty_data, BOTH, 15),
    "stopped-reader": Attack(http2.stopped_reader, BOTH, 20),
    "idle-10k": Attack(None, BOTH, 45, kib=0),
    "renegotiation": Attack(renegotiation.renegotiation, ONE, 15),
    "fragments": Attack(hello.fragments, BOTH, 15),
    "connects-100k": Attack(crowd.silent_connects, ONE, 60),
    "descriptors": Attack(crowd.exhausted, ONE, 20, descriptors=300),
    "plain-chain": Attack(servers.shown_by("chains/an_end_below_an_unknown_root"), ONE, 20),
    "hundred-certificates": Attack(servers.shown_by("size/a_hundred_certificates"), ONE, 20),
    "16mb-chain": Attack(servers.shown_by("size/a_chain_of_16_mb"), ONE, 20),
    "issuers-of-one-name": Attack(servers.shown_by("size/fifteen_issuers_of_one_name"), ONE, 20),
    "loops": Attack(servers.shown_by("chains/a_mesh_of_cross_certificates"), ONE, 20),
    "names": Attack(servers.shown_by("size/three_thousand_names"), ONE, 20),
    "names-and-constraints": Attack(servers.shown_by("size/two_thousand_names_and_two_thousand_constraints"), ONE, 20),
    "addresses-and-constraints": Attack(servers.shown_by("size/a_thousand_addresses_and_a_thousand_networks"), ONE, 20),
    "endless-crl": Attack(pointers.endless_crl, ONE, 25, kib=320 * 1024, points=True),
    "aia-inside": Attack(pointers.redirecting_issuer, ONE, 20, points=True),
    "aia-drip": Attack(pointers.dripping_issuer, ONE, 25, points=True),
    "ocsp-drip": Attack(pointers.dripping_responder, ONE, 25, points=True),
    "ocsp-wrong-key": Attack(pointers.responder_with(pointers.of_another_key), ONE, 20, points=True),
    "ocsp-expired": Attack(pointers.responder_with(pointers.out_of_date), ONE, 20, points=True),
    "ocsp-wrong-serial": Attack(pointers.responder_with(pointers.of_another_serial), ONE, 20, points=True),
}
"""``plain-chain`` is no attack: what those below it, servers that show much, are to be compared with.
``endless-crl`` may cost, in each of two workers, two bodies of 20 MiB with what reading them takes, and 64 that wait
with one MiB at most.
``idle-10k`` is done by ``client.c``, which opens connections faster than Python does."""


def main() -> int:
    """Attack, and report."""
    name, aim = sys.argv[1], json.loads(sys.argv[2])
    run = ATTACKS[name].run
    if run is None:
        raise SystemExit(f"{name} is not done by this process")
    with descriptor_limit():
        report = run(
            Aim(
                proxy=(aim["proxy"][0], aim["proxy"][1]),
                target=(aim["target"][0], aim["target"][1]),
                root=Path(aim["root"]),
                host=aim["host"],
                seconds=aim["seconds"],
                descriptors=aim["descriptors"],
                ca=Path(aim["ca"]) if aim["ca"] else None,
                published=aim["published"],
            )
        )
    print(json.dumps(asdict(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
