from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tests.workers.core.pipeline.claimed import outcome_settled

from headrace_schemas import (
    Answer,
    Category,
    EvaluationJob,
    ExactMatch,
    GenerationJob,
    HeadraceError,
    Message,
    Output,
    Sampling,
    Usage,
)
from headrace_schemas.errors import EndCode, PromptTooLong, Unavailable
from headrace_schemas.limits import MAX_TEXT
from headrace_schemas.reasons import reason_of
from headrace_schemas.tool import Tool, ToolCall
from headrace_workers.core.ledger.outcome import Dead, Done, ProviderBusy, Retry, Unanswered, Wait
from headrace_workers.core.pipeline.chain import TRIED, Link, pin
from headrace_workers.core.pipeline.stage import run_isolated
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.cache.store.audit_rows import Audited
from headrace_workers.features.generation.stage import generate
from headrace_workers.models.engines.remote.failures import ProviderRefuses, RemoteFailed, ServerFailed
from headrace_workers.models.generator import Completion, GivenUp, LabelRequest, LabelScores, Request

JOB_ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f1{}"


class Model:
    """A Generator that gives the answers it was made with, and remembers what it was asked."""

    alias, quantization, context_length = "small", "int8", 2048

    def __init__(self, *answers: Completion | HeadraceError) -> None:
        self.answers = answers
        self.calls: list[list[Request]] = []

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        self.calls.append(list(requests))
        return list(self.answers)

    def label_probabilities(self, requests: Sequence[LabelRequest]) -> list[LabelScores | HeadraceError]:
        raise AssertionError("generation asks for no labels")


def task(job: GenerationJob | EvaluationJob, place: int = 0) -> Task:
    return Task(JOB_ID.format(place), job, job, datetime(2026, 1, 1, tzinfo=UTC))


def completion(text: str = "hello") -> Completion:
    return Completion(text, "stop", prompt_tokens=7, completion_tokens=2)


def test_an_answer_becomes_an_output() -> None:
    job = GenerationJob(model="asked", prompt="hi", tenant="shop")
    (outcome,) = generate([task(job)], generator=Model(completion()))
    assert outcome == Done(
        Output(
            job_id=JOB_ID.format(0),
            tenant="shop",
            answer=Answer(
                text="hello",
                finish_reason="stop",
                model="small",
                quantization="int8",
                usage=Usage(prompt_tokens=7, completion_tokens=2),
            ),
        )
    )


def test_the_group_is_one_call() -> None:
    turns = (Message(role="system", content="Be brief."), Message(role="user", content="hi"))
    sampling = Sampling(temperature=0.7, seed=4)
    model = Model(completion("a"), completion("b"))
    jobs = [GenerationJob(model="m", prompt="p"), GenerationJob(model="m", messages=turns, sampling=sampling)]
    outcomes = generate([task(job, i) for i, job in enumerate(jobs)], generator=model)
    plain = Request((Message(role="user", content="p"),), Sampling(), "default")
    assert model.calls == [[plain, Request(turns, sampling, "default")]]
    events = [outcome.event for outcome in outcomes if isinstance(outcome, Done)]
    texts = [(event.job_id, event.text) for event in events if isinstance(event, Output)]
    assert texts == [(JOB_ID.format(0), "a"), (JOB_ID.format(1), "b")]


def test_errors_stay_with_their_task() -> None:
    model = Model(Unavailable("later"), completion(), PromptTooLong("9,000 tokens"))
    tasks = [task(GenerationJob(model="m", prompt="p"), i) for i in range(3)]
    said = generate(tasks, generator=model)
    later, answered, dead = [outcome_settled(outcome, asked) for outcome, asked in zip(said, tasks, strict=True)]
    assert isinstance(later, Retry)
    assert (later.reason, later.category) == ("later", Category.TRANSIENT)
    assert isinstance(answered, Done)
    assert dead == Dead(Category.INVALID, "9,000 tokens", code=EndCode.CONTEXT_LENGTH)


def test_a_text_that_no_event_may_carry_is_mended() -> None:
    job = GenerationJob(model="m", prompt="p")
    model = Model(completion("a\0b"), completion("x" * (MAX_TEXT + 1)))
    nul, long = generate([task(job), task(job)], generator=model)
    assert isinstance(nul, Done)
    assert isinstance(nul.event, Output)
    assert (nul.event.text, nul.event.answer.finish_reason) == ("a\ufffdb", "stop")
    assert isinstance(long, Done)
    assert isinstance(long.event, Output)
    assert (len(long.event.text), long.event.answer.finish_reason) == (MAX_TEXT, "length")


def test_an_answer_that_no_event_can_hold_asks_nobody_again_but_its_task() -> None:
    model = Model(completion(), replace(completion(), prompt_tokens=-1))
    tasks = [task(GenerationJob(model="m", prompt="p"), place) for place in range(2)]
    answered, failed = run_isolated(partial(generate, generator=model), tasks)
    assert len(model.calls) == 1
    assert isinstance(answered, Done)
    assert isinstance(failed, Retry)
    assert failed.billed


