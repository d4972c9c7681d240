"""The stage that decides: one call of the model, one outcome a job, and what is accounted for it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import update
from tests.workers.core.ledger.budget_deployment import CENT, Given
from tests.workers.core.ledger.test_work import settings
from tests.workers.core.pipeline.claimed import outcome_settled
from tests.workers.ledger_jobs import claim_one, sqlite_ledger, take_in
from tests.workers.runtime.bridge.records import RULES, Models, decision, generation

from headrace_schemas import Category, DecisionJob, Decisions, HeadraceError, Message, Predicate, Result
from headrace_schemas.codec import decode_value
from headrace_schemas.errors import PromptTooLong
from headrace_schemas.events import MADE_BY_MODELS
from headrace_workers.core.admission import AdmissionRules
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.accounting import LAG_MS
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Dead, Done, Ended, Retry, Unanswered
from headrace_workers.core.pipeline.chain import Link, pin, tried_in
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import ReadBytes
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.features.decisions.admission import QuestionCheck
from headrace_workers.features.decisions.deciding import Decided, DecisionRequest, QuestionScores
from headrace_workers.features.decisions.stage import decide, most_tokens
from headrace_workers.features.decisions.temperatures import Calibration
from headrace_workers.features.spend.store import Usage
from headrace_workers.models.engines.remote.failures import ProviderRefuses, RemoteFailed
from headrace_workers.models.generator import Abstained, GivenUp, RemoteSource
from headrace_workers.runtime.worker.work import Work

JOB_ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"
REMOTE = RemoteSource(provider="far", model="far-1", cached_tokens=2)


class Decider:
    """A generator that decides by itself, and gives these answers, or is as sure of everything."""

    quantization, context_length, provider = "int8", 2048, None

    def __init__(self, *answers: Decided | HeadraceError, alias: str = "echo") -> None:
        self.alias = alias
        self.answers = answers
        self.requests: list[DecisionRequest] = []

    @property
    def urgent(self) -> "Decider":
        return self

    def decide(self, requests: Sequence[DecisionRequest]) -> list[Decided | HeadraceError]:
        self.requests += requests
        return list(self.answers) or [decided(len(request.questions)) for request in requests]


def decided(questions: int = 1, remote: RemoteSource | None = None) -> Decided:
    return Decided((QuestionScores((0.75, 0.25), mass=0.5),) * questions, 7, 3, remote)


def task(job: DecisionJob, **fields: Any) -> Task:
    return Task(JOB_ID, job, job, datetime(2026, 1, 1, tzinfo=UTC), **fields)


def one(job: DecisionJob, answer: Decided | HeadraceError, **fields: Any) -> Any:
    asked = task(job, **fields)
    (outcome,) = decide([asked], generator=Decider(answer))  # type: ignore[arg-type]
    return outcome_settled(outcome, asked, "decide") if isinstance(outcome, Unanswered) else outcome


def decisions_of(outcome: object) -> Decisions:
    assert isinstance(outcome, Ended)
    assert isinstance(outcome.event, Result)
    assert outcome.event.decisions is not None
    return outcome.event.decisions


def test_four_hundred_questions_are_answered_in_their_order() -> None:
    names = [f"q{place}" for place in range(400)]
    asked = tuple(Predicate(type="predicate", name=name, instructions="Is it?") for name in names)
    decisions = decisions_of(one(decision(questions=asked), decided(400)))
    assert [answer.name for answer in decisions.answers] == names
    assert (decisions.model, decisions.usage.prompt_tokens, decisions.usage.completion_tokens) == ("echo", 7, 3)


def test_an_answer_says_how_it_was_calibrated_and_what_the_model_said() -> None:
    scores = QuestionScores(
        (0.4, 0.6), 0.5, calibrated=True, calibration=Calibration(2.0, (0.5, -0.5)), raw=(0.25, 0.75)
    )
    (found,) = decisions_of(one(decision(), Decided((scores,), 7, 3))).answers
    assert found.calibration is not None
    assert (found.calibration.temperature, found.calibration.bias) == (2.0, (0.5, -0.5))
    assert found.calibration.raw == (0.25, 0.75)
    (plain,) = decisions_of(one(decision(), decided())).answers
    assert plain.calibration is None


def test_the_next_model_answers_for_one_that_failed_and_the_receipt_tells() -> None:
    job = decision(model=("echo", "other"))
    chain = pin([Link("echo", 9), Link("other", 12)])
    retry = one(job, RemoteFailed("it could not be reached"), context=chain)
    assert isinstance(retry, Retry)
    assert retry.category is Category.REROUTABLE
    assert [attempt.model for attempt in tried_in(retry.context)] == ["echo"]
    answering = Decider(decided(remote=REMOTE), alias="other")
    (end,) = decide([task(job, context={**chain, **retry.context})], generator=answering)  # type: ignore[arg-type]
    decisions = decisions_of(end)
    assert [attempt.model for attempt in decisions.attempts] == ["echo", "other"]
    assert decisions.because is not None
    assert decisions.because.startswith("other answered in place of echo (reroutable: it could not be reached)")
    assert (decisions.provider, decisions.returned_model, decisions.usage.cached_tokens) == ("far", "far-1", 2)
    assert isinstance(end, Ended)
    assert isinstance(end.event, Result)
    assert end.event.seen_by == ("far",)


def test_a_question_that_the_last_model_cannot_be_asked_is_refused_and_the_others_are_answered() -> None:
    asked = tuple(Predicate(type="predicate", name=name, instructions="Is it?") for name in ("short", "long"))
    answers = (*decided().answers, PromptTooLong("it has 9,000 tokens"))
    decisions = decisions_of(one(decision(questions=asked), Decided(answers, 7, 3)))
    assert [(answer.name, answer.type) for answer in decisions.answers] == [("short", "predicate"), ("long", "refusal")]
    chain = pin([Link("echo", 9), Link("other", 12)])
    retry = one(decision(questions=asked, model=("echo", "other")), Decided(answers, 7, 3), context=chain)
    assert isinstance(retry, Retry)
    assert retry.category is Category.REROUTABLE


@pytest.mark.parametrize(("asks", "outcome"), [(False, "Dead"), (True, "Retry")])
def test_a_refusal_of_a_provider_moves_a_job_that_asks_for_it(asks: bool, outcome: str) -> None:
    job = decision(model=("echo", "other"), fallback_on_refusal=asks)
    assert type(one(job, ProviderRefuses("filtered"))).__name__ == outcome


def test_a_cancelled_job_is_let_go_of_and_an_attempt_has_its_share_of_the_deadline() -> None:
    model, now = Decider(), [0.0]
    job = decision(model=("echo", "other"))
    decide(
        [task(job, seconds_left=10.0), task(decision())],
        generator=model,  # type: ignore[arg-type]
        cancelled=lambda job_id: now[0] > 100,
        monotonic=lambda: now[0],
    )
    first, second = model.requests
    assert (first.at_most, second.at_most) == (5.0, None)
    assert [first.given_up(), second.given_up()] == [False, False]
    now[0] = 6.0
    assert [first.given_up(), second.given_up()] == [True, False]
    now[0] = 101.0
    assert second.given_up()
    late = one(job, GivenUp(), seconds_left=-1.0)
    assert isinstance(late, Dead)
    assert late.category is Category.EXPIRED


def test_the_next_model_answers_for_one_that_abstains_and_the_last_one_refuses() -> None:
    unsure = Abstained("it is not sure enough", prompt_tokens=5)
    on = one(decision(model=("echo", "other")), unsure)
    assert isinstance(on, Done)
    assert (on.to, on.model, on.usage and on.usage.prompt_tokens) == ("decide", "other", 5)
    decisions = decisions_of(one(decision(questions=decision().questions * 2), unsure))
    assert [answer.type for answer in decisions.answers] == ["refusal", "refusal"]
    assert decisions.usage.prompt_tokens == 5


def test_one_job_that_cannot_be_answered_spoils_no_other() -> None:
    short = Decided((), 7, 3)
    tasks = [task(decision()), task(decision())]
    broken, whole = decide(tasks, generator=Decider(short, decided()))  # type: ignore[arg-type]
    assert isinstance(broken, Retry)
    assert isinstance(whole, Ended)


# -- in the pipeline and the ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with sqlite_ledger(tmp_path) as found:
        yield found


PIPELINE = Pipeline(prices=Given(echo=CENT, other=CENT))
RULES_WITH_PRICES = AdmissionRules(RULES.models, PIPELINE, RULES.checks)


def start(ledger: Ledger, queue: str = "model.echo") -> Started:
    claim = claim_one(ledger, queue)
    assert claim is not None
    started = ledger.start(claim.id, worker="w", lease_ms=60_000)
    assert started is not None
    return started


def run(ledger: Ledger, *answers: Decided | HeadraceError, queue: str = "model.echo") -> bool:
    return complete(ledger, start(ledger, queue), *answers)


def complete(ledger: Ledger, started: Started, *answers: Decided | HeadraceError) -> bool:
    step = partial(decide, generator=Decider(*answers, alias=started.queue.removeprefix("model.")))  # type: ignore[arg-type]
    work = Work(PIPELINE, {(started.queue, "decide"): step}, settings(), SystemClock())
    return ledger.complete(started.claim_id, work.do(started), ran_ms=1, quantum_ms=5_000) is not None


def end_of(ledger: Ledger, job_id: str) -> Result:
    (row,) = [pair for pair in ledger.read(JOBS.select()) if pair.id == job_id]
    event = decode_value(row.terminal_type, row.terminal)
    assert isinstance(event, Result)
    return event


def test_what_a_decision_used_is_counted_and_charged(ledger: Ledger) -> None:
    ledger.of(Quotas).put("a", 10_000, "ever")
    ledger.of(Quotas).put("a", 10**9, "ever", unit="money")
    (job_id,) = take_in(ledger, [decision(tenant="a")], RULES_WITH_PRICES)
    reserved = {quota.unit: quota.reserved for quota in quotas(ledger)}
    assert reserved["money"] >= reserved["tokens"] > 0
    run(ledger)
    assert {quota.unit: (quota.used, quota.reserved) for quota in quotas(ledger)} == {
        "tokens": (10, 0),
        "money": (7 * 10 + 3 * 20, 0),
    }
    cost = end_of(ledger, job_id).cost
    assert cost is not None
    assert [(model.model, model.calls, model.amount) for model in cost.models] == [("echo", 1, 130)]
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).values(ended_at=ledger.now() - LAG_MS - 1_000))
    ledger.account()
    (row,), _ = ledger.of(Usage).of_tenant("a", date.min, date.max)
    assert (row.kind, row.model, row.prompt_tokens, row.completion_tokens) == ("decision", "echo", 7, 3)


def quotas(ledger: Ledger) -> list[Any]:
    found = ledger.of(Quotas)
    return [*found.find(["a"]), *found.find(["a"], unit="money")]


def test_every_part_of_a_result_that_has_a_usage_is_counted() -> None:
    """Else the usage of a new kind of job would silently be nothing."""
    with_usage = {
        name
        for name, field in Result.model_fields.items()
        if any("usage" in getattr(part, "model_fields", ()) for part in get_args(field.annotation))
    }
    assert set(MADE_BY_MODELS) == with_usage == {"answer", "embedding", "decisions", "tuned"}


def test_a_chain_is_pinned_and_the_next_model_answers_at_once(ledger: Ledger) -> None:
    (job_id,) = take_in(ledger, [decision(model=("echo", "other"))], RULES_WITH_PRICES)
    run(ledger, RemoteFailed("it could not be reached"))
    run(ledger, decided(), queue="model.other")
    result = end_of(ledger, job_id)
    assert result.decisions is not None
    assert (result.decisions.model, [attempt.model for attempt in result.decisions.attempts]) == (
        "other",
        ["echo", "other"],
    )


def test_an_input_is_screened_where_the_job_asks_for_it() -> None:
    pipeline = Pipeline()
    screened, unscreened = decision(screen=True), decision()
    first = [pipeline.next_step(JOB_ID, job, job) for job in (screened, unscreened)]
    assert [route and route.stage.name for route in first] == ["screen", "decide"]
    behind = pipeline.next_step(JOB_ID, screened, screened, after="screen")
    assert behind is not None
    assert (behind.stage.name, behind.queue) == ("decide", "model.echo")


class CountingModels(Models):
    """Models that count words, and hold 120."""

    def context_length(self, alias: str) -> int | None:
        return 120

    def prompt_tokens(self, alias: str, messages: Sequence[Message], tenant: str, tools: Any = ()) -> int | None:
        words = sum(len(message.content.split()) for message in messages)
        if words >= 120:
            raise PromptTooLong(f"the prompt has {words} tokens, and {alias} holds 120")
        return words


def test_an_input_with_a_question_that_does_not_fit_is_refused_and_named() -> None:
    check = QuestionCheck(CountingModels())
    late = Predicate(type="predicate", name="late", instructions="Is it late or is it " + "very " * 20)
    asked = (late, *decision().questions)
    with pytest.raises(PromptTooLong, match=r"the input and the question late do not fit .* holds 120") as caught:
        check.examine(decision(input="word " * 60, questions=asked))
    assert caught.value.param == "input"
    short, long = (check.examine(decision(input="word " * count, questions=asked)) for count in (1, 21))
    assert short is not None
    assert long == short + 20  # the input is read once, whatever is asked about it
    assert not check.is_doubtful(generation())
    assert check.is_doubtful(decision())
    assert not RULES.is_doubtful(decision())
    assert RULES.is_doubtful(decision(input="a " * 2_000))


def test_a_job_may_cost_what_all_of_its_calls_in_words_may() -> None:
    """A provider reads the input once for each call, of sixteen questions."""
    few, many = (decision(input="a" * 1_000, questions=decision().questions * count) for count in (16, 400))
    read = ReadBytes(0)
    assert 25 * 1_000 < most_tokens(many, read) <= 25 * most_tokens(few, read)
    marked = decision(input="<" * 1_000, questions=few.questions)
    assert most_tokens(marked, read) == most_tokens(few, read) + 3_000  # `&lt;`
