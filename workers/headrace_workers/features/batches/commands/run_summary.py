"""The sums of many receipts: counts, tokens and the time that each stage took. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from headrace_schemas import Answer, DeadLetter, Result, StageRecord
from headrace_schemas.grounding import Grounding
from headrace_workers.cli.receipt_lines import Receipt
from headrace_workers.cli.tables import causes, verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """One stage over many jobs. Times in ms.

    `busy_ms` is what the workers spent: the time of a group is shared among its jobs, so that it counts once.
    """

    stage: str
    jobs: int
    waited_p50_ms: float
    ran_p50_ms: float
    busy_ms: float
    retried: int

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for `--json`."""
        return {
            "stage": self.stage,
            "jobs": self.jobs,
            "waited_p50_ms": round(self.waited_p50_ms, 1),
            "ran_p50_ms": round(self.ran_p50_ms, 1),
            "busy_ms": round(self.busy_ms, 1),
            "retried": self.retried,
        }


@dataclass
class _Stage:
    waited: list[float] = field(default_factory=list)
    ran: list[float] = field(default_factory=list)
    busy: float = 0.0
    retried: int = 0
    place: int = 0  # in a job's way: an evaluation begins where a generation ends

    def add(self, record: StageRecord, place: int) -> None:
        self.place = max(self.place, place)
        self.waited.append(record.waited_ms)
        self.ran.append(record.ran_ms)
        self.busy += record.ran_ms / record.group_size
        self.retried += record.attempt > 1


class Tally:
    """The sums of receipts that are added one at a time; nothing but numbers is kept of each."""

    def __init__(self, receipts: Iterable[Receipt] = ()) -> None:
        self.statuses: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()  # why jobs died: failure or category, at stage
        self.moderated: Counter[str] = Counter()  # what moderation decided
        self.flagged: Counter[tuple[str, str]] = Counter()  # jobs by action and category: ("redact", "email")
        self.checked = 0  # jobs with a check that says yes or no
        self.failed: Counter[str] = Counter()  # jobs by the check that said no
        self.failing = 0  # jobs of which a check said no
        self.tiers: Counter[str] = Counter()  # where answers came from, of jobs that asked for the cache
        self.saved_tokens = 0
        self.grounded: Counter[str] = Counter()  # of jobs that named a knowledge base: what came of it
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._stages: dict[str, _Stage] = {}
        for receipt in receipts:
            self.add(receipt)

    def add(self, receipt: Receipt) -> None:
        """Count one."""
        self.statuses[receipt.status] += 1
        event = receipt.event
        if isinstance(event, DeadLetter):
            self.causes[f"{event.failure or event.category} at {event.stage}"] += 1
            return
        if isinstance(event, Result):
            if event.answer:
                self.prompt_tokens += event.answer.usage.prompt_tokens
                self.completion_tokens += event.answer.usage.completion_tokens
                if event.answer.grounding:
                    self.grounded[_grounded(event.answer, event.answer.grounding)] += 1
                if recall := event.answer.recall:
                    self.tiers[recall.tier.value] += 1
                    self.saved_tokens += recall.saved_tokens
            if event.embedding:
                self.prompt_tokens += event.embedding.usage.prompt_tokens
            if event.moderation:
                self.moderated[event.moderation.action] += 1
                self.flagged.update((event.moderation.action, cause) for cause in causes(event.moderation))
            found = verdicts(event.judge.scores)
            no = {name for name, holds in found if not holds}
            self.checked += bool(found)
            self.failing += bool(no)
            self.failed.update(no)
        for place, record in enumerate(event.stages):
            self._stages.setdefault(record.stage, _Stage()).add(record, place)

    @property
    def jobs(self) -> int:
        """Return how many receipts were counted."""
        return self.statuses.total()

    @property
    def unanswered(self) -> int:
        """Return how many jobs died or were cancelled."""
        return self.statuses["dead"] + self.statuses["cancelled"]

    @property
    def stages(self) -> list[StageTime]:
        """Return the stages in the order in which jobs go through them."""
        return [
            StageTime(
                stage=name,
                jobs=len(stage.waited),
                waited_p50_ms=median(stage.waited),
                ran_p50_ms=median(stage.ran),
                busy_ms=stage.busy,
                retried=stage.retried,
            )
            for name, stage in sorted(self._stages.items(), key=lambda item: item[1].place)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for `--json`."""
        return {
            "jobs": self.jobs,
            "statuses": dict(self.statuses),
            "died_of": dict(self.causes),
            "moderation": dict(self.moderated),
            "checks": {"checked": self.checked, "failing": self.failing, "failed": dict(self.failed)},
            "cache": dict(self.tiers),
            "saved_tokens": self.saved_tokens,
            "knowledge": dict(self.grounded),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "stages": [stage.as_dict() for stage in self.stages],
        }


def _grounded(answer: Answer, grounding: Grounding) -> str:
    if answer.finish_reason == "abstained":
        return "abstained"
    if not grounding.citations:
        return "without"
    return "cited" if any(each.cited for each in grounding.citations) else "uncited"


def rate(count: float, seconds: float) -> float:
    """Return `count` a second; 0 when no time has passed."""
    return count / seconds if seconds > 0 else 0.0
