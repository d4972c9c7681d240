"""Forecasts of files as batches: wrong lines, tokens to read, and cost."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any, Final

from pydantic_core import from_json
from sqlalchemy import Row

from headrace_schemas import GenerationJob
from headrace_schemas.codec import decode_job
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.recall import CacheMode
from headrace_workers.cli.durations import show_ms
from headrace_workers.core.admission import AdmissionParts, admission_rules
from headrace_workers.core.environment import EnvironmentSettings
from headrace_workers.core.json_lines import read_on
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.text_file import HEAD, NotReadable, check_beginning, text_of
from headrace_workers.features.batches.commands.batch_files import Deployment
from headrace_workers.features.batches.lines import LONGEST_LINE, Admit, Terms, admitted
from headrace_workers.features.batches.new_batch import BatchOptions
from headrace_workers.features.batches.store.batches import DUPLICATE
from headrace_workers.features.batches.store.feeding import NewLine
from headrace_workers.features.cache.semantic.scope import key_of
from headrace_workers.features.cache.settings import CacheSettings
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.generation.store.model_generations import model_versions
from headrace_workers.models.embedders.load_embedder import ServedEmbedder
from headrace_workers.models.engines.counting import CountingModels
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.bridge.record_admission import RecordAdmission
from headrace_workers.runtime.settings import ModelSettings, home_of

# Cost estimates for lines that have not run, from similar ones that have: sums with prediction intervals. Pure.
#
# A line that may write w tokens writes, or keeps a worker busy for, some share of w; shares of lines with about the
# same w are alike. Of n such lines the sum is predicted from m that ran: its variance is that of n more draws and of
# the mean of m (Student's prediction interval). Shares are skewed, so the intervals are a little wider than their name
# says.

LEVEL = 0.90  # what is promised
_NOMINAL = 0.96  # what is computed
_ENOUGH = 20  # lines of a kind that ran, before they speak for that kind


@dataclass(frozen=True, slots=True)
class Ran:
    """A line that ran: the tokens that it might write, the tokens that it wrote, and how long it kept a worker busy
    (ms)."""

    wanted: int
    wrote: int
    busy_ms: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A sum: its expected value, and the bounds that hold it in nine of ten cases."""

    expected: float
    low: float
    high: float

    def over(self, parts: float) -> "Interval":
        """The sum, shared among so many."""
        return Interval(self.expected / parts, self.low / parts, self.high / parts)

    def ends_with(self, last: float) -> "Interval":
        """With an end that may take so long more, or nothing."""
        return Interval(self.expected + last / 2, self.low, self.high + last)


def predicted(
    wanted: Mapping[int, int], ran: Sequence[Ran], of: Callable[[Ran], float], most: float | None = None
) -> Interval | None:
    """Return the total of `of` over the lines, estimated from the lines that `ran`; None if too few ran. `wanted`
    counts lines by the tokens that they may write. No line comes to more than `most` times its tokens.

    If too few lines of a kind ran, its lines may be as long as others, or the same share of their limit: the interval
    holds both.
    """
    if len(ran) < _ENOUGH:
        return None
    by_kind: defaultdict[int, list[Ran]] = defaultdict(list)
    for item in ran:
        by_kind[_kind(item.wanted)].append(item)
    wanted_of: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for tokens, lines in wanted.items():
        if lines > 0:
            wanted_of[_kind(tokens)].append((tokens, lines))
    expected = variance = unsure = 0.0
    fewest = len(ran)
    for kind, lines_of in wanted_of.items():
        like = by_kind[kind]
        mean, spread = _sum(lines_of, like if len(like) >= _ENOUGH else ran, of)
        if len(like) < _ENOUGH:
            other, other_spread = _sum_as_long(lines_of, ran, of, most)
            unsure += abs(mean - other) / 2
            mean, spread = (mean + other) / 2, max(spread, other_spread)
        expected, variance = expected + mean, variance + spread
        fewest = min(fewest, len(like) if len(like) >= _ENOUGH else len(ran))
    margin = unsure + _student(fewest - 1) * math.sqrt(variance)
    ceiling = math.inf if most is None else most * sum(tokens * lines for tokens, lines in wanted.items())
    low = max(0.0, expected - margin)
    return Interval(min(expected, ceiling), min(low, ceiling), min(expected + margin, ceiling))


def _sum(wanted: Sequence[tuple[int, int]], like: Sequence[Ran], of: Callable[[Ran], float]) -> tuple[float, float]:
    """Mean and variance of the sum of lines that take the same share of what they may."""
    mean, spread = _moments([of(ran) / ran.wanted for ran in like])
    total = sum(tokens * lines for tokens, lines in wanted)
    squares = sum(tokens**2 * lines for tokens, lines in wanted)
    return total * mean, spread * (squares + total**2 / len(like))


def _sum_as_long(
    wanted: Sequence[tuple[int, int]], ran: Sequence[Ran], of: Callable[[Ran], float], most: float | None
) -> tuple[float, float]:
    """The same of lines that take as much as others, if they may."""
    total = variance = 0.0
    for tokens, lines in wanted:
        mean, spread = _moments([min(of(item), math.inf if most is None else most * tokens) for item in ran])
        total += lines * mean
        variance += spread * (lines + lines**2 / len(ran))
    return total, variance


def _moments(values: Sequence[float]) -> tuple[float, float]:
    mean = fmean(values)
    return mean, sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def side_by_side(intervals: Sequence[tuple[int, int]]) -> float:
    """Return the average number of groups that ran at a time: `intervals` are (start, end), once a group."""
    total = sum(end - start for start, end in intervals)
    covered, until = 0, -1
    for start, end in sorted(intervals):
        covered += max(0, end - max(start, until))
        until = max(until, end)
    return max(1.0, total / covered) if covered else 1.0


