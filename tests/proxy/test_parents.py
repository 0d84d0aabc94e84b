"""The way through a parent: one that a test scripts, and a real Squid with and without credentials and TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from certs.names import Host, parse_host
from config.settings import Settings
from proxy.admission import Egress, Resolver
from proxy.fetching import Fetcher, FetchFailed
from proxy.parent import ParentError
from proxy.parent_answer import LARGEST_HEAD
from proxy.parents import Parents, check, unreached
from proxy.tcp import Reader, half_close
from tests.harness.pki import Authority, Issued, self_signed
from tests.harness.squid import Squid

GOOD = parse_host("good.example")
OK = b"HTTP/1.1 200 OK\r\n\r\n"
ROOT = Authority.root("Parents' Root")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATIENCE = 20.0


class Client(Reader):
    """What a lane's end of the connection is: it keeps what it is told."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.ended = False
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self._more = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.bound(transport)

    def data_received(self, data: bytes) -> None:
        self.got += data
        self._more.set()

    def eof_received(self) -> bool:
        self.ended = True
        self._more.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._more.set()
        self.lost.set_result(exc)

    async def until(self, told: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not told():
                self._more.clear()
                await self._more.wait()


def settings(*entries: dict[str, Any], allow: tuple[str, ...] = (), common: Path | None = None) -> Settings:
    wanted: dict[str, Any] = {"upstream": {"proxies": list(entries), "allow": list(allow)}}
    if common is not None:
        wanted["trust"] = {"common_store": str(common)}
    return Settings.model_validate(wanted)


def parents(made: Settings, hosts: dict[str, str] | None = None, deny: tuple[str, ...] = ()) -> Parents:
    egress = Egress((), [ip_network(each) for each in deny])
    return Parents(made, Resolver(hosts or {}, 5.0), egress, lambda: datetime.now(UTC))  # noqa: TID251 - real chains


@asynccontextmanager
async def scripted(handler: Handler, identity: Issued | None = None, folder: Path | None = None) -> AsyncIterator[str]:
    """A parent whose connections go to ``handler``; HOST:PORT."""
    context = None
    if identity is not None and folder is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*identity.write(folder, "scripted"))

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(handled, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def says(answer: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return handler


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A parent whose tunnels end with it: it says back what came, and ends when its peer does."""
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(OK + head.split(b"\r\n")[0] + b"\n")
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


async def opened(made: Parents, host: Host = GOOD, port: int = 443, patience: float = PATIENCE) -> Client:
    client = Client()
    await made.dial("default", host, port, (), client, patience)
    return client


async def failure(made: Parents, patience: float = PATIENCE) -> ParentError:
    with pytest.raises(ParentError) as caught:
        await opened(made, patience=patience)
    return caught.value


# --- which hosts ---


def test_the_first_entry_that_covers_a_host_counts_and_may_say_that_it_is_reached_directly() -> None:
    made = parents(
        settings(
            {"hosts": ["inside.example", "192.0.2.7"], "address": "direct"},
            {"hosts": [".example"], "tenants": ["guests"], "address": "guests.test:1"},
            {"hosts": ["*.partner.example"], "address": "partner.test:2"},
            {"hosts": ["*"], "address": "[2001:db8::1]:3"},
        )
    )

    def at(host: str, tenant: str | None = "default") -> str | None:
        parent = made.of(tenant, parse_host(host))
        return None if parent is None else parent.address

    assert at("inside.example") is None
    assert at("192.0.2.7") is None
    assert at("a.partner.example") == "partner.test:2"
    assert at("a.partner.example", "guests") == "guests.test:1"
    assert at("a.partner.example", None) == "partner.test:2"
    assert at("partner.example") == "[2001:db8::1]:3"
    assert at("192.0.2.8") == "[2001:db8::1]:3"
    assert at("sallyport.local") is None  # the proxy itself, which is reached through nobody
    assert made
    assert not parents(settings())


def test_a_parent_is_where_the_egress_rules_or_a_rule_of_its_own_permit_it() -> None:
    entries = (
        {"hosts": ["a.example"], "address": "127.0.0.1:1"},
        {"hosts": ["b.example"], "address": "name.test:1"},
    )
    made = parents(settings(*entries, allow=("10.1.0.0/16",)), deny=("10.0.0.0/8",))
    literal, named = (made.of("default", parse_host(name)) for name in ("a.example", "b.example"))
    assert literal is not None
    assert named is not None
    assert made.permits(literal, "127.0.0.1")  # it was written
    assert not made.permits(named, "127.0.0.1")
    assert not made.permits(named, "10.2.0.1")
    assert made.permits(named, "10.1.0.1")
    assert made.permits(named, "192.0.2.1")


# --- what is wrong with the files ---


@pytest.mark.parametrize(
    ("mode", "content", "wrong"),
    [
        (0o644, b"secret\n", "others can use this file"),
        (0o640, b"secret\n", "others can use this file"),
        (0o600, b"", "one line"),
        (0o600, b"secret\nmore\n", "one line"),
        (0o600, b"\xff\xfe\n", "one line"),
        (0o600, b"s" * 1100, "larger than"),
    ],
)
def test_a_password_file_that_others_can_read_or_that_is_none_is_refused_and_not_quoted(
    tmp_path: Path, mode: int, content: bytes, wrong: str
) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    file.chmod(mode)
    entry = {"hosts": ["*"], "address": "a.test:1", "username": "house", "password_file": str(file)}
    told = check(settings(entry))
    assert told is not None
    assert told.startswith(f"upstream.proxies[0].password_file: {file}: ")
    assert wrong in told
    assert "secret" not in told


def test_a_password_that_is_changed_counts_when_it_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    file.chmod(0o600)
    made = parents(settings({"hosts": ["*"], "address": "a.test:1", "username": "house", "password_file": str(file)}))

    def shown() -> bytes:
        parent = made.of("default", GOOD)
        assert parent is not None
        return parent.authorization

    before = shown()
    file.write_text("second\n")
    made.reread()
    after = shown()
    assert before != after
    file.chmod(0o644)
    with pytest.raises(ValueError, match="others can use"):
        made.reread()
    assert shown() == after


def test_what_cannot_be_is_said_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for entry, wrong in (
        ({"hosts": ["*"], "address": "a..test:1"}, "upstream.proxies[1].address: "),
        ({"hosts": ["*.192.0.2.1"], "address": "a.test:1"}, "upstream.proxies[1].hosts: "),
        (
            {"hosts": ["*"], "address": "a.test:1", "tls": True, "ca_file": str(tmp_path / "empty.pem")},
            "upstream.proxies[1].ca_file: ",
        ),
    ):
        told = check(settings({"hosts": ["x.example"], "address": "direct"}, entry))
        assert told is not None
        assert told.startswith(wrong)
    assert check(settings()) is None


# --- a parent that a test scripts ---


def test_bytes_pass_both_ways_and_ends_are_passed_on() -> None:
    async def main() -> None:
        async with scripted(echo) as address:
            client = await opened(parents(settings({"hosts": ["*"], "address": address})))
            await client.until(lambda: client.got.endswith(b"\n"))
            assert client.got == b"CONNECT good.example:443 HTTP/1.1\n"
            assert client.transport is not None
            client.transport.write(b"x" * 300_000)
            half_close(client.transport)
            await client.until(lambda: client.ended)
            assert len(client.got) == 300_034
            client.transport.close()
            assert await client.lost is None

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "error", "status"),
    [
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", "proxy_configuration_error", 502),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "http_request_denied", 403),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "destination_unavailable", 503),
        (b"", "connection_terminated", 502),
        (b"HTTP/1.1 2", "http_response_incomplete", 502),
        (b"SSH-2.0-x\r\n\r\n", "http_protocol_error", 502),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * LARGEST_HEAD, "http_response_header_section_size", 502),
    ],
)
def test_what_is_wrong_is_told_by_the_parents_configured_address(answer: bytes, error: str, status: int) -> None:
    async def main() -> None:
        async with scripted(says(answer)) as address:
            made = parents(settings({"hosts": ["*"], "address": address}))
            told = await failure(made)
            assert told.error == error
            refusal = unreached(told, "good.example", 443, "id1")
            assert (refusal.status, refusal.error) == (status, error)
            assert refusal.details is not None
            assert refusal.details.startswith(f"parent {address}: ")

    asyncio.run(main())


def test_a_parent_without_a_word_is_waited_for_no_longer_than_it_may_take_and_let_go() -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await reader.read(1000):
                    pass
            finally:
                gone.set()

        async with scripted(silent) as address:
            told = await failure(parents(settings({"hosts": ["*"], "address": address})), patience=0.2)
            assert told.error == "http_response_timeout"
            async with asyncio.timeout(PATIENCE):
                await gone.wait()

    asyncio.run(main())


def test_a_parent_that_is_not_there_or_has_no_permitted_address() -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # and does not listen
            port = taken.getsockname()[1]
            told = await failure(parents(settings({"hosts": ["*"], "address": f"127.0.0.1:{port}"})))
            assert told.error == "connection_refused"
        named = settings({"hosts": ["*"], "address": "parent.test:1"})
        told = await failure(parents(named, {"parent.test": "127.0.0.9"}))
        assert told.error == "destination_ip_prohibited"
        assert "127.0.0.9" not in f"{told} {unreached(told, 'good.example', 443, 'id1')}"

    asyncio.run(main())


def test_whoever_gives_up_leaves_no_connection_behind() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            host, port = listening.getsockname()[:2]
            made = parents(settings({"hosts": ["*"], "address": f"{host}:{port}"}))
            task = asyncio.ensure_future(opened(made))
            listening.setblocking(False)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(PATIENCE):
                connection, _ = await loop.sock_accept(listening)
                connection.setblocking(False)
                assert (await loop.sock_recv(connection, 1000)).startswith(b"CONNECT ")
                task.cancel()
                with suppress(ConnectionError):
                    assert await loop.sock_recv(connection, 1000) == b""
            connection.close()

    asyncio.run(main())


# --- TLS with the parent ---


def test_a_parent_in_tls_is_believed_where_its_ca_and_name_are_right_alone(tmp_path: Path) -> None:
    ca, common = tmp_path / "ca.pem", tmp_path / "common.pem"
    ca.write_bytes(ROOT.pem())
    common.write_bytes(Authority.root("Another").pem())

    async def main() -> None:
        for identity, entry, wrong in (
            (ROOT.leaf("parent.test"), {"ca_file": str(ca)}, None),
            (ROOT.leaf("parent.test"), {}, "tls_certificate_error"),
            (ROOT.leaf("other.test"), {"ca_file": str(ca)}, "tls_certificate_error"),
            (self_signed("parent.test"), {"ca_file": str(ca)}, "tls_certificate_error"),
        ):
            async with scripted(echo, identity, tmp_path) as address:
                named = address.replace("127.0.0.1", "parent.test")
                entries = {"hosts": ["*"], "address": named, "tls": True} | entry
                made = parents(settings(entries, allow=("127.0.0.0/8",), common=common), {"parent.test": "127.0.0.1"})
                if wrong is not None:
                    assert (await failure(made)).error == wrong
                    continue
                client = await opened(made)
                await client.until(lambda client=client: client.got.endswith(b"\n"))  # type: ignore[misc]
                assert client.transport is not None
                client.transport.write(b"y" * 300_000)
                await client.until(lambda client=client: len(client.got) == 300_034)  # type: ignore[misc]
                client.transport.close()
                assert await client.lost is None
        async with scripted(says(b"no TLS at all\r\n\r\n")) as address:
            told = await failure(parents(settings({"hosts": ["*"], "address": address, "tls": True})), patience=5)
            assert told.error in ("tls_protocol_error", "http_response_timeout")

    asyncio.run(main())


def test_a_parent_in_tls_that_is_cut_off_is_no_end_in_order(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(ROOT.pem())

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"half of it")
        await writer.drain()
        await reader.readexactly(1)
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as raw:
            raw.shutdown(socket.SHUT_WR)  # FIN, without close_notify
        await reader.read()

    async def main() -> None:
        async with scripted(cut, ROOT.leaf("127.0.0.1"), tmp_path) as address:
            entry = {"hosts": ["*"], "address": address, "tls": True, "ca_file": str(tmp_path / "ca.pem")}
            client = await opened(parents(settings(entry)))
            await client.until(lambda: client.got == b"half of it")
            assert client.transport is not None
            client.transport.write(b"!")
            async with asyncio.timeout(PATIENCE):
                assert isinstance(await client.lost, ConnectionAbortedError)
            assert not client.ended

    asyncio.run(main())


# --- Squid ---


@pytest.fixture(scope="module")
def squids(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Squid]]:
    """One that asks nobody, and one that asks for a login, in TLS. Port 9 is one that nobody answers at."""
    with ExitStack() as stack:
        common: dict[str, Any] = {"hosts": ["good.example"], "lines": ["acl no dstdomain denied.example"]}
        common["lines"] = [*common["lines"], "http_access deny no"]
        yield {
            "open": stack.enter_context(Squid(tls_ports=[443, "1024-65535"], **common)),
            "login": stack.enter_context(
                Squid(
                    tls_ports=[443, "1024-65535"], login=("house", "se cret"), identity=ROOT.leaf("127.0.0.1"), **common
                )
            ),
        }


def test_a_real_parent_opens_tunnels_and_fetches(squids: dict[str, Squid], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(ROOT.pem())
    (tmp_path / "right").write_text("se cret\n")
    (tmp_path / "wrong").write_text("secret\n")
    for name in ("right", "wrong"):
        (tmp_path / name).chmod(0o600)

    def entry(squid: str, password: str = "") -> dict[str, Any]:
        made: dict[str, Any] = {"hosts": ["*"], "address": squids[squid].address}
        if squid == "login":
            made |= {"tls": True, "ca_file": str(tmp_path / "ca.pem")}
        if password:
            made |= {"username": "house", "password_file": str(tmp_path / password)}
        return made

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(head) + head)
        await writer.drain()

    async def main() -> None:
        async with scripted(served) as origin:
            port = int(origin.rpartition(":")[2])
            for given in (entry("open"), entry("login", "right")):
                made = parents(settings(given))
                client = await opened(made, port=port)
                assert client.transport is not None
                client.transport.write(b"GET /tunnel HTTP/1.1\r\n\r\n")
                await client.until(lambda client=client: b"GET /tunnel" in client.got)  # type: ignore[misc]
                client.transport.abort()
                fetcher = Fetcher(Resolver({}, 1.0), Egress((), ()), ports=[port], parents=made)
                until = asyncio.get_running_loop().time() + PATIENCE
                body = await fetcher.get(f"http://good.example:{port}/ca.crt", most=10_000, until=until)
                assert body.startswith(b"GET /ca.crt HTTP/1.1\r\n")
                assert b"uthorization" not in body  # it is the parent's, and stays with it
                with pytest.raises(FetchFailed, match="private"):
                    # An address is judged here, whoever would ask for it.
                    await fetcher.get(f"http://127.0.0.1:{port}/", most=10_000, until=until)
            for given, error in (
                (entry("login"), "proxy_configuration_error"),
                (entry("login", "wrong"), "proxy_configuration_error"),
            ):
                assert (await failure(parents(settings(given)))).error == error
            made = parents(settings(entry("open")))
            with pytest.raises(ParentError) as caught:
                await opened(made, parse_host("denied.example"), port)
            assert (caught.value.error, caught.value.status) == ("http_request_denied", 403)
            with pytest.raises(ParentError) as caught:
                await opened(made, parse_host("nowhere.example"), port)
            assert caught.value.error == "destination_unavailable"
            served_there.extend(
                [f"CONNECT good.example:{port} 200 house", f"GET http://good.example:{port}/ca.crt 200 house"]
            )

    served_there: list[str] = []
    asyncio.run(main())
    for line in served_there:
        squids["login"].has_served(line)
