"""OpenTelemetry traces: one for a share of the connections, sent with OTLP over HTTP by a thread of the SDK's.

Imported where ``tracing.endpoint`` is set and nowhere else. While a connection lives, times are noted and nothing more;
spans are made of them when it has ended. What :mod:`proxy.disclosure` and ``log.never_log`` keep out of the log is in
no trace. What a client sends, ``traceparent`` included, is neither read nor changed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import requests
from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from config.settings import Tracing
from proxy.log import WARNING, Log, names_one_of

if TYPE_CHECKING:
    from proxy.block import Refusal
    from proxy.lanes.exchange import Exchange
    from proxy.session import Session

MOST_WAITING: Final = 2048
"""Spans that wait to be sent; more are left out and counted."""
MOST_REQUESTS: Final = 100
"""Requests of one connection that are told of; a connection may live for days."""
MOST_STAGES: Final = 20
"""Stages of one connection: on a plain one, each server is one."""
EXPORT_SECONDS: Final = 5.0
BATCH_SECONDS: Final = 1.0
SAY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 3.0
_STAGE_NAMES: Final = {
    "address": "network.peer.address", "host": "server.address", "port": "server.port",
    "tls": "tls.protocol.version", "alpn": "tls.next_protocol",
}  # fmt: skip


class Trace:
    """What is noted of one connection. Times of stages are the loop's, in seconds; requests bring their own."""

    __slots__ = ("lane", "more_requests", "refusal", "requests", "stages")

    def __init__(self) -> None:
        self.stages: list[tuple[str, float, float, Mapping[str, Any]]] = []
        self.requests: list[Exchange] = []
        self.more_requests = 0
        self.refusal: Refusal | None = None
        self.lane = ""

    def stage(self, name: str, began: float, ended: float, fields: Mapping[str, Any]) -> None:
        """A part of the connection's way is behind it."""
        if len(self.stages) < MOST_STAGES:
            self.stages.append((name, began, ended, fields))

    def request(self, exchange: Exchange) -> None:
        """A request has ended, and may be told of."""
        if len(self.requests) < MOST_REQUESTS:
            self.requests.append(exchange)
        else:
            self.more_requests += 1


