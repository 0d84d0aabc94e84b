"""Verdicts on servers that leave their issuers out: what is fetched for them, what is kept, and what counts."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import cache

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from certs.authority import spki_sha256
from certs.decision import ErrorSettings
from certs.names import parse_host
from certs.scope import TrustByHost
from certs.verdict import Defect, Verdict
from certs.verify import Handshake
from proxy import completing
from proxy.admission import Egress, Resolver
from proxy.completing import FAILED_SECONDS, KEPT_SECONDS, Completer
from proxy.fetching import Fetcher
from proxy.metrics import Metrics
from proxy.snapshot import Snapshot
from proxy.upstream import SEEN, Judge
from tests.harness.file_server import FileServer
from tests.harness.pki import NOW, Authority, Issued, issuer_at, self_signed

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
HOST = "good.example"


@cache
def root() -> Authority:
    return Authority.root("Root")


class Rig:
    """A judge with a completer, in front of a file server, at a time that the test sets."""

    def __init__(self, files: FileServer, thread: ThreadPoolExecutor, own_keys: frozenset[bytes]) -> None:
        self.files = files
        self.passed = 0.0
        self.resolver = Resolver({"ca.example": "127.0.0.1"}, 5)
        self.metrics = Metrics()
        self.fetcher = Fetcher(
            self.resolver, Egress(LOOPBACK, ()), ports=(80, files.port, 1), private=LOOPBACK, metrics=self.metrics
        )
        self.completer = Completer(self.fetcher, thread, self.clock, lambda: self.passed, self.metrics)
        self.judge = Judge(self.clock, thread, self.completer)
        trust = TrustByHost([root().certificate], ())
        self.snapshot = Snapshot("default", 1, trust, ErrorSettings({}), own_keys, 1, False, ())

    def clock(self) -> datetime:
        return NOW + timedelta(seconds=self.passed)

    def issuer(self, name: str, path: str | None = None, body: bytes | None = None) -> str:
        """Put an intermediate's certificate on the file server, or what is given; its URL."""
        path = path or f"/{name}.cer"
        self.files.files[path] = issuing(name).raw if body is None else body
        return self.files.url(path)

    def at_once(self, *sent: Issued) -> Verdict | None:
        return self.judge.at_once(shown(*sent), parse_host(HOST), self.snapshot)

    async def verdict(self, *sent: Issued) -> Verdict:
        """As the tunnel has it made."""
        verdict = self.at_once(*sent)
        return verdict or await self.judge.elsewhere(shown(*sent), parse_host(HOST), self.snapshot)


@cache
def issuing(name: str) -> Authority:
    return root().intermediate(name)


@cache
def leaf(name: str, *urls: str) -> Issued:
    """A server's certificate of the intermediate of that name, which is to be had there."""
    return issuing(name).leaf(HOST, extra=[issuer_at(*urls)])


def shown(*sent: Issued) -> Handshake:
    return Handshake(tuple(each.certificate for each in sent), ((20, 0),))


@asynccontextmanager
async def rig(files: FileServer | None = None, own_keys: frozenset[bytes] = frozenset()) -> AsyncIterator[Rig]:
    with ThreadPoolExecutor(1) as thread, files or FileServer() as serving:
        made = Rig(serving, thread, own_keys)
        yield made
        made.fetcher.close()
        made.resolver.close()


def runs(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scenario())


def test_the_first_visit_works_and_the_second_fetches_nothing() -> None:
    async def scenario() -> None:
        async with rig() as one:
            url = one.issuer("First")
            assert one.at_once(leaf("First", url)) is None
            verdict = await one.verdict(leaf("First", url))
            assert verdict.ok
            assert verdict.completed == f"from {url}"
            assert one.at_once(leaf("First", url)) is verdict
            # Another server of the same CA, in the first handshake.
            other = issuing("First").leaf(HOST, extra=[issuer_at(one.files.url("/nothing"))])
            found = one.at_once(other)
            assert found is not None
            assert found.ok
            assert found.completed == SEEN
            assert one.files.asked == ["/First.cer"]

    runs(scenario)


