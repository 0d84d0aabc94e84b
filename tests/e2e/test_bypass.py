"""What is bypassed passes as it is: the client sees the server's own certificate, and nothing of ours."""

from __future__ import annotations

import json
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.settings import Settings
from control import bypass_rules
from control.installation import Installation
from tests.e2e.conftest import PRIVATE, PRIVATE_ISSUING, PUBLIC
from tests.e2e.test_bad_clients import client_hello, to_end, tunnel
from tests.e2e.test_hostile_servers import serving
from tests.harness.curl import Result, command, curl
from tests.harness.daemon import Daemon, Entrance
from tests.harness.monitor import readiness, scrape, value
from tests.harness.origins import Nginx, Site
from tests.harness.pki import Authority
from tests.harness.processes import free_port, wait_for

MIB = 1 << 20
FOLLOWED_SECONDS = 20
"""For a list file to be followed, on a machine that is busy."""
HOST = "private.example"
HOSTS = dict.fromkeys((HOST, "other.private.example", "fronted.example", "good.example"), "127.0.0.1")


@pytest.fixture(scope="module")
def site(scratch: Path) -> Iterator[Nginx]:
    """Servers that only a private CA vouches for, which nobody has told the proxy."""
    names = [HOST, "other.private.example", "127.0.0.1"]
    with Nginx(scratch / "bypassed", [Site(HOST, PRIVATE_ISSUING.leaf(names))]) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def root(scratch: Path) -> Path:
    """What a client that knows the private CA trusts."""
    path = scratch / "private-root.pem"
    path.write_bytes(PRIVATE.pem())
    return path


@pytest.fixture(scope="module")
def lists(scratch: Path) -> Path:
    """A list file for everybody."""
    path = scratch / "bypassed.txt"
    path.write_text("# nothing yet\n")
    return path


@pytest.fixture(scope="module")
def daemon(scratch: Path, site: Nginx, lists: Path) -> Iterator[Daemon]:
    """Two tenants, one of which lets nothing be told of its requests."""
    extra = {"bypass": {"files": [str(lists)]}, "log": {"tenants": {"other": {"requests": False, "client": "none"}}}}
    with Daemon(
        scratch / "bypassing", hosts=HOSTS, common=PUBLIC, metrics=True, extra=extra,
        allow=("127.0.0.1/32", "::1/128"), listeners=(("explicit", "default"), ("second", "other")),
    ) as running:  # fmt: skip
        yield running


def change(daemon: Daemon, tenant: str, do: Callable[[Installation], object]) -> None:
    """Change something of a tenant, and wait until the worker works with it."""
    with Installation.open(Settings(state_dir=daemon.state_dir), datetime.now(UTC)) as inst:  # noqa: TID251 - the test's
        do(inst)
        with inst.reading(tenant) as (_, found):
            generation = found.generation
    daemon.wait_log("working set replaced", tenant=tenant, generation=generation, timeout=10)


@contextmanager
def bypassed(daemon: Daemon, *patterns: str, tenant: str = "default") -> Iterator[None]:
    """Rules for a while. The worker knows them, and afterwards that they are gone."""
    now = datetime.now(UTC)  # noqa: TID251 - the test's
    change(daemon, tenant, lambda inst: bypass_rules.add(inst, tenant, patterns, now))
    try:
        yield
    finally:
        change(daemon, tenant, lambda inst: bypass_rules.remove(inst, tenant, patterns, now))


def own(daemon: Daemon, url: str, root: Path, *args: str) -> Result:
    """curl that trusts the server's own root alone: what the proxy makes itself it refuses."""
    return curl(Entrance(daemon.proxy, root), url, *args)


def passed(result: Result) -> bool:
    """Whether the client got an answer of the server's own. (A status alone may be the CONNECT's.)"""
    return result.exit_code == 0 and result.status == 200 and not result.proxy_status


def blocked(result: Result) -> bool:
    """Whether it was decrypted and judged."""
    return result.proxy_status == 'sallyport; error=tls_certificate_error; details="incomplete_chain"'


