"""Who is asked about a path, in which order, how often, and what comes of it. Real lists and answers, real HTTP."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import ocsp

from certs.checklist import outcomes
from certs.crl import Crl
from certs.decision import ErrorSettings
from certs.names import parse_host
from certs.revocation import NOTHING_REVOKED, REVOCATION_KNOWN, Wanted
from certs.verdict import Action, Defect, Finding, Verdict
from config.settings import Verification
from proxy.admission import Egress, Resolver
from proxy.crl_cache import FAILED_SECONDS, OVERDUE_SECONDS, Means
from proxy.fetching import Fetcher
from proxy.log import Log
from proxy.metrics import Metrics
from proxy.revocation import UNKNOWN_KEPT, Checked, Revocation
from store.crls import CrlFiles
from tests.harness.pki import DAY, HOUR, NOW, Authority, Issued, new_key
from tests.harness.publisher import Publisher
from tests.harness.revocation import MUST_STAPLE, NO_REV_AVAIL, crl, crl_pem, names, ocsp_answer

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
ROOT = Authority.root("Root")
MINUTE = timedelta(minutes=1)
ISSUING = ROOT.intermediate("Issuing")


def wanted(**rows: Action) -> Wanted:
    """What these rows of a tenant's error settings come to."""
    errors = ErrorSettings(rows)
    return Wanted(
        lambda verdict: errors.decide(verdict, parse_host("good.example"), NOW).action is Action.BLOCK,
        lambda verdict: "revocation_unknown" in rows,
    )


DEFAULT = wanted()
TOLD = wanted(revocation_unknown=Action.ALLOW)


class Pki:
    """An issuing CA, and a server below it, that name what one publisher has."""

    def __init__(
        self, publisher: Publisher, *, crls: bool = True, responder: bool = True, ca_crl: bool = False
    ) -> None:
        self.publisher = publisher
        url = publisher.url
        self.issuing = ROOT.intermediate("Issuing", extra=names(crl=url("/root.crl") if ca_crl else ()))
        self.leaf = self.issuing.leaf(
            extra=names(crl=url("/issuing.crl") if crls else (), ocsp=url("/ocsp") if responder else ())
        )
        publisher.answers.setdefault("/root.crl", crl(ROOT))

    def verdict(self, *findings: Finding, ca: bool = False) -> Verdict:
        """A path to the root; without ``ca``, one on which only the server is asked about: its issuer is the anchor."""
        return Verdict.of(findings, self.leaf.chain(with_root=True)[: 3 if ca else 2])


class Rig:
    """Workers of one node that share a folder, and clocks that a test moves."""

    def __init__(self, folder: Path, publisher: Publisher, **settings: Any) -> None:
        self.folder = folder
        self.publisher = publisher
        self.settings = Verification(**{"revocation": "soft", "revocation_timeout": 20.0} | settings)
        self.now: datetime = NOW
        self.seconds = 1000.0
        self.log_file = (folder / "log").open("ab")
        self.log = Log(self.log_file.fileno(), "debug", "test", lambda: 0.0)
        self.metrics = Metrics()
        self.closing: list[Callable[[], object]] = [self.log_file.close]

    def worker(self) -> Revocation:
        resolver = Resolver({"pki.example": "127.0.0.1"}, 5)
        fetcher = Fetcher(
            resolver,
            Egress((LOOPBACK,), ()),
            ports=(self.publisher.port,),
            private=(LOOPBACK,),
            gets="crl",
            metrics=self.metrics,
        )
        files, thread = CrlFiles(self.folder / "crls"), ThreadPoolExecutor(1)
        files.open()
        made = Revocation(
            self.settings,
            Means(fetcher, thread, lambda: self.now, lambda: self.seconds, self.log),
            files,
            self.metrics,
        )
        self.closing += [resolver.close, thread.shutdown, made.close]
        return made

    def logged(self) -> str:
        """What was logged."""
        return (self.folder / "log").read_text() + "".join(self.log.waiting)

    def close(self) -> None:
        for close in reversed(self.closing):
            close()


def run(tmp_path: Path, scenario: Callable[[Rig, Publisher], Coroutine[None, None, None]], **settings: Any) -> None:
    async def whole() -> None:
        async with publishing() as publisher:
            rig = Rig(tmp_path, publisher, **settings)
            try:
                await scenario(rig, publisher)
            finally:
                rig.close()

    asyncio.run(whole())


@asynccontextmanager
async def publishing() -> AsyncIterator[Publisher]:
    publisher = Publisher()
    with publisher:
        yield publisher


async def until[T](ask: Callable[[], T]) -> T:
    """Ask until the answer is true: what it waits for, a thread or another connection does."""
    async with asyncio.timeout(30):
        while not (answer := ask()):  # noqa: ASYNC110 - nobody could set an event
            await asyncio.sleep(0.01)
        return answer


async def checked(worker: Revocation, verdict: Verdict, stapled: bytes = b"", errors: Wanted = DEFAULT) -> Checked:
    """As the data plane asks."""
    at_hand = worker.at_hand(verdict, stapled, errors)
    return at_hand if at_hand is not None else await worker.asked(verdict, stapled, errors)