def test_an_intermediate_that_another_server_sent_is_not_fetched() -> None:
    async def scenario() -> None:
        async with rig() as one:
            assert (await one.verdict(issuing("Sent").leaf(HOST), issuing("Sent"))).ok
            found = one.at_once(leaf("Sent", one.issuer("Sent")))
            assert found is not None
            assert found.ok
            assert one.files.asked == []

    runs(scenario)


def test_many_first_visits_share_one_fetch() -> None:
    async def scenario() -> None:
        async with rig() as one:
            url = one.issuer("Shared")
            verdicts = await asyncio.gather(*(one.verdict(leaf("Shared", url)) for _ in range(20)))
            assert all(verdict.ok for verdict in verdicts)
            assert one.files.asked == ["/Shared.cer"]

    runs(scenario)


def test_who_gives_up_leaves_it_to_the_next() -> None:
    async def scenario() -> None:
        async with rig() as one:
            url = one.issuer("Left")
            left = asyncio.ensure_future(one.verdict(leaf("Left", url)))
            await asyncio.to_thread(one.files.wait_for, 1)
            left.cancel()
            assert (await one.verdict(leaf("Left", url))).ok
            assert one.files.asked == ["/Left.cer"]

    runs(scenario)


def test_three_levels_are_fetched_and_no_four() -> None:
    async def scenario() -> None:
        async with rig() as one:
            above = root()
            for level in range(4):
                urls = [issuer_at(one.files.url(f"/{level - 1}.cer"))] if level else []
                above = above.intermediate(f"Level {level}", extra=urls)
                one.files.files[f"/{level}.cer"] = above.raw
            third = above.parent
            assert isinstance(third, Authority)
            assert (await one.verdict(third.leaf(HOST, extra=[issuer_at(one.files.url("/2.cer"))]))).ok
            assert one.files.asked == ["/2.cer", "/1.cer", "/0.cer"]

        async with rig(one_more := FileServer()) as other:
            above = Authority.root("Far")
            for level in range(5):
                urls = [issuer_at(one_more.url(f"/{level - 1}.cer"))] if level else []
                above = above.intermediate(f"Level {level}", extra=urls)
                one_more.files[f"/{level}.cer"] = above.raw
            verdict = await other.verdict(above.leaf(HOST, extra=[issuer_at(one_more.url("/4.cer"))]))
            assert verdict.defects == (Defect.INCOMPLETE_CHAIN,)
            assert one_more.asked == ["/4.cer", "/3.cer", "/2.cer"]
            assert "/2.cer (nobody trusted is above it)" in verdict.findings[0].explanation

    runs(scenario)


@pytest.mark.parametrize("form", ["PEM", "PKCS #7", "PKCS #7 as PEM", "several, of which one is it"])
def test_a_body_may_be_pem_or_pkcs7(form: str) -> None:
    it, other = issuing("Form"), root()
    body = {
        "PEM": it.pem(),
        "PKCS #7": pkcs7.serialize_certificates([it.certificate], Encoding.DER),
        "PKCS #7 as PEM": pkcs7.serialize_certificates([other.certificate, it.certificate], Encoding.PEM),
        "several, of which one is it": other.pem() + self_signed("Form").pem() + it.pem(),
    }[form]

    async def scenario() -> None:
        async with rig() as one:
            assert (await one.verdict(leaf("Form", one.issuer("Form", f"/{form[:3]}", body)))).ok

    runs(scenario)


def test_what_a_body_holds_above_the_issuer_is_not_asked_for_again() -> None:
    async def scenario() -> None:
        async with rig() as one:
            upper = issuing("Upper")
            lower = upper.intermediate("Lower")
            both = pkcs7.serialize_certificates([lower.certificate, upper.certificate], Encoding.DER)
            url = one.issuer("Both", body=both)
            assert (await one.verdict(lower.leaf(HOST, extra=[issuer_at(url)]))).ok
            assert one.files.asked == ["/Both.cer"]

    runs(scenario)


