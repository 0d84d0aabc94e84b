"""The ICAP client against servers that do everything wrong: each is told by name, none is waited for too long."""

from __future__ import annotations

import asyncio

import pytest

from addons.icap_client import Client, Limits
from addons.icap_heads import IcapError
from addons.icap_service import ServiceUrl
from tests.addons.icap_asking import FOUND, GET, PATIENT, asked, closing, failed, resetting, run, scan, silent
from tests.harness.icap_fake import CONTINUE, OPTIONS, UNCHANGED, Asked, Conversation, FakeIcap, changed, options
from tests.harness.processes import free_port


class TestNonsense:
    """Each is told by name, at once where it can be told, and none is waited for beyond the deadline."""

    def test_nobody_listens(self) -> None:
        async def ask() -> None:
            url = ServiceUrl.parse(f"icap://127.0.0.1:{free_port()}/scan")
            await Client([url], PATIENT).scan(url, scan())

        with pytest.raises(IcapError, match=r"no connection to 127\.0\.0\.1 port .*refused.*is it running"):
            run(ask)

    def test_a_name_that_nobody_has(self) -> None:
        async def ask() -> None:
            url = ServiceUrl.parse("icap://nobody.invalid/scan")
            await Client([url], PATIENT).scan(url, scan())

        with pytest.raises(IcapError, match=r"no connection to nobody\.invalid port 1344"):
            run(ask)

    def test_it_never_answers(self) -> None:
        said = failed(FakeIcap(silent), limits=Limits(timeout=0.3))
        assert "RESPMOD: no verdict within 0.3 s, it was waited for an answer" in said

    def test_it_never_answers_options(self) -> None:
        said = failed(FakeIcap(options=silent), limits=Limits(timeout=0.3))
        assert "OPTIONS: no verdict within 0.3 s" in said

    def test_it_answers_a_byte_at_a_time(self) -> None:
        async def dripping(conversation: Conversation, _asked: Asked) -> None:
            for byte in changed("res", FOUND, b"x" * 10_000):
                await conversation.send(bytes([byte]))
                await asyncio.sleep(0.05)

        assert "no verdict within 0.5 s" in failed(FakeIcap(dripping), limits=Limits(timeout=0.5))

    def test_it_never_reads(self) -> None:
        async def deaf(conversation: Conversation, _asked: Asked) -> None:
            conversation.reader._transport.pause_reading()  # type: ignore[attr-defined]  # nothing public stops a reader
            await conversation.send(OPTIONS)
            await asyncio.sleep(3600)

        assert "no verdict within 0.5 s" in failed(
            FakeIcap(options=deaf), scan(b"x" * (32 << 20)), limits=Limits(timeout=0.5)
        )

    @pytest.mark.parametrize("place", [0, 1, 12, 30, 80, 100, 150, -1])
    def test_the_connection_is_cut_in_the_middle(self, place: int) -> None:
        assert "before its answer was whole" in failed(FakeIcap(closing(changed("res", FOUND, b"x" * 100)[:place])))

    def test_the_connection_is_cut_after_100_continue(self) -> None:
        fake = FakeIcap(closing(CONTINUE), options(Preview="1"))
        assert "before its answer was whole" in failed(fake)
        assert len(fake.scans) == 1

    def test_the_connection_is_reset(self) -> None:
        fake = FakeIcap(options=resetting)
        assert "before its answer was whole" in failed(fake)
        assert fake.connections == 1, "a new connection is not tried again"

    @pytest.mark.parametrize(
        ("answer", "advice"),
        [
            (b"ICAP/1.0 400 Bad request\r\n\r\n", "400 Bad request; it did not understand"),
            (b"ICAP/1.0 404 ICAP Service not found\r\n\r\n", "404 ICAP Service not found; it has no such service"),
            (b"ICAP/1.0 405 Method not allowed\r\n\r\n", "405 .*check the path"),
            (b"ICAP/1.0 500 Oh\r\nEncapsulated: null-body=0\r\n\r\n", "500 Oh; it failed"),
            (b"ICAP/1.0 503 Service overloaded\r\n\r\n", "503 .*lower icap_max_connections"),
            (b"ICAP/1.0 206 Partial Content\r\n\r\n", "206 .*expected 200 or 204"),
            (b"ICAP/1.0 302 \x1b[2J\xff\r\n\r\n", "which is no ICAP/1.0 status line"),
            (b"ICAP/1.0 418\r\n\r\n", "it answered 418; expected 200 or 204"),
        ],
    )
    def test_another_status(self, answer: bytes, advice: str) -> None:
        fake = FakeIcap(answer)
        with pytest.raises(IcapError, match=advice):
            asked(fake)

    def test_100_continue_without_a_preview(self) -> None:
        assert "where nothing is left to send" in failed(FakeIcap(CONTINUE))

    def test_100_continue_after_ieof(self) -> None:
        assert "where nothing is left to send" in failed(FakeIcap(CONTINUE, options(Preview="100")))

    def test_100_continue_twice(self) -> None:
        fake = FakeIcap(CONTINUE + CONTINUE, options(Preview="1"))
        assert "for a second time" in failed(fake)

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "no ICAP/1.0 status line"),
            (b"\x16\x03\x01" + b"\r\n\r\n", "no ICAP/1.0 status line"),
            (b"ICAP/1.0 200 OK\r\n" + b"A: b\r\n" * 20_000, "without an end of its ICAP head"),
            (changed("res", FOUND, b"x")[:-5] + b"zz\r\nx\r\n0\r\n\r\n", "where the size of a chunk belongs"),
            (changed("res", FOUND, b"x" * 2000), "larger than 1000 bytes; icap_body_limit"),
            (changed("req", GET), "no answer to RESPMOD can have"),
            (b"ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, null-body=3\r\n\r\nHTTP", "does not end where it should"),
            (b"ICAP/1.0 204 OK\r\nISTag: a\r\nISTag: b\r\n\r\n", "several istag fields"),
        ],
        ids=range(8),
    )  # fmt: skip
    def test_what_is_no_answer(self, answer: bytes, said: str) -> None:
        fake = FakeIcap(answer)
        assert said in failed(fake, limits=Limits(timeout=20, body=1000))

    @pytest.mark.parametrize(
        "answer", [UNCHANGED, options(Methods=""), options(Preview="x"), b"ICAP/1.0 100 Continue\r\n\r\n"]
    )
    def test_what_is_no_answer_to_options(self, answer: bytes) -> None:
        assert ": OPTIONS: " in failed(FakeIcap(options=answer))

    def test_a_service_that_does_not_take_the_method(self) -> None:
        said = failed(FakeIcap(options=options(Methods="REQMOD")))
        assert "RESPMOD: the service does not take it, only REQMOD" in said