def said(found: Checked) -> str:
    return " | ".join(f"{finding.defect}: {finding.explanation}" for finding in found.verdict.findings)


# --- by OCSP, by CRL ---


def test_a_revoked_server_is_found_by_its_responder_and_the_crl_is_not_asked(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher), rig.worker()
        publisher.answers["/ocsp"] = ocsp_answer(pki.leaf, revoked=NOW - DAY)
        assert worker.at_hand(pki.verdict(), b"", DEFAULT) is None
        found = await worker.asked(pki.verdict(), b"", DEFAULT)
        assert found.verdict.defects == (Defect.REVOKED,)
        assert f"(OCSP {publisher.url('/ocsp')})" in said(found)
        assert publisher.asked == ["POST /ocsp"]
        again = worker.at_hand(pki.verdict(), b"", DEFAULT)
        assert again is not None
        assert again.verdict.defects == (Defect.REVOKED,)
        assert publisher.asked == ["POST /ocsp"]

    run(tmp_path, scenario)


def test_the_responder_is_asked_about_the_certificate(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, asked = Pki(publisher), []

        def answer(body: bytes) -> bytes:
            asked.append(ocsp.load_der_ocsp_request(body).serial_number)
            return ocsp_answer(pki.leaf)

        publisher.answers["/ocsp"] = answer
        assert (await checked(rig.worker(), pki.verdict())).verdict.ok
        assert asked == [pki.leaf.certificate.serial_number]

    run(tmp_path, scenario)


@pytest.mark.parametrize("ocsp_allowed", [True, False])
def test_a_revoked_server_is_found_by_its_crl(tmp_path: Path, ocsp_allowed: bool) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki = Pki(publisher, responder=not ocsp_allowed)
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf])
        found = await checked(rig.worker(), pki.verdict())
        assert found.verdict.defects == (Defect.REVOKED,)
        assert f"(CRL {publisher.url('/issuing.crl')})" in said(found)
        assert publisher.asked == ["GET /issuing.crl"]

    run(tmp_path, scenario, ocsp=ocsp_allowed)


def test_a_list_in_pem_will_do(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki = Pki(publisher, responder=False)
        publisher.answers["/issuing.crl"] = crl_pem(crl(pki.issuing, [pki.leaf]))
        assert (await checked(rig.worker(), pki.verdict())).verdict.defects == (Defect.REVOKED,)

    run(tmp_path, scenario)


SOFT = "what nobody tells passes"
ELSE = "blocked for something else"
TOLD_NOTHING = "nobody has told of the server's certificate"


@pytest.mark.parametrize(
    ("mode", "there", "finding", "revoked", "known"),
    [
        ("soft", "good", None, ("passed", ""), ("passed", "")),
        ("soft", "revoked", None, ("failed", ""), ("passed", "")),
        ("soft", "", None, ("not made", TOLD_NOTHING), ("not made", SOFT)),
        ("hard", "", None, ("not made", TOLD_NOTHING), ("failed", "")),
        ("hard", "", Defect.EXPIRED, ("not made", ELSE), ("not made", ELSE)),
        ("hard", "", Defect.UNTRUSTED_ROOT, ("not made", "no trusted CA"), ("not made", "no trusted CA")),
        ("off", "", None, ("not made", "revocation is off"), ("not made", "revocation is off")),
    ],
)
def test_a_verdict_knows_what_came_of_asking(
    tmp_path: Path, mode: str, there: str, finding: Defect | None, revoked: tuple[str, str], known: tuple[str, str]
) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki = Pki(publisher, crls=False)
        if there:
            publisher.answers["/ocsp"] = ocsp_answer(pki.leaf, revoked=NOW - DAY if there == "revoked" else None)
        before = [] if finding is None else [Finding(finding, "it is so", "")]
        found = await checked(rig.worker(), pki.verdict(*before))
        told = {outcome.check: outcome for outcome in outcomes(found.verdict)}
        for check, (state, why) in ((NOTHING_REVOKED, revoked), (REVOCATION_KNOWN, known)):
            assert told[check].state == state
            assert why in told[check].why

    run(tmp_path, scenario, revocation=mode)


def test_a_revoked_issuer_is_found_beside_the_server(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki = Pki(publisher, ca_crl=True)
        publisher.answers |= {"/ocsp": ocsp_answer(pki.leaf), "/root.crl": crl(ROOT, [pki.issuing])}
        found = await checked(rig.worker(), pki.verdict(ca=True))
        assert [(f.defect, f.certificate) for f in found.verdict.findings] == [(Defect.REVOKED, 1)]
        assert 'the issuing certificate "Issuing" was revoked' in said(found)

    run(tmp_path, scenario)


def test_it_is_kept_no_longer_than_what_it_rests_on_counts(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki = Pki(publisher, ca_crl=True)
        publisher.answers["/ocsp"] = ocsp_answer(pki.leaf, next_update=NOW + 7 * HOUR)
        found = await checked(rig.worker(), pki.verdict(ca=True))
        assert (found.verdict.ok, found.until) == (True, NOW + 7 * HOUR)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (503, "it answered with status 503"),
        (b"<html>", "it cannot be read"),
        ("wrong key", "it is signed neither by"),
        ("other", "it is about another certificate"),
        ("stale", "it was to be replaced by"),
        (b"0" * 70_000, "more than 65536 bytes"),
    ],
)
def test_a_responder_that_is_no_use_leaves_it_to_the_crl(tmp_path: Path, reply: bytes | int | str, why: str) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki = Pki(publisher)
        bad = {
            "wrong key": lambda: ocsp_answer(pki.leaf, signer=Authority.root("Issuing")),
            "other": lambda: ocsp_answer(pki.issuing.leaf()),
            "stale": lambda: ocsp_answer(pki.leaf, next_update=NOW - HOUR),
        }
        publisher.answers["/ocsp"] = bad[reply]() if isinstance(reply, str) else reply
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf])
        assert (await checked(rig.worker(), pki.verdict())).verdict.defects == (Defect.REVOKED,)
        publisher.answers["/issuing.crl"] = 404
        other = Pki(publisher)
        found = await checked(rig.worker(), other.verdict(), errors=TOLD)
        assert found.verdict.defects == (Defect.REVOCATION_UNKNOWN,)
        if reply not in ("wrong key", "other", "stale"):
            assert f"OCSP {publisher.url('/ocsp')}: {why}" in said(found).replace("its body has ", "")
        assert f"CRL {publisher.url('/issuing.crl')}: it answered with status 404" in said(found)
        assert why in rig.logged()

    run(tmp_path, scenario)


