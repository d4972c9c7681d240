"""Drills of an outage: a generator with an injected fault, and the report of who answered the jobs meanwhile."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import or_, select

from headrace_schemas import HeadraceError, Result
from headrace_schemas.codec import decode_job, decode_value
from headrace_schemas.event_types import MODEL_KINDS
from headrace_schemas.job import ModelJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import ProviderBusy
from headrace_workers.core.tables import IS_ACTIVE, JOBS
from headrace_workers.models.engines.remote.failures import RemoteFailed
from headrace_workers.models.generator import Completion, GivenUp, Request, Unseen

DOWN: Final = "down"
HANG: Final = "hang"
BUSY: Final = "429"
FAULTS: Final = (DOWN, HANG, BUSY)
HANGS_SECONDS: Final = 10.0  # that a call hangs, where its job's deadline does not end it
BUSY_SECONDS: Final = 30.0
_LOOK_EVERY: Final = 0.1

_MOST_JOBS: Final = 10_000
_BEFORE_MS: Final = 600_000  # so far back an outage's latencies are compared


class InjectedFailure(Unseen, RemoteFailed):
    """The failure of a model in a drill."""


class InjectedBusy(Unseen, ProviderBusy):
    """A busy provider in a drill."""


@dataclass(frozen=True, slots=True)
class FaultyGenerator:
    """A generator whose calls all come to this fault. `sleep` and `monotonic` are for calls that hang."""

    fault: str
    sleep: Callable[[float], object] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        """Fail all requests as a model in such an outage does."""
        if self.fault == HANG:
            return self._hang(requests)
        if self.fault == BUSY:
            return [InjectedBusy("drill: it takes no more calls", after=BUSY_SECONDS) for _ in requests]
        return [InjectedFailure("drill: it could not be reached") for _ in requests]

    def _hang(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        longest = max((min(request.at_most or HANGS_SECONDS, HANGS_SECONDS) for request in requests), default=0.0)
        until = self.monotonic() + longest
        while self.monotonic() < until and not all(request.given_up() for request in requests):
            self.sleep(_LOOK_EVERY)
        late = InjectedFailure(f"drill: no answer began within {longest:g} s")
        return [GivenUp() if request.given_up() else late for request in requests]


@dataclass
class OutageReport:
    """Jobs that asked for a model: who answered them, how many were not answered, and how long the others took (ms)."""

    answered_by: Counter[str] = field(default_factory=Counter)
    moved: int = 0
    dead: list[str] = field(default_factory=list)
    unfinished: int = 0
    total_ms: list[float] = field(default_factory=list)

    @property
    def jobs(self) -> int:
        """Return how many jobs there were."""
        return sum(self.answered_by.values()) + len(self.dead) + self.unfinished

    def to_json(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        return {
            "jobs": self.jobs,
            "answered_by": dict(sorted(self.answered_by.items())),
            "moved": self.moved,
            "dead": len(self.dead),
            "unfinished": self.unfinished,
            "p50_ms": percentile(self.total_ms, 0.5),
            "p95_ms": percentile(self.total_ms, 0.95),
        }


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value that this share of them does not exceed; None of none."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None


def report(
    ledger: Ledger, model: str, since: int, until: int, chain: Callable[[str], Sequence[str] | None]
) -> OutageReport:
    """Report on the jobs that were accepted in this time (ms) and asked for this model, first or later; the newest
    10,000 at most. `chain(name)` returns the models of a chain.
    """
    query = (
        select(JOBS.c.id, JOBS.c.kind, JOBS.c.payload, JOBS.c.state, JOBS.c.terminal_type, JOBS.c.terminal)
        .where(JOBS.c.kind.in_(MODEL_KINDS), JOBS.c.accepted_at >= since, JOBS.c.accepted_at < until)
        .where(or_(IS_ACTIVE, JOBS.c.ended_at >= since))  # which an index finds
        .order_by(JOBS.c.accepted_at.desc())
        .limit(_MOST_JOBS)
    )
    return _sum_up(ledger.read(query), model, chain)


def report_before(ledger: Ledger, model: str, at: int, chain: Callable[[str], Sequence[str] | None]) -> OutageReport:
    """Report on the ten minutes before this time."""
    return report(ledger, model, at - _BEFORE_MS, at, chain)


def _sum_up(rows: Iterable[Any], model: str, chain: Callable[[str], Sequence[str] | None]) -> OutageReport:
    found = OutageReport()
    for row in rows:
        try:
            job = decode_job(row.kind, row.payload)
        except HeadraceError:  # a newer version's
            continue
        assert isinstance(job, ModelJob)  # noqa: S101 - of its kind
        named = chain(job.model) if isinstance(job.model, str) else None
        if model not in (named or job.chain) or row.state == "cancelled":
            continue
        if row.state == "active":
            found.unfinished += 1
        elif row.state == "dead":
            found.dead.append(row.id)
        else:
            _count(found, decode_value(row.terminal_type, row.terminal))
    return found


def _count(found: OutageReport, result: object) -> None:
    answer = (result.answer or result.decisions) if isinstance(result, Result) else None
    found.answered_by[answer.model if answer else "nobody"] += 1
    found.moved += bool(answer and len({attempt.model for attempt in answer.attempts}) > 1)
    if isinstance(result, Result) and result.total_ms is not None:
        found.total_ms.append(result.total_ms)