# What passes


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("rule", [HOST, f".{HOST}", "*.example"])
def test_a_bypassed_host_shows_its_own_certificate_and_is_told_of_in_one_line(
    daemon: Daemon, site: Nginx, root: Path, rule: str, version: str
) -> None:
    url = site[HOST].url()
    assert blocked(curl(daemon, url))
    before = len(daemon.log("bypassed", rule=rule))  # those of other tests may still be on their way
    with bypassed(daemon, rule):
        result = own(daemon, url, root, version)
        assert (result.status, result.text) == (200, f"hello from {HOST}\n"), result.error
        assert result.http_version == version.removeprefix("--http").removesuffix(".0")
        assert curl(daemon, url).exit_code == 60
        line = wait_for("the line", lambda: daemon.log("bypassed", rule=rule)[before:])[0]
    assert line.items() >= {
        "level": "info", "tenant": "default", "client": "127.0.0.1", "host": HOST, "port": site[HOST].port,
        "address": "127.0.0.1", "rule": rule,
    }.items()  # fmt: skip
    assert line["request_bytes"] > 300
    assert line["response_bytes"] > 1000
    assert not {"file", "reason"} & line.keys()
    assert daemon.log("request", id=line["id"]) == []
    assert daemon.log("passed", id=line["id"]) == []
    assert blocked(curl(daemon, url))


@pytest.mark.parametrize("rule", [HOST, "127.0.0.1", "127.0.0.0/8"])
def test_where_the_connect_names_an_address_it_and_the_server_name_count(
    daemon: Daemon, site: Nginx, root: Path, rule: str
) -> None:
    port = site[HOST].port
    literal = ("--connect-to", f"{HOST}:{port}:127.0.0.1:{port}")
    assert blocked(curl(daemon, site[HOST].url(), *literal))
    with bypassed(daemon, rule):
        result = own(daemon, site[HOST].url(), root, *literal)
        assert passed(result), result.error
        line = daemon.wait_log("bypassed", rule=rule)[-1]
        assert (line["host"], line["address"]) == (HOST, "127.0.0.1")
        bare = own(daemon, site[HOST].url(host="127.0.0.1"), root)
        assert passed(bare) is (rule != HOST)
    assert blocked(curl(daemon, site[HOST].url(), *literal))


def test_an_address_is_no_rule_for_a_name_that_leads_to_it(daemon: Daemon, site: Nginx) -> None:
    with bypassed(daemon, "127.0.0.0/8"):
        assert blocked(curl(daemon, site[HOST].url()))


def test_a_rule_of_one_tenant_is_none_of_another_and_privacy_holds(daemon: Daemon, site: Nginx, root: Path) -> None:
    mine, other = daemon.listener("explicit"), daemon.listener("second")
    with bypassed(daemon, HOST, tenant="other"):
        assert blocked(curl(mine, site[HOST].url()))
        assert passed(curl(Entrance(other.proxy, root), site[HOST].url()))
    assert daemon.log("bypassed", tenant="other") == []


def test_the_command_takes_effect_within_a_second(daemon: Daemon, site: Nginx, root: Path) -> None:
    url = site[HOST].url()
    daemon.told("bypass", "add", HOST, "--reason", "pins its keys")
    try:
        daemon.within(1.0, lambda: passed(own(daemon, url, root)))
        done = daemon.cli("probe", "--json", f"{HOST}:{site[HOST].port}")
        told = json.loads(done.stdout)
        assert (done.returncode, told["action"], told["bypass"]["rule"]) == (0, "bypass", HOST)
        assert [finding["defect"] for finding in told["findings"]] == ["incomplete_chain"]
        assert told["bypass"]["otherwise"] == "block"
    finally:
        daemon.told("bypass", "remove", HOST)
    daemon.within(1.0, lambda: blocked(curl(daemon, url)))


def test_large_transfers_pass_whole_both_ways(daemon: Daemon, site: Nginx, root: Path, tmp_path: Path) -> None:
    import random

    data = random.Random(11).randbytes(24 * MIB + 7)  # noqa: S311 - just bytes that are not all alike
    (site.folder / "www" / "random.bin").write_bytes(data)
    (tmp_path / "up.bin").write_bytes(data)
    with bypassed(daemon, HOST):
        for version in ("--http1.1", "--http2"):
            result = own(daemon, site[HOST].url("/random.bin"), root, version)
            assert result.body == data
            put = own(daemon, site[HOST].url(f"/upload/up{version}"), root, version, "-T", str(tmp_path / "up.bin"))
            assert put.status in (201, 204)
            assert site.uploaded(f"up{version}").read_bytes() == data
        assert max(line["response_bytes"] for line in daemon.wait_log("bypassed", rule=HOST)) > len(data)


