"""Verdicts with what is known of revocation: for how long they are kept, and what makes them anew."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from certs.decision import ErrorSettings
from certs.exceptions import HostException, HostExceptions, key_fingerprint
from certs.host_patterns import parse_pattern
from certs.names import parse_host
from certs.scope import TrustByHost
from certs.verdict import Action, Defect, Verdict
from certs.verify import Handshake
from config.settings import Settings
from proxy.admission import Egress, Resolver
from proxy.judging import judge_for
from proxy.log import Log
from proxy.upstream import JUDGE_SECONDS, MANY_CERTIFICATES, Judge, costly
from tests.harness.pki import HOUR, NOW, Authority, Issued, Raw
from tests.harness.publisher import Publisher
from tests.harness.revocation import crl, names, ocsp_answer, uri

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
HOST = parse_host("good.example")
ROOT = Authority.root("Root")
SNAPSHOT: Any = SimpleNamespace(
    tenant="default", serial=1, trust=TrustByHost([ROOT.certificate], []), own_keys=frozenset(), errors=ErrorSettings()
)


class Case:
    """A judge made as the settings say, and the CA's server that it may ask."""

    def __init__(self, judge: Judge, publisher: Publisher) -> None:
        self.judge = judge
        self.publisher = publisher
        self.now: datetime = NOW
        self.snapshot = SNAPSHOT

    async def verdict(self, leaf: Issued, stapled: bytes = b"", *, alone: bool = False) -> Verdict:
        chain = leaf.chain()[: 1 if alone else None]
        handshake = Handshake(chain, stapled=stapled)
        at_once = self.judge.at_once(handshake, HOST, self.snapshot)
        return at_once if at_once is not None else await self.judge.elsewhere(handshake, HOST, self.snapshot)


def run(tmp_path: Path, scenario: Callable[[Case], Coroutine[None, None, None]], **verification: Any) -> None:
    async def whole(publisher: Publisher) -> None:
        fetch = {"ports": [publisher.port], "private": ["127.0.0.0/8"]}
        settings = Settings.model_validate(
            {"state_dir": str(tmp_path), "verification": {"fetch": fetch, "revocation": "soft", **verification}}
        )
        resolver, thread = Resolver({"pki.example": "127.0.0.1"}, 5), ThreadPoolExecutor(1)
        with (tmp_path / "log").open("ab") as file:
            log = Log(file.fileno(), "debug", "test", lambda: 0.0)
            loop = asyncio.get_running_loop()
            judge = judge_for(settings, resolver, Egress((LOOPBACK,), ()), thread, lambda: case.now, loop.time, log)
            case = Case(judge, publisher)
            try:
                if judge.revocation is not None:
                    await judge.revocation.start()
                await scenario(case)
            finally:
                judge.close()
                resolver.close()
                thread.shutdown()

    with Publisher() as publisher:
        asyncio.run(whole(publisher))


