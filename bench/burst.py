"""Bursts: how often the model runs for one question asked two hundred times, and how soon a hit is there; and that
who asks for neither cache nor passages pays nothing for them.
"""

import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from statistics import mean
from typing import Any

from bench.deployment import TWO_WORKERS, deployment
from bench.ends import Ends, Say
from bench.flow import ECHO, ECHO_TOKENS, SMOLLM2, echo_jobs, in_turn, make_home, requests, run
from bench.report import Report, Row, percentile, report, row, skipped
from bench.services import Services, services
from headrace_producers import Producer
from headrace_schemas import Result
from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_schemas.recall import CacheTier

NAME = "burst"
# Two recall workers and two that make answers: only the ledger can keep them from making one twice.
WORKERS = {
    "recall": ["--role", "recall"],
    "recall-too": ["--role", "recall"],
    "generate": ["--role", "generate"],
    "generate-too": ["--role", "generate"],
    "moderate-judge": ["--role", "moderate", "--role", "judge"],
}
ONE_EACH = {name: WORKERS[name] for name in ("recall", "generate", "moderate-judge")}
_TOKENS = 64
_FOLLOWED = 1.0  # s after which every recall worker knows an answer: twice the pause between two looks

_OPENINGS = (
    "How do I {}", "How can I {}", "What is the best way to {}", "Could you tell me how to {}", "Tell me how to {}",
    "Please explain how to {}", "What are the steps to {}", "I would like to know how to {}", "How does one {}",
    "What must I do to {}",
)  # fmt: skip
_DEEDS = (
    "reset my password", "reset the password of my account", "reset my account's password",
    "reset the password for my account", "get a new password",
)  # fmt: skip
_ENDS = ("?", ", please?", "? Thank you.", "? Thanks!")


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """200 jobs at once of each sort, with the echo; hits beside SmolLM2's own answers, one at a time; and 3,000 echo
    jobs that ask for nothing, six times beside a recall worker and six times without."""
    count, turns, plain, plain_turns = (40, 2, 100, 1) if quick else (200, 20, 3_000, 6)
    with services(embedded=embedded) as there:
        say("the models are made ready")
        rows = _bursts(there, count, say)
        rows += _hits(there, turns, say)
        rows += _untouched(there, plain, plain_turns, say)
        return report(NAME, there.stack, rows)


def paraphrases(count: int) -> list[str]:
    """One question in so many wordings, 200 at most: those that are near to each other do not come together."""
    texts = [opening.format(deed) + end for opening, deed, end in itertools.product(_OPENINGS, _DEEDS, _ENDS)]
    step = 67  # has no divisor in common with 200
    return [texts[number * step % len(texts)] for number in range(count)]


def generations(results: Iterable[Result]) -> int:
    """How many of these results a model ran for: their receipts name the stage."""
    return sum(any(stage.stage == "generate" for stage in result.stages) for result in results)


def tiers(results: Iterable[Result]) -> dict[str, int]:
    """How many results came from where."""
    counter = Counter(_tier(result) for result in results)
    return {tier.value: counter[tier] for tier in CacheTier}


def _bursts(there: Services, count: int, say: Say) -> list[Row]:
    home = make_home(there.folder, ECHO, DEFAULT_EMBEDDER)
    texts = paraphrases(count)
    rows = []
    with deployment(there, home, [ECHO], WORKERS) as live, live.producer() as producer, Ends(live.kafka) as ends:
        run(producer, ends, [_echo("Is anybody there?", "off")] * 4, say)
        say(f"{count} identical jobs at once")
        same = run(producer, ends, [_echo("Is the ferry late today?", "exact")] * count, say, keep=True).results
        rows += _counted(f"{count} identical jobs", same, one=True)
        say(f"{count} jobs at once that ask for the same in other words")
        # A criterion is no part of what is asked, and a limit is: the second burst shall not see the first.
        alike = run(producer, ends, [_echo(text, "semantic") for text in texts], say, keep=True).results
        rows += _counted(f"{count} paraphrases at once", alike)
        first, *others = [_echo(text, "semantic", max_tokens=ECHO_TOKENS + 1) for text in texts]
        run(producer, ends, [first], say)
        time.sleep(_FOLLOWED)
        say("one, and when that is answered the others")
        after = run(producer, ends, others, say, keep=True).results
        rows += _counted(f"{count - 1} paraphrases of a question that was answered", after)
    return rows