def test_each_side_may_end_before_the_other(daemon: Daemon) -> None:
    """FIN is passed on as it came, and what comes behind it from the other side still passes."""
    hello = client_hello(HOST)
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heard.append(to_end(connection))
        connection.sendall(b"still here")

    with bypassed(daemon, HOST):
        with serving(serve) as port, tunnel(daemon, port, HOST) as client:
            client.sendall(hello + b"early data")
            client.shutdown(socket.SHUT_WR)
            assert to_end(client) == b"still here"
        assert heard == [hello + b"early data"]

        def ends_first(connection: socket.socket) -> None:
            connection.recv(1)
            connection.sendall(b"all")
            connection.shutdown(socket.SHUT_WR)
            heard.append(to_end(connection))

        with serving(ends_first) as port, tunnel(daemon, port, HOST) as client:
            client.sendall(hello)
            assert to_end(client) == b"all"
            client.sendall(b"more")
            client.shutdown(socket.SHUT_WR)
            wait_for("the server to hear it", lambda: len(heard) == 2)
        assert heard[1].endswith(b"more")


def test_a_hello_in_pieces_and_a_server_that_has_spoken_already_pass_as_they_are(daemon: Daemon) -> None:
    hello = client_hello(HOST)
    heard: list[bytes] = []
    spoken = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"first")
        spoken.set()
        heard.append(to_end(connection))

    with bypassed(daemon, HOST), serving(serve) as port, tunnel(daemon, port, HOST) as client:
        assert spoken.wait(10)
        for at in range(0, len(hello), 100):
            client.sendall(hello[at : at + 100])
        assert client.recv(100) == b"first"
        client.shutdown(socket.SHUT_WR)
        wait_for("the server to hear it", lambda: heard)
    assert heard == [hello]


def test_a_server_that_has_said_too_much_already_is_read_on(daemon: Daemon) -> None:
    hello = client_hello(HOST)
    sent, full = [0], threading.Event()

    def serve(connection: socket.socket) -> None:
        while select.select([], [connection], [], 1.0)[1]:
            sent[0] += connection.send(b"x" * 65536)
        full.set()  # nobody reads it any more
        connection.recv(65536)
        connection.sendall(b"end")
        connection.shutdown(socket.SHUT_WR)
        to_end(connection)

    with bypassed(daemon, HOST), serving(serve) as port, tunnel(daemon, port, HOST) as client:
        assert full.wait(30)
        client.sendall(hello)
        said = to_end(client)
    assert (len(said), said[-4:]) == (sent[0] + 3, b"xend")


def test_what_is_open_outlives_the_rule(daemon: Daemon, site: Nginx, root: Path) -> None:
    trusted = ssl.create_default_context(cafile=str(root))
    request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    with bypassed(daemon, HOST):
        raw = tunnel(daemon, site[HOST].port, HOST)
        opened = trusted.wrap_socket(raw, server_hostname=HOST)
    with opened:
        assert blocked(curl(daemon, site[HOST].url()))
        opened.sendall(request)
        assert opened.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_it_is_counted_as_a_lane_of_its_own_without_a_verdict_and_a_leaf(
    daemon: Daemon, site: Nginx, root: Path
) -> None:
    def counts() -> tuple[float, ...]:
        told = scrape(daemon)
        labels = {"tenant": "default", "mode": "explicit"}
        verdicts = sum(count for (name, _), count in told.items() if name == "verdicts_total")
        leaves = value(told, "leaves_asked_total") + value(told, "leaf_cache_hits_total")
        lanes = [value(told, "connections_total", lane=lane, **labels) for lane in ("bypass", "pass")]
        return (*lanes, verdicts, leaves)

    wait_for("the monitor to be there", lambda: readiness(daemon)[0] == 200, timeout=30)
    with bypassed(daemon, HOST):
        settled(counts)
        bypass, other, verdicts, leaves = counts()
        for _ in range(3):
            assert passed(own(daemon, site[HOST].url(), root))
        wait_for("the counts", lambda: counts() == (bypass + 3, other, verdicts, leaves), timeout=20)


