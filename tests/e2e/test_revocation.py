"""Revoked certificates on real servers: a CA that publishes CRLs with nginx and answers with ``openssl ocsp``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PUBLIC
from tests.harness.curl import Result, curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.monitor import scrape, value
from tests.harness.origins import Nginx, Site
from tests.harness.pki import DAY, NOW, Authority, Issued
from tests.harness.processes import free_port, wait_for
from tests.harness.programs import need
from tests.harness.publisher import OcspResponder, Publisher
from tests.harness.revocation import MUST_STAPLE, crl, names, ocsp_answer

REVOKED = ("leaf-by-crl", "leaf-by-ocsp", "leaf-stapled", "issuer-by-crl", "issuer-by-ocsp")
UNKNOWN = ("nobody-there", "wrong-key", "huge-crl", "endless")
GOOD = ("good-by-crl", "good-by-ocsp", "good-stapled")
REDIRECTS = """
    def request(flow):
        _, found, where = flow.request.path.partition("to=")
        if found:
            flow.request.host, _, port = where.partition(":")
            flow.request.port = int(port)
"""


def host(case: str) -> str:
    return f"{case}.example"


class Ca:
    """A PKI whose lists are at an nginx, whose responders are openssl's, and whose bad answers are a program's."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.site = stack.enter_context(Nginx(folder / "ca", [Site("crls", None)]))
        self.odd = stack.enter_context(Publisher())
        self.dead = free_port()
        at = f"http://pki.example:{self.site['crls'].port}"
        self.issuing = PUBLIC.intermediate("Listed Issuing", extra=names(crl=f"{at}/root.crl"))
        revoked_by_crl = PUBLIC.intermediate("Revoked Issuing", extra=names(crl=f"{at}/root.crl"))

        def below(issuer: Authority, case: str, **where: Any) -> Issued:
            return issuer.leaf(host(case), extra=names(**where))

        listed = f"{at}/issuing.crl"
        self.servers: dict[str, Issued] = {
            "leaf-by-crl": below(self.issuing, "leaf-by-crl", crl=listed),
            "good-by-crl": below(self.issuing, "good-by-crl", crl=listed),
            "leaf-stapled": below(self.issuing, "leaf-stapled"),
            "good-stapled": self.issuing.leaf(host("good-stapled"), extra=[MUST_STAPLE]),
            "issuer-by-crl": below(revoked_by_crl, "issuer-by-crl", crl=f"{at}/revoked.crl"),
            "nobody-there": below(self.issuing, "nobody-there", ocsp=f"http://pki.example:{self.dead}/"),
            "wrong-key": below(self.issuing, "wrong-key", ocsp=self.odd.url("/wrong-key")),
            "huge-crl": below(self.issuing, "huge-crl", crl=f"{at}/huge.crl"),
            "endless": below(self.issuing, "endless", ocsp=self.odd.url("/endless"), crl=self.odd.url("/endless")),
        }
        answers, root_answers = OcspResponder(folder, self.issuing), OcspResponder(folder, PUBLIC)
        self.responders = answers, root_answers
        for case in ("leaf-by-ocsp", "good-by-ocsp"):
            self.servers[case] = below(self.issuing, case, ocsp=answers.url())
        asked_about = PUBLIC.intermediate("Answered Issuing", extra=names(ocsp=root_answers.url()))
        self.servers["issuer-by-ocsp"] = below(asked_about, "issuer-by-ocsp", crl=f"{at}/answered.crl")
        answers.known = [(self.servers["leaf-by-ocsp"], NOW - DAY), (self.servers["good-by-ocsp"], None)]
        root_answers.known = [(asked_about, NOW - DAY)]
        for responder in self.responders:
            stack.enter_context(responder)
        self.odd.answers |= {
            "/wrong-key": ocsp_answer(self.servers["wrong-key"], signer=Authority.root("Listed Issuing")),
            "/endless": "dribble",
        }
        self.publish("root", crl(PUBLIC, [revoked_by_crl]))
        self.publish("issuing", crl(self.issuing, [self.servers["leaf-by-crl"]]))
        self.publish("revoked", crl(revoked_by_crl))
        self.publish("answered", crl(asked_about))
        self.site.file("huge.crl", 100 << 20)

    def publish(self, name: str, der: bytes) -> None:
        (self.site.www / f"{name}.crl").write_bytes(der)

    @property
    def settings(self) -> dict[str, Any]:
        """What lets the proxy ask here."""
        ports = [80, self.site["crls"].port, self.odd.port, self.dead, *(each.port for each in self.responders)]
        return {"fetch": {"ports": ports, "private": ["127.0.0.0/8"]}}


@pytest.fixture(scope="module")
def ca(scratch: Path) -> Iterator[Ca]:
    need("nginx")
    need("openssl")
    need("curl")
    with ExitStack() as stack:
        yield Ca(scratch, stack)


