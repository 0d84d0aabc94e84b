"""The ICAP client: what it asks, and how long it trusts a connection."""

from __future__ import annotations

import asyncio

import pytest

from addons.icap_answer import Answer
from addons.icap_client import Client, Limits
from addons.icap_heads import IcapError
from addons.icap_pool import IDLE, Pool, Progress
from addons.icap_service import ServiceUrl
from tests.addons.icap_asking import BIG, FOUND, GET, PATIENT, asked, client, closing, failed, run, scan, silent, until
from tests.harness.icap_fake import CONTINUE, OPTIONS, UNCHANGED, Asked, Conversation, FakeIcap, changed, options


class TestWhatIsAsked:
    def test_options_come_first_and_once(self) -> None:
        fake = FakeIcap()
        assert asked(fake, scan(), scan(), scan()) == [None, None, None]
        assert [one.method for one in fake.requests] == ["OPTIONS", "RESPMOD", "RESPMOD", "RESPMOD"]
        assert fake.connections == 1

    def test_without_a_preview_the_body_is_sent_whole(self) -> None:
        fake = FakeIcap()
        asked(fake, scan(BIG))
        assert fake.scans[0].body == BIG
        assert fake.scans[0].preview is None
        assert fake.scans[0].heads == {"req-hdr": GET, "res-hdr": FOUND}
        assert fake.scans[0].fields["allow"] == "204"

    def test_204_within_the_preview(self) -> None:
        fake = FakeIcap(options=options(Preview="100"))
        assert asked(fake, scan(BIG), scan(BIG)) == [None, None]
        assert [(one.preview, one.body, one.ieof) for one in fake.scans] == [(100, BIG[:100], False)] * 2
        assert fake.connections == 1

    def test_a_body_within_the_preview_ends_with_ieof(self) -> None:
        fake = FakeIcap(options=options(Preview="5"))
        asked(fake, scan(b"hello"))
        assert (fake.scans[0].body, fake.scans[0].ieof) == (b"hello", True)

    def test_after_100_continue_the_rest_is_sent(self) -> None:
        rests: list[tuple[bytes, bool]] = []

        async def more(conversation: Conversation, _asked: Asked) -> None:
            await conversation.send(CONTINUE)
            rests.append(await conversation.body())
            await conversation.send(changed("res", FOUND, b"clean"))

        fake = FakeIcap(more, options(Preview="1000"))
        answers = asked(fake, scan(BIG), scan(BIG))
        assert [bytes(answer.body) for answer in answers if answer] == [b"clean", b"clean"]
        assert rests == [(BIG[1000:], False)] * 2
        assert fake.connections == 1

    def test_an_answer_that_comes_with_100_continue_is_heard(self) -> None:
        for answer in (CONTINUE + UNCHANGED, closing(CONTINUE + UNCHANGED)):
            fake = FakeIcap(answer, options(Preview="0"))
            assert asked(fake, scan(BIG), scan(BIG)) == [None, None]
            assert fake.connections == 2, "the first is in the middle of a request"

    def test_the_configured_preview_is_the_most(self) -> None:
        fake = FakeIcap(options=options(Preview="100"))
        asked(fake, scan(BIG), limits=Limits(preview=10))
        assert fake.scans[0].preview == 10

    def test_the_lists_of_extensions_are_followed(self) -> None:
        fake = FakeIcap(
            options=options(Preview="1", Transfer_Preview="*", Transfer_Ignore="gif", Transfer_Complete="zip")
        )
        paths = ("/a.gif", "/a.zip", "/a.txt")
        asked(fake, *(scan(b"hello", path) for path in paths))
        assert [(one.preview, one.body) for one in fake.scans] == [(None, b"hello"), (1, b"h")]

    def test_options_are_asked_again_when_they_expire(self) -> None:
        fake = FakeIcap(options=options(Options_TTL="0"))
        asked(fake, scan(), scan())
        assert [one.method for one in fake.requests] == ["OPTIONS", "RESPMOD", "OPTIONS", "RESPMOD"]

    def test_options_are_asked_again_after_another_istag(self) -> None:
        fake = FakeIcap(b'ICAP/1.0 204 OK\r\nISTag: "two"\r\n\r\n')
        asked(fake, scan(), scan())
        assert [one.method for one in fake.requests] == ["OPTIONS", "RESPMOD", "OPTIONS", "RESPMOD"]

    def test_an_answer_without_an_istag_changes_nothing(self) -> None:
        fake = FakeIcap(b"ICAP/1.0 204 OK\r\n\r\n")
        asked(fake, scan(), scan())
        assert [one.method for one in fake.requests] == ["OPTIONS", "RESPMOD", "RESPMOD"]

    def test_many_at_once_share_one_answer_to_options(self) -> None:
        fake = FakeIcap()

        async def ask() -> None:
            async with client(fake) as asking:
                await asyncio.gather(*(asking.scan(fake.url, scan()) for _ in range(20)))

        run(ask)
        assert [one.method for one in fake.requests].count("OPTIONS") == 1
        assert len(fake.scans) == 20
        assert fake.connections <= 10