class Tracer:
    """Chooses connections and sends their spans. ``source`` names the process. To be used on the event loop."""

    def __init__(self, settings: Tracing, source: str, log: Log) -> None:
        assert settings.endpoint is not None  # noqa: S101 - without one nobody makes a tracer
        self._share = settings.sample
        self._log = log
        self.left_out = 0
        """Spans that were not taken, since too many wait."""
        self._given = 0
        self._said = 0
        session = requests.Session()
        session.trust_env = False  # a proxy or a netrc of whoever started the daemon is not meant for it
        self._exporter = _Counting(OTLPSpanExporter(settings.endpoint, timeout=EXPORT_SECONDS, session=session))
        self._complaints = _Complaints()
        logger = logging.getLogger("opentelemetry")
        logger.propagate = False  # its lines are not ours; why something failed is said by us
        logger.handlers = [self._complaints]
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "sallyport", "service.instance.id": source}),
            shutdown_on_exit=False,
        )
        # Twice what is ever given to it, so that it never drops anything without its being counted.
        self._provider.add_span_processor(
            BatchSpanProcessor(self._exporter, 2 * MOST_WAITING, BATCH_SECONDS * 1000, max_export_batch_size=512)
        )
        self._tracer = self._provider.get_tracer("sallyport")

    def begin(self, id: str) -> Trace | None:
        """A trace for this share of the connections; which they are is told by their random id."""
        return Trace() if int(id[:8], 16) < self._share * 2**32 else None

    def start(self, later: Callable[[float, Callable[[], None]], object]) -> None:
        """Say once a minute what could not be sent; ``later`` is the loop's ``call_later``."""

        def say() -> None:
            self.say()
            later(SAY_SECONDS, say)

        later(SAY_SECONDS, say)

    def say(self) -> None:
        """Say what could not be sent since the last time."""
        failed = self._exporter.failed + self.left_out
        if failed > self._said:
            self._log.event(
                WARNING, "traces not sent", spans=failed - self._said, reason=self._complaints.last or "too many wait"
            )
            self._said = failed

    def finish(self, trace: Trace, session: Session, state: str, reason: str, orderly: bool) -> None:
        """Make spans of a connection that has ended."""
        never = self._log.never
        if never is not None:
            refused = [trace.refusal.host, trace.refusal.details] if trace.refusal is not None else []
            if names_one_of(never, [session.facts, reason, session.shown, *refused]):
                return
            # On a plain connection each has a host of its own.
            trace.stages = [stage for stage in trace.stages if not names_one_of(never, stage[3])]
        spans = 1 + len(trace.stages)
        if self._given - self._exporter.taken + spans > MOST_WAITING:
            self.left_out += spans
            return
        self._given += spans
        offset = session.worker.wall() - session.loop.time()
        began, ended = _ns(session.started + offset), _ns(session.loop.time() + offset)
        root = self._tracer.start_span(
            "connection",
            kind=api.SpanKind.SERVER,
            start_time=began,
            attributes=self._attributes(trace, session, state, reason),
        )
        within = api.set_span_in_context(root)
        for name, first, last, fields in trace.stages:
            child = self._tracer.start_span(
                name, within, start_time=_ns(first + offset), attributes=_told(fields)
            )  # fmt: skip
            child.end(_ns(last + offset))
        for exchange in trace.requests:
            if not self._log.is_withheld(exchange):
                root.add_event("request", _of_request(exchange), _ns(exchange.ended))
        if trace.refusal is not None or not orderly:
            root.set_status(api.StatusCode.ERROR, reason)
        root.end(ended)

    def _attributes(self, trace: Trace, session: Session, state: str, reason: str) -> dict[str, Any]:
        facts = dict(session.facts)
        attributes: dict[str, Any] = {
            "sallyport.id": session.id,
            "sallyport.listener": session.listener.name,
            "sallyport.tenant": session.snapshot.tenant if session.snapshot is not None else "",
            "sallyport.lane": trace.lane,
            "sallyport.state": state,
            "sallyport.reason": reason,
            "client.address": session.shown,
        }
        if trace.refusal is not None:
            attributes["error.type"] = trace.refusal.error
            attributes["sallyport.status"] = trace.refusal.status
            attributes["sallyport.details"] = trace.refusal.details
        if trace.more_requests:
            attributes["sallyport.requests_left_out"] = trace.more_requests
        return {name: value for name, value in (attributes | _told(facts)).items() if value not in ("", None)}

    async def stop(self) -> None:
        """Send what is left, for so long and no longer; a collector that is gone must not keep the process."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, STOP_SECONDS)
        self.left_out += self._given - self._exporter.taken  # the SDK is still at it, and will be ended
        self.say()


class _Counting(SpanExporter):
    """Counts what another exporter was given and could not send. Both numbers are the SDK's thread's."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.taken = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            self.taken += len(spans)
            if result is not SpanExportResult.SUCCESS:
                self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class _Complaints(logging.Handler):
    """Keeps the last thing that the SDK complained of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()[:300]


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _told(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the log as attributes, under the names that OpenTelemetry has for them."""
    return {
        _STAGE_NAMES.get(name, f"sallyport.{name}"): value
        for name, value in fields.items()
        if value is not None and value != ""
    }


def _of_request(exchange: Exchange) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "http.request.method": exchange.method,
        "server.address": exchange.host,
        "url.path": exchange.path,
        "http.response.status_code": exchange.status,
        "http.request.body.size": exchange.request_bytes,
        "http.response.body.size": exchange.response_bytes,
        "sallyport.protocol": exchange.protocol,
        "sallyport.ms": round((exchange.ended - exchange.started) * 1e3, 2),
        "sallyport.outcome": exchange.outcome,
    }
    more = exchange.more or {}
    attributes["url.query"] = more.get("query", "")
    for side in ("request", "response"):
        for name, value in more.get(f"{side}_headers", {}).items():
            attributes[f"http.{side}.header.{name}"] = (value,)
    return {name: value for name, value in attributes.items() if value not in ("", 0)}
