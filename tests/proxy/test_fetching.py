"""What is fetched for a certificate, from real sockets that behave as strangers' do."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from certs.addresses import globally_reachable
from proxy.admission import Egress, Resolver
from proxy.fetch_exchange import LARGEST_HEAD, PIECE, READ_AT_ONCE, Answer, Exchange, Request, parse_url
from proxy.fetch_room import LARGE
from proxy.fetching import Fetcher, FetchFailed

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
HERE = ipaddress.ip_network("127.0.0.2/32")
SOON = 0.3
LATE = 30.0
"""Seconds until a deadline that is to be met, and until one that is not."""

Handler = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def ok(body: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *fields, b"", body])


def moved(where: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode()


class Stranger:
    """An HTTP server at 127.0.0.2 that answers as it is told. ``heads``: what it was asked."""

    def __init__(self, answer: bytes | Handler) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.came = asyncio.Event()
        self.gone = asyncio.Event()
        """Set when a connection was ended by the other side."""

    async def __aenter__(self) -> Stranger:
        self.server = await asyncio.start_server(self._serve, "127.0.0.2", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)  # for their handlers to end

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            self.came.set()
            if isinstance(self.answer, bytes):
                writer.write(self.answer)
                await writer.drain()
            else:
                await self.answer(head, reader, writer)
        with suppress(ConnectionError):
            await reader.read()
        self.gone.set()
        writer.close()

    def url(self, path: str = "/ca.cer") -> str:
        return f"http://ca.example:{self.port}{path}"


def fetcher(*ports: int, hosts: dict[str, str] | None = None, **more: Any) -> Fetcher:
    """One that may ask 127.0.0.2 alone, where the tests' servers are."""
    named = {"ca.example": "127.0.0.2", "inside.example": "127.0.0.1", "private.example": "10.0.0.1"} | (hosts or {})
    rules = {"ports": (80, *ports), "private": (HERE,)} | more
    return Fetcher(Resolver(named, 5), rules.pop("egress", Egress((LOOPBACK,), ())), **rules)


async def got(asking: Fetcher, url: str, most: int = 1000, within: float = LATE) -> bytes:
    return await asking.get(url, most=most, until=asyncio.get_running_loop().time() + within)


def fetched(answer: bytes | Handler, most: int = 1000, within: float = LATE, **more: Any) -> tuple[bytes, Stranger]:
    """What comes of one GET from a server that answers so."""

    async def scenario() -> tuple[bytes, Stranger]:
        async with Stranger(answer) as stranger:
            body = await got(fetcher(stranger.port, **more), stranger.url(), most, within)
            await stranger.gone.wait()
            return body, stranger

    return asyncio.run(scenario())


def failure(answer: bytes | Handler, most: int = 1000, within: float = LATE, **more: Any) -> FetchFailed:
    """Why there is nothing. The server's connection is ended then."""

    async def scenario() -> FetchFailed:
        async with Stranger(answer) as stranger:
            with pytest.raises(FetchFailed) as caught:
                await got(fetcher(stranger.port, **more), stranger.url(), most, within)
            if stranger.heads:
                await stranger.gone.wait()
            return caught.value

    found = asyncio.run(scenario())
    assert "\n" not in str(found)
    return found


def chunked(*chunks: bytes, extension: bytes = b"") -> bytes:
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


async def endless(writer: asyncio.StreamWriter, piece: bytes, pause: float = 0.0) -> None:
    while True:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)


# --- what comes ---


