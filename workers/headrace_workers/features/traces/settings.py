"""Settings of traces."""

from typing import ClassVar

from headrace_workers.core.environment import Variables, number, variable

_READ_BY = "bridges"


class TraceSettings(Variables):
    """Settings of the export of traces. Headers, certificates and compression are those of the standard variables
    `OTEL_EXPORTER_OTLP_*`, which the exporter reads by itself.
    """

    title: ClassVar[str] = "Traces"

    trace_endpoint: str | None = variable(
        None,
        "The URL of a receiver of traces (OTLP over HTTP), such as `http://localhost:4318/v1/traces`. Unset: none are "
        "exported. Headers and certificates are set by the standard variables `OTEL_EXPORTER_OTLP_*`.",
        read_by=_READ_BY,
        pattern="^https?://",
    )
    trace_share: float = number(
        1.0,
        "The share of the jobs without an error of which traces are exported. Jobs that fail are all exported.",
        read_by=_READ_BY,
        ge=0,
        le=1,
    )
    trace_content: bool = variable(
        False, "Whether traces carry prompts, and answers as moderation left them.", read_by=_READ_BY
    )
