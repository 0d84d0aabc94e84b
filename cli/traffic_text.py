"""Traffic for people: an event as a line, a verdict's trace with both chains as trees, figures as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from certs.expiry import begins_in, time_left
from cli import output
from cli.output import clean, paint, paragraph
from control.shown import certificates
from store.traffic_figures import NONE

if TYPE_CHECKING:
    from control.traces import Found, Link, Trace
    from control.traffic import Event
    from control.traffic_figures import Span
    from store.records import BlockedHost

ACTIONS = {"allow": "green", "bypass": "green", "warn": "yellow", "block": "red"}
MOST_NAMES = 6


# --- an event ---


def line(event: Event, with_tenant: bool = False) -> str:
    """``10:00:05.123  9f0c…  192.0.2.7  verdict  old.example:443  block: expired``."""
    tenant = f"{event.tenant or '':<12}  " if with_tenant else ""
    at = f"{event.at:%H:%M:%S}.{event.at.microsecond // 1000:03}"
    where = event.host or ""
    if where and event.port is not None:
        where = f"[{where}]:{event.port}" if ":" in where else f"{where}:{event.port}"
    text = clean(
        f"{at}  {event.id:<16}  {tenant}{event.client or '':<15}  {event.kind:<10}  {where:<30}  {_words(event)}"
    )
    return paint(text.rstrip(), "red" if event.blocked else "yellow" if event.action == "warn" else None)


def _words(event: Event) -> str:
    took = None if event.milliseconds is None else f"{event.milliseconds:.0f} ms"
    match event.kind:
        case "verdict":
            return f"{event.action or ''}{': ' if event.defects else ''}{', '.join(event.defects)}"
        case "refused":
            return f"{event.status or ''} {event.details or ''}: {event.fields.get('reason', '')}".strip(" :")
        case "request":
            outcome = event.outcome if event.outcome != "complete" else None
            parts = (event.method, event.path, event.status or "no answer", outcome, took)
            return " ".join(str(part) for part in parts if part)
        case "connection":
            state = f"{event.fields.get('state', '')}: {event.outcome or ''}"
            return ", ".join(part for part in (state, event.lane, took) if part)
        case "leaf":
            of = "the untrusted CA" if event.fields.get("untrusted") else event.fields.get("signing_ca", "")
            return f"of {of}, from {event.fields.get('source', '')}"
        case _:
            return str(event.fields.get("reason") or event.fields.get("details") or event.action or "")


# --- a verdict's trace ---


def draw(trace: Trace, now: datetime) -> None:
    """Print it: what was judged, the server's chain with what is wrong in it, ours, what is done and why."""
    host = f"[{trace.host}]" if ":" in trace.host else trace.host
    shown = [("server", host if trace.port is None else f"{host}:{trace.port}"), ("judged", output.second(trace.at))]
    if trace.id is not None:
        shown.append(("connection", trace.id))
    if trace.tls:
        shown.append(("TLS", trace.tls))
    output.fields(shown)
    numbers = {id(found): place for place, found in enumerate(_all_found(trace), start=1)}
    click.echo(f"\n{paint('What the server showed', bold=True)}")
    _tree(trace.server, trace.anchor or "nothing that is trusted here", bool(trace.anchor), numbers, now)
    if trace.completed:
        click.echo(paragraph(f"The server did not send its whole chain; it was completed {trace.completed}.", "  "))
    click.echo(f"\n{paint('What the client was shown', bold=True)}")
    if trace.untrusted:
        of = "a CA that nobody trusts, so that the client warns"
    else:
        of = f"signing CA {trace.signing_ca}" if trace.signing_ca else ""
    _tree(trace.ours, of, not trace.untrusted, numbers, now)
    _what_is_wrong(trace)
    for remark in trace.remarks:
        click.echo(paragraph(f"Note: {remark}."))
    decided = f", by {', '.join(dict.fromkeys(trace.by))}" if trace.by else ""
    done = clean(f"Tenant {trace.tenant}: {trace.action or 'not known'}{decided}.")
    click.echo(f"\n{paint(done, ACTIONS.get(trace.action), bold=True)}")