def test_while_a_responder_hangs_the_crl_is_asked_beside_it(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki = Pki(publisher)
        publisher.answers |= {"/ocsp": "hang", "/issuing.crl": crl(pki.issuing, [pki.leaf])}
        found = await checked(rig.worker(), pki.verdict())
        assert found.verdict.defects == (Defect.REVOKED,)
        assert publisher.asked == ["POST /ocsp", "GET /issuing.crl"]

    run(tmp_path, scenario, revocation_timeout=2.0)


@pytest.mark.parametrize("how", ["hang", "dribble"])
def test_who_answers_for_ever_is_waited_for_no_longer_than_allowed(tmp_path: Path, how: str) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher), rig.worker()
        publisher.answers |= {"/ocsp": how, "/issuing.crl": how}
        found = await asyncio.wait_for(worker.asked(pki.verdict(), b"", TOLD), 15)
        assert found.verdict.defects == (Defect.REVOCATION_UNKNOWN,)
        assert said(found).count("no answer within 0.4 s") == 2
        assert found.until == NOW + UNKNOWN_KEPT

    run(tmp_path, scenario, revocation_timeout=0.4)


def test_what_comes_too_late_serves_the_next(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher, responder=False), rig.worker()
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(_: bytes) -> bytes:
            asyncio.run_coroutine_threadsafe(ready.wait(), loop).result(30)
            return crl(pki.issuing, [pki.leaf])

        publisher.answers["/issuing.crl"] = slow
        found = await worker.asked(pki.verdict(), b"", DEFAULT)
        assert found.verdict.ok
        ready.set()
        later = await until(lambda: worker.at_hand(pki.verdict(), b"", DEFAULT))
        assert later.verdict.defects == (Defect.REVOKED,)
        assert publisher.asked == ["GET /issuing.crl"]

    run(tmp_path, scenario, revocation_timeout=0.1)


# --- soft, hard, off ---


@pytest.mark.parametrize(
    ("mode", "errors", "expected"),
    [
        ("soft", DEFAULT, ()),
        ("soft", TOLD, (Defect.REVOCATION_UNKNOWN,)),
        ("soft", wanted(revocation_unknown=Action.BLOCK), (Defect.REVOCATION_UNKNOWN,)),
        ("hard", DEFAULT, (Defect.REVOCATION_UNKNOWN,)),
        ("hard", TOLD, (Defect.REVOCATION_UNKNOWN,)),
        ("off", TOLD, ()),
    ],
)
def test_what_nobody_tells(tmp_path: Path, mode: str, errors: Wanted, expected: tuple[Defect, ...]) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        found = await checked(rig.worker(), Pki(publisher).verdict(), errors=errors)
        assert found.verdict.defects == expected
        assert found.until == (NOW + UNKNOWN_KEPT if mode != "off" else None)
        assert publisher.asked == ([] if mode == "off" else ["POST /ocsp", "GET /issuing.crl"])

    run(tmp_path, scenario, revocation=mode)


