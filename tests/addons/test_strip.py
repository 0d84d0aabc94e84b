"""What would lead clients past the proxy, taken out: Alt-Svc, and HTTPS and SVCB records in DNS answers."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest
from hyperframe import frame as frames

from addons.strip_alt_svc import StripAltSvc
from addons.strip_https_records import StripHttpsRecords
from tests.addons.conftest import ISSUING, ROOT
from tests.addons.mitm import tflow, tutils
from tests.addons.proxies import Mitmdump
from tests.addons.test_https_records import H3_AND_ECH, HTTPS, A, message, record
from tests.harness.curl import Through, curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx, Site
from tests.harness.programs import need
from tests.harness.raw_http import Pipe
from tests.harness.raw_http2 import RawHttp2, TlsServer, through

ANSWER = message([record(HTTPS, H3_AND_ECH), record(A, b"\xc0\x00\x02\x01")])
OTHER = message([record(A, b"\xc0\x00\x02\x01")], asked=A)
SAYS = 'h3=":443"; ma=86400, h3-29=":443"'
LIMIT = 70_000


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    folder = tmp_path_factory.mktemp("strip")
    files = {"answer": ANSWER, "other": OTHER, "gz": gzip.compress(ANSWER), "bad": ANSWER[:-3], "large": b"x" * 200_000}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    as_dns = "types {} default_type application/dns-message;"
    lines = [
        f"add_header Alt-Svc '{SAYS}'; add_header alt-svc 'h2=\"other.example:443\"';",
        f"location = /dns-query {{ {as_dns} alias {folder}/answer; }}",
        f"location = /other {{ {as_dns} alias {folder}/other; }}",
        f"location = /gz {{ {as_dns} add_header Content-Encoding gzip; alias {folder}/gz; }}",
        f"location = /bad {{ {as_dns} alias {folder}/bad; }}",
        f"location = /text {{ types {{}} default_type text/plain; alias {folder}/answer; }}",
        f"location = /large {{ alias {folder}/large; }}",
    ]
    with Nginx(
        folder, [Site(name, ISSUING.leaf(name), lines=lines) for name in ("good.example", "fast.example")]
    ) as it:
        yield it


def play(pipe: Pipe) -> None:
    """A server of HTTP/2 that tells of alternatives in frames (RFC 7838, section 4), for the origin and a stream."""
    end = RawHttp2(pipe, serves=True)
    end.raw(frames.AltSvcFrame(0, origin=b"https://frames.example", field=SAYS.encode()).serialize())
    end.until(lambda came: came.kind == "Headers")
    end.raw(frames.AltSvcFrame(1, field=SAYS.encode()).serialize())
    end.answer(1, end=False)
    end.data(1, b"whole", end=True)
    threading.Event().wait(5)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    names = ["frames.example", "fast-frames.example"]
    with TlsServer(tmp_path_factory.mktemp("frames"), ISSUING.leaf(names), play) as running:
        yield running


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, origin: Nginx) -> Iterator[Daemon]:
    names = ("good.example", "fast.example", "frames.example", "fast-frames.example")
    both = [
        {"script": script, "hosts": ["good.example", "frames.example"]}
        for script in ("strip_alt_svc", "strip_https_records")
    ]
    with Daemon(
        tmp_path_factory.mktemp("strip-daemon"), hosts=dict.fromkeys(names, "127.0.0.1"), common=ROOT,
        extra={"inspection": {"addons": both, "body_limit": LIMIT}},
    ) as running:  # fmt: skip
        yield running


def stripped(through_it: Through, origin: Nginx, *args: str) -> None:
    """What holds in every proxy."""
    site = origin["good.example"]
    for path in ("/dns-query", "/gz"):
        answer = curl(through_it, site.url(path), "--compressed", *args)
        assert answer.status == 200
        read = dns.message.from_wire(answer.body)
        assert [int(found.rdtype) for found in read.answer] == [A], path
        assert "h3" not in answer.text
    assert curl(through_it, site.url("/other"), *args).body == OTHER
    assert curl(through_it, site.url("/text"), *args).body == ANSWER


def test_dns_answers_lose_their_records_and_heads_their_alternatives(daemon: Daemon, origin: Nginx) -> None:
    for version in ("--http2", "--http1.1"):
        stripped(daemon, origin, version)
        answer = curl(daemon, origin["good.example"].url(), version)
        assert answer.headers["alt-svc"] == "clear"
    # Bodies that are no DNS message are not kept: more than the limit passes.
    answer = curl(daemon, origin["good.example"].url("/large"))
    assert (answer.status, len(answer.body)) == (200, 200_000)
    answer = curl(daemon, origin["good.example"].url("/bad"))
    assert answer.status == 502
    assert "strip_https_records" in answer.proxy_status or "inspector" in answer.proxy_status
    head = curl(daemon, origin["good.example"].url("/dns-query"), "--head")
    assert head.status == 200
    # Hosts that no inspector is for keep the fast lane, and what their servers say.
    fast = curl(daemon, origin["fast.example"].url("/dns-query"))
    assert fast.body == ANSWER


def test_frames_that_tell_of_alternatives_do_not_pass_the_inspection_lane(daemon: Daemon, server: TlsServer) -> None:
    for host in ("frames.example", "fast-frames.example"):
        pipe = through(daemon.proxy, daemon.root, host, server.port)
        try:
            client = RawHttp2(pipe, serves=False)
            client.ask(1, host=host)
            assert client.over(1)
            assert bytes(client.body[1]) == b"whole"
            assert ("AltSvc" in {came.kind for came in client.seen}) == (host == "fast-frames.example")
        finally:
            pipe.close()


def test_mitmdump_runs_it_too(origin: Nginx, tmp_path: Path) -> None:
    with Mitmdump(tmp_path, "strip_https_records", {}, trust=ROOT) as running:
        stripped(running, origin)


def test_alternatives_are_taken_back_whatever_the_field_says_and_none_are_made_up() -> None:
    flow = tflow.tflow(resp=tutils.tresp())
    StripAltSvc().responseheaders(flow)
    assert "alt-svc" not in flow.response.headers
    flow.response.headers.fields = (*flow.response.headers.fields, (b"Alt-Svc", b'h3=":1"'), (b"ALT-SVC", b"\xff"))
    StripAltSvc().responseheaders(flow)
    assert flow.response.headers.get_all("alt-svc") == ["clear"]


def test_a_dns_answer_that_was_not_kept_is_not_passed_over() -> None:
    flow = tflow.tflow(resp=tutils.tresp())
    flow.response.headers["content-type"] = "Application/DNS-Message; x=y"
    flow.response.raw_content = None
    with pytest.raises(ValueError, match="more than"):
        StripHttpsRecords().response(flow)
    flow.response.headers["content-type"] = "text/html"
    StripHttpsRecords().response(flow)
    assert flow.response.raw_content is None
