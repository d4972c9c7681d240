"""The receipts of a run's jobs, and their outcomes as arrays by item, repeat and variant."""

import mmap
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from headrace_workers.features.evals.plan import Plan

_LINE: Final = re.compile(rb'\{"line":(\d+),')


class Receipts:
    """The receipts of a run's jobs, by line. The last receipt of a line counts."""

    def __init__(self, content: "mmap.mmap | bytes", jobs: int) -> None:
        self._content = content
        self._starts = np.full(jobs + 1, -1, dtype=np.int64)
        self._ends = np.zeros(jobs + 1, dtype=np.int64)
        start, size = 0, len(content)
        while start < size:
            end = content.find(b"\n", start)
            end = size if end < 0 else end
            head = _LINE.match(content, start)
            if head is not None and (line := int(head[1])) <= jobs:
                self._starts[line], self._ends[line] = start, end
            start = end + 1

    def of(self, line: int) -> dict[str, Any] | None:
        """Return the receipt of a job as it stands in the file, or None."""
        start = int(self._starts[line])
        if start < 0:
            return None
        found: dict[str, Any] = from_json(self._content[start : int(self._ends[line])])
        return found


@contextmanager
def opened(path: Path, jobs: int) -> Iterator[Receipts]:
    """Yield the receipts in a file, of a limited number of jobs; none where there is no file."""
    if not path.is_file() or path.stat().st_size == 0:
        yield Receipts(b"", jobs)
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield Receipts(content, jobs)


def status_of(receipt: dict[str, Any] | None) -> str:
    """Return completed, blocked, dead, cancelled, or missing."""
    if receipt is None:
        return "missing"
    status = receipt.get("status")
    if isinstance(status, str):
        return status
    return "dead" if "category" in receipt else "cancelled"


def failure_of(receipt: dict[str, Any] | None) -> str | None:
    """Return the reason why there is no answer to judge, in words, or None."""
    match status_of(receipt):
        case "completed":
            return None
        case "missing":
            return "no answer yet"
        case "blocked":
            return "blocked by moderation"
        case "cancelled":
            return f"cancelled: {(receipt or {}).get('reason') or 'no reason given'}"
        case _:
            failure = receipt or {}
            return f"{failure.get('category')} at {failure.get('stage')}: {failure.get('reason')}"


def scores_of(receipt: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return the scores of an answer by the names of their criteria. An application may have criteria of its own."""
    scores = ((receipt or {}).get("judge") or {}).get("scores", ())
    return {score.get("name") or score["criterion"]: score for score in scores}


def text_of(receipt: dict[str, Any] | None) -> str | None:
    """Return the answer's text, or None."""
    answer = (receipt or {}).get("answer") or {}
    text = answer.get("text")
    return text if isinstance(text, str) else None


STATUSES: Final = ("completed", "blocked", "dead", "cancelled", "missing")
_LONGEST_REASON: Final = 200  # characters
_MOST_REASONS: Final = 1_000  # of one variant; a reason may hold what differs from job to job

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Outcomes:
    """Arrays of results. `scores` is [item, repeat, variant, criterion], NaN for a missing score; the others lack the
    last axis. `status` holds places of STATUSES; times are in ms.
    """

    scores: Floats
    status: NDArray[np.int8]
    prompt_tokens: Floats
    completion_tokens: Floats
    total_ms: Floats
    ran_ms: Floats
    cached: NDArray[np.bool_]
    failures: tuple[Counter[str], ...]  # of each variant: why there is no answer
    abstentions: tuple[
        tuple[Counter[str], ...], ...
    ]  # of each variant and criterion: why an answer has no score, by code

    @property
    def answered(self) -> NDArray[np.bool_]:
        """The jobs that have an answer to judge."""
        return np.asarray(self.status == STATUSES.index("completed"))

    @property
    def missing(self) -> int:
        """The number of jobs that have not ended."""
        return int((self.status == STATUSES.index("missing")).sum())


def read_outcomes(plan: Plan, receipts: Receipts) -> Outcomes:
    """Return the outcomes of a run from its receipts, which are read once."""
    items, repeats, variants = len(plan.dataset.items), plan.run.repeats, len(plan.run.variants)
    criteria = len(plan.run.criteria)
    shape = (items * repeats, variants)

    def empty() -> Floats:
        return np.full(shape, np.nan)

    outcomes = Outcomes(
        scores=np.full((*shape, criteria), np.nan),
        status=np.full(shape, STATUSES.index("missing"), dtype=np.int8),
        prompt_tokens=empty(), completion_tokens=empty(), total_ms=empty(), ran_ms=empty(),
        cached=np.zeros(shape, dtype=np.bool_),
        failures=tuple(Counter() for _ in range(variants)),
        abstentions=tuple(tuple(Counter() for _ in range(criteria)) for _ in range(variants)),
    )  # fmt: skip
    for row in range(shape[0]):
        for variant in range(variants):
            receipt = receipts.of(row * variants + variant + 1)
            _note(outcomes, receipt, plan.run.criterion_names, row, variant)
    whole = (items, repeats, variants)
    return Outcomes(
        outcomes.scores.reshape(*whole, criteria), outcomes.status.reshape(whole),
        outcomes.prompt_tokens.reshape(whole), outcomes.completion_tokens.reshape(whole),
        outcomes.total_ms.reshape(whole), outcomes.ran_ms.reshape(whole),
        outcomes.cached.reshape(whole), outcomes.failures, outcomes.abstentions,
    )  # fmt: skip


def _note(into: Outcomes, receipt: dict[str, Any] | None, criteria: Sequence[str], row: int, variant: int) -> None:
    into.status[row, variant] = STATUSES.index(status_of(receipt))
    if (why := failure_of(receipt)) is not None:
        _count(into.failures[variant], why)
    if receipt is None:
        return
    if answer := receipt.get("answer"):
        into.prompt_tokens[row, variant] = answer["usage"]["prompt_tokens"]
        into.completion_tokens[row, variant] = answer["usage"]["completion_tokens"]
        into.cached[row, variant] = (answer.get("recall") or {}).get("tier", "none") != "none"
    if "total_ms" in receipt:
        into.total_ms[row, variant] = receipt["total_ms"]
    for stage in receipt.get("stages", ()):
        if stage["stage"] == "generate":
            into.ran_ms[row, variant] = stage["ran_ms"]
    if why is None:
        _note_scores(into, scores_of(receipt), criteria, row, variant)


def _note_scores(
    into: Outcomes, scores: Mapping[str, Mapping[str, Any]], criteria: Sequence[str], row: int, variant: int
) -> None:
    for place, name in enumerate(criteria):
        score = scores.get(name, {})
        if score.get("value") is None:
            _count(into.abstentions[variant][place], str(score.get("not_judged", "it was not judged")))
        else:
            into.scores[row, variant, place] = score["value"]


def _count(reasons: Counter[str], reason: str) -> None:
    shown = reason[:_LONGEST_REASON]
    reasons[shown if shown in reasons or len(reasons) < _MOST_REASONS else "other reasons"] += 1