class TestConnections:
    def test_after_an_error_a_connection_is_not_used_again(self) -> None:
        answers = iter([b"ICAP/1.0 500 Oh\r\n\r\n", changed("res", FOUND, b"x" * 2000), UNCHANGED, UNCHANGED])

        async def answering(conversation: Conversation, _asked: Asked) -> None:
            await conversation.send(next(answers))

        fake = FakeIcap(answering)

        async def ask() -> None:
            async with client(fake, Limits(timeout=20, body=1000)) as asking:
                for _ in range(2):
                    with pytest.raises(IcapError):
                        await asking.scan(fake.url, scan())
                for _ in range(2):
                    assert await asking.scan(fake.url, scan()) is None

        run(ask)
        assert (len(fake.scans), fake.connections) == (4, 3)

    @pytest.mark.parametrize("answer", [UNCHANGED + b"more", b"ICAP/1.0 204 OK\r\nConnection: close\r\n\r\n"])
    def test_one_with_more_after_the_answer_or_that_closes_is_not_used_again(self, answer: bytes) -> None:
        fake = FakeIcap(answer)
        assert asked(fake, scan(), scan()) == [None, None]
        assert fake.connections == 2

    def test_an_answer_before_the_body_was_taken_counts_and_ends_the_connection(self) -> None:
        """RFC 3507 section 4.5 lets a server answer early; where it is in the body then, nobody knows."""

        async def eager(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"OPTIONS"):
                writer.write(OPTIONS)
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(changed("res", FOUND, b"stop"))
            await writer.drain()
            seen.append(writer)

        seen: list[asyncio.StreamWriter] = []

        async def ask() -> None:
            server = await asyncio.start_server(eager, "127.0.0.1", 0)
            async with server:
                url = ServiceUrl.parse(f"icap://127.0.0.1:{server.sockets[0].getsockname()[1]}/scan")
                client = Client([url], PATIENT)
                for _ in range(2):
                    answer = await client.scan(url, scan(b"x" * (32 << 20)))
                    assert answer is not None
                    assert bytes(answer.body) == b"stop"
                client.close()
                assert len(seen) == 2
                for writer in seen:
                    writer.transport.abort()

        run(ask)

    def test_one_that_the_server_closed_meanwhile_is_made_anew(self) -> None:
        fake = FakeIcap(closing(UNCHANGED))

        async def ask() -> None:
            async with client(fake) as asking:
                for _ in range(3):
                    assert await asking.scan(fake.url, scan()) is None
                    await until(lambda: fake.open == 0)

        run(ask)
        assert len(fake.scans) == 3

    def test_a_kept_one_that_is_cut_without_an_answer_is_tried_once_more(self) -> None:
        """A server that closes just when the next request is on its way."""

        async def once(conversation: Conversation, asked: Asked) -> None:
            if conversation.number == 1 and len(fake.scans) > 1:
                conversation.writer.transport.abort()
            else:
                await conversation.send(UNCHANGED)

        fake = FakeIcap(once)
        assert asked(fake, scan(), scan()) == [None, None]
        assert (len(fake.scans), fake.connections) == (3, 2)

    def test_it_is_tried_no_second_time(self) -> None:
        async def never_again(conversation: Conversation, asked: Asked) -> None:
            if len(fake.scans) > 1:
                conversation.writer.transport.abort()
            else:
                await conversation.send(UNCHANGED)

        fake = FakeIcap(never_again)
        assert "before its answer was whole" in failed(fake, scan(), scan())
        assert (len(fake.scans), fake.connections) == (3, 2)

    def test_a_kept_one_that_is_cut_within_its_answer_is_not_tried_again(self) -> None:
        async def half(conversation: Conversation, asked: Asked) -> None:
            if len(fake.scans) > 1:
                await conversation.send(UNCHANGED[:10])
                conversation.writer.close()
            else:
                await conversation.send(UNCHANGED)

        fake = FakeIcap(half)
        assert "before its answer was whole" in failed(fake, scan(), scan())
        assert (len(fake.scans), fake.connections) == (2, 1)

    def test_where_one_is_stale_none_that_was_kept_is_tried(self) -> None:
        both = asyncio.Event()

        async def restarted(conversation: Conversation, asked: Asked) -> None:
            if len(fake.scans) > 2 and conversation.number <= 2:
                conversation.writer.transport.abort()
                return
            if len(fake.scans) == 2:
                both.set()
            await both.wait()
            await conversation.send(UNCHANGED)

        fake = FakeIcap(restarted)

        async def ask() -> None:
            async with client(fake) as asking:
                await asyncio.gather(*(asking.scan(fake.url, scan()) for _ in range(2)))
                assert fake.connections == 2
                assert await asking.scan(fake.url, scan()) is None

        run(ask)
        assert fake.connections == 3

    def test_one_that_says_nonsense_of_its_service_is_not_used_again(self) -> None:
        fake = FakeIcap(options=options(Methods=""))

        async def ask() -> None:
            async with client(fake) as asking:
                with pytest.raises(IcapError, match="names no Methods"):
                    await asking.scan(fake.url, scan())
                fake.options = OPTIONS
                assert await asking.scan(fake.url, scan()) is None

        run(ask)
        assert fake.connections == 2

    def test_one_that_was_unused_for_long_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = FakeIcap()
        monkeypatch.setattr("addons.icap_pool.IDLE", -1.0)
        asked(fake, scan(), scan())
        assert fake.connections == 3
        assert IDLE > 0

    @pytest.mark.parametrize(("said", "most"), [("2", 2), ("100", 3)])
    def test_no_more_than_the_least_of_both_limits(self, said: str, most: int) -> None:
        at_once: list[int] = []
        gate = asyncio.Event()

        async def waiting(conversation: Conversation, _asked: Asked) -> None:
            at_once.append(len(at_once) + 1)
            if len(at_once) == most:
                # All that may come is here; were there more, they would come now.
                await asyncio.sleep(0.1)
                assert len(at_once) == most
                gate.set()
            await gate.wait()
            await conversation.send(UNCHANGED)

        fake = FakeIcap(waiting, options(Max_Connections=said))

        async def ask() -> None:
            async with client(fake, Limits(timeout=20, connections=3)) as asking:
                await asyncio.gather(*(asking.scan(fake.url, scan()) for _ in range(9)))

        run(ask)
        assert len(fake.scans) == 9
        assert fake.connections <= 3

    def test_who_waits_for_a_connection_waits_within_its_deadline(self) -> None:
        fake = FakeIcap(silent)

        async def ask() -> list[Answer | BaseException | None]:
            async with client(fake, Limits(timeout=0.5, connections=1)) as asking:
                return await asyncio.gather(*(asking.scan(fake.url, scan()) for _ in range(3)), return_exceptions=True)

        said = [str(one) for one in run(ask)]
        assert all("no verdict within 0.5 s" in one for one in said), said
        assert any("it was waited for a free connection" in one for one in said), said

    def test_a_place_is_given_on_when_a_scan_is_cancelled(self) -> None:
        fake = FakeIcap(silent)

        async def ask() -> None:
            async with client(fake, Limits(timeout=20, connections=1)) as asking:
                first = asyncio.ensure_future(asking.scan(fake.url, scan()))
                await until(lambda: len(fake.scans) == 1)
                second = asyncio.ensure_future(asking.scan(fake.url, scan()))
                third = asyncio.ensure_future(asking.scan(fake.url, scan()))
                await asyncio.sleep(0)
                fake.answer = UNCHANGED
                second.cancel()
                first.cancel()
                assert await third is None

        run(ask)

    def test_a_place_is_not_lost_to_who_is_cancelled_as_it_comes(self) -> None:
        async def take(pool: Pool) -> None:
            async with pool.link(Progress("RESPMOD")):
                pass

        async def ask() -> None:
            async with FakeIcap() as fake:
                pool = Pool(fake.url.address, 1, None)
                async with pool.link(Progress("RESPMOD")):
                    waiting = asyncio.ensure_future(take(pool))
                    await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                await take(pool)
                pool.close()

        run(ask)

    def test_nothing_stays_open_after_it_is_closed(self) -> None:
        fake = FakeIcap()

        async def ask() -> None:
            async with client(fake) as asking:
                await asking.scan(fake.url, scan())
                assert fake.open == 1
                asking.close()
                await until(lambda: fake.open == 0)

        run(ask)