def test_the_second_url_is_asked_where_the_first_has_nothing() -> None:
    async def scenario() -> None:
        async with rig() as one:
            url = one.issuer("Second")
            assert (await one.verdict(leaf("Second", one.files.url("/missing"), url))).ok
            assert one.files.asked == ["/missing", "/Second.cer"]

    runs(scenario)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (None, "it answered with status 404"),
        (b"<html>", "no certificate"),
        (b"", "no certificate"),
        (b"x" * (64 * 1024 + 1), "more than 65536 bytes"),
        ("another", "what is there is not the issuer"),
        ("forged", "what is there is not the issuer"),
    ],
)
def test_what_is_of_no_use_changes_nothing_but_what_is_said(body: bytes | str | None, why: str) -> None:
    made = {
        "another": Authority.root("Other").intermediate("Useless").raw,
        "forged": root().intermediate("Useless", ski=False).raw,
    }

    async def scenario() -> None:
        async with rig() as one:
            url = one.files.url("/ca.cer")
            if body is not None:
                one.files.files["/ca.cer"] = made[body] if isinstance(body, str) else body
            verdict = await one.verdict(leaf("Useless", url))
            (finding,) = verdict.findings
            assert finding.defect is Defect.INCOMPLETE_CHAIN
            assert f"{url} (" in finding.explanation
            assert why in finding.explanation
            assert "\n" not in finding.explanation
            assert verdict.chain == (leaf("Useless", url).certificate,)
            assert verdict.completed == ""

    runs(scenario)


def test_what_failed_is_not_asked_again_for_a_minute_whoever_sends_it() -> None:
    async def scenario() -> None:
        async with rig() as one:
            url = one.files.url("/late.cer")
            first, second = leaf("Late", url), issuing("Late").leaf(HOST, extra=[issuer_at(url)])
            failed = await one.verdict(first)
            assert not failed.ok
            assert one.at_once(first) is failed
            assert not (await one.verdict(second)).ok
            assert one.files.asked == ["/late.cer"]
            one.issuer("Late", "/late.cer")
            one.passed = FAILED_SECONDS - 1
            assert not (await one.verdict(first)).ok
            one.passed = FAILED_SECONDS + 1
            assert (await one.verdict(first)).ok
            assert one.files.asked == ["/late.cer"] * 2

    runs(scenario)


def test_what_was_of_use_is_known_for_longer() -> None:
    async def scenario() -> None:
        async with rig() as one:
            # A chain that leads to nobody, so that its intermediate is kept by its URL alone.
            stranger = Authority.root("Stranger").intermediate("Far from here")
            url = one.issuer("Far", body=stranger.raw)
            for passed in (0.0, FAILED_SECONDS + 1, KEPT_SECONDS - 1, KEPT_SECONDS + 1):
                one.passed = passed
                assert not (await one.verdict(stranger.leaf(HOST, extra=[issuer_at(url)]))).ok
            assert one.files.asked == ["/Far.cer"] * 2

    runs(scenario)


def test_a_stranger_who_names_a_good_url_does_not_spoil_it() -> None:
    async def scenario() -> None:
        async with rig() as one:
            url = one.issuer("Good")
            wrong = Authority.root("Stranger").intermediate("Of a stranger").leaf(HOST, extra=[issuer_at(url)])
            assert not (await one.verdict(wrong)).ok
            assert (await one.verdict(leaf("Good", url))).ok
            assert one.files.asked == ["/Good.cer"]

    runs(scenario)


def test_silence_ends_with_the_time_for_all_and_what_had_too_little_of_it_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(completing, "SECONDS", 0.4)

    async def scenario() -> None:
        async with rig(FileServer(silent=("/a", "/b"))) as one:
            server = leaf("Silent", one.files.url("/a"), one.files.url("/b"))
            (finding,) = (await one.verdict(server)).findings
            assert finding.explanation.count("has not come in time") == 2
            assert one.files.asked == ["/a", "/b"]
            one.passed = FAILED_SECONDS + 1  # the verdict is made anew
            one.issuer("Silent", "/b")
            one.files.silent = ()
            assert (await one.verdict(server)).ok

        monkeypatch.setattr(completing, "FAIR_SECONDS", 0.1)
        async with rig(FileServer(silent=("/a",))) as other:
            assert not (await other.verdict(leaf("Slow", other.files.url("/a")))).ok
            assert not (await other.verdict(issuing("Slow").leaf(HOST, extra=[issuer_at(other.files.url("/a"))]))).ok
            assert other.files.asked == ["/a"]

    runs(scenario)


