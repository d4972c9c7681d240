"""The export of traces: one bridge at a time follows the jobs that ended, and sends their spans to a receiver.

Nothing else waits for it. A receiver that is away or slow delays the export alone, and `headrace status` says so.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.features.traces.settings import TraceSettings
from headrace_workers.features.traces.store import Exported, Traces
from headrace_workers.runtime.bridge.duty import BridgeParts, DutyLease, IncidentReporter, Turn
from headrace_workers.runtime.wire.hints import Hint, HintReceiver

DUTY: Final = "traces"
_LEASE: Final = 60.0  # seconds: longer than the longest send
_REST: Final = 2.0  # seconds between two looks
_AGAIN: Final = 15.0  # seconds to the next try at a receiver that did not take a trace
_TIMEOUT: Final = 10.0  # seconds for one request, with its repetitions
# Answers that say something about the spans that were sent, and not about the receiver: the same would come again.
_REFUSALS: Final = frozenset({400, 413, 415, 422})


class Receiver(Protocol):
    """A receiver of spans."""

    def send(self, spans: Sequence[Any]) -> str | None:
        """Send spans. Return None when they were taken or refused for good, else why they were not taken."""


class OtlpReceiver:
    """A receiver that takes OTLP over HTTP. Belongs to one thread."""

    def __init__(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from requests import Session

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it logs what receivers answer
        session = Session()
        session.hooks["response"].append(self._note)
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT, session=session)
        self._status: int | None = None

    def _note(self, response: Any, *_: Any, **__: Any) -> None:
        self._status = response.status_code

    def send(self, spans: Sequence[Any]) -> str | None:
        """Send spans. Return None when they were taken or refused for good, else why they were not taken."""
        self._status = None
        if self._exporter.export(spans).name == "SUCCESS":
            return None
        if self._status in _REFUSALS:
            log(DUTY, logging.WARNING, Action.REFUSED, f"the receiver of traces refused {len(spans)} spans",
                status=self._status)  # fmt: skip
            return None
        answer = "no answer" if self._status is None else f"HTTP {self._status}"
        return f"{answer} from HEADRACE_TRACE_ENDPOINT: traces wait, jobs do not"

    def close(self) -> None:
        """Close its connections."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class TraceDuty:
    """The export of a ledger's traces. Belongs to the thread that calls `take_turn`."""

    receivers: Mapping[Hint, HintReceiver] = {}

    def __init__(
        self,
        *,
        ledger: Ledger,
        receiver: Receiver,
        settings: TraceSettings,
        lease: DutyLease,
        incidents: IncidentReporter,
    ) -> None:
        self._traces = ledger.of(Traces)
        self._receiver = receiver
        self._settings = settings
        self._lease = lease
        self._incidents = incidents

    def take_turn(self, turn: Turn) -> None:
        """Export what ended, and rest."""
        more, problem = self.once() if self._lease.held() else (False, None)
        self._incidents.tell(DUTY, {"": problem} if problem else {})
        if not more:
            turn.rest(_AGAIN if problem else _REST)

    def once(self) -> tuple[bool, str | None]:
        """Export the spans of some jobs. Return whether more ended, and why they were not taken, if they were not.

        The position moves when they have been taken: after a crash some are sent again, with the same ids.
        """
        from headrace_workers.features.traces.spans import is_failure, spans_of, trace_of

        jobs, steps, more = self._traces.ended_after(self._traces.position())
        if not jobs:
            return False, None
        kept = [job for job in jobs if is_failure(job) or _is_in_share(trace_of(job)[0], self._settings.trace_share)]
        spans = [span for job in kept for span in spans_of(job, steps[job.id], content=self._settings.trace_content)]
        if spans and (problem := self._receiver.send(spans)):
            return False, problem
        self._traces.move(Exported(jobs[-1].ended_at, jobs[-1].id))
        return more, None

    def close(self) -> None:
        """Close what is open."""
        self._lease.give_up()


def _is_in_share(trace: int, share: float) -> bool:
    """Return whether a trace is of the share that is exported: by its id, as OpenTelemetry's samplers do it."""
    return trace & ((1 << 64) - 1) < share * (1 << 64)


def duty_of(bridge: BridgeParts) -> TraceDuty | None:
    """Return the duty for a bridge; None where no receiver is set. Raise ConfigurationError without the extra."""
    settings = bridge.settings.of(TraceSettings)
    if settings.trace_endpoint is None:
        return None
    try:
        receiver = OtlpReceiver(settings.trace_endpoint)
    except ImportError:
        raise ConfigurationError(
            "HEADRACE_TRACE_ENDPOINT is set, and the extra is missing: pip install 'headrace[otel]'"
        ) from None
    lease = DutyLease(DUTY, ledger=bridge.ledger, bridge=bridge.name, clock=bridge.clock, seconds=_LEASE)
    return TraceDuty(
        ledger=bridge.ledger, receiver=receiver, settings=settings, lease=lease, incidents=bridge.incidents
    )
