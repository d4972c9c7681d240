"""Forecasts of files as batches: wrong lines, tokens to read, and cost."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import from_json
from sqlalchemy import Row

from headrace_schemas import GenerationJob
from headrace_schemas.codec import decode_job
from headrace_schemas.recall import CacheMode
from headrace_workers.features.batches.estimate import Interval, Ran, last_one, predicted, side_by_side
from headrace_workers.features.batches.store.batch_lines import NewLine
from headrace_workers.features.batches.store.batches import DUPLICATE
from headrace_workers.features.cache.semantic.scope import key_of

GENERATES: Final = "generate"
_SHOWN: Final = 20  # problems
_AT_ONCE: Final = 500  # keys that are looked up

# From keys to the ones that have an answer.
Known = Callable[[Sequence[str]], Iterable[str]]


@dataclass
class Forecast:
    """Counts of lines by their likely outcome; tokens; and the cache's likely answers.

    `wanted` counts, for each model, the lines by the tokens that they may write. `repeated` are lines that repeat an
    earlier request exactly and may be served from the cache; `known` are lines whose answer exists already.
    """

    cache: CacheMode
    version: Callable[[str], str]
    look_up: Known
    lines: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[int, str, str]] = field(default_factory=list)  # line, code, reason: the first of them
    prompt_tokens: int = 0
    wanted: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    most_tokens: int = 0  # that all may cost together
    repeated: int = 0
    known: int = 0
    _names: dict[int, int] = field(default_factory=dict)
    _keys: set[int] = field(default_factory=set)
    _requested: list[tuple[str, str, int]] = field(default_factory=list)

    def add(self, line: NewLine) -> None:
        """Count a line that was admitted, or was not."""
        self.lines += 1
        if line.custom_id is not None:
            first = self._names.setdefault(_short(line.custom_id), line.number)
            if first != line.number:
                reason = f"{line.custom_id!r} is also what line {first} is called"
                line = line.without_jobs(DUPLICATE, reason)
        if line.code is not None:
            self.failed[line.code] += 1
            if len(self.problems) < _SHOWN:
                self.problems.append((line.number, line.code, line.reason or ""))
            return
        self.most_tokens += line.tokens
        for new in line.jobs:
            tokens = sum(step.tokens for step in new.steps)
            job = decode_job(new.kind, new.payload)
            if not isinstance(job, GenerationJob):
                self.prompt_tokens += tokens
                continue
            self.prompt_tokens += tokens - job.sampling.max_tokens
            self.wanted[job.first_model][job.sampling.max_tokens] += 1
            if (job.cache or self.cache) is not CacheMode.OFF:
                self._ask(key_of(job, self.version(job.first_model)), job.first_model, job.sampling.max_tokens)

    def end(self) -> None:
        """All lines were added."""
        self._flush()

    @property
    def answered(self) -> int:
        """Lines that would be run, or answered from the cache."""
        return self.lines - self.failed.total()

    def _ask(self, key: str, model: str, wanted: int) -> None:
        short = _short(key)
        if short in self._keys:
            self.repeated += 1
            self.wanted[model][wanted] -= 1
            return
        self._keys.add(short)
        self._requested.append((key, model, wanted))
        if len(self._requested) >= _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        there = set(self.look_up([key for key, _, _ in self._requested]))
        for key, model, wanted in self._requested:
            if key in there:
                self.known += 1
                self.wanted[model][wanted] -= 1
        self._requested.clear()


@dataclass(frozen=True, slots=True)
class History:
    """Figures of recent jobs by model: tokens and times, groups that ran side by side, and the longest group (ms)."""

    ran: Mapping[str, Sequence[Ran]]
    parallel: Mapping[str, float]
    longest: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Row[Any]]) -> "History":
        """From what the ledger says of jobs: payload, terminal event, and when their group ran."""
        ran: defaultdict[str, list[Ran]] = defaultdict(list)
        groups: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
        for row in rows:
            event = from_json(row.terminal)
            answer, stage = event.get("answer"), _stage(event)
            if answer is None or stage is None:
                continue
            job = decode_job("generation", bytes(row.payload))
            assert isinstance(job, GenerationJob)  # noqa: S101 - of that kind
            wrote = answer["usage"]["completion_tokens"]
            ran[answer["model"]].append(Ran(job.sampling.max_tokens, wrote, stage["ran_ms"] / stage["group_size"]))
            groups[answer["model"]].add((row.started_at, row.ended_at))
        return cls(
            ran,
            {model: side_by_side(sorted(found)) for model, found in groups.items()},
            {model: max(end - start for start, end in found) for model, found in groups.items()},
        )

    def tokens(self, model: str, wanted: Mapping[int, int]) -> Interval | None:
        """Return the tokens that lines will write; None if too little is known of the model."""
        return predicted(wanted, self.ran.get(model, ()), lambda each: each.wrote, most=1.0)

    def work(self, model: str, wanted: Mapping[int, int]) -> Interval | None:
        """The seconds that they keep as many workers busy as there were, if all have something to do to the end."""
        busy = predicted(wanted, self.ran.get(model, ()), lambda each: each.busy_ms)
        return None if busy is None else busy.over(1_000 * self.parallel.get(model, 1.0))

    def seconds(self, model: str, wanted: Mapping[int, int]) -> Interval | None:
        """The seconds by the clock until the last of them has ended."""
        work = self.work(model, wanted)
        if work is None:
            return None
        return work.ends_with(last_one(self.longest.get(model, 0.0) / 1_000, self.parallel.get(model, 1.0)))


def _stage(event: dict[str, Any]) -> dict[str, Any] | None:
    return next((stage for stage in event.get("stages", ()) if stage["stage"] == GENERATES), None)


def _short(text: str) -> int:
    """For sets of a million: a collision in 2^64 counts one line wrongly, in an estimate."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