@pytest.fixture(scope="module")
def servers(scratch: Path, ca: Ca) -> Iterator[Nginx]:
    sites = []
    for case, identity in ca.servers.items():
        lines: list[str] = []
        if case.endswith("stapled"):
            file = scratch / f"{case}.der"
            file.write_bytes(ocsp_answer(identity, revoked=NOW - DAY if case == "leaf-stapled" else None))
            lines = ["ssl_stapling on;", f"ssl_stapling_file {file};"]
        sites.append(Site(host(case), identity, lines=lines))
    with Nginx(scratch / "servers", sites) as nginx:
        yield nginx


def daemon(folder: Path, ca: Ca, servers: Nginx, more: Mapping[str, Any], **extra: Any) -> Daemon:
    hosts = dict.fromkeys([*servers.sites, "pki.example"], "127.0.0.1")
    verification = {"revocation_timeout": 3, **ca.settings, **more}
    return Daemon(folder, hosts=hosts, common=PUBLIC, metrics=True, extra={"verification": verification, **extra})


@pytest.fixture(scope="module")
def soft(scratch: Path, ca: Ca, servers: Nginx) -> Iterator[Daemon]:
    scripts = Scripts(scratch / "soft-inspectors")
    scripts.add("redirects", REDIRECTS, hosts=[host("good-by-crl")], body="none")
    inspection = {"addons": scripts.addons}
    with daemon(scratch / "soft", ca, servers, {"revocation": "soft"}, inspection=inspection) as running:
        yield running


@pytest.fixture(scope="module")
def hard(scratch: Path, ca: Ca, servers: Nginx) -> Iterator[Daemon]:
    with daemon(scratch / "hard", ca, servers, {"revocation": "hard"}) as running:
        yield running


def asked(through: Daemon, servers: Nginx, case: str, path: str = "/") -> Result:
    return curl(through, servers[host(case)].url(path))


def blocked(result: Result, defect: str) -> bool:
    return (result.status, result.proxy_status) == (
        502, f'sallyport; error=tls_certificate_error; details="{defect}"',
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["soft", "hard"])
@pytest.mark.parametrize("case", REVOKED)
def test_what_is_revoked_is_blocked_and_no_request_arrives(
    request: pytest.FixtureRequest, servers: Nginx, mode: str, case: str
) -> None:
    through: Daemon = request.getfixturevalue(mode)
    for _ in range(2):
        result = asked(through, servers, case, f"/secret-{mode}")
        assert blocked(result, "revoked"), result.text
    assert ("issuing certificate" in result.text) == case.startswith("issuer")
    assert [each for each in servers.requests(host(case)) if "secret" in each["uri"]] == []


@pytest.mark.parametrize("mode", ["soft", "hard"])
@pytest.mark.parametrize("case", GOOD)
def test_what_is_good_passes(request: pytest.FixtureRequest, servers: Nginx, mode: str, case: str) -> None:
    assert asked(request.getfixturevalue(mode), servers, case).status == 200


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_nobody_tells_passes_where_soft_and_is_blocked_where_hard(
    soft: Daemon, hard: Daemon, servers: Nginx, case: str
) -> None:
    since = time.time()  # another test may have set it to be blocked, for a while
    assert asked(soft, servers, case).status == 200
    result = asked(hard, servers, case)
    assert blocked(result, "revocation_unknown"), result.text
    assert [told for told in soft.log("refused", host=host(case)) if told["time"] > since] == []


def test_the_page_says_who_was_asked_and_why_that_is_no_answer(hard: Daemon, servers: Nginx) -> None:
    for case, *whys in (
        ("nobody-there", "refused the connection"),
        ("wrong-key", "signed neither by the certificate"),
        ("huge-crl", "more than 20971520 bytes"),
        # The fetch and whoever waits for it give up at the same time; either may be the first to say so.
        ("endless", "no answer within 3 s", "the whole answer has not come in time"),
    ):
        result = curl(hard, servers[host(case)].url(), "-H", "Accept: application/json")
        (finding,) = json.loads(result.body)["findings"]
        assert any(why in finding["explanation"] for why in whys), (case, finding)


def test_a_huge_list_costs_no_memory(hard: Daemon, servers: Nginx, ca: Ca) -> None:
    before = hard.memory_kib()
    asked(hard, servers, "huge-crl")
    assert hard.memory_kib() - before < 20_000

    def sent() -> list[int]:
        return [entry["sent"] for entry in ca.site.requests("crls") if entry["uri"] == "/huge.crl"]

    assert max(wait_for("the list in the server's log", sent)) < 20 << 20


