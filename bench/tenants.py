"""Two tenants on one listener, under load at once: is one ever shown what is the other's?

They are told apart by credentials and by network. Each has a CA and a trusted CA of its own; both ask for the same host
and for hosts that only one of their trusted CAs vouches for, and offer each other's TLS sessions. ``make tenants``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench.daemon import generous
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx, Site
from tests.harness.pki import Authority
from tests.harness.shared_listener import LISTENERS, TENANTS, Load, prepare, ways


def main() -> int:
    """Exit status 1 where anything came to something else than it should."""
    parser = argparse.ArgumentParser(prog="python -m bench.tenants", description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    public = Authority.root("Public Root")
    own = {tenant: Authority.root(f"Own Root of {tenant}") for tenant in TENANTS}
    with tempfile.TemporaryDirectory(prefix="sallyport-tenants-") as name:
        folder = Path(name)
        sites = [Site("good.example", public.leaf("good.example"))]
        sites += [Site(f"{tenant}.example", own[tenant].leaf(f"{tenant}.example")) for tenant in TENANTS]
        with Nginx(folder, sites) as origin:
            daemon = Daemon(
                folder / "daemon", hosts=dict.fromkeys(origin.sites, "127.0.0.1"), common=public, listeners=LISTENERS,
                ways=ways(), workers=arguments.workers,
                extra={"log": {"level": "error"}, "limits": generous()},
            )  # fmt: skip
            daemon.forked = False
            with daemon:
                prepare(daemon, own)
                places = {each: f"{each}:{origin[each].port}" for each in origin.sites}
                private = {tenant: places[f"{tenant}.example"] for tenant in TENANTS}
                load = Load(daemon, places["good.example"], private)
                began = time.monotonic()
                told = load.run(arguments.connections, arguments.threads)
                seconds = time.monotonic() - began
                faults = len(daemon.log("fault"))
    for kind, count in sorted(told.kinds.items()):
        print(f"{count:7} connections of {kind}")
    print(f"{told.resumed:7} of them resumed a session of their own tenant's")
    print(f"{len(told.problems):7} wrong, {faults} faults, in {seconds:.0f} s")
    for problem in told.problems[:20]:
        print(problem, file=sys.stderr)
    return 1 if told.problems or faults or sum(told.kinds.values()) != arguments.connections else 0


if __name__ == "__main__":
    sys.exit(main())