def settled(counts: Callable[[], tuple[float, ...]]) -> None:
    """Workers hand on their counts once a second: what went before has come."""
    seen = [counts()]

    def same() -> bool:
        seen.append(counts())
        return len(seen) > 5 and len(set(seen[-5:])) == 1

    wait_for("counts to come to rest", same, timeout=30, pause=0.5)


# What does not


def test_a_rule_that_was_taken_away_is_none_for_a_connection_that_was_waiting(daemon: Daemon, site: Nginx) -> None:
    with bypassed(daemon, HOST):
        raw = tunnel(daemon, site[HOST].port, HOST)
    trusted = ssl.create_default_context(cafile=str(daemon.root))
    with raw, trusted.wrap_socket(raw, server_hostname=HOST) as tls:
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        assert tls.recv(65536).startswith(b"HTTP/1.1 502")


def test_another_name_in_the_hello_than_in_the_connect_is_refused_all_the_same(daemon: Daemon, site: Nginx) -> None:
    port = site[HOST].port
    for pattern in (HOST, "fronted.example"):
        with bypassed(daemon, pattern):
            url = f"https://fronted.example:{port}/"
            result = curl(daemon, url, "--connect-to", f"fronted.example:{port}:{HOST}:{port}")
            assert result.proxy_status == 'sallyport; error=http_request_denied; details="sni_mismatch"'


def with_address_as_name(address: str) -> bytes:
    """A ClientHello whose server name is an address, which no library sends (RFC 6066, section 3)."""
    name = "0" * len(address)
    hello = client_hello(f"{name[:-2]}.a")
    return hello.replace(f"{name[:-2]}.a".encode(), address.encode())


def test_an_address_as_server_name_opens_nothing(daemon: Daemon) -> None:
    """Else whoever knows one bypassed address could go anywhere."""
    heard: list[bytes] = []
    hello = with_address_as_name("192.0.2.77")

    def serve(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))

    with bypassed(daemon, "192.0.2.77"), serving(serve) as port, tunnel(daemon, port, "127.0.0.1") as client:
        client.sendall(hello)
        client.settimeout(20)
        to_end(client)
    assert heard
    assert hello not in heard


def test_egress_rules_hold(daemon: Daemon) -> None:
    with bypassed(daemon, "169.254.169.254", "127.0.0.9"):
        for host in ("169.254.169.254", "127.0.0.9"):
            result = curl(daemon, f"https://{host}/")
            assert result.status == 403
            assert "destination_ip_prohibited" in result.proxy_status


