"""The generate step: one call of the model, one outcome a task."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

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
from headrace_schemas.errors import PromptTooLong, Unavailable
from headrace_schemas.limits import MAX_TEXT
from headrace_workers.core.ledger.outcome import Dead, Done, Retry, Wait
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Completion, Request
from headrace_workers.features.cache.store.audit_rows import Audited
from headrace_workers.features.generation.engines.remote.failures import ProviderBusy, RemoteFailed
from headrace_workers.features.generation.step import generate

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

    def choice_probabilities(
        self, prompts: Sequence[tuple[Message, ...]], choices: Sequence[str]
    ) -> list[tuple[float, ...] | HeadraceError]:
        raise AssertionError("generation asks for no choices")


def task(job: GenerationJob | EvaluationJob, place: int = 0) -> Task:
    return Task(JOB_ID.format(place), job, job, datetime(2026, 1, 1, tzinfo=UTC))


def completion(text: str = "hello") -> Completion:
    return Completion(text, "stop", prompt_tokens=7, completion_tokens=2)


def test_an_answer_becomes_an_output() -> None:
    """The output carries the job's id and tenant, and the model's name, number format and token counts."""
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
    """All tasks go to the model together, each with its own conversation and sampling."""
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
    """A passing error is a retry, a lasting one the end, and the neighbour is answered."""
    model = Model(Unavailable("later"), completion(), PromptTooLong("9,000 tokens"))
    outcomes = generate([task(GenerationJob(model="m", prompt="p"), i) for i in range(3)], generator=model)
    assert outcomes[0] == Retry("later")
    assert isinstance(outcomes[1], Done)
    assert outcomes[2] == Dead(Category.INVALID, "9,000 tokens")


def test_a_text_that_no_event_may_carry_is_mended() -> None:
    """A NUL is replaced, and what exceeds the bound of a text is cut and counted as ended by length."""
    job = GenerationJob(model="m", prompt="p")
    model = Model(completion("a\0b"), completion("x" * (MAX_TEXT + 1)))
    nul, long = generate([task(job), task(job)], generator=model)
    assert isinstance(nul, Done)
    assert isinstance(nul.event, Output)
    assert (nul.event.text, nul.event.answer.finish_reason) == ("a\ufffdb", "stop")
    assert isinstance(long, Done)
    assert isinstance(long.event, Output)
    assert (len(long.event.text), long.event.answer.finish_reason) == (MAX_TEXT, "length")


def test_an_evaluation_is_not_generated() -> None:
    """A task that came to the wrong step ends with a reason, without the model, and without its neighbours."""
    model = Model(completion())
    wrong = EvaluationJob(input="i", output="o", criteria=(ExactMatch(),))
    outcomes = generate([task(wrong), task(GenerationJob(model="m", prompt="p"), 1)], generator=model)
    assert isinstance(outcomes[0], Dead)
    assert isinstance(outcomes[1], Done)
    assert len(model.calls[0]) == 1


def test_no_tasks_no_call() -> None:
    """An empty group does not wake the model."""
    model = Model()
    assert generate([], generator=model) == []
    assert model.calls == []


def test_an_answer_is_compared_with_what_the_job_was_nearly_served() -> None:
    """Where that is wanted; the answer says nothing of it."""
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


def test_a_busy_provider_makes_its_job_wait_without_an_attempt() -> None:
    """The job waits for as long as the provider says, and for nothing else."""
    job = GenerationJob(model="far", prompt="hi")
    (outcome,) = generate([task(job)], generator=Model(ProviderBusy("slow down", after=12.5)))
    assert outcome == Wait(None, "slow down", at_most=12.5)


def test_a_wait_past_the_deadline_goes_to_another_model_if_there_is_one() -> None:
    """The only model of a job is waited for in any case; of a chain, the next one answers in time."""
    soon = datetime.now(UTC) + timedelta(seconds=60)
    busy = ProviderBusy("slow down", after=600)
    (alone,) = generate([task(GenerationJob(model="far", prompt="hi", deadline=soon))], generator=Model(busy))
    assert isinstance(alone, Wait)
    job = GenerationJob(model=("far", "near"), prompt="hi", deadline=soon)
    (chain,) = generate([task(job)], generator=Model(busy))
    assert isinstance(chain, Retry)
    assert chain.category is Category.REROUTABLE
    early = job.model_copy(update={"deadline": soon + timedelta(hours=1)})
    assert isinstance(generate([task(early)], generator=Model(busy))[0], Wait)


def test_a_failed_provider_is_reroutable() -> None:
    """A provider that failed is no reason to wait: the category says that another model may answer."""
    (outcome,) = generate([task(GenerationJob(model="far", prompt="hi"))], generator=Model(RemoteFailed("cut off")))
    assert outcome == Retry("cut off", category=Category.REROUTABLE)