def test_a_certificate_that_names_nothing_is_not_known_and_nobody_is_asked(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki = Pki(publisher, crls=False, responder=False)
        found = rig.worker().at_hand(pki.verdict(ca=True), b"", DEFAULT)
        assert found is not None
        assert [f.certificate for f in found.verdict.findings] == [0, 1]
        assert "names no CRL and no OCSP responder" in said(found)

    run(tmp_path, scenario, revocation="hard")


def test_nobody_is_asked_about_what_is_blocked_or_has_no_anchor(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher), rig.worker()
        expired = pki.verdict(Finding(Defect.EXPIRED, "x", "y"))
        assert await checked(worker, expired) == Checked(expired, NOW + UNKNOWN_KEPT)
        untrusted = pki.verdict(Finding(Defect.UNTRUSTED_ROOT, "x", "y"))
        allowed = wanted(untrusted=Action.ALLOW, expired=Action.ALLOW)
        assert await checked(worker, untrusted, errors=allowed) == Checked(untrusted)
        assert publisher.asked == []
        assert Defect.REVOCATION_UNKNOWN in (await checked(worker, expired, errors=allowed)).verdict.defects
        assert publisher.asked != []

    run(tmp_path, scenario, revocation="hard")


# --- what the server sends along ---


def test_an_answer_that_the_server_sends_along_spares_the_question(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher), rig.worker()
        good = worker.at_hand(pki.verdict(), ocsp_answer(pki.leaf, next_update=NOW + 3 * HOUR), DEFAULT)
        assert good == Checked(pki.verdict(), NOW + 3 * HOUR)
        bad = worker.at_hand(pki.verdict(), ocsp_answer(pki.leaf, revoked=NOW), DEFAULT)
        assert bad is not None
        assert "revoked" in said(bad)
        assert "that the server sent along" in said(bad)
        assert publisher.asked == []

    run(tmp_path, scenario, revocation="hard")


def test_one_that_does_not_count_is_as_none_and_said(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher), rig.worker()
        forged = ocsp_answer(pki.leaf, signer=Authority.root("Issuing"))
        found = await checked(worker, pki.verdict(), forged)
        assert "the OCSP answer that the server sent along: it is signed neither" in said(found)
        assert publisher.asked == ["POST /ocsp", "GET /issuing.crl"]

    run(tmp_path, scenario, revocation="hard")


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_what_was_promised_and_not_sent_is_said_and_passes_only_where_somebody_else_tells(
    tmp_path: Path, mode: str
) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher), rig.worker()
        pki.leaf = pki.issuing.leaf(extra=[MUST_STAPLE, *names(ocsp=publisher.url("/ocsp"))])
        assert (await checked(worker, pki.verdict(), ocsp_answer(pki.leaf))).verdict.ok
        silent = await checked(worker, pki.verdict())
        assert silent.verdict.defects == (Defect.REVOCATION_UNKNOWN,)
        assert "its server is to send an OCSP answer along" in said(silent)
        rig.seconds += 61
        publisher.answers["/ocsp"] = ocsp_answer(pki.leaf)
        assert (await checked(rig.worker(), pki.verdict())).verdict.ok

    run(tmp_path, scenario, revocation=mode)


NOTHING_WILL_BE_KNOWN: Any = pytest.mark.parametrize(
    "leaf",
    [
        ISSUING.leaf(not_before=NOW - DAY, not_after=NOW + 5 * DAY),
        ISSUING.leaf(extra=[NO_REV_AVAIL, *names(crl="http://crl.example/1.crl")]),
    ],
    ids=["short-lived", "noRevAvail"],
)


@NOTHING_WILL_BE_KNOWN
def test_of_what_nothing_will_be_known_nobody_is_asked_and_silence_is_good(tmp_path: Path, leaf: Issued) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        verdict = Verdict((), leaf.chain(with_root=True)[:2])
        assert rig.worker().at_hand(verdict, b"", TOLD) == Checked(verdict)
        assert rig.worker().at_hand(verdict, b"no answer", TOLD) == Checked(verdict)

    run(tmp_path, scenario, revocation="hard")


@NOTHING_WILL_BE_KNOWN
@pytest.mark.parametrize("mode", ["off", "soft", "hard"])
def test_of_what_nothing_will_be_known_it_counts_that_it_was_revoked(tmp_path: Path, mode: str, leaf: Issued) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()

    async def scenario(rig: Rig, publisher: Publisher) -> None:
        verdict, worker = Verdict((), leaf.chain(with_root=True)[:2]), rig.worker()
        along = worker.at_hand(verdict, ocsp_answer(leaf, revoked=NOW), DEFAULT)
        assert along is not None
        assert along.verdict.defects == (Defect.REVOKED,)
        (folder / "issuing.crl").write_bytes(crl(ISSUING, [leaf]))
        assert worker.directory is not None
        worker.directory.look()
        listed = worker.at_hand(verdict, b"", DEFAULT)
        assert listed is not None
        assert listed.verdict.defects == (Defect.REVOKED,)

    run(tmp_path, scenario, revocation=mode, crl_directory=str(folder))


def test_who_says_revoked_is_right_against_an_answer_that_was_sent_along(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher, responder=False), rig.worker()
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf])
        await checked(worker, pki.verdict())
        found = worker.at_hand(pki.verdict(), ocsp_answer(pki.leaf), DEFAULT)
        assert found is not None
        assert found.verdict.defects == (Defect.REVOKED,)

    run(tmp_path, scenario)


# --- counted ---