def _hits(there: Services, turns: int, say: Say) -> list[Row]:
    home = make_home(there.folder, SMOLLM2, DEFAULT_EMBEDDER)
    took: dict[str, list[float]] = {"generated": [], "exact": [], "semantic": []}
    missed = 0
    with deployment(there, home, [SMOLLM2], ONE_EACH) as live, live.producer() as producer, Ends(live.kafka) as ends:
        _timed(producer, ends, "Is anybody there?", "off", say)
        for turn, request in enumerate(requests(turns)):
            prompt = request["prompt"]
            say(f"turn {turn + 1} of {turns}: generated, then from the cache")
            seconds, _ = _timed(producer, ends, prompt, "off", say)
            took["generated"].append(seconds)
            _timed(producer, ends, prompt, "semantic", say)
            time.sleep(_FOLLOWED)
            for text, tier in ((prompt, CacheTier.EXACT), (f"Tell me: {prompt}", CacheTier.SEMANTIC)):
                seconds, result = _timed(producer, ends, text, "semantic", say)
                if _tier(result) is tier:
                    took[tier.value].append(seconds)
                else:
                    missed += 1
    rows = [row(f"SmolLM2, {_TOKENS} tokens at most, no cache, p50 of {turns}",
                percentile(took["generated"], 50), "s")]  # fmt: skip
    for name in ("exact", "semantic"):
        if not took[name]:
            rows.append(skipped(f"{name} hit", "there was none"))
            continue
        rows += [
            row(f"{name} hit, from publishing to its result, p50 of {len(took[name])}",
                1000 * percentile(took[name], 50), "ms"),
            row(f"{name} hit to the same job generated, p50",
                percentile(took[name], 50) / percentile(took["generated"], 50), "ratio"),
        ]  # fmt: skip
    return [*rows, row("look-ups that should have hit, and did not", missed, "jobs")]


def _untouched(there: Services, count: int, turns: int, say: Say) -> list[Row]:
    """Jobs that ask for no cache, in turns beside a recall worker and with that one standing still."""
    home = make_home(there.folder, ECHO, DEFAULT_EMBEDDER)
    workers = {"recall": WORKERS["recall"], **TWO_WORKERS}
    rates: dict[str, list[float]] = {"beside a recall worker": [], "without": []}
    jobs = [{**job, "cache": "off"} for job in echo_jobs(count)]
    with deployment(there, home, [ECHO], workers) as live, live.producer() as producer, Ends(live.kafka) as ends:
        run(producer, ends, jobs[:500], say)
        for turn in range(turns):
            say(f"turn {turn + 1} of {turns}: {count:,} jobs that ask for no cache")
            for name in in_turn(sorted(rates), turn):  # neither is always the later one, on a larger ledger
                with _still(live.pids["recall"]) if name == "without" else nullcontext():
                    rates[name].append(run(producer, ends, jobs, say).rate)
    of = f"{count:,} echo jobs with cache off"
    beside, without = (mean(found) for found in rates.values())
    return [
        *(row(f"{of}, {name}, mean of {turns}", mean(found), "jobs/s") for name, found in rates.items()),
        row(f"{of}: beside a recall worker to without", beside / without, "ratio", at_least=0.97),
    ]


@contextmanager
def _still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _echo(text: str, cache: str, max_tokens: int = ECHO_TOKENS) -> dict[str, Any]:
    return {"model": ECHO, "prompt": text, "max_tokens": max_tokens, "cache": cache}


def _counted(name: str, results: Mapping[str, Any], *, one: bool = False) -> list[Row]:
    found = list(results.values())
    rows = [row(f"{name}: generations", generations(found), "jobs", at_most=1 if one else None)]
    return rows + [row(f"{name}: from the tier {tier}", number, "jobs") for tier, number in tiers(found).items()]


def _tier(result: Result) -> CacheTier:
    told = None if result.answer is None else result.answer.recall
    return CacheTier.NONE if told is None else told.tier


def _timed(producer: Producer, ends: Ends, text: str, cache: str, say: Say) -> tuple[float, Result]:
    """Seconds from the call that sends the job until its result is decoded, and that."""
    begun = time.monotonic()
    job_id = producer.generate(model=SMOLLM2, prompt=text, max_tokens=_TOKENS, cache=cache, lane="interactive")
    result = ends.wait({job_id}, say, keep=True).values[job_id]
    return time.monotonic() - begun, result