def test_an_evaluation_is_not_generated() -> None:
    model = Model(completion())
    wrong = EvaluationJob(input="i", output="o", criteria=(ExactMatch(),))
    outcomes = generate([task(wrong), task(GenerationJob(model="m", prompt="p"), 1)], generator=model)
    assert isinstance(outcomes[0], Dead)
    assert isinstance(outcomes[1], Done)
    assert len(model.calls[0]) == 1


def test_an_answer_is_compared_with_what_the_job_was_nearly_served() -> None:
    job = GenerationJob(model="asked", prompt="hi")
    nearly = replace(
        task(job), context={"recall": {"similarity": 0.7, "refused": "no", "nearly": ["audit-1", "It is 3."]}}
    )
    plain, compared = generate([task(job), nearly], generator=Model(completion(), completion("It is 4.")))
    assert isinstance(plain, Done)
    assert isinstance(compared, Done)
    assert plain.rows == ()
    assert compared.rows == (
        Audited("audit-1", "wrong", "one says 3, the other 4, in the same words", "It is 4."),
    )  # fmt: skip
    assert compared.event is not None
    assert "nearly" not in compared.event.model_dump_json()


class Timed(Model):
    """A generator that takes so many seconds of a clock, and asks whether it is given up."""

    def __init__(self, seconds: float, *answers: Completion | HeadraceError) -> None:
        super().__init__(*answers)
        self.now, self._seconds = 0.0, seconds

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        self.now += self._seconds
        return [
            GivenUp() if request.given_up() else answer
            for request, answer in zip(requests, super().generate(requests), strict=True)
        ]


def chained(*, seconds_left: float | None = None, context: dict[str, Any] | None = None) -> Task:
    job = GenerationJob(model=("small", "large"), prompt="p")
    return replace(task(job), seconds_left=seconds_left, context=context or {})


def asked(model: Timed, given: Task) -> Any:
    (outcome,) = generate([given], generator=model, monotonic=lambda: model.now)
    return outcome_settled(outcome, given, model=model.alias)


def test_a_model_has_its_share_of_the_deadline() -> None:
    slow = asked(Timed(6.0, completion()), chained(seconds_left=10))
    assert isinstance(slow, Retry)
    assert slow.category is Category.REROUTABLE
    assert "share of the deadline" in slow.reason
    assert isinstance(asked(Timed(4.0, completion()), chained(seconds_left=10)), Done)
    last = Timed(6.0, completion())
    last.alias = "large"
    assert isinstance(asked(last, chained(seconds_left=10)), Done)
    assert last.calls[0][0].at_most == 10
    assert isinstance(asked(Timed(600.0, completion()), chained()), Done)


def test_a_receipt_lists_every_attempt_and_says_why_its_model_answered() -> None:
    failed = asked(Timed(1.5, Unavailable("it is away")), chained())
    large = Timed(0.5, completion())
    large.alias = "large"
    done = asked(large, chained(context=failed.context))
    answer = done.event.answer
    assert [(attempt.model, attempt.category, attempt.ms) for attempt in answer.attempts] == [
        ("small", Category.TRANSIENT, 1500.0), ("large", None, 500.0),
    ]  # fmt: skip
    assert answer.attempts[0].reason == "it is away"
    assert answer.attempts[1].usage == answer.usage
    assert done.context == {TRIED: []}
    pinned = pin([Link("small"), Link("large")])
    told = asked(large, chained(context={**pinned, **failed.context})).event.answer
    assert told.because == "large answered in place of small (transient: it is away)"
    spared = asked(large, chained(context=pinned)).event.answer
    assert (spared.attempts, spared.because) == (
        (), "large answered in place of small (not asked: it failed for others)",
    )  # fmt: skip
    plain = asked(Timed(0.5, completion()), chained(context=pinned)).event.answer
    assert (plain.attempts, plain.because) == ((), None)


def test_a_prompt_that_is_too_long_for_one_model_goes_to_the_next() -> None:
    first = asked(Timed(0.1, PromptTooLong("9,000 tokens")), chained())
    assert isinstance(first, Retry)
    assert first.category is Category.REROUTABLE
    large = Timed(0.1, PromptTooLong("9,000 tokens"))
    large.alias = "large"
    dead = asked(large, chained(context=first.context))
    why = "9,000 tokens; tried before: small (reroutable: 9,000 tokens)"
    assert dead == Dead(Category.INVALID, why, code=EndCode.CONTEXT_LENGTH)


def test_an_answer_that_nobody_wants_is_no_attempt() -> None:
    model = Timed(0.1, GivenUp())
    given_up = asked(model, chained())
    assert isinstance(given_up, Retry)
    assert (given_up.reason, given_up.billed, given_up.context) == (reason_of(GivenUp()), True, {})