def test_what_was_heard_and_of_whom_is_counted(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher), rig.worker()
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf])
        publisher.answers["/ocsp"] = 500
        await checked(worker, pki.verdict(), ocsp_answer(pki.leaf))
        await checked(worker, pki.verdict())
        await checked(worker, pki.verdict())
        silent = Pki(publisher, crls=False)
        await checked(worker, silent.verdict())
        assert {key: count for key, count in rig.metrics.counts.items() if key[0] == "revocation_answers"} == {
            ("revocation_answers", "stapled", "good"): 1,
            ("revocation_answers", "crl", "revoked"): 2,
            ("revocation_answers", "none", "unknown"): 1,
        }
        # The responder said nothing, which is known for a minute.
        assert {key[1:]: count for key, count in rig.metrics.counts.items() if key[0] == "fetches"} == {
            ("ocsp", "failed"): 1,
            ("crl", "ok"): 1,
        }
        assert worker.crls["kept"] == 1
        assert worker.crls["bytes"] > len(publisher.answers["/issuing.crl"])  # type: ignore[arg-type]

    run(tmp_path, scenario)


def test_a_list_that_cannot_be_fetched_again_is_told_until_it_can(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher, responder=False), rig.worker()

        async def asked_until(condition: Callable[[], bool]) -> None:
            # A fetch that finds no place is none; the next who asks begins another.
            async with asyncio.timeout(30):
                while not condition():
                    assert (await checked(worker, pki.verdict())).verdict.ok
                    await asyncio.sleep(0.02)

        publisher.answers["/issuing.crl"] = listed = crl(pki.issuing)
        assert (await checked(worker, pki.verdict())).verdict.ok
        assert worker.crls["overdue"] == 0
        publisher.answers["/issuing.crl"] = 503
        rig.now = NOW + DAY * 0.6
        await asked_until(lambda: worker.crls["overdue"] == 1)
        assert (await checked(worker, pki.verdict())).verdict.ok
        publisher.answers["/issuing.crl"] = listed
        rig.now += 2 * MINUTE
        rig.seconds += 120
        await asked_until(lambda: worker.crls["overdue"] == 0)
        publisher.answers["/issuing.crl"] = 503
        rig.now += DAY * 0.25
        await asked_until(lambda: worker.crls["overdue"] == 1)
        # Where nobody has wanted it since, it is nobody's trouble any more.
        rig.seconds += OVERDUE_SECONDS + 1
        assert worker.crls["overdue"] == 0

    run(tmp_path, scenario, ocsp=False)


# --- kept, shared, renewed ---


def test_one_worker_fetches_and_the_others_read(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, workers = Pki(publisher, responder=False), [rig.worker() for _ in range(3)]
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf])
        for worker in workers:
            found = await asyncio.gather(*(checked(worker, pki.verdict()) for _ in range(5)))
            assert {each.verdict.defects for each in found} == {(Defect.REVOKED,)}
        assert publisher.asked == ["GET /issuing.crl"]

    run(tmp_path, scenario)


def test_what_failed_is_not_tried_for_a_minute_by_nobody(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, workers = Pki(publisher, responder=False), [rig.worker(), rig.worker()]
        for worker in workers * 2:
            found = await checked(worker, pki.verdict(), errors=TOLD)
            assert "it answered with status 404" in said(found)
        assert publisher.asked == ["GET /issuing.crl"]
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf])
        rig.seconds += FAILED_SECONDS + 1
        rig.now += HOUR / 60 * 2
        assert (await checked(workers[0], pki.verdict())).verdict.defects == (Defect.REVOKED,)

    run(tmp_path, scenario)


def test_a_responder_that_is_down_is_down_for_all_certificates(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        worker = rig.worker()
        publisher.answers["/ocsp"] = 500
        for _ in range(3):
            await checked(worker, Pki(publisher, crls=False).verdict())
        assert publisher.asked == ["POST /ocsp"]
        rig.seconds += FAILED_SECONDS + 1
        await checked(worker, Pki(publisher, crls=False).verdict())
        assert publisher.asked == ["POST /ocsp"] * 2

    run(tmp_path, scenario)


@pytest.mark.parametrize("way", ["crl", "ocsp"])
def test_it_is_asked_again_half_way_while_the_old_one_serves(tmp_path: Path, way: str) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        by_crl = way == "crl"
        pki, worker = Pki(publisher, responder=not by_crl, crls=by_crl), rig.worker()
        path = "/issuing.crl" if by_crl else "/ocsp"

        def publish(*, revoked: bool, this_update: datetime = NOW, until: datetime = NOW + 4 * HOUR) -> None:
            publisher.answers[path] = (
                crl(pki.issuing, [pki.leaf] if revoked else [], this_update=this_update, next_update=until)
                if by_crl
                else ocsp_answer(pki.leaf, revoked=NOW if revoked else None, next_update=until)
            )

        def now_known() -> Checked | None:
            return worker.at_hand(pki.verdict(), b"", DEFAULT)

        publish(revoked=False)
        assert (await checked(worker, pki.verdict())).verdict.ok
        rig.now = NOW + 1.9 * HOUR
        publish(revoked=True)
        assert now_known() == Checked(pki.verdict(), NOW + 4 * HOUR)
        assert len(publisher.asked) == 1
        rig.now = NOW + 2.1 * HOUR
        publisher.answers[path] = 500
        assert now_known() == Checked(pki.verdict(), NOW + 4 * HOUR)
        await until(lambda: "status 500" in rig.logged())
        publish(revoked=True)
        assert now_known() == Checked(pki.verdict(), NOW + 4 * HOUR)
        assert len(publisher.asked) == 2
        rig.seconds += FAILED_SECONDS + 1
        rig.now += HOUR / 30
        await until(lambda: (found := now_known()) is not None and found.verdict.defects == (Defect.REVOKED,))
        assert len(publisher.asked) == 3

    run(tmp_path, scenario)


@pytest.mark.parametrize("how", ["a new worker", "memory was short"])
def test_a_list_on_the_disk_that_counts_is_waited_for_by_nobody(tmp_path: Path, how: str) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher, responder=False), rig.worker()
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf], next_update=NOW + 5 * DAY)
        await checked(worker, pki.verdict())
        rig.now += 13 * HOUR
        publisher.answers["/issuing.crl"] = 503 if how == "memory was short" else "hang"
        if how == "memory was short":
            worker.at_hand(pki.verdict(), b"", DEFAULT)
            await until(lambda: list((rig.folder / "crls").glob("*.failed")))
            worker._crls._kept.clear()
        else:
            worker = rig.worker()
        found = await checked(worker, pki.verdict())
        assert (found.verdict.defects, found.until) == ((Defect.REVOKED,), NOW + 5 * DAY)
        await until(lambda: len(publisher.asked) == 2)

    run(tmp_path, scenario, revocation_timeout=5.0)