def test_a_want_of_places_is_kept_neither_for_the_url_nor_for_the_server() -> None:
    async def scenario() -> None:
        async with rig(FileServer(silent=("/1", "/2"))) as one:
            url = one.issuer("Busy")
            until = asyncio.get_running_loop().time() + 30
            held = [
                asyncio.ensure_future(one.fetcher.get(one.files.url(path), most=9, until=until))
                for path in ("/1", "/2")
            ]
            await asyncio.to_thread(one.files.wait_for, 2)
            (finding,) = (await one.verdict(leaf("Busy", url))).findings
            assert "other fetches from it are under way" in finding.explanation
            for each in held:
                each.cancel()
            await asyncio.wait(held)
            assert (await one.verdict(leaf("Busy", url))).ok

    runs(scenario)


def test_a_root_that_was_fetched_is_trusted_by_nobody() -> None:
    async def scenario() -> None:
        async with rig() as one:
            stranger = Authority.root("Root of a stranger")
            root_url = one.issuer("root", body=stranger.raw)
            above = stranger.intermediate("Above", extra=[issuer_at(root_url)])
            url = one.issuer("above", body=above.raw)
            verdict = await one.verdict(above.leaf(HOST, extra=[issuer_at(url)]))
            assert verdict.defects == (Defect.INCOMPLETE_CHAIN,)
            assert one.files.asked == ["/above.cer", "/root.cer"]
            assert len(verdict.chain) == 1

    runs(scenario)


def test_what_came_of_it_is_counted() -> None:
    async def scenario() -> None:
        async with rig() as one:
            assert (await one.verdict(leaf("Counted", one.issuer("Counted")))).ok
            stranger = Authority.root("Stranger")
            await one.verdict(leaf("Nobody's", "http://ca.example:1/ca.cer"))
            await one.verdict(leaf("Garbage", one.issuer("Garbage", body=b"<html>")))
            one.files.files["/stranger.cer"] = stranger.raw
            await one.verdict(stranger.leaf(HOST, extra=[issuer_at(one.files.url("/stranger.cer"))]))
            assert {key[1:]: count for key, count in one.metrics.counts.items()} == {
                ("completed",): 1, ("unreachable",): 1, ("no_issuer",): 1, ("no_anchor",): 1,
                ("aia", "ok"): 3, ("aia", "failed"): 1,
            }  # fmt: skip
            assert [key for key, _ in one.metrics.times] == [("fetch_seconds", "aia")] * 4

    runs(scenario)


def test_a_key_of_our_own_in_what_was_fetched_is_found() -> None:
    async def scenario() -> None:
        own = Authority.root("Ours").intermediate("Our signing CA")
        async with rig(own_keys=frozenset({spki_sha256(own.certificate)})) as one:
            url = one.issuer("ours", body=own.raw)
            verdict = await one.verdict(own.leaf(HOST, extra=[issuer_at(url)]))
            assert verdict.defects == (Defect.OWN_CA, Defect.INCOMPLETE_CHAIN)

    runs(scenario)


def test_where_it_is_off_nothing_is_fetched_nor_taken_from_elsewhere() -> None:
    async def scenario() -> None:
        async with rig() as one:
            judge = Judge(one.clock, one.judge.thread)
            url = one.issuer("Off")
            host = parse_host(HOST)
            assert judge.at_once(shown(issuing("Off").leaf(HOST), issuing("Off")), host, one.snapshot)
            verdict = judge.at_once(shown(leaf("Off", url)), host, one.snapshot)
            assert verdict is not None
            assert verdict.defects == (Defect.INCOMPLETE_CHAIN,)
            assert one.files.asked == []

    runs(scenario)


def test_a_chain_that_names_no_url_is_judged_at_once() -> None:
    async def scenario() -> None:
        async with rig() as one:
            verdict = one.at_once(issuing("Unnamed").leaf(HOST))
            assert verdict is not None
            assert verdict.defects == (Defect.INCOMPLETE_CHAIN,)

    runs(scenario)


def test_a_long_chain_that_lacks_an_issuer_is_completed_too() -> None:
    async def scenario() -> None:
        async with rig() as one:
            url = one.issuer("Long")
            junk = [self_signed(f"junk{number}.example") for number in range(5)]
            assert (await one.verdict(leaf("Long", url), *junk)).ok

    runs(scenario)