def test_a_refusal_goes_to_another_model_only_where_the_job_says_so() -> None:
    """Another model would evade the policy of the provider."""
    refused = ProviderRefuses("it was filtered")
    filtered = Dead(Category.PERMANENT, "it was filtered", billed=True, code=EndCode.CONTENT_POLICY)
    assert asked(Timed(0.1, refused), chained()) == filtered
    job = GenerationJob(model=("small", "large"), prompt="p", fallback_on_refusal=True)
    moved = asked(Timed(0.1, refused), task(job))
    assert isinstance(moved, Retry)
    assert moved.category is Category.REROUTABLE
    last = Timed(0.1, refused)
    last.alias = "large"
    assert isinstance(asked(last, task(job)), Dead)


def test_a_wait_past_its_share_goes_to_another_model_if_there_is_one() -> None:
    """The only model of a job is waited for in any case; of a chain, the next one answers in time."""
    busy = ProviderBusy("slow down", after=600)
    lone = replace(task(GenerationJob(model="small", prompt="hi")), seconds_left=60)
    assert isinstance(asked(Timed(0.1, busy), lone), Wait)
    moved = asked(Timed(0.1, busy), chained(seconds_left=60))
    assert isinstance(moved, Retry)
    assert moved.category is Category.REROUTABLE
    soon = ProviderBusy("slow down", after=5)
    assert isinstance(asked(Timed(0.1, soon), chained(seconds_left=3600)), Wait)
    assert isinstance(asked(Timed(0.1, soon), chained(seconds_left=8)), Retry)
    assert isinstance(asked(Timed(0.1, ProviderBusy("slow down")), chained(seconds_left=3600)), Retry)
    assert isinstance(asked(Timed(0.1, busy), chained()), Retry)
    assert isinstance(asked(Timed(0.1, soon), chained()), Wait)


def test_a_500_asks_the_same_model_once_more() -> None:
    failed = ServerFailed("the provider answered 500")

    def asks_again(error: HeadraceError, given: Task) -> bool:
        (outcome,) = generate([given], generator=Timed(0.1, error))
        assert isinstance(outcome, Unanswered)
        return outcome.again

    assert asks_again(failed, chained())
    tried = asked(Timed(0.1, failed), chained()).context
    assert tried[TRIED][0]["reason"] == "the provider answered 500"
    assert not asks_again(failed, chained(context=tried))
    assert not asks_again(RemoteFailed("it is away"), chained())


TOOL_JOB_ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f10"
LAMP = Tool(name="set_lamp", parameters={"properties": {"on": {"type": "boolean"}}, "required": ["on"]})


class ModelOfOneText:
    """A generator that gives one answer, and remembers what it was asked."""

    alias, quantization, context_length = "small", "int8", 2048

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        self.asked += requests
        return [Completion(self.text, "stop", 7, 2) for _ in requests]


def outcome(generator: ModelOfOneText, **fields: Any) -> object:
    job = GenerationJob(**{"model": "small", "prompt": "Light!", "tools": (LAMP,), "tool_choice": "required", **fields})
    (found,) = generate([Task(TOOL_JOB_ID, job, job, datetime(2026, 1, 1, tzinfo=UTC))], generator=generator)
    return found


def test_a_call_goes_out_with_the_output() -> None:
    model = ModelOfOneText('{"name": "set_lamp", "arguments": {"on": true}}')
    found = outcome(model)
    assert isinstance(found, Done)
    assert isinstance(found.event, Output)
    call = ToolCall(id="call_6f1d8a525d0c5c399a530d1f6f6c7f10", name="set_lamp", arguments='{"on": true}')
    assert found.event.answer.tool_calls == (call,)
    assert (found.event.answer.text, found.event.answer.finish_reason) == ("", "tool_calls")
    assert (model.asked[0].offer.tools, model.asked[0].offer.required) == ((LAMP,), True)


def test_an_answer_in_the_format_or_a_call_is_done() -> None:
    beside = {"tool_choice": "auto", "output": {"type": "choice", "choices": ["yes", "no"]}}
    for said, calls in (("yes", 0), ('<tool_call>{"name": "set_lamp", "arguments": {"on": true}}</tool_call>', 1)):
        found = outcome(ModelOfOneText(said), **beside)
        assert isinstance(found, Done)
        assert isinstance(found.event, Output)
        assert len(found.event.answer.tool_calls) == calls
    again = outcome(ModelOfOneText('{"name": "set_lamp", "arguments": {"on": true}}'), **beside)
    assert isinstance(again, Retry)
    assert again.failure == "unparsable"


def test_a_wrong_call_is_a_typed_failure() -> None:
    again = outcome(ModelOfOneText('{"name": "set_lamp", "arguments": {"on": 1}}'), sampling={"temperature": 0.0})
    assert isinstance(again, Retry)
    assert (again.failure, again.place) == ("unparsable", "/on")
    retry = outcome(ModelOfOneText("It is light."), model=("small", "large"))
    assert isinstance(retry, Retry)
    assert (retry.category, retry.failure) == (Category.REROUTABLE, "unparsable")
