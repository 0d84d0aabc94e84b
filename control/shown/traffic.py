"""Traffic as JSON: an event, a verdict's trace with both chains, figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from control.shown import certificates
from control.traces import Found, Link, Trace
from control.traffic import Event
from control.traffic_figures import BlockedHost, Span


def event_as_object(event: Event) -> dict[str, Any]:
    """The event, with the names that the log has for what is told of it (docs/operations.md)."""
    return {"worker": event.worker, **event.fields}


def as_object(trace: Trace) -> dict[str, Any]:
    """The trace."""
    return {
        "tenant": trace.tenant,
        "host": trace.host,
        "port": trace.port,
        "id": trace.id,
        "at": trace.at,
        "action": trace.action or None,
        "defects": list(trace.defects),
        "by": list(trace.by),
        "anchor": trace.anchor or None,
        "completed": trace.completed or None,
        "tls": trace.tls or None,
        "findings": [_found(one) for one in trace.findings],
        "server_chain": [_link(one) for one in trace.server],
        "our_chain": [_link(one) for one in trace.ours],
        "signing_ca": trace.signing_ca or None,
        "untrusted": trace.untrusted,
        "remarks": list(trace.remarks),
        "events": [event_as_object(event) for event in trace.events],
    }


def _found(found: Found) -> dict[str, Any]:
    return {"defect": found.defect, "explanation": found.explanation or None, "clause": found.clause or None}


def _link(link: Link) -> dict[str, Any]:
    whole = None if link.certificate is None else certificates.as_object(link.certificate)
    return {
        "subject": link.subject,
        "issuer": link.issuer,
        "serial": link.serial,
        "not_before": link.begins,
        "not_after": link.ends,
        "sha256": link.sha256,
        "names": list(link.names),
        "from": link.origin or None,
        "findings": [_found(one) for one in link.findings],
        "certificate": whole,
    }


def figures_as_object(spans: Sequence[Span], hosts: Sequence[BlockedHost]) -> dict[str, Any]:
    """The figures."""
    return {
        "verdicts": [
            {
                "from": span.begins_at,
                "counts": [
                    {"defect": defect, "action": action, "count": count}
                    for (defect, action), count in sorted(span.counts.items())
                ],
            }
            for span in spans
        ],
        "blocked_hosts": [
            {"host": one.host, "count": one.count, "last_hour": one.last_at, "defects": dict(one.defects)}
            for one in hosts
        ],
    }
