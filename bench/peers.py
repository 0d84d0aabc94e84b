"""Proxies that do the same, beside which Sallyport is measured. One that is not installed is left out, and said so.

sslsplit verifies no server and speaks no CONNECT, so it is reached directly: a floor for C, not a like-for-like peer.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.daemon import LoadedDaemon
from bench.machine import descriptor_limit
from bench.origin import Origin
from tests.harness.pki import Authority, new_key
from tests.harness.processes import free_port, wait_for

_CLIENT = 65_534
_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Standing:
    """A proxy that runs: its process, where it listens, which root its clients trust, how they ask."""

    pid: int
    address: str
    root: Path
    speaks_connect: bool = True
    client: tuple[str, ...] = ()
    """What clients are started with."""


@dataclass(frozen=True)
class Peer:
    """``name`` is for the table; ``missing`` says why it cannot run here; ``run`` starts it in a folder."""

    name: str
    missing: Callable[[], str | None]
    run: Callable[[Path, Origin], Iterator[Standing]]
    domain: str = "fast.test"
    http2: bool = True

    @contextmanager
    def standing(self, folder: Path, origin: Origin) -> Iterator[Standing]:
        """It, running."""
        folder.mkdir(parents=True)
        yield from self.run(folder, origin)


def _needs(program: str, package: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        return None if shutil.which(program, path=_PATH) else f"{program} is not installed (apt-get install {package})"

    return missing


def _authority(folder: Path) -> tuple[Path, Path]:
    """An intercepting CA's certificate and key."""
    made = Authority.root("Bench Intercepting CA", key=new_key("rsa2048"))
    return made.write(folder, "intercept")