def test_a_body_comes_as_it_is_and_the_request_tells_nothing() -> None:
    body, stranger = fetched(ok(b"\x30\x82"))
    assert body == b"\x30\x82"
    (head,) = stranger.heads
    fields = dict(line.lower().split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
    assert head.startswith(b"GET /ca.cer HTTP/1.1\r\n")
    assert fields == {
        b"host": b"ca.example:%d" % stranger.port, b"user-agent": b"sallyport", b"accept": b"*/*",
        b"accept-encoding": b"identity", b"connection": b"close",
    }  # fmt: skip


def test_a_post_carries_its_body() -> None:
    async def answer(_head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"got " + await reader.readexactly(3)))

    async def scenario() -> None:
        async with Stranger(answer) as stranger:
            until = asyncio.get_running_loop().time() + LATE
            asking = fetcher(stranger.port)
            body = await asking.post(stranger.url(), b"req", "application/ocsp-request", most=100, until=until)
            assert body == b"got req"
            assert stranger.heads[0].startswith(b"POST /ca.cer HTTP/1.1\r\n")
            assert b"\r\nContent-Type: application/ocsp-request\r\n" in stranger.heads[0]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok(b"abcde"),
        ok(b"abcde", b"Content-Encoding: identity"),
        ok(b"abcde") + b"and more",
        b"HTTP/1.1 103 \r\n\r\n" * 8 + ok(b"abcde"),
    ],
)
def test_what_http_allows_is_understood(answer: bytes) -> None:
    assert fetched(answer)[0] == b"abcde"