def test_an_action_decides_about_what_nobody_tells(soft: Daemon, hard: Daemon, servers: Nginx) -> None:
    try:
        hard.told("errors", "set", "revocation_unknown", "allow")
        hard.within(5, lambda: asked(hard, servers, "nobody-there").status == 200)
        soft.told("errors", "set", "revocation_unknown", "block")
        soft.within(5, lambda: blocked(asked(soft, servers, "nobody-there"), "revocation_unknown"))
        assert asked(soft, servers, "good-by-crl").status == 200
    finally:
        hard.told("errors", "unset", "revocation_unknown")
        soft.told("errors", "unset", "revocation_unknown")
    soft.within(5, lambda: asked(soft, servers, "nobody-there").status == 200)


def test_who_told_what_is_in_the_metrics(hard: Daemon, servers: Nginx) -> None:
    for case in ("leaf-by-crl", "good-by-ocsp", "leaf-stapled", "huge-crl"):
        asked(hard, servers, case)

    def told(**labels: str) -> float:
        return value(scrape(hard), "revocation_answers_total", **labels)

    def fetched(kind: str, result: str) -> float:
        return value(scrape(hard), "fetches_total", kind=kind, result=result)

    wait_for("all to be counted", lambda: min(
        told(source="crl", result="revoked"), told(source="ocsp", result="good"),
        told(source="stapled", result="revoked"), told(source="none", result="unknown"),
        fetched("crl", "ok"), fetched("crl", "failed"), fetched("ocsp", "ok"), value(scrape(hard), "crls"),
    ))  # fmt: skip
    samples = scrape(hard)
    assert value(samples, "crl_cache_bytes") > 0
    assert value(samples, "crls_overdue") == 0
    assert value(samples, "fetch_seconds_count", kind="ocsp") >= fetched("ocsp", "ok")


def test_probe_tells_the_same(soft: Daemon, servers: Nginx) -> None:
    for case, source in (("leaf-by-crl", "CRL http://"), ("leaf-by-ocsp", "OCSP http://"), ("leaf-stapled", "along")):
        done = soft.cli("probe", "--json", f"{host(case)}:{servers[host(case)].port}")
        assert done.returncode == 1, done.stderr
        (finding,) = json.loads(done.stdout)["findings"]
        assert (finding["defect"], finding["certificate"]) == ("revoked", 0)
        assert source in finding["explanation"]
    assert soft.cli("probe", f"{host('good-by-crl')}:{servers[host('good-by-crl')].port}").returncode == 0


def test_a_server_that_an_inspector_leads_to_is_asked_about_too(soft: Daemon, servers: Nginx) -> None:
    revoked, good = servers[host("leaf-by-crl")], servers[host("good-by-ocsp")]
    result = asked(soft, servers, "good-by-crl", f"/?to={good.name}:{good.port}")
    assert (result.status, result.text) == (200, good.text)
    result = asked(soft, servers, "good-by-crl", f"/secret?to={revoked.name}:{revoked.port}")
    assert blocked(result, "revoked"), result.text
    assert [each for each in servers.requests(revoked.name) if "secret" in each["uri"]] == []


def test_a_folder_of_lists_is_followed_where_nobody_is_asked(scratch: Path, ca: Ca, servers: Nginx) -> None:
    lists = scratch / "lists"
    lists.mkdir()
    (lists / "root.crl").write_bytes(crl(PUBLIC))
    with daemon(scratch / "closed", ca, servers, {"revocation": "off", "crl_directory": str(lists)}) as closed:
        asked_before = len(ca.odd.asked), len(ca.site.requests())
        assert asked(closed, servers, "good-by-crl").status == 200
        assert asked(closed, servers, "leaf-by-crl").status == 200
        (lists / "issuing.pem").write_bytes(crl(ca.issuing, [ca.servers["leaf-by-crl"]]))
        closed.within(30, lambda: blocked(asked(closed, servers, "leaf-by-crl"), "revoked"))
        assert asked(closed, servers, "good-by-crl").status == 200
        assert (len(ca.odd.asked), len(ca.site.requests())) == asked_before
        (lists / "broken.crl").write_bytes(b"nothing")
        assert closed.wait_log("crl file", timeout=30, file="broken.crl")


def test_the_workers_of_a_node_fetch_a_list_once_and_it_outlives_them(scratch: Path, ca: Ca, servers: Nginx) -> None:
    def fetched() -> int:
        return sum(entry["uri"] == "/issuing.crl" for entry in ca.site.requests("crls"))

    two = daemon(scratch / "two", ca, servers, {"revocation": "hard"})
    two.settings["workers"] = 2
    two.write_config()
    before = fetched()
    with two:
        for _ in range(12):
            assert blocked(asked(two, servers, "leaf-by-crl"), "revoked")
        two.stop()
        two.start()
        assert blocked(asked(two, servers, "leaf-by-crl"), "revoked")
    ca.site.wait_requests(1, "crls")
    assert fetched() == before + 1