def test_a_kept_verdict_does_not_outlive_what_the_server_sends_along(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        leaf = ROOT.leaf()
        good, revoked = ocsp_answer(leaf), ocsp_answer(leaf, revoked=NOW)
        assert (await case.verdict(leaf, good)).ok
        assert (await case.verdict(leaf, revoked)).defects == (Defect.REVOKED,)
        assert (await case.verdict(leaf, good)).ok
        assert case.judge.made == 2

    run(tmp_path, scenario)


def test_it_is_kept_until_the_first_of_what_it_rests_on_is_to_be_replaced(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        leaf = ROOT.leaf()
        answer = ocsp_answer(leaf, next_update=NOW + HOUR / 2)
        for minutes, made in ((0, 1), (29, 1), (31, 2)):
            case.now = NOW + timedelta(minutes=minutes)
            assert (await case.verdict(leaf, answer)).ok
            assert case.judge.made == made

    run(tmp_path, scenario)


def test_that_nothing_is_known_is_kept_for_seconds(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        leaf = ROOT.leaf()
        for seconds, made in ((0, 1), (10, 1), (16, 2)):
            case.now = NOW + timedelta(seconds=seconds)
            assert (await case.verdict(leaf)).defects == (Defect.REVOCATION_UNKNOWN,)
            assert case.judge.made == made

    run(tmp_path, scenario, revocation="hard")


def test_a_list_that_is_put_into_the_folder_counts_for_what_was_judged_before(tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()

    async def scenario(case: Case) -> None:
        leaf = ROOT.leaf()
        assert (await case.verdict(leaf)).ok
        (folder / "root.crl").write_bytes(crl(ROOT, [leaf]))
        assert (await case.verdict(leaf)).ok
        assert case.judge.revocation is not None
        assert case.judge.revocation.directory is not None
        case.judge.revocation.directory.look()
        assert (await case.verdict(leaf)).defects == (Defect.REVOKED,)

    run(tmp_path, scenario, revocation="off", crl_directory=str(folder))


def test_an_issuer_that_was_fetched_is_asked_about_as_one_that_was_sent(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        url = case.publisher.url
        issuing = ROOT.intermediate("Issuing", extra=names(crl=url("/root.crl")))
        access = x509.AuthorityInformationAccess(
            [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, uri(url("/issuing.cer")))]
        )
        leaf = issuing.leaf(extra=[Raw("1.3.6.1.5.5.7.1.1", access.public_bytes()), *names(crl=url("/issuing.crl"))])
        case.publisher.answers |= {
            "/issuing.cer": issuing.raw, "/root.crl": crl(ROOT, [issuing]), "/issuing.crl": crl(issuing),
        }  # fmt: skip
        found = await case.verdict(leaf, alone=True)
        assert [(f.defect, f.certificate) for f in found.findings] == [(Defect.REVOKED, 1)]
        assert found.completed
        assert sorted(case.publisher.asked) == ["GET /issuing.cer", "GET /issuing.crl", "GET /root.crl"]

    run(tmp_path, scenario)


def test_many_who_want_one_verdict_have_it_asked_for_once(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        leaf = ROOT.leaf(extra=names(crl=case.publisher.url("/root.crl")))
        case.publisher.answers["/root.crl"] = crl(ROOT, [leaf])
        found = await asyncio.gather(*(case.verdict(leaf) for _ in range(20)))
        assert {each.defects for each in found} == {(Defect.REVOKED,)}
        assert case.publisher.asked == ["GET /root.crl"]

    run(tmp_path, scenario)


# --- where it is judged ---


def expensive(number: int) -> Handshake:
    """A chain of a server's that may take long to judge."""
    leaf = ROOT.leaf(serial=number + 1)
    return Handshake((leaf.certificate, *(SENT[0].certificate for _ in range(MANY_CERTIFICATES))))


SENT = [Authority.root("Same", aki=False, ski=False) for _ in range(3)]


@contextmanager
def busy(judge: Judge) -> Iterator[threading.Event]:
    """Its thread is at something that takes until the event is set."""
    done = threading.Event()
    assert isinstance(judge.thread, ThreadPoolExecutor)
    judge.thread.submit(done.wait)
    try:
        yield done
    finally:
        done.set()


def test_what_is_cheap_is_judged_once_and_waits_for_nobody_who_is_not(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        leaf = ROOT.leaf(extra=names(crl=case.publisher.url("/root.crl")))
        case.publisher.answers["/root.crl"] = crl(ROOT)
        with busy(case.judge):
            async with asyncio.timeout(30):
                assert (await case.verdict(leaf)).ok
        assert case.publisher.asked == ["GET /root.crl"]
        assert case.judge.made == 1

    run(tmp_path, scenario)


def test_what_was_judged_a_moment_ago_counts_no_longer_than_its_certificates(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        leaf = ROOT.leaf(not_after=NOW + timedelta(seconds=2), extra=names(crl=case.publisher.url("/root.crl")))
        handshake = Handshake(leaf.chain())
        assert case.judge.at_once(handshake, HOST, SNAPSHOT) is None
        case.now = NOW + timedelta(seconds=3)
        found = case.judge.at_once(handshake, HOST, SNAPSHOT)  # blocked, so that nobody is asked
        assert found is not None
        assert found.defects == (Defect.EXPIRED,)

    run(tmp_path, scenario)


def test_a_short_chain_that_wants_many_signatures_verified_is_judged_in_the_thread(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        leaf = Authority.root("Same", aki=False, ski=False).leaf(HOST.text, aki=False)
        handshake = Handshake((leaf.certificate, *(each.certificate for each in SENT)))
        assert not costly(handshake)
        assert case.judge.at_once(handshake, HOST, SNAPSHOT) is None
        assert Defect.BAD_SIGNATURE in (await case.judge.elsewhere(handshake, HOST, SNAPSHOT)).defects

    run(tmp_path, scenario, revocation="off")


def test_who_meets_many_expensive_chains_keeps_nobody_else_waiting_for_all_of_them(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        order: list[str] = []
        loop = asyncio.get_running_loop()

        async def judged(client: str, number: int) -> None:
            await case.judge.elsewhere(expensive(number), HOST, SNAPSHOT, client)
            order.append(client)

        with busy(case.judge) as done:
            many = [loop.create_task(judged("many", number)) for number in range(10)]
            await asyncio.sleep(0)
            one = loop.create_task(judged("one", 99))
            await asyncio.sleep(0)
            many.pop(3).cancel()
            done.set()
            await asyncio.gather(one, *many)
        assert order.index("one") <= 2
        assert len(order) == 10
        assert case.judge.made == 10

    run(tmp_path, scenario, revocation="off")


def test_equal_expensive_chains_are_judged_once(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        chain = expensive(1)
        assert costly(chain)
        found = await asyncio.gather(*(case.judge.elsewhere(chain, HOST, SNAPSHOT, client) for client in range(5)))
        assert len(set(map(id, found))) == 1
        assert case.judge.made == 1

    run(tmp_path, scenario, revocation="off")


# --- what is asked about revocation ---


def errors(defect: Defect, action: Action, **more: Any) -> ErrorSettings:
    """Nothing is set but this exception for the host."""
    return ErrorSettings(
        {}, HostExceptions((HostException(1, parse_pattern(HOST.text), defect.value, action, **more),))
    )


def with_errors(set_: ErrorSettings) -> Any:
    return SimpleNamespace(**vars(SNAPSHOT) | {"errors": set_})


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "another's"])
def test_in_soft_mode_an_exception_that_is_pinned_to_the_server_says_that_it_matters(
    tmp_path: Path, pinned: bool
) -> None:
    async def scenario(case: Case) -> None:
        leaf = ROOT.leaf()
        fingerprint = key_fingerprint((leaf if pinned else ROOT.leaf()).certificate)
        case.snapshot = with_errors(errors(Defect.REVOCATION_UNKNOWN, Action.BLOCK, fingerprint=fingerprint))
        assert (await case.verdict(leaf)).defects == ((Defect.REVOCATION_UNKNOWN,) if pinned else ())

    run(tmp_path, scenario)


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_when_an_exception_that_blocked_ends_it_was_found_out_whether_the_server_was_revoked(
    tmp_path: Path, mode: str
) -> None:
    async def scenario(case: Case) -> None:
        end = NOW + timedelta(minutes=10)
        leaf = ROOT.leaf(not_after=NOW - HOUR, extra=names(crl=case.publisher.url("/root.crl")))
        case.publisher.answers["/root.crl"] = crl(ROOT, [leaf])
        set_ = errors(Defect.EXPIRED, Action.BLOCK, expires_at=end)
        case.snapshot = with_errors(replace(set_, rows={"expired": Action.ALLOW}))
        assert (await case.verdict(leaf)).defects == (Defect.EXPIRED,)
        assert case.publisher.asked == []
        case.now = end - timedelta(seconds=5)
        found = await case.verdict(leaf)
        assert case.snapshot.errors.decide(found, HOST, end).action is Action.BLOCK
        assert Defect.REVOKED in found.defects

    run(tmp_path, scenario, revocation=mode)


def test_a_judge_has_what_asking_needs_only_where_somebody_is_asked(tmp_path: Path) -> None:
    async def off(case: Case) -> None:
        assert case.judge.revocation is None
        assert case.judge.seconds == JUDGE_SECONDS
        assert (await case.verdict(ROOT.leaf())).ok
        assert not (tmp_path / "crls").exists()

    async def hard(case: Case) -> None:
        assert case.judge.seconds == JUDGE_SECONDS + 7

    run(tmp_path, off, revocation="off")
    run(tmp_path, hard, revocation="hard", revocation_timeout=7.0)
