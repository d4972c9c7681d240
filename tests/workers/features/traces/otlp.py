"""A receiver of traces on this machine: it keeps the spans that it takes, and answers as it is told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class OtlpServer(ThreadingHTTPServer):
    """The receiver. `answers` are the statuses of the next requests; after them all are taken."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []

    @property
    def url(self) -> str:
        """Return where it takes traces."""
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def by_id(self) -> dict[bytes, Span]:
        """Return the spans by their ids, as a receiver keeps them."""
        return {span.span_id: span for span in self.spans}


class _Handler(BaseHTTPRequestHandler):
    server: OtlpServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status = self.server.answers.pop(0) if self.server.answers else 200
        if status == 200:
            request = ExportTraceServiceRequest.FromString(body)
            self.server.spans += [
                span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
            ]
            self.server.headers.append(dict(self.headers))
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def otlp_server() -> Iterator[OtlpServer]:
    """Run a receiver."""
    server = OtlpServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def values_of(span: Span) -> dict[str, object]:
    """Return the attributes of a span."""
    read = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind)
        read[attribute.key] = [member.string_value for member in value.values] if kind == "array_value" else value
    return read
