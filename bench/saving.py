"""Saving: one stream of questions, as often repeated and as differently worded as people's, with a cache and without.

How often a question comes falls with its rank (Zipf); half of the repetitions use the first wording, the others any of
five. The stream is the same each time, in waves: what a wave asks for twice is being made while it is asked again.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from bench.burst import ONE_EACH, generations, tiers
from bench.deployment import deployment
from bench.ends import Ends, Say
from bench.flow import ECHO, SMOLLM2, make_home, run
from bench.report import Report, Row, report, row
from bench.services import Services, services
from bench.wrong_hits_pairs import Meaning, swapped
from headrace_schemas import Result
from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_schemas.recall import CacheMode

NAME = "saving"
JOBS = 2_000
_MEANINGS = 500  # that may be asked for; with Zipf's law about half of them are
_EXPONENT = 1.0
_FIRST_WORDING = 0.5  # the share of questions in the wording that most people use
_TOKENS = 16  # short answers, so that a run takes minutes; the longer, the more a hit saves
_WAVE = 100  # jobs that are asked for at once


@dataclass(frozen=True, slots=True)
class Asking:
    """A question of the stream: which meaning it is, and its words."""

    meaning: int
    text: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """How the stream went: seconds, and the result of each question."""

    seconds: float
    results: Sequence[Result]


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """2,000 jobs, three times: without a cache, with exact answers, with likeness. SmolLM2; the echo when quick."""
    count, model = (60, ECHO) if quick else (JOBS, SMOLLM2)
    asked = stream(swapped(), count)
    with services(embedded=embedded) as there:
        say("the models are made ready")
        found = {mode: _replayed(there, model, asked, mode, say) for mode in CacheMode}
        return report(NAME, there.stack, rows(model, asked, found))


def stream(meanings: Sequence[Meaning], count: int, seed: int = 0) -> list[Asking]:
    """So many questions, drawn: the r-th most frequent comes 1 / r as often as the first."""
    random = Random(seed)
    among = random.sample(range(len(meanings)), min(_MEANINGS, len(meanings)))
    weights = [1.0 / rank**_EXPONENT for rank in range(1, len(among) + 1)]
    asked = []
    for meaning in random.choices(among, weights, k=count):
        first, *others = meanings[meaning].wordings
        asked.append(Asking(meaning, first if random.random() < _FIRST_WORDING else random.choice(others)))
    return asked


def wrong(asked: Sequence[Asking], results: Sequence[Result]) -> int:
    """How many were served the answer to a question of another meaning."""
    meaning = {result.job_id: asking.meaning for asking, result in zip(asked, results, strict=True)}
    served = [
        (result, result.answer.recall.first_job)
        for result in results
        if result.answer is not None and result.answer.recall is not None and result.answer.recall.first_job is not None
    ]
    return sum(meaning[result.job_id] != meaning.get(first) for result, first in served)


def rows(model: str, asked: Sequence[Asking], found: Mapping[CacheMode, Replayed]) -> list[Row]:
    """What each way took, and what it saved, against none."""
    texts, meanings = len({asking.text for asking in asked}), len({asking.meaning for asking in asked})
    of = f"{model}, {len(asked):,} jobs about {meanings:,} questions in {texts:,} wordings"
    bare = found[CacheMode.OFF]
    made = []
    for mode, way in found.items():
        name = f"cache {mode.value}"
        made += [
            row(f"{name}: rate, {of}", len(asked) / way.seconds, "jobs/s"),
            row(f"{name}: jobs for which the model ran", generations(way.results), "jobs"),
            row(f"{name}: tokens written", sum(map(_tokens, way.results)), "tokens"),
        ]
        if mode is CacheMode.OFF:
            continue
        told = [
            result.answer.recall
            for result in way.results
            if result.answer is not None and result.answer.recall is not None
        ]
        made += [
            row(f"{name}: rate to that without", bare.seconds / way.seconds, "ratio", at_least=1.0),
            row(f"{name}: tokens saved, as the receipts say", sum(recall.saved_tokens for recall in told), "tokens"),
            row(f"{name}: seconds of the model saved, as the receipts say",
                sum(recall.saved_ms for recall in told) / 1000, "s"),
            row(f"{name}: served the answer to another question", wrong(asked, way.results), "jobs"),
            *(row(f"{name}: from the tier {tier}", number, "jobs") for tier, number in tiers(way.results).items()),
        ]  # fmt: skip
    return made


def _replayed(there: Services, model: str, asked: Sequence[Asking], mode: CacheMode, say: Say) -> Replayed:
    """The stream on a new ledger."""
    home = make_home(there.folder, model, DEFAULT_EMBEDDER)
    seconds, results = 0.0, []
    with deployment(there, home, [model], ONE_EACH) as live, live.producer() as producer, Ends(live.kafka) as ends:
        run(producer, ends, [_job(model, "Is anybody there?", CacheMode.OFF)], say)
        say(f"cache {mode.value}: {len(asked):,} jobs")
        for wave in _waves(asked):
            flow = run(producer, ends, [_job(model, asking.text, mode) for asking in wave], say, keep=True)
            seconds += flow.ended
            results += [flow.results[job_id] for job_id in flow.job_ids]
    return Replayed(seconds, results)


def _waves(asked: Sequence[Asking]) -> Iterator[Sequence[Asking]]:
    for start in itertools.count(0, _WAVE):
        if not (wave := asked[start : start + _WAVE]):
            return
        yield wave


def _job(model: str, text: str, mode: CacheMode) -> dict[str, Any]:
    return {"model": model, "prompt": text, "max_tokens": _TOKENS, "cache": mode.value}


def _tokens(result: Result) -> int:
    return 0 if result.answer is None else result.answer.usage.completion_tokens