@contextmanager
def _process(command: list[str], folder: Path, port: int) -> Iterator[int]:
    with (folder / "output").open("wb") as output, descriptor_limit():
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder)
    try:

        def listens() -> bool:
            if process.poll() is not None:
                raise SystemExit(f"bench: {command[0]} ended: {(folder / 'output').read_text()[-1500:]}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(f"{command[0]} to listen", listens, timeout=30)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _squid(folder: Path, origin: Origin) -> Iterator[Standing]:
    certificate, key = _authority(folder)
    port = free_port()
    subprocess.run(
        ["/usr/lib/squid/security_file_certgen", "-c", "-s", str(folder / "ssl_db"), "-M", "32MB"],
        check=True,
        capture_output=True,
    )
    # It drops root; what it writes must be its user's, and what it reads reachable.
    for each in (folder, folder / "ssl_db"):
        subprocess.run(["chown", "-R", "proxy", str(each)], check=True)
    for each in (folder, *list(folder.parents)[:2]):
        each.chmod(0o755)
    bump = "generate-host-certificates=on dynamic_cert_mem_cache_size=32MB"
    (folder / "squid.conf").write_text(f"""
http_port 127.0.0.1:{port} ssl-bump {bump} tls-cert={certificate} tls-key={key}
sslcrtd_program /usr/lib/squid/security_file_certgen -s {folder}/ssl_db -M 32MB
sslcrtd_children 8 startup=2 idle=1
tls_outgoing_options cafile={origin.root_file}
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all
http_access allow all
cache deny all
access_log none
cache_log {folder}/cache.log
pid_filename {folder}/squid.pid
coredump_dir {folder}
shutdown_lifetime 0 seconds
max_filedescriptors 20000
client_lifetime 1 hour
""")
    with _process(["squid", "-N", "-f", str(folder / "squid.conf")], folder, port) as pid:
        yield Standing(pid, f"127.0.0.1:{port}", certificate)


def _sslsplit(folder: Path, origin: Origin) -> Iterator[Standing]:
    certificate, key = _authority(folder)
    port = free_port()
    command = ["sslsplit", "-D", "-k", str(key), "-c", str(certificate), "-P", "ssl"]
    command += ["127.0.0.1", str(port), "127.0.0.1", str(origin.port)]
    with _process(command, folder, port) as pid:
        yield Standing(pid, f"127.0.0.1:{port}", certificate, speaks_connect=False)


def _mitmdump(folder: Path, origin: Origin) -> Iterator[Standing]:
    certificate, key = _authority(folder)
    (folder / "mitmproxy-ca.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
    port = free_port()
    program = str(Path(sys.executable).with_name("mitmdump"))
    command = [program, "-q", "--listen-host", "127.0.0.1", "-p", str(port), "--set", f"confdir={folder}"]
    command += ["--set", f"ssl_verify_upstream_trusted_ca={origin.root_file}"]
    with _process(command, folder, port) as pid:
        yield Standing(pid, f"127.0.0.1:{port}", certificate)


def _sallyport(workers: int, inspect: bool) -> Callable[[Path, Origin], Iterator[Standing]]:
    def run(folder: Path, origin: Origin) -> Iterator[Standing]:
        with LoadedDaemon(folder / "daemon", origin, workers=workers, inspect=inspect) as daemon:
            yield Standing(daemon.process.pid, daemon.proxy, daemon.root)

    return run


def _transparent(folder: Path, origin: Origin) -> Iterator[Standing]:
    """Clients open connections to the origin, as another user, and nftables redirects that user's to the listener."""
    listener = {"mode": "transparent", "bind": f"127.0.0.1:{free_port()}"}
    with LoadedDaemon(
        folder / "daemon", origin, inspect=False, extra={"listeners": [{"name": "explicit", **listener}]}
    ) as daemon:
        # They have to get at their program, and at the root.
        for each in (daemon.root.parent, folder, *list(folder.parents)[:2]):
            each.chmod(0o755)
        daemon.root.chmod(0o644)
        port = daemon.proxy.rpartition(":")[2]
        rules = f"""
table inet sallyport-bench {{
  chain output {{
    type nat hook output priority -100
    meta skuid {_CLIENT} ip daddr 127.0.0.1 tcp dport {origin.port} redirect to :{port}
  }}
}}
"""
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
        try:
            client = ("setpriv", f"--reuid={_CLIENT}", f"--regid={_CLIENT}", "--clear-groups")
            yield Standing(daemon.process.pid, origin.address, daemon.root, speaks_connect=False, client=client)
        finally:
            subprocess.run(["nft", "delete", "table", "inet", "sallyport-bench"], check=True)


def _transparent_missing() -> str | None:
    for program, package in (("nft", "nftables"), ("setpriv", "util-linux")):
        if (missing := _needs(program, package)()) is not None:
            return missing
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    return "it redirects connections, in a network of its own: make bench-transparent, as root" if routes else None


def _nothing_missing() -> str | None:
    return None


def _mitmdump_missing() -> str | None:
    return None if Path(sys.executable).with_name("mitmdump").exists() else "mitmdump is not in .venv (make test)"


PEERS = {
    "squid": Peer("Squid, ssl-bump", _needs("squid", "squid-openssl"), _squid, http2=False),
    "sslsplit": Peer("sslsplit (C; verifies nothing)", _needs("sslsplit", "sslsplit"), _sslsplit, http2=False),
    "mitmdump": Peer("mitmdump", _mitmdump_missing, _mitmdump),
    "sallyport": Peer("**Sallyport**, one worker", _nothing_missing, _sallyport(1, False)),
    "transparent": Peer("**Sallyport, transparent** (REDIRECT), one worker", _transparent_missing, _transparent),
    "inspect": Peer(
        "**Sallyport, inspection lane**, one worker", _nothing_missing, _sallyport(1, True), domain="inspected.test"
    ),
}


def sallyport(workers: int) -> Peer:
    """Sallyport's fast lane with so many workers."""
    return Peer(f"Sallyport, {workers} workers", _nothing_missing, _sallyport(workers, False))


def inspecting(workers: int) -> Peer:
    """Its inspection lane."""
    name = f"Sallyport, inspection lane, {workers} workers"
    return Peer(name, _nothing_missing, _sallyport(workers, True), domain="inspected.test")
