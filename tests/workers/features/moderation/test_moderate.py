from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_schemas import (
    Answer,
    Category,
    Finding,
    GenerationJob,
    HeadraceError,
    Moderated,
    ModerationJob,
    ModerationVerdict,
    Output,
    Result,
    Usage,
)
from headrace_schemas.codec import encode_value
from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_schemas.moderation import Action
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_workers.core.ledger.outcome import Dead, Done, Ended, Held
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Instructions, Moderation
from headrace_workers.core.tables import RELEASED
from headrace_workers.features.cache.step import CONTEXT, ENTRY
from headrace_workers.features.cache.store.entries import Withdraw
from headrace_workers.features.moderation.step import moderate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = GenerationJob(model="m", prompt="hello")


def says(text: str | None, findings: tuple[Finding, ...], action: Action) -> Moderation:
    return Moderation(text, ModerationVerdict(action=action, findings=findings))


class Scripted:
    """A moderator that answers from a list and remembers what it was asked."""

    def __init__(self, *verdicts: Moderation | HeadraceError) -> None:
        self.verdicts = list(verdicts)
        self.asked: list[str] = []
        self.tenants: list[str] = []

    def moderate(
        self,
        texts: Sequence[str],
        tenants: Sequence[str] | None = None,
        instructions: Sequence[Instructions | None] | None = None,
    ) -> list[Moderation | HeadraceError]:
        self.asked += texts
        self.tenants += tenants or []
        return self.verdicts


def output(text: str, number: int = 1) -> Output:
    return Output(
        job_id=f"00000000-0000-0000-0000-{number:012d}",
        tenant="acme",
        answer=Answer(
            text=text,
            finish_reason="length",
            model="m",
            quantization="int8",
            usage=Usage(prompt_tokens=3, completion_tokens=4),
        ),
    )


def task(event: Output | GenerationJob) -> Task:
    return Task(job_id="x", job=JOB, event=event, accepted_at=NOW)


FINDING = Finding(category="email", detector="d", score=1.0, start=0, end=1, action="redact")


def test_carries_over_what_the_output_said() -> None:
    """Only the text and the verdict are moderation's; the rest is the output's."""
    given_ = output("jo@headrace.io")
    (outcome,) = moderate([task(given_)], moderator=Scripted(says("[EMAIL]", (FINDING,), "redact")))
    assert isinstance(outcome, Done)
    event = outcome.event
    assert isinstance(event, Moderated)
    assert event.answer == given_.answer.with_text("[EMAIL]")
    assert event.moderation.action == "redact"
    assert event.moderation.findings == (FINDING,)
    assert (event.job_id, event.tenant) == (given_.job_id, given_.tenant)


@given(text=st.text(st.sampled_from("abcdefghij 😀"), min_size=12))
def test_blocked_text_is_in_no_byte_of_the_event(text: str) -> None:
    """A blocked answer does not leave, even when the moderator hands its text back."""
    (outcome,) = moderate([task(output(text))], moderator=Scripted(says(text, (), "block")))
    assert isinstance(outcome, Done)
    assert isinstance(outcome.event, Moderated)
    assert outcome.event.answer.text is None
    assert text.encode() not in encode_value(outcome.event)


@pytest.mark.parametrize("error", [Unavailable("detector x failed"), ConfigurationError("no model")])
def test_an_undecided_text_is_held(error: HeadraceError) -> None:
    """Whatever went wrong, the output waits until it works again, which costs no attempt."""
    held = Held(str(error), needs_person=False)
    assert moderate([task(output("text"))], moderator=Scripted(error)) == [held]
    assert moderate([brought("text")], moderator=Scripted(error)) == [held]


REVIEW = Finding(category="hate", detector="d", score=0.7, start=2, end=5, action="review")


def test_what_is_to_be_reviewed_is_held_until_a_person_releases_it() -> None:
    """The reason names what was found and not the text; what was released is told as what was done with it."""
    given_ = task(output("my text"))
    answer = says("[EMAIL] text", (FINDING, REVIEW), "review")
    (held,) = moderate([given_], moderator=Scripted(answer))
    assert held == Held("the moderation policy None wants a person to review: hate (1 x, 0.70 at most)")
    assert moderate([replace(given_, woken_by="a job")], moderator=Scripted(answer)) == [held]
    (released,) = moderate([replace(given_, woken_by=RELEASED)], moderator=Scripted(answer))
    assert isinstance(released, Done)
    assert isinstance(released.event, Moderated)
    told = released.event.moderation
    assert (released.event.answer.text, told.action, told.flagged) == ("[EMAIL] text", "redact", True)
    assert told.findings == (FINDING, REVIEW)


def test_what_was_released_is_moderated_by_the_policy_of_now() -> None:
    """What it blocks meanwhile is blocked."""
    given_ = replace(task(output("text")), woken_by=RELEASED)
    (outcome,) = moderate([given_], moderator=Scripted(says(None, (REVIEW,), "block")))
    assert isinstance(outcome, Done)
    assert isinstance(outcome.event, Moderated)
    assert outcome.event.answer.text is None
    (outcome,) = moderate([given_], moderator=Scripted(says("text", (REVIEW,), "review")))
    assert isinstance(outcome, Done)
    assert isinstance(outcome.event, Moderated)
    assert outcome.event.moderation.action == "allow"


