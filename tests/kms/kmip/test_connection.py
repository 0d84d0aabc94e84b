"""One connection: who is believed, what an answer must be, and that a connection that failed is used no more."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from kmip.core import enums

from certs.names import parse_host
from kms.kmip import operations
from kms.kmip.connection import Connection, Endpoint, addresses_of, connect, secure, tcp
from kms.kmip.errors import KmipError, Reason
from kms.kmip.messages import LARGEST_MESSAGE, VERSIONS, Login
from kms.kmip.operations import KeyAttributes, SignatureScheme
from tests.harness.kmip_fake import Answer, Asked, CloseNow, FakeKmip
from tests.harness.kmip_server import KmipServer, client_certificate
from tests.harness.pki import DAY, NOW, Authority
from tests.kms.kmip.rig import HOST, SIGNING_KEY, at, client, identity_of, reach, root, server_identity

SCHEME = SignatureScheme("RSA", "SHA_256")
SOON = 10.0


def run[A](work: Coroutine[Any, Any, A]) -> A:
    async def within() -> A:
        async with asyncio.timeout(SOON):
            return await work

    return asyncio.run(within())


def fake() -> FakeKmip:
    return FakeKmip(server_identity(), root(), SIGNING_KEY)


async def failing(work: Awaitable[Any]) -> KmipError:
    with pytest.raises(KmipError) as caught:
        await work
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with KmipServer(tmp_path_factory.mktemp("kmip"), server_identity(), root()) as made:
        made.register("signing", SIGNING_KEY)
        yield made


class GivenUp(ssl.SSLObject):
    """TLS, of which whoever waits for it gives up at the moment when it stands."""

    waiting: asyncio.Task[Any] | None = None

    def do_handshake(self) -> None:
        super().do_handshake()
        if GivenUp.waiting is not None:
            GivenUp.waiting.cancel()


def test_one_that_is_given_up_just_when_tls_stands_leaves_nothing_to_the_next_of_its_number() -> None:
    async def work() -> None:
        how = reach()
        how.context.sslobject_class = GivenUp
        async with fake() as server:
            (address,) = await addresses_of(at(server.port), how)
            for _ in range(3):
                raw = await tcp(at(server.port), how, [address])
                GivenUp.waiting = asyncio.ensure_future(secure(at(server.port), how, raw))
                await asyncio.wait([GivenUp.waiting])
                assert GivenUp.waiting.cancelled()
                GivenUp.waiting = None
                following = await connect(at(server.port), how)
                assert raw.fileno() == -1
                assert "SIGN" in (await following.ask(operations.query())).operations
                following.abort()

    run(work())


class TestARealServer:
    def test_the_newest_version_is_agreed_and_the_key_is_found_and_signs(self, server: KmipServer) -> None:
        async def work() -> None:
            connection = await connect(at(server.port), reach())
            assert connection.version == (2, 0)
            assert connection.at.protocol == "TLSv1.3"
            told = await connection.ask(operations.query())
            assert "SIGN" in told.operations
            assert told.vendor.startswith("PyKMIP")
            await connection.close()

        run(work())

    @pytest.mark.parametrize("version", VERSIONS)
    def test_every_version_serves(self, server: KmipServer, version: tuple[int, int]) -> None:
        async def work() -> None:
            agreed = await connect(at(server.port), reach())
            connection = Connection(agreed.at, version, None)
            (found,) = await connection.ask(operations.locate_private_keys("signing"))
            assert await connection.ask(operations.locate_private_keys("another")) == ()
            expected = KeyAttributes("ACTIVE", "RSA", 2048, frozenset({"SIGN"}))
            assert await connection.ask(operations.get_attributes(found)) == expected
            assert len(await connection.ask(operations.sign(found, SCHEME, b"data"))) == 256
            await connection.close()

        run(work())

    def test_what_it_refuses_is_told_and_the_connection_stays(self, server: KmipServer) -> None:
        async def work() -> None:
            connection = await connect(at(server.port), reach())
            error = await failing(connection.ask(operations.get_attributes("no such key")))
            assert (error.reason, error.said, error.answered) == (Reason.REFUSED, "ITEM_NOT_FOUND", True)
            assert str(error) == "GetAttributes was refused (ITEM_NOT_FOUND): Could not locate object: no such key"
            assert connection.usable
            assert await connection.ask(operations.locate_private_keys("signing"))
            await connection.close()
            assert not connection.usable

        run(work())

    def test_a_name_that_cannot_be_written_is_an_error_like_others(self, server: KmipServer) -> None:
        async def work() -> None:
            connection = await connect(at(server.port), reach())
            error = await failing(connection.ask(operations.locate_private_keys("schlüssel")))
            assert "not all ASCII" in str(error)
            assert await connection.ask(operations.locate_private_keys("signing")), "nothing of it was sent"
            await connection.close()

        run(work())

    def test_tls_1_2_is_spoken_where_the_server_has_no_newer(self, tmp_path: Any) -> None:
        async def work(port: int) -> str:
            connection = await connect(at(port), reach())
            await connection.close()
            return connection.at.protocol

        with KmipServer(tmp_path, server_identity(), root(), versions="1.2") as old:
            assert run(work(old.port)) == "TLSv1.2"

    @pytest.mark.parametrize(
        ("made", "said"),
        [
            ({"not_before": NOW - 9 * DAY, "not_after": NOW - DAY}, "certificate expired"),
            ({"eku": ["server"]}, "unsupported certificate"),
            ({"sign_with": SIGNING_KEY}, "alert"),
        ],
    )
    def test_our_certificate_that_it_does_not_take_is_said_to_be_ours(
        self, server: KmipServer, made: dict[str, Any], said: str
    ) -> None:
        useless = identity_of(client_certificate(root(), **made))
        error = run(failing(connect(at(server.port), reach(useless))))
        if "right after the TLS handshake" not in str(error):  # its reset overtook its alert
            assert error.reason is Reason.TLS
            assert "refuses our client certificate or TLS" in str(error)
            assert said in str(error)

    def test_our_certificate_of_a_ca_that_it_does_not_know_is_said_to_be_ours(self, server: KmipServer) -> None:
        stranger = identity_of(client_certificate(Authority.root("Stranger")))
        error = run(failing(connect(at(server.port), reach(stranger))))
        # Where its reset overtakes its alert, nobody is told more.
        assert "our client certificate" in str(error)


class TestWhoIsBelieved:
    def test_a_server_of_another_ca_is_not(self) -> None:
        async def work() -> KmipError:
            other = identity_of(client(), server_ca=Authority.root("Another"))
            async with fake() as server:
                error = await failing(connect(at(server.port), reach(other)))
                assert server.asked == []
                return error

        error = run(work())
        assert error.reason is Reason.TLS
        assert "is not accepted: " in str(error)

    def test_a_server_of_another_name_is_not(self) -> None:
        async def work() -> KmipError:
            async with fake() as server:
                return await failing(connect(at(server.port, "wrong.example"), reach()))

        error = run(work())
        assert error.reason is Reason.TLS
        assert "hostname mismatch" in str(error).lower()

    def test_a_server_whose_certificate_has_expired_is_not(self) -> None:
        async def work() -> KmipError:
            expired = root().leaf(HOST, not_before=NOW - 9 * DAY, not_after=NOW - DAY)
            async with FakeKmip(expired, root(), SIGNING_KEY) as server:
                return await failing(connect(at(server.port), reach()))

        assert "certificate has expired" in str(run(work()))

    def test_a_server_that_closes_without_a_word_may_not_take_our_certificate(self) -> None:
        async def work() -> KmipError:
            async with fake() as server:
                server.on["DISCOVER_VERSIONS"] = _nothing
                return await failing(connect(at(server.port), reach()))

        error = run(work())
        assert error.reason is Reason.CLOSED
        assert str(error).endswith(", right after the TLS handshake; it may not accept our client certificate")

    def test_a_name_and_a_password_go_with_each_request_where_they_are_set(self) -> None:
        async def work() -> None:
            async with fake() as server:
                connection = await connect(at(server.port), reach(login=Login("proxy", "made-up passphrase")))
                await connection.ask(operations.query())
                for asked in server.asked:
                    (credential,) = asked.header.authentication.credentials
                    assert credential.credential_value.username == "proxy"
                    assert credential.credential_value.password == "made-up passphrase"
                await connection.close()

        run(work())
        assert "passphrase" not in repr(Login("proxy", "made-up passphrase"))


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "::1", "fe80::1",
         "fd00:ec2::254", "168.63.129.16", "64:ff9b::a83f:8110", "::ffff:10.0.0.1", "64:ff9b::a00:1",
         "0.0.0.0", "224.0.0.1"],
    )  # fmt: skip
    def test_a_private_one_is_refused_before_anything_is_sent(self, address: str) -> None:
        error = run(failing(connect(Endpoint(parse_host(address), 1), reach(private=False))))
        assert error.reason is Reason.ADDRESS
        assert "kmip.allow_private_addresses" in str(error)

    def test_a_name_that_leads_to_one_is_refused_by_the_address(self) -> None:
        error = run(failing(connect(at(1), reach(private=False))))
        assert str(error).startswith("kms.example, which leads to 127.0.0.1, is a private")

    def test_a_name_without_an_address_is_said_to_be_that(self) -> None:
        error = run(failing(connect(at(1, "nowhere.invalid"), reach())))
        assert error.reason is Reason.NAME
        assert "nowhere.invalid has no address" in str(error)

    def test_the_connection_comes_from_the_address_that_is_set(self) -> None:
        async def work() -> str:
            async with fake() as server:
                connection = await connect(at(server.port), reach(source="127.0.0.9"))
                await connection.close()
                return connection.at.source

        assert run(work()) == "127.0.0.9"

    def test_a_source_address_that_is_not_ours_is_named(self) -> None:
        error = run(failing(connect(at(1), reach(source="192.0.2.77"))))
        assert error.reason is Reason.CONNECT
        assert "kmip.source_address 192.0.2.77" in str(error)

    def test_nobody_there_is_said_to_be_that(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        error = run(failing(connect(at(port), reach())))
        assert (error.reason, str(error)) == (
            Reason.CONNECT,
            f"no connection to kms.example:{port}: connection refused",
        )


def _garbage(asked: Asked) -> Answer:
    return asked.as_it_should()[:8] + bytes(len(asked.as_it_should()) - 8)


def _huge(asked: Asked) -> Answer:
    return asked.as_it_should()[:4] + (2**31).to_bytes(4)


def _http(asked: Asked) -> Answer:
    raise CloseNow(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def _half(asked: Asked) -> Answer:
    octets = asked.as_it_should()
    raise CloseNow(octets[: len(octets) // 2])


def _nothing(asked: Asked) -> Answer:
    raise CloseNow


def _another_id(asked: Asked) -> Answer:
    return asked.reply(id=b"another!")


def _no_id(asked: Asked) -> Answer:
    octets = asked.as_it_should()
    place = octets.index(bytes.fromhex("420093"))
    cut = octets[:place] + octets[place + 16 :]
    for tag in ("42007b", "42000f"):  # Response Message and Batch Item are sixteen octets shorter
        at = cut.index(bytes.fromhex(tag)) + 4
        cut = cut[:at] + (int.from_bytes(cut[at : at + 4]) - 16).to_bytes(4) + cut[at + 4 :]
    return cut


def _another_operation(asked: Asked) -> Answer:
    return asked.reply(operation=enums.Operation.GET)


def _two_items(asked: Asked) -> Answer:
    return asked.reply(items=2)


def _no_signature(asked: Asked) -> Answer:
    return asked.reply()


def _one_octet_more(asked: Asked) -> Answer:
    octets = asked.as_it_should() + bytes(8)
    return octets[:4] + (len(octets) - 8).to_bytes(4) + octets[8:]


class TestAnAnswer:
    @pytest.mark.parametrize(
        ("answer", "reason", "text"),
        [
            (_garbage, Reason.MALFORMED, "cannot be read as KMIP"),
            (_huge, Reason.MALFORMED, f"an answer of {2**31} bytes is too large; at most {LARGEST_MESSAGE}"),
            (_http, Reason.MALFORMED, "no KMIP server: it speaks HTTP; look at the port"),
            (_half, Reason.CLOSED, "closed the connection in the middle of its answer"),
            (_nothing, Reason.CLOSED, "closed the connection"),
            (_another_id, Reason.MISMATCH, "the answer is to another request"),
            (_no_id, Reason.MISMATCH, "the answer is to another request"),
            (_another_operation, Reason.MISMATCH, "about another operation"),
            (_two_items, Reason.MALFORMED, "not just one item"),
            (_no_signature, Reason.MALFORMED, "holds no signature"),
            (_one_octet_more, Reason.MALFORMED, "not just one item"),
        ],
    )
    def test_that_is_not_what_was_asked_for_ends_the_connection(
        self, answer: Callable[[Asked], Answer], reason: Reason, text: str
    ) -> None:
        async def work() -> None:
            async with fake() as server:
                connection = await connect(at(server.port), reach())
                server.on["SIGN"] = answer
                error = await failing(connection.ask(operations.sign("1", SCHEME, b"data")))
                assert error.reason is reason
                assert text in str(error)
                assert not error.answered
                assert not connection.usable

        run(work())

    def test_that_was_not_waited_for_is_nobody_elses(self) -> None:
        async def work() -> None:
            async with fake() as server:
                server.on["SIGN"] = lambda asked: None
                connection = await connect(at(server.port), reach())
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await connection.ask(operations.sign("1", SCHEME, b"data"))
                assert not connection.usable

        run(work())

    def test_that_refuses_has_the_servers_words_cleaned_and_cut(self) -> None:
        async def work() -> None:
            async with fake() as server:
                text = "no\x1b[31m\r\n\t" + "x" * 5000
                server.on["SIGN"] = lambda asked: asked.refuse(enums.ResultReason.PERMISSION_DENIED, text)
                connection = await connect(at(server.port), reach())
                error = await failing(connection.ask(operations.sign("1", SCHEME, b"data")))
                assert str(error).startswith("Sign was refused (PERMISSION_DENIED): no [31m xxx")
                assert len(str(error)) < 400
                assert connection.usable
                await connection.close()

        run(work())

    def test_a_server_without_a_version_in_common_is_named_with_those_that_it_has(self) -> None:
        async def work() -> KmipError:
            async with fake() as server:
                server.versions = [(1, 1), (1, 0)]
                return await failing(connect(at(server.port), reach()))

        error = run(work())
        assert error.reason is Reason.VERSION
        assert "speaks no version of KMIP from 1.2 to 2.0 (it names 1.1, 1.0)" in str(error)

    @pytest.mark.parametrize("speaks", ["nothing", "HTTP"])
    def test_a_port_without_tls_is_said_to_be_that(self, speaks: str) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                await reader.read(1)
                if speaks == "HTTP":
                    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    await writer.drain()
            writer.close()

        async def work() -> KmipError:
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            async with server:
                return await failing(connect(at(server.sockets[0].getsockname()[1]), reach()))

        assert run(work()).reason is Reason.TLS
