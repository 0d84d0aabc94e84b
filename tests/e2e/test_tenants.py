"""Several tenants on one listener: told apart by credentials and by network, and never mixed up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import bcrypt
import pytest

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.http2_connect import Http2Proxy
from tests.harness.origins import Nginx, Site
from tests.harness.pki import Authority
from tests.harness.processes import wait_for
from tests.harness.programs import need
from tests.harness.shared_listener import (
    LISTENERS,
    NETWORKS,
    SHARED,
    TENANTS,
    USER,
    Connection,
    Load,
    basic,
    password,
    prepare,
    ways,
)

SECURE, SOCKS = "secure", "socks"
DEVICES = Authority.root("Devices of acme")
OWN = {tenant: Authority.root(f"Own Root of {tenant}") for tenant in TENANTS}
HTPASSWD_PASSWORD = "from the file"
LOOKS = """
def note(flow):
    with open({seen!r}, "a") as seen:
        seen.write(repr(flow.request.headers.fields) + repr(flow.request.path) + "\\n")


class Looks:
    def requestheaders(self, flow):
        note(flow)

    def error(self, flow):
        note(flow)


addons = [Looks()]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tenants")


@pytest.fixture(scope="module")
def origin(folder: Path) -> Iterator[Nginx]:
    need("nginx"), need("curl")
    sites = [
        Site("good.example", ISSUING.leaf("good.example")),
        Site("plain.example", None),
        *(Site(f"{tenant}.example", OWN[tenant].leaf(f"{tenant}.example")) for tenant in TENANTS),
    ]
    with Nginx(folder, sites) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def daemon(folder: Path, origin: Nginx) -> Iterator[Daemon]:
    users = folder / "users.htpasswd"
    hashed = bcrypt.hashpw(HTPASSWD_PASSWORD.encode(), bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$")
    users.write_text(f"# of a file\nfile-user:{hashed}\n")
    script = folder / "looks.py"
    script.write_text(LOOKS.format(seen=str(folder / "seen")))
    certificate, key = ISSUING.leaf("127.0.0.1").write(folder, "proxy")
    (folder / "devices.pem").write_bytes(DEVICES.pem())
    secure = {
        "mode": "explicit-tls",
        "tls": {
            "certificate": str(certificate), "key": str(key), "client_certificates": "optional",
            "client_cas": [{"file": str(folder / "devices.pem"), "tenant": "acme"}],
        },
    }  # fmt: skip
    shared_ways = ways(htpasswd=[{"file": str(users), "tenant": "acme"}])
    running = Daemon(
        folder / "daemon", hosts=dict.fromkeys(origin.sites, "127.0.0.1"), common=PUBLIC,
        listeners=(*LISTENERS, (SECURE, "default"), (SOCKS, "default")),
        ways={**shared_ways, SECURE: {**shared_ways[SHARED], **secure, "networks": []},
              SOCKS: {**shared_ways[SHARED], "mode": "socks5"}},
        # Plain requests of the one take the plain lane, those of the other the inspection lane.
        extra={
            "log": {"level": "debug"},
            "inspection": {"addons": [str(script)], "tenants": ["beta"], "hosts": ["plain.example"]},
        },
    )  # fmt: skip
    with running:
        prepare(running, OWN)
        # Tests guess too, in any order: who has come before is not kept out for that.
        for user in (*map(of, TENANTS), basic("file-user@acme", HTPASSWD_PASSWORD)):
            wait_for("it to know the user", partial(comes_in, running, origin, user), pause=0.5)
        yield running


def shared(daemon: Daemon, source: str = "127.0.0.1") -> Connection:
    return Connection(daemon.addresses[SHARED], source)


def comes_in(daemon: Daemon, origin: Nginx, user: str) -> bool:
    with shared(daemon) as connection:
        return connection.connect(place(origin, "good.example"), user)[0] == 200


def of(tenant: str) -> str:
    return basic(f"{USER}@{tenant}", password(tenant))


def place(origin: Nginx, name: str) -> str:
    return f"{name}:{origin[name].port}"


def test_a_client_is_asked_who_it_is_and_may_answer_on_the_same_connection(daemon: Daemon, origin: Nginx) -> None:
    target = place(origin, "good.example")
    with shared(daemon) as connection:
        status, fields, _ = connection.connect(target)
        assert (status, fields["proxy-authenticate"]) == (407, 'Basic realm="Sallyport", charset="UTF-8"')
        assert "connection" not in fields
        assert "credentials_required" in fields["proxy-status"]
        # A plain request is asked too; its body does not spoil the connection.
        url = f"http://{place(origin, 'plain.example')}/"
        assert connection.ask(f"POST {url}", "Host: x", "Content-Length: 5", body=b"hello")[0] == 407
        for wrong in (basic(USER, password("acme")), basic(f"{USER}@acme", password("beta")), "Bearer abc", "Basic ="):
            status, fields, _ = connection.connect(target, wrong)
            assert (status, "credentials_wrong" in fields["proxy-status"]) == (407, True)
        assert connection.connect(target, of("beta"))[0] == 200
    assert daemon.wait_log("refused", details="credentials_wrong", user=USER, client="127.0.0.1")


def test_the_same_host_shows_each_tenant_its_own_leaf(daemon: Daemon, origin: Nginx) -> None:
    private = {tenant: place(origin, f"{tenant}.example") for tenant in TENANTS}
    told = Load(daemon, place(origin, "good.example"), private).run(240)
    assert told.problems == []
    assert sum(told.kinds.values()) == 240
    assert len(told.kinds) == 4
    assert told.resumed > 0  # of one's own tenant


def test_curl_passes_with_credentials_of_the_store_and_of_the_file(daemon: Daemon, origin: Nginx) -> None:
    through = daemon.listener(SHARED)
    for user in (f"{USER}@acme:{password('acme')}", f"file-user@acme:{HTPASSWD_PASSWORD}"):
        acme = ("--proxy-user", user, "--cacert", str(daemon.root_of("acme")))
        assert curl(through, origin["acme.example"].url(), *acme).status == 200
    assert (
        curl(through, origin["good.example"].url(), "--proxy-user", f"file-user@beta:{HTPASSWD_PASSWORD}").status == 407
    )


def test_credentials_reach_no_server_no_inspector_and_not_the_log(daemon: Daemon, origin: Nginx, folder: Path) -> None:
    url = f"http://{place(origin, 'plain.example')}"
    for tenant in TENANTS:
        with shared(daemon) as connection:
            fields = ("Host: plain.example", f"Proxy-Authorization: {of(tenant)}")
            status, _, body = connection.ask(f"GET {url}/echo?{tenant}", *fields)
            assert status == 200
            assert b"roxy-" not in body
            connection.ask(f"GET ftp://plain.example/{tenant}", *fields)  # what fails is told, too
        assert daemon.wait_log("request", path="/echo", tenant=tenant)[0]["user"] == USER
    seen = (folder / "seen").read_text()
    assert "/echo?beta" in seen
    assert "/echo?acme" not in seen
    for secret in (of("acme"), of("beta").split()[1], password("acme"), HTPASSWD_PASSWORD, "$argon2", "$2y$"):
        assert secret not in daemon.stderr_text() + seen


def test_other_credentials_do_not_go_on_where_the_first_have_begun(daemon: Daemon, origin: Nginx) -> None:
    url = f"http://{place(origin, 'plain.example')}/"
    others = (of("acme"), of("beta"), basic(f"{USER}@acme", "wrong"), None)
    for first, second in ((of(tenant), other) for tenant in TENANTS for other in others if other != of(tenant)):
        with shared(daemon) as connection:
            for _ in range(2):
                assert connection.ask(f"GET {url}", "Host: x", f"Proxy-Authorization: {first}")[0] == 200
            with pytest.raises(ConnectionError):
                connection.ask(f"GET {url}", "Host: x", *([f"Proxy-Authorization: {second}"] if second else []))


def test_wrong_credentials_are_not_taken_for_none(daemon: Daemon, origin: Nginx) -> None:
    target = place(origin, "good.example")
    with shared(daemon, NETWORKS["acme"]) as connection:
        assert connection.connect(target, basic(f"{USER}@acme", "wrong"))[0] == 407
        assert connection.connect(target)[0] == 200
    with shared(daemon, NETWORKS["acme"]) as connection:  # credentials come before the network
        assert connection.connect(target, of("beta"))[0] == 200
    wait_for("its end in the log", lambda: daemon.log("connection", tenant="beta", client=NETWORKS["acme"], user=USER))


def test_a_user_who_is_deleted_is_out_within_a_second(daemon: Daemon, origin: Nginx) -> None:
    target = place(origin, "good.example")
    made = daemon.told("proxy-user", "add", "leaver", "--json", tenant="beta")
    secret = made.split('"password": "')[1].split('"')[0]
    credentials = basic("leaver@beta", secret)

    def may_come() -> int:
        with shared(daemon) as connection:
            return connection.connect(target, credentials)[0]

    daemon.within(5, lambda: may_come() == 200)
    with shared(daemon) as tunnel:
        assert tunnel.connect(target, credentials)[0] == 200
        daemon.told("proxy-user", "delete", "leaver", tenant="beta")
        deleted = time.monotonic()
        tunnel.socket.settimeout(10)
        with pytest.raises(ConnectionError):
            raise ConnectionError if tunnel.socket.recv(1) == b"" else AssertionError("data of nobody's")
        assert time.monotonic() - deleted < 10
    assert may_come() == 407
    assert '"leaver"' in daemon.told("audit-log", "--json", tenant="beta")
    assert secret not in daemon.told("audit-log", "--json", tenant="beta")


def test_guessing_is_slowed_for_the_guesser_alone(daemon: Daemon, origin: Nginx) -> None:
    target = place(origin, "good.example")
    seen = []
    for number in range(14):
        with shared(daemon, "127.0.0.9") as connection:
            seen.append(connection.connect(target, basic("nobody@acme", f"guess {number}"))[0])
    assert seen[:5] == [407] * 5
    assert seen[-1] == 429
    with shared(daemon) as connection:
        assert connection.connect(target, of("acme"))[0] == 200


def test_over_tls_to_the_proxy_credentials_come_before_the_certificate(
    daemon: Daemon, origin: Nginx, folder: Path
) -> None:
    (folder / "public.pem").write_bytes(PUBLIC.pem())
    certificate, key = DEVICES.leaf("device.example", eku=["client"]).write(folder, "device")
    device = ("--proxy-cert", str(certificate), "--proxy-key", str(key))
    to_it = ("--proxy", f"https://{daemon.addresses[SECURE]}", "--proxy-cacert", str(folder / "public.pem"))

    def status(tenant: str, *args: str) -> int:
        """Of the host that the tenant's trusted CA alone vouches for, with the tenant's root."""
        trusting = ("--cacert", str(daemon.root_of(tenant)))
        return curl(daemon.listener(SECURE), origin[f"{tenant}.example"].url(), *to_it, *trusting, *args).status

    user = {tenant: ("--proxy-user", f"{USER}@{tenant}:{password(tenant)}") for tenant in TENANTS}
    assert status("acme") == 407
    assert status("acme", *device) == 200
    for tenant in TENANTS:
        assert status(tenant, *user[tenant]) == 200
    assert status("beta", *device, *user["beta"]) == 200


def test_over_http2_each_stream_says_whose_it_is(daemon: Daemon, origin: Nginx, folder: Path) -> None:
    (folder / "public.pem").write_bytes(PUBLIC.pem())
    target = place(origin, "good.example")
    with Http2Proxy(daemon.addresses[SECURE], folder / "public.pem", "127.0.0.1") as proxy:
        asked = proxy.ask([(":method", "CONNECT"), (":authority", target)])
        assert proxy.wait(asked, lambda stream: stream.ended).status == 407
        tunnels = {tenant: proxy.connect(target, ("proxy-authorization", of(tenant))) for tenant in TENANTS}
        for tenant, tunnel in tunnels.items():
            tunnel.secure(daemon.root_of(tenant), "good.example")
        for tunnel in tunnels.values():
            answer = tunnel.request(b"GET / HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")
            assert b"hello from good.example" in answer


def test_over_socks5_too_credentials_come_before_the_network(daemon: Daemon, origin: Nginx) -> None:
    def status(tenant: str, *args: str) -> int:
        to_it = ("--proxy", f"socks5h://{daemon.addresses[SOCKS]}", "--cacert", str(daemon.root_of(tenant)))
        return curl(daemon.listener(SOCKS), origin[f"{tenant}.example"].url(), *to_it, *args).status

    user = {tenant: ("--proxy-user", f"{USER}@{tenant}:{password(tenant)}") for tenant in TENANTS}
    assert status("acme") == 0
    assert status("acme", "--proxy-user", f"{USER}@acme:{password('beta')}") == 0
    for tenant in TENANTS:
        assert status(tenant, *user[tenant]) == 200
        assert status(tenant, "--interface", NETWORKS[tenant]) == 200
    assert status("beta", "--interface", NETWORKS["acme"], *user["beta"]) == 200