def test_what_a_person_let_pass_is_given_to_nobody_else() -> None:
    """The cache has only what the policy allows as it is."""
    given_ = replace(task(output("text")), woken_by=RELEASED, context={CONTEXT: {ENTRY: 7}})
    (outcome,) = moderate([given_], moderator=Scripted(says("text", (REVIEW,), "review")))
    assert isinstance(outcome, Done)
    assert outcome.rows == (Withdraw(7),)


def test_each_text_is_asked_about_for_its_tenant() -> None:
    """Of the job, and not of whoever is beside it."""
    moderator = Scripted(says("a", (), "allow"), says("b", (), "allow"))
    moderate([brought("a", tenant="shop"), task(output("b"))], moderator=moderator)
    assert moderator.tenants == ["shop", "default"]


def test_outcomes_belong_to_their_tasks() -> None:
    """The i-th outcome is about the i-th task, and the moderator is asked once about all."""
    moderator = Scripted(says("a", (), "allow"), Unavailable("x"), says(None, (), "block"))
    outcomes = moderate([task(output("a", 1)), task(output("b", 2)), task(output("c", 3))], moderator=moderator)
    assert moderator.asked == ["a", "b", "c"]
    assert [type(o) for o in outcomes] == [Done, Held, Done]
    assert [o.event.job_id[-1] for o in outcomes if isinstance(o, Done)] == ["1", "3"]


def test_an_event_that_is_no_output_is_dead() -> None:
    """A wrong event does not shift its neighbours."""
    outcomes = moderate([task(JOB), task(output("a"))], moderator=Scripted(says("a", (), "allow")))
    assert outcomes[0] == Dead(Category.PERMANENT, "moderation takes outputs and moderation jobs, not GenerationJob")
    assert isinstance(outcomes[1], Done)


def test_a_moderator_that_answers_too_few_is_an_error() -> None:
    """No output passes because its verdict is missing."""
    with pytest.raises(ValueError, match="zip"):
        moderate([task(output("a")), task(output("b"))], moderator=Scripted(says("a", (), "allow")))


def test_no_tasks_no_outcomes() -> None:
    """An empty group is answered at once."""
    assert moderate([], moderator=Scripted()) == []


def brought(text: str, **fields: object) -> Task:
    job = ModerationJob.model_validate({"input": text, **fields})
    return Task(job_id="00000000-0000-0000-0000-000000000001", job=job, event=job, accepted_at=NOW)


@pytest.mark.parametrize("action", ["allow", "redact", "review", "block"])
def test_a_text_that_was_brought_gets_its_verdict(action: Action) -> None:
    """The receipt has what was found, and neither the text nor what would be shown of it."""
    given_ = brought("jo@headrace.io", tenant="shop", idempotency_key="k", metadata={"a": "b"})
    (outcome,) = moderate([given_], moderator=Scripted(says("[EMAIL]", (FINDING,), action)))
    assert isinstance(outcome, Ended)
    result = outcome.event
    assert isinstance(result, Result)
    assert (result.kind, result.status, result.tenant, result.idempotency_key) == (
        "moderation", "completed", "shop", "k",
    )  # fmt: skip
    assert result.moderation == ModerationVerdict(action=action, findings=(FINDING,))
    assert (result.answer, result.embedding, result.metadata, result.accepted_at) == (None, None, {"a": "b"}, NOW)
    assert b"jo@headrace.io" not in encode_value(result)
    assert b"[EMAIL]" not in encode_value(result)


def test_outputs_and_texts_that_were_brought_are_looked_at_together() -> None:
    """Each has its own outcome; a text that nobody could decide about is held."""
    moderator = Scripted(says("a", (), "allow"), Unavailable("x"), says("c", (), "allow"))
    outcomes = moderate([brought("a"), brought("b"), task(output("c"))], moderator=moderator)
    assert moderator.asked == ["a", "b", "c"]
    assert [type(outcome) for outcome in outcomes] == [Ended, Held, Done]


TREE = JsonSchemaFormat(json_schema={"type": "object", "properties": {"mail": {"enum": ["a@b.de", "[EMAIL]"]}}})


def redacted(text: str, event: Output) -> Done:
    """Return the outcome for an answer of a job with a format, of which moderation shows this text."""
    job = GenerationJob(model="m", prompt="hello", output=TREE)
    (outcome,) = moderate([replace(task(event), job=job)], moderator=Scripted(says(text, (FINDING,), "redact")))
    assert isinstance(outcome, Done)
    return outcome


def test_redaction_that_keeps_the_format_is_shown() -> None:
    """What is redacted inside a string leaves an answer valid."""
    done = redacted('{"mail": "[EMAIL]"}', output('{"mail": "a@b.de"}'))
    assert isinstance(done.event, Moderated)
    assert (done.event.answer.text, done.event.moderation.action) == ('{"mail": "[EMAIL]"}', "redact")
    assert done.event.moderation.reason is None


@pytest.mark.parametrize("text", ['{"mail": [EMAIL]}', '{"mail": "[SECRET]"}'])
def test_redaction_that_breaks_the_format_withholds_the_answer(text: str) -> None:
    """A job never completes with an answer that does not have its format: it is blocked, and says why."""
    done = redacted(text, output('{"mail": "a@b.de"}'))
    assert isinstance(done.event, Moderated)
    assert (done.event.answer.text, done.event.moderation.action) == (None, "block")
    assert (done.event.moderation.reason or "").startswith("without what is redacted, the answer")
    assert done.event.moderation.findings == (FINDING,)