def test_a_list_from_the_disk_is_renewed_in_the_background(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki = Pki(publisher, responder=False)
        publisher.answers["/issuing.crl"] = crl(pki.issuing, next_update=NOW + 5 * DAY)
        await checked(rig.worker(), pki.verdict())
        rig.now += 13 * HOUR
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf], this_update=NOW, next_update=NOW + 5 * DAY)
        worker = rig.worker()
        assert (await checked(worker, pki.verdict())).verdict.ok
        await until(
            lambda: (
                (found := worker.at_hand(pki.verdict(), b"", DEFAULT)) is not None
                and Defect.REVOKED in found.verdict.defects
            )
        )
        assert len(publisher.asked) == 2

    run(tmp_path, scenario)


HOLDER = """
import sys
from pathlib import Path
from store.crls import CrlFiles
files = CrlFiles(Path(sys.argv[1]))
files.open()
assert files.claim(sys.argv[2])
print("claimed", flush=True)
sys.stdin.read()
"""


def test_while_another_worker_fetches_a_list_the_old_one_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, claims = [], []
    read, claim = CrlFiles.read, CrlFiles.claim
    monkeypatch.setattr(CrlFiles, "read", lambda self, *args: reads.append(args) or read(self, *args))
    monkeypatch.setattr(CrlFiles, "claim", lambda self, name: claims.append(name) or claim(self, name))

    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki = Pki(publisher, responder=False)
        publisher.answers["/issuing.crl"] = crl(pki.issuing)
        await checked(rig.worker(), pki.verdict())
        (file,) = (rig.folder / "crls").glob("*.crl")
        other = subprocess.Popen(  # noqa: ASYNC220 - it is a moment
            [sys.executable, "-c", HOLDER, str(file.parent), file.stem], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"claimed\n"
            for moment in (rig.now + 13 * HOUR, rig.now + 2 * DAY):  # due for renewal, and outdated
                rig.now, worker = moment, rig.worker()
                reads.clear()
                claims.clear()
                asking = asyncio.ensure_future(checked(worker, pki.verdict()))
                await until(lambda: len(claims) >= 5)
                asking.cancel()
                assert len(reads) == 1
        finally:
            other.kill()
            other.communicate()
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf], this_update=rig.now, next_update=rig.now + DAY)
        assert (await checked(worker, pki.verdict())).verdict.defects == (Defect.REVOKED,)

    run(tmp_path, scenario)


def test_an_older_list_on_the_disk_does_not_take_the_place_of_the_one_in_memory(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher, responder=False), rig.worker()
        publisher.answers["/issuing.crl"] = crl(pki.issuing, this_update=NOW - 2 * HOUR, next_update=NOW + 5 * DAY)
        await checked(worker, pki.verdict())
        (file,) = (rig.folder / "crls").glob("*.crl")
        older = file.read_bytes()
        rig.now += 13 * HOUR
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf], next_update=NOW + 5 * DAY)
        worker.at_hand(pki.verdict(), b"", DEFAULT)
        await until(lambda: rig.logged().count("crl fetched") == 2)
        file.write_bytes(older)
        rig.now += 13 * HOUR
        publisher.answers["/issuing.crl"] = 503
        await until(lambda: worker.at_hand(pki.verdict(), b"", DEFAULT) and "status 503" in rig.logged())
        assert (await checked(worker, pki.verdict())).verdict.defects == (Defect.REVOKED,)

    run(tmp_path, scenario)


