"""Applications: what resolving and rendering cost the plumbing, in turns within one run, and how soon a label holds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from bench.deployment import TWO_WORKERS, deployment
from bench.ends import Ends, Say
from bench.flow import ECHO, ECHO_TOKENS, in_turn, make_home, requests, run
from bench.report import Report, Row, percentile, report, row
from bench.services import services
from headrace_producers import Producer
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.applications.definition import Definition
from headrace_workers.features.applications.store import Applications

NAME = "applications"
_TENANT = "default"
_APPLICATION = "triage"
_SYSTEM = "You route a request to the team that answers it. Answer with the name of the team."
_TURNS = 5
_LEAST = 0.97


def bench(say: Say, *, quick: bool = False, embedded: bool = False, count: int | None = None) -> Report:
    """Five turns of 2,000 echo jobs (one of 100 when quick), plain and of an application; then 100 moves of a label
    (3 when quick).
    """
    count, turns = (count or 100, 1) if quick else (count or 2_000, _TURNS)
    rates: dict[bool, list[float]] = {False: [], True: []}
    with services(embedded=embedded) as there:
        home = make_home(there.folder, ECHO)
        with (
            deployment(there, home, [ECHO], TWO_WORKERS) as live,
            live.producer() as producer,
            Ends(live.kafka) as ends,
            _applications(live.ledger) as applications,
        ):
            for number in (1, 2):
                applications.push(_TENANT, _definition(number), "bench")
            applications.move(_TENANT, _APPLICATION, "production", 1, "bench")
            for resolved in rates:
                run(producer, ends, _jobs(min(count, 500), resolved), say)
            for turn in range(turns):
                for resolved in in_turn((False, True), turn):
                    kind = "jobs of an application" if resolved else "plain jobs"
                    say(f"turn {turn + 1} of {turns}: {count:,} {kind}")
                    rates[resolved].append(run(producer, ends, _jobs(count, resolved), say).rate)
            rows = _labels(applications, producer, ends, 3 if quick else 100, say)
    paired = [resolved / plain for resolved, plain in zip(rates[True], rates[False], strict=True)]
    return report(
        NAME,
        there.stack,
        [
            row("plain jobs with the same messages, median", median(rates[False]), "jobs/s"),
            row("jobs of an application, median", median(rates[True]), "jobs/s"),
            row("of an application to plain, median of the turns", median(paired), "ratio", at_least=_LEAST),
            *rows,
        ],
    )


def _definition(number: int) -> Definition:
    """Return a version with a condition, a loop and a filter."""
    notes = "{% for note in notes %}Note {{ loop.index }}: {{ note }}\n{% endfor %}"
    question = "{% if request %}{{ request | trim }}{% endif %}"
    return Definition.model_validate(
        {
            "name": _APPLICATION,
            "problem": {"purpose": f"Version {number}.", "owner": "bench", "task": "routing", "metric": "right"},
            "job": {"model": ECHO, "sampling": {"max_tokens": ECHO_TOKENS}},
            "messages": [{"role": "system", "text": _SYSTEM}, {"role": "user", "text": notes + question}],
            "variables": {"request": {"type": "text"}, "notes": {"type": "list", "default": []}},
        }
    )


def _jobs(count: int, resolved: bool) -> list[dict[str, Any]]:
    prompts = [request["prompt"].strip() for request in requests(count)]
    if resolved:
        return [{"application": _APPLICATION, "variables": {"request": prompt}, "lane": "batch"} for prompt in prompts]
    return [
        {
            "model": ECHO,
            "messages": [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": prompt}],
            "max_tokens": ECHO_TOKENS,
            "lane": "batch",
        }
        for prompt in prompts
    ]


def _labels(applications: Applications, producer: Producer, ends: Ends, moves: int, say: Say) -> list[Row]:
    """Move the label, and send one job after the other until one is answered by the version that it names now."""
    say(f"{moves} moves of a label, each followed by jobs until one uses it")
    took = []
    for place in range(moves):
        number = 2 - place % 2
        applications.move(_TENANT, _APPLICATION, "production", number, "bench")
        moved = time.monotonic()
        while True:
            sent = time.monotonic()
            if _version(producer, ends, say) == number:
                break
        took.append(1000 * (sent - moved))
    return [
        row(f"from the label's move to the first job that uses it, p50 of {moves}", percentile(took, 50), "ms"),
        row(f"from the label's move to the first job that uses it, p99 of {moves}", percentile(took, 99), "ms"),
    ]


def _version(producer: Producer, ends: Ends, say: Say) -> int:
    job_id = producer.generate(
        application=_APPLICATION, variables={"request": "Is the ferry late today?"}, lane="interactive"
    )
    result = ends.wait({job_id}, say, keep=True).values[job_id]
    return int(result.application.version)


@contextmanager
def _applications(url: str) -> Iterator[Applications]:
    ledger = Ledger.at(url)
    try:
        yield ledger.of(Applications)
    finally:
        ledger.close()
