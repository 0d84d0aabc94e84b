"""A small OTLP/HTTP receiver: takes traces as the protocol has them (protobuf), and keeps the spans.

with Collector() as collector:
    ...
    collector.spans  # what has come, as plain types
"""

from __future__ import annotations

import gzip
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


@dataclass(frozen=True)
class Span:
    """A span as it came. Times are nanoseconds since 1970."""

    name: str
    trace: bytes
    id: bytes
    parent: bytes
    start: int
    end: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    error: bool
    events: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, str(kind))


def _plain(attributes: list[KeyValue]) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


class Collector:
    """Listens on a free port of 127.0.0.1. ``status`` is what it answers with."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.spans: list[Span] = []
        self.raw = bytearray()
        """All bodies, decompressed."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                assert self.headers["Content-Type"] == "application/x-protobuf"
                if collector.status == 200:
                    collector.take(body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(collector.status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def take(self, body: bytes) -> None:
        """Keep what a request brings."""
        self.raw += body
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _plain(list(of_resource.resource.attributes))
            for scope in of_resource.scope_spans:
                self.spans += [
                    Span(
                        span.name, span.trace_id, span.span_id, span.parent_span_id, span.start_time_unix_nano,
                        span.end_time_unix_nano, _plain(list(span.attributes)), resource, span.status.code == 2,
                        [(event.name, event.time_unix_nano, _plain(list(event.attributes))) for event in span.events],
                    )
                    for span in scope.spans
                ]  # fmt: skip

    @property
    def url(self) -> str:
        """Where traces go."""
        return f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def roots(self, **attributes: object) -> list[Span]:
        """The connections' spans that have these attributes; ``_`` stands for a dot."""
        wanted = {name.replace("_", "."): value for name, value in attributes.items()}
        return [
            span for span in list(self.spans)
            if not span.parent and all(span.attributes.get(name) == value for name, value in wanted.items())
        ]  # fmt: skip

    def below(self, root: Span) -> list[Span]:
        """The stages of a connection, in order."""
        return sorted((span for span in self.spans if span.parent == root.id), key=lambda span: span.start)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