def test_another_certificate_of_the_same_key_that_may_sign_no_lists_takes_none_from_the_others(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher, responder=False), rig.worker()
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf])
        barred = ROOT.intermediate("Issuing", key=pki.issuing.key, key_usage=["key_cert_sign"])
        renamed = ROOT.intermediate("Issuing no more", key=pki.issuing.key)
        extra = names(crl=publisher.url("/issuing.crl"))
        for issuing, why in ((barred, "its issuer may not sign CRLs"), (renamed, "it is another issuer's")):
            leaf = issuing.leaf(extra=extra)
            found = await checked(worker, Verdict.of((), leaf.chain(with_root=True)[:2]), errors=TOLD)
            assert found.verdict.defects == (Defect.REVOCATION_UNKNOWN,)
            assert why in said(found)
        for each in (worker, rig.worker()):
            assert (await checked(each, pki.verdict())).verdict.defects == (Defect.REVOKED,)
        found = await checked(worker, Verdict.of((), barred.leaf(extra=extra).chain(with_root=True)[:2]), errors=TOLD)
        assert "its issuer may not sign CRLs" in said(found)

    run(tmp_path, scenario)


def test_an_outdated_list_serves_nobody_and_is_fetched_again(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher, responder=False), rig.worker()
        publisher.answers["/issuing.crl"] = crl(pki.issuing)
        assert (await checked(worker, pki.verdict())).verdict.ok
        rig.now = NOW + 2 * DAY
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf], this_update=rig.now, next_update=rig.now + DAY)
        assert worker.at_hand(pki.verdict(), b"", DEFAULT) is None
        assert (await checked(worker, pki.verdict())).verdict.defects == (Defect.REVOKED,)

    run(tmp_path, scenario)


@pytest.mark.parametrize("attack", ["older", "forged", "another CA's", "no CRL"])
def test_nobody_on_the_way_can_put_another_list_in_its_place(tmp_path: Path, attack: str) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher, responder=False), rig.worker()
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf], this_update=NOW - HOUR)
        await checked(worker, pki.verdict())
        publisher.answers["/issuing.crl"] = {
            "older": crl(pki.issuing, this_update=NOW - 2 * HOUR),
            "forged": crl(pki.issuing, sign_with=new_key()),
            "another CA's": crl(ROOT),
            "no CRL": b"<html>",
        }[attack]
        rig.now += 13 * HOUR
        worker.at_hand(pki.verdict(), b"", DEFAULT)
        await until(lambda: list((rig.folder / "crls").glob("*.failed")))
        for each in (worker, rig.worker()):
            assert (await checked(each, pki.verdict())).verdict.defects == (Defect.REVOKED,)
        assert len(publisher.asked) == 2

    run(tmp_path, scenario)


def test_an_older_answer_does_not_take_the_place_of_the_one_at_hand(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher, crls=False), rig.worker()
        publisher.answers["/ocsp"] = ocsp_answer(pki.leaf, revoked=NOW, this_update=NOW - HOUR, next_update=NOW + DAY)
        await checked(worker, pki.verdict())
        older = {"this_update": NOW - 2 * HOUR, "next_update": NOW + 9 * DAY}
        publisher.answers["/ocsp"] = ocsp_answer(pki.leaf, **older)
        rig.now += 13 * HOUR
        worker.at_hand(pki.verdict(), b"", DEFAULT)
        await until(lambda: "it is older than the one at hand" in rig.logged())
        assert (await checked(worker, pki.verdict())).verdict.defects == (Defect.REVOKED,)
        rig.now += DAY
        rig.seconds += FAILED_SECONDS + 1
        assert (await checked(worker, pki.verdict(), errors=TOLD)).verdict.defects == (Defect.REVOCATION_UNKNOWN,)
        publisher.answers["/ocsp"] = ocsp_answer(pki.leaf, this_update=NOW, next_update=NOW + 9 * DAY)
        rig.seconds += FAILED_SECONDS + 1
        assert (await checked(worker, pki.verdict())).verdict.ok

    run(tmp_path, scenario)


def test_while_many_lists_wait_to_be_read_no_other_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.crl_cache.MEMORY", 100)

    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, other, worker = Pki(publisher, responder=False), Authority.root("Other"), rig.worker()
        leaf = other.leaf(extra=names(crl=publisher.url("/other.crl")))
        publisher.answers |= {"/issuing.crl": crl(pki.issuing, [pki.leaf]), "/other.crl": crl(other, [leaf])}
        reading = threading.Event()

        def accepted(*args: Any) -> Any:
            assert reading.wait(30)
            return really(*args)

        really = worker._crls._accepted
        monkeypatch.setattr(worker._crls, "_accepted", accepted)
        first = asyncio.ensure_future(checked(worker, pki.verdict()))
        await until(lambda: worker._crls._unread > 100)
        monkeypatch.setattr(worker._crls, "_elsewhere", elsewhere)
        second = asyncio.ensure_future(checked(worker, Verdict.of((), leaf.chain(with_root=True))))
        await asyncio.sleep(0.05)
        assert publisher.asked == ["GET /issuing.crl"]
        reading.set()
        assert [found.verdict.defects for found in await asyncio.gather(first, second)] == [(Defect.REVOKED,)] * 2
        assert worker._crls._unread == 0

    async def elsewhere(work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.to_thread(work, *args)

    run(tmp_path, scenario)


def test_a_list_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki = Pki(publisher, responder=False)
        publisher.answers["/issuing.crl"] = crl(pki.issuing, range(1, 8000))
        found = await checked(rig.worker(), pki.verdict())
        assert "its body has more than 65536 bytes" in said(found)
        assert not list((rig.folder / "crls").glob("*.crl"))

    run(tmp_path, scenario, revocation="hard", largest_crl=65536)


def test_a_damaged_file_on_the_disk_is_fetched_again(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki = Pki(publisher, responder=False)
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf])
        await checked(rig.worker(), pki.verdict())
        (file,) = (rig.folder / "crls").glob("*.crl")
        whole = file.read_bytes()
        for damage in (whole[:-40], b"", whole.replace(b"\x30", b"\x31")):
            file.write_bytes(damage)
            assert (await checked(rig.worker(), pki.verdict())).verdict.defects == (Defect.REVOKED,)
        assert len(publisher.asked) == 4

    run(tmp_path, scenario)