def test_a_body_may_end_with_the_connection() -> None:
    async def answer(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nabc")
        writer.close()

    assert fetched(answer)[0] == b"abc"


def test_a_body_of_just_the_limit_comes() -> None:
    assert fetched(ok(b"x" * 1000))[0] == b"x" * 1000


# --- what is refused ---


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (ok(b"x" * 1001), "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
        (b"HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\na", "status 206"),
        (ok(b"abc", b"Content-Encoding: gzip"), "Content-Encoding"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "no HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * LARGEST_HEAD, "larger|no HTTP"),
        (b"HTTP/1.1 103 \r\n\r\n" * 9 + ok(b"abc"), r"more than 8 interim answers \(1xx\)"),
        ((b"HTTP/1.1 103 \r\nX: " + b"x" * 4000 + b"\r\n\r\n") * 8, "head of its answer is larger"),
        (chunked(*[b"x"] * 101), "more than 100 chunks of less than 512 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "no HTTP"),
        (moved("/other", 300), "status 300"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "does not say where"),
    ],
)
def test_what_is_too_much_or_wrong_is_refused_at_once(answer: bytes, why: str) -> None:
    failed = failure(answer)
    assert not failed.timed_out
    with pytest.raises(FetchFailed, match=why):
        raise failed


def test_a_body_without_end_is_cut_at_the_limit() -> None:
    async def answer(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await endless(writer, b"x" * 10_000)

    assert "more than 1000 bytes" in str(failure(answer))


@pytest.mark.parametrize(
    ("extension", "size", "why"),
    [(1000, 1, "too much beside its body"), (1000, 512, "too much beside its body"), (0, 1, "chunks of less than 512")],
)
def test_a_body_without_end_in_chunks_is_cut_whatever_it_is_made_of(extension: int, size: int, why: str) -> None:
    async def answer(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await endless(writer, b"%x;" % size + b"x" * extension + b"\r\n" + b"y" * size + b"\r\n")

    assert why in str(failure(answer, most=1_000_000))


@pytest.mark.parametrize("head", [b"", b"Transfer-Encoding: chunked\r\n\r\n0\r\n"], ids=["head", "trailer"])
def test_of_fields_there_may_be_no_more_than_can_be_read_in_a_few_milliseconds(head: bytes) -> None:
    def answer(fields: int) -> bytes:
        return b"HTTP/1.1 200 OK\r\n" + head + b"a:\r\n" * fields + b"\r\n"

    assert "too much beside its body" in str(failure(answer(3000)))
    if head:
        assert fetched(answer(150))[0] == b""


def test_lines_of_a_body_are_its_own() -> None:
    body = b"\r\n" * 4000
    for answer in (ok(body), chunked(body, body)):
        assert fetched(answer, most=20_000)[0].startswith(body)


def test_chunks_of_the_usual_sizes_may_be_many_and_small_ones_a_few() -> None:
    body = [b"x" * 512] * 4000 + [b"y"] * 100
    assert fetched(chunked(*body), most=5_000_000)[0] == b"".join(body)


@pytest.mark.parametrize("answer", [ok(b"x" * 500_000), chunked(b"x" * 500_000)])
def test_others_get_their_turn_for_each_few_kib_of_an_answer(answer: bytes) -> None:
    async def scenario() -> None:
        pieces: list[int] = []

        class Counting(Exchange):
            def data_received(self, data: bytes) -> None:
                pieces.append(len(data))
                super().data_received(data)

        async with Stranger(answer) as stranger:
            exchange = Counting(parse_url(stranger.url()), Request(), 1_000_000)
            await asyncio.get_running_loop().create_connection(lambda: exchange, "127.0.0.2", stranger.port)
            found = await exchange.answer
        assert isinstance(found, Answer)
        assert found.body == b"x" * 500_000
        assert max(pieces) <= READ_AT_ONCE

    asyncio.run(scenario())


def test_a_head_without_end_is_cut() -> None:
    async def answer(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        await endless(writer, b"X: y\r\n" * 100)

    assert not failure(answer).timed_out


def test_a_body_that_is_cut_short_is_no_body() -> None:
    async def answer(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        writer.close()

    assert "before the answer was whole" in str(failure(answer))


def test_no_answer_is_said_so() -> None:
    async def answer(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    assert "without an answer" in str(failure(answer))


def test_a_port_where_nobody_listens_is_said_so() -> None:
    async def scenario() -> None:
        async with Stranger(b"") as stranger:
            port = stranger.port
        with pytest.raises(FetchFailed, match="refused the connection") as caught:
            await got(fetcher(port), f"http://ca.example:{port}/")
        assert not caught.value.timed_out

    asyncio.run(scenario())


# --- time ---


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
def test_one_who_drips_or_is_silent_is_not_waited_for(begin: bytes) -> None:
    async def answer(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for octet in begin:
            writer.write(bytes([octet]))
            await writer.drain()

    failed = failure(answer, within=SOON)
    assert failed.timed_out
    assert "in time" in str(failed)


def test_dns_is_in_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: release.wait(20) and [])

    async def scenario() -> None:
        with pytest.raises(FetchFailed, match="DNS has not come in time") as caught:
            await got(fetcher(), "http://slow.example/", within=SOON)
        assert caught.value.timed_out

    try:
        asyncio.run(scenario())
    finally:
        release.set()


class Dns:
    """A resolver in which all names hang but those that ``answers`` has, until :meth:`end`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = {"*"}
        self.asked: list[str] = []
        self._release = threading.Event()
        monkeypatch.setattr("proxy.admission._lookup", self._lookup)

    def _lookup(self, name: str) -> tuple[str, ...]:
        self.asked.append(name)
        if not self.answers & {"*", name}:
            self._release.wait(60)
        return ("127.0.0.2",)

    def end(self) -> None:
        self._release.set()


def with_dns(monkeypatch: pytest.MonkeyPatch, scenario: Callable[[Dns, Stranger], Awaitable[None]]) -> None:
    async def whole(dns: Dns) -> None:
        async with Stranger(ok(b"abc")) as stranger:
            await scenario(dns, stranger)

    dns = Dns(monkeypatch)
    try:
        asyncio.run(whole(dns))
    finally:
        dns.end()


async def hang(asking: Fetcher, dns: Dns, *names: str) -> None:
    """Ask for what is at names that hang, and give up; the lookups go on."""
    for name in names:
        with pytest.raises(FetchFailed, match="DNS has not come in time"):
            await got(asking, f"http://{name}/", within=0.05)
    assert set(names) <= set(dns.asked)


def test_a_domain_whose_dns_hangs_takes_nothing_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(dns: Dns, stranger: Stranger) -> None:
        dns.answers = {"ca.other.example.net"}
        asking = fetcher(stranger.port)
        await hang(asking, dns, *(f"n{number}.hostile.example" for number in range(4)))
        for number in range(4, 40):
            with pytest.raises(FetchFailed, match="too many names") as caught:
                await got(asking, f"http://n{number}.hostile.example/")
            assert caught.value.busy
        assert await got(asking, f"http://ca.other.example.net:{stranger.port}/") == b"abc"

    with_dns(monkeypatch, scenario)


def test_where_all_places_at_dns_are_taken_who_was_asked_before_is_asked_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(dns: Dns, stranger: Stranger) -> None:
        asking = fetcher(stranger.port)
        url = f"http://ca.inuse.example:{stranger.port}/"
        assert await got(asking, url) == b"abc"
        dns.answers = {"ca.new.test"}
        await hang(asking, dns, *(f"n{number}.hostile{number // 4}.example" for number in range(16)))
        assert await got(asking, url) == b"abc"
        with pytest.raises(FetchFailed, match="too many names") as caught:
            await got(asking, f"http://ca.new.test:{stranger.port}/")
        assert caught.value.busy
        assert dns.asked.count("ca.inuse.example") == 1
        dns.end()
        while True:
            with suppress(FetchFailed):
                assert await got(asking, f"http://ca.new.test:{stranger.port}/") == b"abc"
                break
            await asyncio.sleep(0.01)

    with_dns(monkeypatch, scenario)


def test_addresses_of_before_are_held_to_the_rules_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(dns: Dns, stranger: Stranger) -> None:
        asking = fetcher(stranger.port, private=())
        url = f"http://ca.inuse.example:{stranger.port}/"
        with pytest.raises(FetchFailed, match="private, or denied"):
            await got(asking, url)
        dns.answers = set()
        await hang(asking, dns, *(f"n{number}.hostile{number // 4}.example" for number in range(16)))
        with pytest.raises(FetchFailed, match="private, or denied"):
            await got(asking, url)

    with_dns(monkeypatch, scenario)


def test_beyond_half_of_all_there_is_no_place_for_one_domain() -> None:
    async def scenario() -> None:
        held = Held()
        async with Stranger(held) as stranger:
            hosts = {f"ca{number}.hostile.example": "127.0.0.2" for number in range(5)} | {"ca.other.test": "127.0.0.2"}
            asking = fetcher(stranger.port, hosts=hosts)
            *urls, other = (f"http://{name}:{stranger.port}/" for name in hosts)
            first = [asyncio.ensure_future(got(asking, url)) for url in urls[:4]]
            await asked(stranger, 4)
            with pytest.raises(FetchFailed, match="4 other fetches from it") as caught:
                await got(asking, urls[4])
            assert caught.value.busy
            held.release.set()
            assert await got(asking, other) == b"abc"
            await asyncio.gather(*first)

    asyncio.run(scenario())


def test_large_bodies_wait_for_each_other_and_small_ones_for_nobody() -> None:
    """What waits is not read: its server cannot send what there is."""
    size = 8 << 20
    sent: dict[bytes, int] = {}
    release = asyncio.Event()

    async def large(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = head.split()[1]
        if path == b"/small":
            writer.write(ok(b"abc"))
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sent[path] = 0
        while sent[path] < size:
            if len(sent) == 1 and sent[path] > size // 2:
                await release.wait()
            writer.write(b"0" * 65536)
            sent[path] += 65536
            await writer.drain()

    async def scenario() -> None:
        async with Stranger(large) as stranger:
            asking = fetcher(stranger.port)
            first = asyncio.ensure_future(got(asking, stranger.url("/1"), most=size))
            while not sent.get(b"/1", 0) > size // 2:  # noqa: ASYNC110 - the server says nothing when it waits
                await asyncio.sleep(0.01)
            second = asyncio.ensure_future(got(asking, stranger.url("/2"), most=size))
            while not await stands_still(sent, b"/2"):
                pass
            assert sent[b"/2"] < size
            assert not second.done()
            release.set()
            assert len(await first) == size
            assert len(await second) == size
            assert await got(asking, stranger.url("/small")) == b"abc"

    asyncio.run(scenario())


async def stands_still(sent: dict[bytes, int], path: bytes) -> bool:
    """Whether something was sent, and nothing more for a moment."""
    before = sent.get(path, 0)
    await asyncio.sleep(0.2)
    return before > 0 and sent[path] == before


def test_where_no_time_is_left_nothing_is_asked() -> None:
    async def scenario() -> None:
        async with Stranger(ok(b"abc")) as stranger:
            asking = fetcher(stranger.port)
            with pytest.raises(FetchFailed, match="no time is left") as caught:
                await got(asking, stranger.url(), within=-1)
            assert caught.value.timed_out
            assert asking.made == 0

    asyncio.run(scenario())


# --- where it leads ---


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://ca.example/", "over https"),
        ("ldap:///CN=CA?cACertificate", "over ldap"),
        ("file:///etc/passwd", "over file"),
        ("/relative", "over nothing"),
        ("http://user:secret@ca.example/", "names a user"),
        ("http://ca.example\\@10.0.0.1/", "names a user"),
        ("http:///", "names no host"),
        ("http://ca.example:0/", "names no host"),
        ("http://0x7f.1/", "names no host"),
        ("http://2130706433/", "names no host"),
        ("http://[::1%25lo]/", "names no host|cannot be read"),
        ("http://[/", "cannot be read|names no host"),
        ("http://ca.example/a b", "characters"),
        ("http://ca.example/\r\nX: y", "characters"),
        ("http://ca\t.example/", "characters"),
        ("http://bücher.example/", "characters"),
        ("http://ca.example/" + "x" * 3000, "3018 characters"),
        ("http://ca.example:8081/", "port 8081"),
        ("http://127.0.0.1/", "private, or denied"),
        ("http://169.254.169.254/latest/meta-data/", "private, or denied"),
        ("http://[::ffff:127.0.0.1]/", "private, or denied"),
        ("http://[::ffff:10.0.0.1]/", "private, or denied"),
        ("http://[64:ff9b::a00:1]/", "private, or denied"),
        ("http://inside.example/", "private, or denied"),
        ("http://private.example/", "private, or denied"),
        ("http://localhost/", "private, or denied|no address"),
    ],
)
def test_a_url_that_leads_elsewhere_is_refused_first_and_behind_a_redirect(url: str, why: str) -> None:
    async def scenario() -> None:
        with pytest.raises(FetchFailed, match=why) as caught:
            await got(fetcher(), url)
        assert not caught.value.timed_out
        if url in ("/relative", "http:///"):
            return  # as the target of a redirect these lead to the host that redirects (RFC 3986, section 5.2)
        async with Stranger(b"") as stranger:
            stranger.answer = f"HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n".encode()
            with pytest.raises(FetchFailed):
                await got(fetcher(stranger.port), stranger.url())
            assert len(stranger.heads) == 1

    asyncio.run(scenario())


def test_a_redirect_is_followed_where_it_leads_to_what_might_be_asked_first() -> None:
    async def scenario() -> None:
        async with Stranger(ok(b"there")) as there, Stranger(moved(there.url("/new?a=b#c"))) as first:
            assert await got(fetcher(first.port, there.port), first.url()) == b"there"
            assert there.heads[0].startswith(b"GET /new?a=b HTTP/1.1")

    asyncio.run(scenario())


def test_a_relative_redirect_stays_at_its_host() -> None:
    async def answer(head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"there") if head.startswith(b"GET /new ") else moved("new", 308))

    body, stranger = fetched(answer)
    assert body == b"there"
    assert len(stranger.heads) == 2


def test_redirects_in_a_circle_end() -> None:
    async def scenario() -> None:
        async with Stranger(moved("/ca.cer")) as stranger:
            with pytest.raises(FetchFailed, match="more than 3 times"):
                await got(fetcher(stranger.port), stranger.url())
            assert len(stranger.heads) == 4

    asyncio.run(scenario())


def test_a_post_is_not_made_a_get_by_a_redirect() -> None:
    async def scenario() -> None:
        async with Stranger(moved("/other")) as stranger:
            until = asyncio.get_running_loop().time() + LATE
            with pytest.raises(FetchFailed, match="a POST with status 302"):
                await fetcher(stranger.port).post(stranger.url(), b"x", "text/plain", most=9, until=until)

    asyncio.run(scenario())


def test_loopback_that_the_egress_rules_allow_is_still_not_a_strangers_to_ask() -> None:
    assert "private" in str(failure(ok(b"abc"), private=()))


def test_private_addresses_that_may_be_asked_are_held_to_the_egress_rules() -> None:
    assert "denied" in str(failure(ok(b"abc"), egress=Egress((), ())))


def test_of_several_addresses_only_those_that_may_be_asked_are(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", (address, 0)) for address in ("127.0.0.1", "10.0.0.1", "::1", "127.0.0.2")]
    monkeypatch.setattr("proxy.admission.socket.getaddrinfo", lambda *_, **__: found)

    async def scenario() -> None:
        async with Stranger(ok(b"abc")) as stranger:
            # Nobody listens there; were it asked, it would be the first to fail.
            assert await got(fetcher(stranger.port), f"http://both.example:{stranger.port}/") == b"abc"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("address", "reachable"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("64:ff9b::101:101", True),
        ("10.0.0.1", False),
        ("172.31.255.255", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("169.254.1.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("fd00::1", False),
        ("fec0::1", False),
        ("fe80::1", False),
        ("ff0e::1", False),
        ("::1", False),
        ("::10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:0:10.0.0.1", False),
        ("2002:a00:1::", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::7f00:1", False),
        ("no address", False),
    ],
)
def test_what_is_globally_reachable(address: str, reachable: bool) -> None:
    assert globally_reachable(address) is reachable


def test_an_ipv6_literal_is_asked_in_brackets() -> None:
    target = parse_url("http://[2001:DB8::1]:8080")
    assert (target.authority, target.path) == ("[2001:db8::1]:8080", "/")
    assert parse_url("HTTP://CA.Example:80/x?").url == "http://ca.example/x"


# --- together ---


class Held:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def __call__(self, _head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.release.wait()
        writer.write(ok(b"abc"))


async def asked(stranger: Stranger, times: int) -> None:
    async with asyncio.timeout(LATE):
        while len(stranger.heads) < times:
            stranger.came.clear()
            await stranger.came.wait()


def test_who_wants_the_same_shares_one_fetch() -> None:
    async def scenario() -> None:
        held = Held()
        async with Stranger(held) as stranger:
            asking = fetcher(stranger.port)
            all_of_them = [asyncio.ensure_future(got(asking, stranger.url())) for _ in range(20)]
            await asked(stranger, 1)
            all_of_them[0].cancel()  # takes nothing from the others
            held.release.set()
            assert await asyncio.gather(*all_of_them[1:]) == [b"abc"] * 19
            assert asking.made == 1
            await got(asking, stranger.url())
            assert asking.made == 2

    asyncio.run(scenario())


def test_beyond_two_from_one_host_there_is_a_refusal_at_once() -> None:
    async def scenario() -> None:
        held = Held()
        async with Stranger(held) as stranger:
            asking = fetcher(stranger.port)
            first = [asyncio.ensure_future(got(asking, stranger.url(f"/{number}"))) for number in range(2)]
            await asked(stranger, 2)
            with pytest.raises(FetchFailed, match="2 other fetches from it") as caught:
                await got(asking, stranger.url("/3"))
            assert caught.value.busy
            held.release.set()
            await asyncio.gather(*first)
            assert await got(asking, stranger.url("/3")) == b"abc"

    asyncio.run(scenario())


def test_beyond_eight_in_all_there_is_a_refusal_at_once() -> None:
    async def scenario() -> None:
        held = Held()
        async with Stranger(held) as stranger:
            hosts = {f"ca.site{number}.example": "127.0.0.2" for number in range(9)}
            asking = fetcher(stranger.port, hosts=hosts)
            urls = [f"http://{name}:{stranger.port}/" for name in hosts]
            first = [asyncio.ensure_future(got(asking, url)) for url in urls[:8]]
            await asked(stranger, 8)
            with pytest.raises(FetchFailed, match="8 other fetches are under way") as caught:
                await got(asking, urls[8])
            assert caught.value.busy
            held.release.set()
            await asyncio.gather(*first)
            assert await got(asking, urls[8]) == b"abc"

    asyncio.run(scenario())


def test_failures_give_their_places_back() -> None:
    async def scenario() -> None:
        async with Stranger(b"garbage\r\n\r\n") as stranger:
            asking = fetcher(stranger.port)
            for number in range(20):
                with pytest.raises(FetchFailed, match="no HTTP"):
                    await got(asking, stranger.url(f"/{number}"))

    asyncio.run(scenario())


@pytest.mark.parametrize("first", ["patient", "hasty"])
def test_one_with_less_time_gives_up_alone(first: str) -> None:
    async def scenario() -> None:
        held = Held()
        async with Stranger(held) as stranger:
            asking = fetcher(stranger.port)
            times = {"patient": LATE, "hasty": SOON}
            order = [first, *(times.keys() - {first})]
            waiting = {who: asyncio.ensure_future(got(asking, stranger.url(), within=times[who])) for who in order}
            with pytest.raises(FetchFailed) as caught:
                await waiting["hasty"]
            assert caught.value.timed_out
            held.release.set()
            assert await waiting["patient"] == b"abc"
            assert asking.made == 1

    asyncio.run(scenario())


def test_a_fetch_for_which_nobody_waits_ends_and_the_next_is_another() -> None:
    async def scenario() -> None:
        held = Held()
        async with Stranger(held) as stranger:
            asking = fetcher(stranger.port)
            left = asyncio.ensure_future(got(asking, stranger.url()))
            await asked(stranger, 1)
            left.cancel()
            await asyncio.wait([left])
            again = asyncio.ensure_future(got(asking, stranger.url()))
            held.release.set()
            assert await again == b"abc"
            assert asking.made == 2

    asyncio.run(scenario())


def test_close_gives_up_what_is_under_way() -> None:
    async def scenario() -> None:
        held = Held()
        async with Stranger(held) as stranger:
            asking = fetcher(stranger.port)
            waiting = asyncio.ensure_future(got(asking, stranger.url()))
            await asked(stranger, 1)
            asking.close()
            await asyncio.wait([waiting])
            held.release.set()
            await stranger.gone.wait()

    asyncio.run(scenario())


def test_a_large_body_is_read_in_pieces_with_rests_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[int] = []
    rest = Exchange._rest

    def counted(exchange: Exchange) -> None:
        rests.append(exchange._piece)
        rest(exchange)

    monkeypatch.setattr(Exchange, "_rest", counted)
    body = bytes(range(256)) * 4096  # 1 MiB
    found, _ = fetched(ok(body), most=2 << 20)
    assert found == body
    assert (len(body) - LARGE) // (PIECE + READ_AT_ONCE) <= len(rests) <= (len(body) - LARGE) // PIECE
    assert all(PIECE <= piece <= PIECE + READ_AT_ONCE for piece in rests)
    rests.clear()
    assert fetched(ok(body[:LARGE]), most=2 << 20)[0] == body[:LARGE]
    assert not rests, "what is small is read without"
