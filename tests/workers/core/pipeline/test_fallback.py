"""Which model answers next: the table of the page about outages, row by row, and the edges of each row."""

import re
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from headrace_schemas import Category, GenerationJob, HeadraceError
from headrace_schemas.errors import PromptTooLong
from headrace_schemas.job import Lane
from headrace_workers.core.ledger.outcome import ProviderBusy
from headrace_workers.core.pipeline.chain import FailedAttempt, ProviderRefuses, attempt_of, decide_next
from headrace_workers.models.engines.remote.failures import (
    AnswerLost,
    ProviderRejects,
    RemoteFailed,
    failure_of_status,
)

PAGE = Path(__file__).parents[4] / "docs/how-to/survive-outages.md"
CHAIN = ("a", "b")
JOB = GenerationJob(model=CHAIN, prompt="p")
WILLING = GenerationJob(model=CHAIN, prompt="p", fallback_on_refusal=True)


def answered(status, **headers):
    return failure_of_status(status, headers, None)


SHUT = RemoteFailed("it is not asked")
LOST = [RemoteFailed("no connection"), AnswerLost("no answer began"), answered(502), answered(401), AnswerLost("cut")]
# Each row of the page: what happened, to jobs with the usual wishes, and to jobs with the wish that the row names.
ROWS = {
    "no connection, a time limit, another 5xx, 401, an answer that was cut off": (LOST, []),
    "500": ([FailedAttempt(model="a", again=True)], []),
    "429 or 503 without `Retry-After`, or with one later than 10 seconds or this attempt's share of the deadline": (
        [answered(429), answered(503), answered(429, **{"retry-after": "10"})],
        [],
    ),
    "429 or 503 with an earlier `Retry-After`": ([answered(429, **{"retry-after": "9"})], []),
    "the model's breaker is open": ([(SHUT, 10.0)], []),
    "no worker holds the model for 5 seconds": ([(SHUT, inf)], []),
    "the prompt is too long for this model": ([PromptTooLong("9,000 tokens")], []),
    "the request is wrong (400) or the certificate is not trusted": ([answered(400), ProviderRejects("bad")], []),
    "the provider's policy withheld the answer": (
        [(ProviderRefuses("filtered"), JOB)],
        [(ProviderRefuses("filtered"), WILLING)],
    ),
    "the answer is below `min_quality`": ([], [FailedAttempt(model="a")]),
}
# What follows: for interactive jobs, for batch work, and with the wish that the row names.
FOLLOWS = {
    "the next model, at once": ("next", "next", None),
    "the same model once more; then the next model": ("retry", "retry", None),
    "the next model": ("next", "next", None),
    "the next model, at once; batch work waits": ("next", "wait", None),
    "the same model after that time; after 10 seconds in all, the next model": ("wait", "wait", None),
    "the next model; batch work waits": ("next", "wait", None),
    "the job is dead": ("dead", "dead", None),
    'the job is dead; with `"fallback_on_refusal": true` the next model': ("dead", "dead", "next"),
    'with `"then": "next"` the next model': (None, None, "next"),
}


def table():
    """The rows of the page: what happened, and what follows."""
    section = PAGE.read_text().split("## What moves a job to the next model")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) +\| (.+?) +\|$", section, re.MULTILINE)
    return [row for row in rows if row[0] != "what happened"]


def action(case, lane, seconds_left):
    error, more = case if isinstance(case, tuple) else (case, None)
    job = more if isinstance(more, GenerationJob) else JOB
    attempt = error if isinstance(error, FailedAttempt) else attempt_of(error, "a", job)
    if isinstance(more, float):
        attempt = replace(attempt, opens_in=more)
    return decide_next(attempt, CHAIN, lane, seconds_left).action


def test_every_row_of_the_page_is_known() -> None:
    assert {happened for happened, _ in table()} == set(ROWS)


@pytest.mark.parametrize(("happened", "follows"), table())
def test_the_decision_is_as_the_page_says(happened: str, follows: str) -> None:
    interactive, batch, wished = FOLLOWS[follows]
    usual, wish = ROWS[happened]
    for case in usual:
        assert action(case, Lane.INTERACTIVE, 60) == interactive, case
        assert action(case, Lane.BATCH, 3_600) == action(case, Lane.BATCH, None) == batch, case
    for case in wish:
        assert action(case, Lane.INTERACTIVE, 60) == action(case, Lane.BATCH, 3_600) == wished, case


@pytest.mark.parametrize(
    ("error", "opens_in"), [(ProviderBusy("429", after=40), 0.0), (ProviderBusy("503"), 0.0), (SHUT, 10.0)]
)
def test_batch_work_waits_until_its_deadline_is_near(error: HeadraceError, opens_in: float) -> None:
    for left, expected in ((601, "wait"), (60, "next")):
        attempt = replace(attempt_of(error, "a", JOB), opens_in=opens_in)
        assert decide_next(attempt, CHAIN, Lane.BATCH, left).action == expected


@pytest.mark.parametrize(("lane", "patience"), [(Lane.INTERACTIVE, 10), (Lane.BATCH, 60)])
def test_a_step_that_another_model_may_answer_waits_for_a_bounded_time_in_all(lane: Lane, patience: float) -> None:
    def action(waited: float, chain: tuple[str, ...]) -> str:
        attempt = attempt_of(ProviderBusy("429", after=4), "a", JOB, waited=waited)
        return decide_next(attempt, chain, lane, 500).action

    assert [action(waited, CHAIN) for waited in (0, patience - 5, patience - 4)] == ["wait", "wait", "next"]
    assert action(patience, ("a",)) == "wait"


def test_a_model_is_asked_once_more_only_where_that_can_help() -> None:
    again = FailedAttempt(model="a", number=1, most=3, delay=1.0, again=True)
    decisions = [
        decide_next(again, CHAIN, Lane.INTERACTIVE, 60),
        decide_next(replace(again, most=1), CHAIN, Lane.INTERACTIVE, 60),
        decide_next(again, CHAIN, Lane.INTERACTIVE, 2.0),
        decide_next(again, CHAIN, Lane.INTERACTIVE, 60, avoided=("a",)),
    ]
    assert [(decision.action, decision.model) for decision in decisions] == [("retry", None), *[("next", "b")] * 3]


def test_behind_the_last_model_the_retry_schedule_begins() -> None:
    last = FailedAttempt(model="b", number=1, most=3, delay=2.0)
    assert decide_next(last, CHAIN, Lane.INTERACTIVE, None).action == "retry"
    assert decide_next(replace(last, opens_in=10.0), CHAIN, Lane.INTERACTIVE, None).action == "wait"
    late = decide_next(last, CHAIN, Lane.INTERACTIVE, 2.0)
    assert (late.action, late.category) == ("dead", Category.EXPIRED)
    over = decide_next(FailedAttempt(model="b", number=3, most=3), CHAIN, Lane.INTERACTIVE, None)
    assert (over.action, over.category) == ("dead", Category.REROUTABLE)
