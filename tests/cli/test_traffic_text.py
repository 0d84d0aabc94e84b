"""Traffic for people: one line for each event, and a trace with both chains, safe on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.traffic_text import draw, line, print_figures
from control.shown.traffic import as_object
from control.traces import Found, Link, Trace
from control.traffic import Event, events_of
from control.traffic_figures import Span
from store.records import BlockedHost
from tests.harness.pki import DAY, NOW, Authority

ROOT = Authority.root("Root")


def event(kind: str, **fields: Any) -> Event:
    told = {"seq": 1, "time": 1_795_525_200.25, "event": kind, "id": "1d", "client": "192.0.2.7", "tenant": "acme"}
    (one,) = events_of({"token": "7-1", "number": 1, "events": [told | fields]})
    return one


@pytest.mark.parametrize(
    ("one", "ends"),
    [
        (event("verdict", host="a.example", port=443, action="allow"), "verdict     a.example:443  allow"),
        (
            event("verdict", host="2001:db8::1", port=443, action="block", defects=["expired", "self_signed"]),
            "verdict     [2001:db8::1]:443  block: expired, self_signed",
        ),
        (
            event("refused", host="a.example", status=502, details="expired", reason="it has expired"),
            "refused     a.example  502 expired: it has expired",
        ),
        (event("refused", status=503, details="memory"), "refused  503 memory"),
        (
            event("request", method="GET", host="a.example:443", path="/x", status=200, outcome="complete", ms=12.3),
            "request     a.example:443  GET /x 200 12 ms",
        ),
        (
            event("request", method="GET", host="a.example", path="/x", outcome="cut"),
            "request     a.example  GET /x no answer cut",
        ),
        (
            event("connection", host="a.example", state="open", reason="client closed", lane="fast", ms=1500),
            "connection  a.example  open: client closed, fast, 1500 ms",
        ),
        (event("leaf", host="a.example", source="cache", untrusted=True), "a.example  of the untrusted CA, from cache"),
        (event("leaf", host="a.example", source="issuer", signing_ca="mine"), "a.example  of mine, from issuer"),
        (event("unparsed", host="a.example", reason="what is this"), "unparsed    a.example  what is this"),
    ],
)
def test_an_event_is_one_line(one: Event, ends: str) -> None:
    shown = line(one)
    assert shown.startswith("13:00:00.250  1d                192.0.2.7        ")
    assert " ".join(shown.split()).endswith(" ".join(ends.split()))
    assert "acme" not in shown
    assert "acme" in line(one, with_tenant=True)


def test_what_a_stranger_wrote_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2Jevil\u202e\n"
    assert line(event("request", method="GET", host="a.example", path=evil)).isprintable()
    link = Link(evil, evil, "1", None, None, "00", (evil,), evil, (Found(evil, evil, evil),))
    trace = Trace(
        "acme", "a.example", 443, "1d", NOW, "block", (evil,), (evil,), evil, evil, evil, (Found(evil, evil),),
        (link,), (link,), evil, remarks=(evil,),
    )  # fmt: skip
    draw(trace, NOW)
    shown = capsys.readouterr().out
    assert "evil" in shown
    assert all(each.isprintable() for each in shown.splitlines())


def test_a_trace_that_knows_little_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    draw(Trace("acme", "2001:db8::1", None, None, NOW, ""), NOW)
    shown = capsys.readouterr().out
    assert "server:  [2001:db8::1]\n" in shown
    assert shown.count("nothing that is known") == 2
    assert "Nothing was wrong" in shown
    assert shown.endswith("Tenant acme: not known.\n")


def test_findings_are_numbered_and_explained_once(capsys: pytest.CaptureFixture[str]) -> None:
    certificate = ROOT.certificate
    link = Link(
        "CN=Root", "CN=Root", "1", NOW - DAY, NOW - timedelta(hours=1), "00", (), "sent by the server",
        (Found("expired", "it expired", "RFC 5280"),), certificate,
    )  # fmt: skip
    trace = Trace(
        "acme", "a.example", 443, "1d", NOW, "block", findings=(Found("protocol", "no TLS"),), server=(link,),
        completed="from elsewhere",
    )  # fmt: skip
    draw(trace, NOW)
    shown = capsys.readouterr().out
    assert "nothing that is trusted here" in shown
    assert "EC secp256r1, sent by the server, expired less than a day ago" in shown
    assert "✗ 2 expired" in shown
    assert "  1 protocol\n    no TLS\n  2 expired\n    it expired (RFC 5280)\n" in shown
    assert "completed from elsewhere" in shown
    told = as_object(trace)
    assert told["findings"] == [{"defect": "protocol", "explanation": "no TLS", "clause": None}]
    assert told["server_chain"][0]["certificate"]["subject"] == "CN=Root"


def test_figures_are_two_tables(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2026, 11, 26, 10, tzinfo=UTC)
    spans = (
        Span(at, {("none", "allow"): 5, ("expired", "block"): 2, ("expired", "warn"): 1, ("protocol", "block"): 9}),
    )
    print_figures(spans, [BlockedHost("a.example", 11, at, {"protocol": 9, "expired": 2})])
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.splitlines()[1].split() == [
        "2026-11-26", "10:00", "17", "5", "1", "0", "11", "protocol", "9,", "expired", "3",
    ]  # fmt: skip
    assert second.splitlines()[1].split()[:2] == ["a.example", "11"]
    print_figures((), ())
    assert "No host was blocked." in capsys.readouterr().out