def _all_found(trace: Trace) -> Iterator[Found]:
    yield from trace.findings
    for link in trace.server:
        yield from link.findings


def _tree(chain: Sequence[Link], top: str, good: bool, numbers: Mapping[int, int], now: datetime) -> None:
    """From the top downwards, as ``probe`` draws it; of the last, the server's own or the leaf, all names."""
    if not chain:
        click.echo("  nothing that is known")
        return
    if top:
        click.echo(f"  {paint(clean(top), 'green' if good else 'red')}")
    indent = "  "
    for place in reversed(range(len(chain))):
        link = chain[place]
        below = indent + ("   │  " if place else "      ")
        click.echo(paint(paragraph(link.subject, f"{indent}   ", f"{indent}└─ "), bold=not place))
        about = [_key(link), link.origin, _validity(link, now)]
        click.echo(paragraph(", ".join(part for part in about if part), below))
        if place == 0 and link.names:
            more = f" and {len(link.names) - MOST_NAMES} more" if len(link.names) > MOST_NAMES else ""
            click.echo(paragraph(f"names {', '.join(link.names[:MOST_NAMES])}{more}", below))
        click.echo(clean(f"{below}sha256 {link.sha256}"))
        for found in link.findings:
            mark = clean(f"✗ {numbers[id(found)]} {found.defect}")
            click.echo(f"{below}{paint(mark, 'red', bold=True)}")
        indent += "   "


def _key(link: Link) -> str:
    return "" if link.certificate is None else certificates.key(link.certificate)


def _validity(link: Link, now: datetime) -> str:
    if link.ends is None:
        return "dates that cannot be read"
    if link.begins is not None and link.begins > now:
        return f"{begins_in(link.begins, now)} ({output.day(link.begins)} to {output.day(link.ends)})"
    left = time_left(link.ends, now)
    ends = left if now > link.ends else f"ends in {left.removesuffix(' left')}"
    since = "" if link.begins is None else f"{output.day(link.begins)} "
    return f"{ends} ({since}to {output.day(link.ends)})"


def _what_is_wrong(trace: Trace) -> None:
    found = list(_all_found(trace))
    if not found:
        click.echo(f"\n{paint("Nothing was wrong with the server's certificate.", 'green')}")
        return
    click.echo(f"\n{paint('What was wrong', bold=True)}")
    for number, one in enumerate(found, start=1):
        mark = f"  {number} "
        click.echo(f"{mark}{paint(clean(one.defect), 'red', bold=True)}")
        if one.explanation:
            clause = f" ({one.clause})" if one.clause else ""
            click.echo(paragraph(f"{one.explanation}{clause}", " " * len(mark)))


# --- figures ---


def print_figures(spans: Sequence[Span], hosts: Sequence[BlockedHost]) -> None:
    """Verdicts over time, and the hosts that were blocked most."""
    rows = [
        (
            output.minute(span.begins_at), span.total, _by_action(span, "allow"), _by_action(span, "warn"),
            _by_action(span, "bypass"), _by_action(span, "block"), _by_defect(span),
        )
        for span in spans
    ]  # fmt: skip
    output.table(("from", "verdicts", "allow", "warn", "bypass", "block", "defects"), rows, "No time to look at.")
    click.echo()
    blocked = [(one.host, one.count, output.minute(one.last_at), _counts(one.defects)) for one in hosts]
    output.table(("blocked host", "times", "last in the hour from", "defects"), blocked, "No host was blocked.")


def _by_action(span: Span, action: str) -> int:
    return sum(count for (_, done), count in span.counts.items() if done == action)


def _by_defect(span: Span) -> str:
    counts: Counter[str] = Counter()
    for (defect, _), count in span.counts.items():
        if defect != NONE:
            counts[defect] += count
    return _counts(dict(counts.most_common()))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