def test_a_disk_that_takes_nothing_makes_no_difference_to_who_asks(tmp_path: Path) -> None:
    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher, responder=False), rig.worker()
        publisher.answers["/issuing.crl"] = crl(pki.issuing, [pki.leaf])
        (rig.folder / "crls").rename(rig.folder / "moved")
        assert (await checked(worker, pki.verdict())).verdict.defects == (Defect.REVOKED,)
        assert worker.at_hand(pki.verdict(), b"", DEFAULT) is not None

    run(tmp_path, scenario)


# --- the operator's folder ---


@pytest.mark.parametrize("mode", ["off", "soft", "hard"])
def test_the_lists_of_a_folder_count_in_every_mode(tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()

    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher), rig.worker()
        good = pki.issuing.leaf(extra=names(crl=publisher.url("/issuing.crl")))
        lists = crl_pem(crl(ROOT)) + crl_pem(crl(pki.issuing, [pki.leaf]))
        (folder / "all.pem").write_bytes(lists)
        (folder / "README").write_text("not a list")
        assert worker.directory is not None
        worker.directory.look()
        found = worker.at_hand(pki.verdict(ca=True), b"", DEFAULT)
        assert found is not None
        assert "(the CRL in all.pem)" in said(found)
        passes = worker.at_hand(Verdict((), good.chain(with_root=True)), b"", DEFAULT)
        assert passes is not None
        assert passes.verdict.ok
        assert publisher.asked == []

    run(tmp_path, scenario, revocation=mode, crl_directory=str(folder))


def test_a_folder_is_followed_and_what_cannot_be_read_takes_nothing_off(tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()

    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher), rig.worker()
        directory, file = worker.directory, folder / "one.crl"
        assert directory is not None
        clock = iter(range(1, 100))

        def revoked(content: bytes | None) -> bool:
            if content is None:
                file.unlink()
            else:
                file.write_bytes(content)
                os.utime(file, (next(clock),) * 2)
            directory.look()
            found = worker.at_hand(pki.verdict(), b"", DEFAULT)
            assert found is not None
            return found.verdict.defects == (Defect.REVOKED,)

        listed = crl(pki.issuing, [pki.leaf])
        directory.look()
        assert directory.changes == 0
        assert revoked(listed)
        assert revoked(listed[:-30])
        assert revoked(b"x" * 100_000)
        assert directory.changes == 3
        directory.look()
        assert directory.changes == 3
        assert not revoked(crl(pki.issuing))
        assert revoked(listed)
        folder.rename(tmp_path / "away")
        directory.look()
        assert directory.changes == 5
        (tmp_path / "away").rename(folder)
        assert not revoked(None)

    run(tmp_path, scenario, revocation="off", crl_directory=str(folder), largest_crl=65536)


def test_a_file_that_is_odd_in_a_way_nobody_thought_of_keeps_no_other_from_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    odd, end = b"\x30odd", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

    class Reading(Crl):
        def __init__(self, encoded: bytes) -> None:
            if encoded == odd:
                raise RuntimeError("nobody thought of it")
            super().__init__(encoded)

    monkeypatch.setattr("proxy.crl_directory.Crl", Reading)

    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher), rig.worker()
        (folder / "a.crl").write_bytes(odd)
        (folder / "b.crl").write_bytes(crl(pki.issuing, this_update=end, next_update=None))
        (folder / "c.crl").write_bytes(crl(pki.issuing, [pki.leaf], next_update=end))
        await worker.start()
        assert (await checked(worker, pki.verdict())).verdict.defects == (Defect.REVOKED,)
        assert '"file":"a.crl","reason":"it cannot be read: nobody thought of it"' in rig.logged()
        assert '"file":"b.crl","reason":"it cannot be read: ' in rig.logged()

    run(tmp_path, scenario, revocation="off", crl_directory=str(folder))


def test_an_outdated_list_of_a_folder_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()

    async def scenario(rig: Rig, publisher: Publisher) -> None:
        pki, worker = Pki(publisher, crls=False, responder=False), rig.worker()
        (folder / "old.crl").write_bytes(crl(pki.issuing, next_update=NOW - HOUR))
        assert worker.directory is not None
        worker.directory.look()
        found = await checked(worker, pki.verdict())
        assert "the CRL in old.crl: it was to be replaced by" in said(found)

    run(tmp_path, scenario, revocation="hard", crl_directory=str(folder))