def test_what_is_not_tls_is_refused_as_ever_and_a_hello_that_cannot_be_read_ends_it(daemon: Daemon) -> None:
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))

    wrong = bytearray(client_hello(HOST))
    wrong[5] = 2  # a ServerHello
    with bypassed(daemon, HOST):
        for said, answer in (
            (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 403 "),
            (bytes(wrong), b"\x15\x03\x03\x00\x02\x02"),
        ):
            with serving(serve) as port, tunnel(daemon, port, HOST) as client:
                client.sendall(said)
                assert to_end(client).startswith(answer)
    assert b"".join(heard) == b""


def test_where_the_server_is_not_to_be_had_the_connection_ends_without_a_certificate_of_ours(daemon: Daemon) -> None:
    port = free_port()
    with bypassed(daemon, HOST):
        result = curl(daemon, f"https://{HOST}:{port}/")
    assert result.exit_code == 35, result.error
    (ended,) = daemon.wait_log("connection", port=port)
    assert "refuse" in ended["reason"]


# List files


def test_a_list_file_is_followed_and_a_bad_one_changes_nothing(
    daemon: Daemon, site: Nginx, root: Path, lists: Path
) -> None:
    url = site[HOST].url()

    def listed() -> bool:
        return passed(own(daemon, url, root))

    try:
        lists.write_text(f"# Partners\n\n{HOST}  # pins its keys\n")
        wait_for("the list to count", listed, timeout=FOLLOWED_SECONDS)
        assert daemon.wait_log("bypassed", file=str(lists))[-1]["rule"] == HOST
        assert json.loads(daemon.told("bypass", "list", "--json"))[-1]["rules"] == 1
        lists.write_text("good.example\n*\n")
        said = daemon.wait_log("bypass list not used", timeout=FOLLOWED_SECONDS)[-1]
        assert said["reason"].startswith(f"{lists}:2: ")
        assert listed()
        assert f"{lists}:2: " in daemon.cli("reload").stderr + daemon.stderr_text()
        assert listed()
        lists.write_text("# nothing any more\n")
        assert "1 workers loaded their bypass lists again" in daemon.told("reload")
        assert blocked(curl(daemon, url))
    finally:
        lists.write_text("# nothing\n")


def test_a_daemon_does_not_start_with_a_bad_list(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.example\nhttps://b.example/\n")
    daemon = Daemon(tmp_path / "daemon", extra={"bypass": {"files": [str(tmp_path / "list.txt")]}})
    done = daemon.cli("serve")
    assert done.returncode == 2
    assert f"bypass.files: {tmp_path}/list.txt:2: 'https://b.example/' has a scheme" in done.stderr
    assert not daemon.state_dir.exists()


# What comes in between


def test_a_purge_leaves_it(tmp_path: Path, site: Nginx, root: Path) -> None:
    trusted = ssl.create_default_context(cafile=str(root))
    request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    theirs = Authority.root("Theirs").intermediate("Issuing")
    (tmp_path / "theirs.pem").write_bytes(theirs.chain_pem(with_root=True))
    (tmp_path / "theirs.key").write_bytes(theirs.key_pem())
    with Daemon(tmp_path / "daemon", hosts=HOSTS, common=PUBLIC, extra={"limits": {"drain_timeout": 0.5}}) as daemon:
        daemon.told("bypass", "add", HOST)
        daemon.within(5, lambda: passed(own(daemon, site[HOST].url(), root)))
        with trusted.wrap_socket(tunnel(daemon, site[HOST].port, HOST), server_hostname=HOST) as opened:
            opened.sendall(request)
            assert opened.recv(65536).startswith(b"HTTP/1.1 200 ")
            files = ("--cert", str(tmp_path / "theirs.pem"), "--key", str(tmp_path / "theirs.key"))
            daemon.told("signing-ca", "import", "theirs", *files, "--activate")
            daemon.wait_log("signing CA purged", timeout=10)
            until = time.monotonic() + 2.0  # the drain time, after which what the purge ends is cut
            wait_for("the drain time to pass", lambda: time.monotonic() > until)
            opened.sendall(request)
            assert opened.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_what_moves_is_let_end_when_the_daemon_stops(tmp_path: Path, site: Nginx, root: Path) -> None:
    site.file("slow.bin", 300_000)  # of which nginx sends 64 KiB in a second
    got = tmp_path / "got.bin"
    with Daemon(tmp_path / "daemon", hosts=HOSTS, common=PUBLIC) as daemon:
        daemon.told("bypass", "add", HOST)
        daemon.within(5, lambda: passed(own(daemon, site[HOST].url(), root)))
        download = subprocess.Popen(
            command(Entrance(daemon.proxy, root), site[HOST].url("/slow/slow.bin"), "--no-buffer", "-o", str(got))
        )
        wait_for("the download to begin", lambda: got.exists() and got.stat().st_size)
        daemon.stop()
        assert download.wait(60) == 0
    assert got.stat().st_size == 300_000


def test_of_a_host_that_is_never_logged_nothing_is_told(tmp_path: Path, site: Nginx, root: Path) -> None:
    extra = {"log": {"never_log": [HOST], "level": "debug"}}
    port = site[HOST].port
    with Daemon(tmp_path / "daemon", hosts=HOSTS, common=PUBLIC, extra=extra) as daemon:
        daemon.told("bypass", "add", HOST, f"other.{HOST}")
        daemon.within(5, lambda: passed(own(daemon, site[HOST].url(), root)))
        assert passed(own(daemon, site[HOST].url(), root, "--connect-to", f"{HOST}:{port}:127.0.0.1:{port}"))
        assert passed(own(daemon, f"https://other.{HOST}:{port}/", root))
        daemon.wait_log("bypassed", host=f"other.{HOST}")
        assert HOST not in daemon.stderr_text().replace(f"other.{HOST}", "")