def last_one(longest: float, parallel: float) -> float:
    """Return how long at most other workers may idle while the last group runs: (1 - 1/p) of the longest, which holds
    for every order in which a free worker takes the next (Graham 1966).
    """
    return (1 - 1 / parallel) * longest


def _kind(wanted: int) -> int:
    """As groups are made: longest answers of about the same length."""
    return max(16, 1 << (wanted - 1).bit_length())


def _student(freedom: int) -> float:
    """The two-sided quantile of Student's distribution (Cornish-Fisher, one term)."""
    z = NormalDist().inv_cdf((1 + _NOMINAL) / 2)
    return z + (z**3 + z) / (4 * freedom)


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
        return predicted(wanted, self.ran.get(model, ()), lambda ran: ran.wrote, most=1.0)

    def work(self, model: str, wanted: Mapping[int, int]) -> Interval | None:
        """The seconds that they keep as many workers busy as there were, if all have something to do to the end."""
        busy = predicted(wanted, self.ran.get(model, ()), lambda ran: ran.busy_ms)
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


_HISTORY = 5_000  # jobs that ended last


class Forecasting:
    """The reader of files as a bridge would read them, with the models of this home. It writes nothing."""

    def __init__(self, here: Deployment) -> None:
        self._ledger = here.ledger
        self._registry = Registry(home_of())
        self._cache = CacheSettings.from_env().cache
        self._history = History.of(here.batches.lately(GENERATES, _HISTORY))

    def of(self, path: Path, shown: str, wishes: BatchOptions) -> Forecast:
        """Return the forecast of a file. Raise ConfigurationError or NotReadable."""
        answers = self._ledger.of(Answers)
        version = model_versions(self._registry, self._ledger)
        forecast = Forecast(self._cache, version, lambda keys: answers.exact(keys) if keys else ())
        until = self._ledger.now() + int(wishes.window * 1000)
        terms = Terms("batch_dry-run", 0, wishes.tenant, until, wishes.defaults, wishes.endpoint)
        admit = self._admit()
        try:
            with path.open("rb", buffering=0) as raw, text_of(raw) as text:
                check_beginning(text.read(HEAD + 1))
            with path.open("rb", buffering=0) as raw, text_of(raw) as text:
                for read in read_on(text, LONGEST_LINE):
                    if not read.is_empty:
                        forecast.add(admitted(read, terms, admit))
        except OSError as error:
            raise ConfigurationError(f"{shown} cannot be read: {error.strerror}") from error
        except NotReadable as error:
            raise error.of(shown) from None
        forecast.end()
        return forecast

    def _admit(self) -> Admit:
        parts = AdmissionParts(
            ledger=self._ledger,
            pipeline=Pipeline(judge_model=ModelSettings.from_env().judge_model),
            models=CountingModels(home_of(), self._registry),
            embedder=ServedEmbedder(home_of(), ModelSettings.from_env().embedder),
            settings=EnvironmentSettings(),
            home=home_of(),
        )
        return RecordAdmission(admission_rules(parts), self._ledger.now()).admit

    def lines(self, found: Forecast, max_tokens: int | None) -> Sequence[str]:
        """Return the forecast for people, a line each."""
        sentences = [f"{found.lines:,} lines, of which {found.answered:,} would be run"]
        sentences += [f"  {count:,} would not: {code}" for code, count in found.failed.most_common()]
        sentences += [f"  line {number}: {code}: {reason}" for number, code, reason in found.problems]
        if found.known or found.repeated:
            sentences.append(
                f"the cache: {found.known:,} are answered already, {found.repeated:,} ask for the same as another"
            )
        sentences.append(f"tokens: {found.prompt_tokens:,} to be read, {found.most_tokens:,} in all at most")
        for model, wanted in found.wanted.items():
            lines = sum(wanted.values())
            tokens, seconds = self._history.tokens(model, wanted), self._history.seconds(model, wanted)
            if tokens is None or seconds is None:
                sentences.append(
                    f"{model}: {lines:,} lines; too few of its answers are known to tell what they will take"
                )
                continue
            sentences.append(
                f"{model}: {lines:,} lines will write {tokens.expected:,.0f} tokens ({tokens.low:,.0f} to "
                f"{tokens.high:,.0f}) in {show_ms(seconds.expected * 1000)} ({show_ms(seconds.low * 1000)} to "
                f"{show_ms(seconds.high * 1000)}), in {LEVEL:.0%} of cases"
            )
        if max_tokens is not None and found.most_tokens > max_tokens:
            sentences.append(f"--max-tokens {max_tokens:,} may end before the last line does")
        return sentences

    def to_json(self, found: Forecast) -> dict[str, Any]:
        """Return the forecast for programs."""
        models = {
            model: {
                "lines": sum(wanted.values()),
                "completion_tokens": _interval(self._history.tokens(model, wanted)),
                "seconds": _interval(self._history.seconds(model, wanted)),
            }
            for model, wanted in found.wanted.items()
        }
        return {
            "lines": found.lines,
            "would_run": found.answered,
            "errors": dict(found.failed),
            "first_errors": [{"line": line, "code": code, "message": why} for line, code, why in found.problems],
            "prompt_tokens": found.prompt_tokens,
            "most_tokens": found.most_tokens,
            "cached": found.known,
            "repeated": found.repeated,
            "models": models,
            "level": LEVEL,
        }


def _interval(found: Interval | None) -> dict[str, float] | None:
    return None if found is None else {"expected": found.expected, "low": found.low, "high": found.high}
