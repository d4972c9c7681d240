"""Moderation of calls: their arguments are read and redacted like text, and stay valid or are withheld."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_schemas import (
    Answer,
    Category,
    Finding,
    GenerationJob,
    HeadraceError,
    Message,
    Moderated,
    ModerationJob,
    ModerationVerdict,
    Output,
    Result,
    Usage,
)
from headrace_schemas.application import ApplicationVersion, Resolution
from headrace_schemas.codec import encode_value
from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_schemas.moderation import Action
from headrace_schemas.output_format import JsonObjectFormat, JsonSchemaFormat
from headrace_schemas.tool import Tool, ToolCall
from headrace_workers.core.ledger.outcome import Dead, Done, Ended, Held
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.tables import RELEASED
from headrace_workers.features.cache.step import CONTEXT, ENTRY, GIVEN
from headrace_workers.features.cache.store.entries import Disallow, Withdraw
from headrace_workers.features.moderation.detector import Instructions, Moderation
from headrace_workers.features.moderation.moderator import build_moderator
from headrace_workers.features.moderation.step import (
    SeenPrompts,
    brought,
    called_with,
    moderate,
    screen,
    text_of,
    with_redacted,
)

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
    (outcome,) = moderate([task(output(text))], moderator=Scripted(says(text, (), "block")))
    assert isinstance(outcome, Done)
    assert isinstance(outcome.event, Moderated)
    assert outcome.event.answer.text is None
    assert text.encode() not in encode_value(outcome.event)


@pytest.mark.parametrize("error", [Unavailable("detector x failed"), ConfigurationError("no model")])
def test_an_undecided_text_is_held(error: HeadraceError) -> None:
    held = Held(str(error), needs_person=False)
    assert moderate([task(output("text"))], moderator=Scripted(error)) == [held]
    assert moderate([text_task("text")], moderator=Scripted(error)) == [held]


REVIEW = Finding(category="hate", detector="d", score=0.7, start=2, end=5, action="review")


def test_what_is_to_be_reviewed_is_held_until_a_person_releases_it() -> None:
    given_ = task(output("my text"))
    answer = says("[EMAIL] text", (FINDING, REVIEW), "review")
    (held,) = moderate([given_], moderator=Scripted(answer))
    assert isinstance(held, Held)
    assert held.reason == "the moderation policy None wants a person to review: hate (1 x, 0.70 at most)"
    assert ModerationVerdict.model_validate(held.known["verdict"]).findings == (FINDING, REVIEW)
    assert moderate([replace(given_, woken_by="a job")], moderator=Scripted(answer)) == [held]
    (released,) = moderate([replace(given_, woken_by=RELEASED)], moderator=Scripted(answer))
    assert isinstance(released, Done)
    assert isinstance(released.event, Moderated)
    told = released.event.moderation
    assert (released.event.answer.text, told.action, told.flagged) == ("[EMAIL] text", "redact", True)
    assert told.findings == (FINDING, REVIEW)


def test_what_was_released_is_moderated_by_the_policy_of_now() -> None:
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
    given_ = replace(task(output("text")), woken_by=RELEASED, context={CONTEXT: {ENTRY: 7}})
    (outcome,) = moderate([given_], moderator=Scripted(says("text", (REVIEW,), "review")))
    assert isinstance(outcome, Done)
    assert outcome.rows == (Withdraw(7),)


@pytest.mark.parametrize("name", [ENTRY, GIVEN])
def test_neither_what_a_person_wrote_nor_the_answer_before_is_given_to_others(name: str) -> None:
    """The answer that was held for its quality may be in the cache by then."""
    said = output("text")
    said = said.model_copy(update={"answer": said.answer.model_copy(update={"by_person": True})})
    given_ = replace(task(said), context={CONTEXT: {name: 7}})
    (outcome,) = moderate([given_], moderator=Scripted(says("text", (), "allow")))
    assert isinstance(outcome, Done)
    assert outcome.rows == (Withdraw(7), Disallow(7, "a person corrected it"))


def test_each_text_is_asked_about_for_its_tenant() -> None:
    moderator = Scripted(says("a", (), "allow"), says("b", (), "allow"))
    moderate([text_task("a", tenant="shop"), task(output("b"))], moderator=moderator)
    assert moderator.tenants == ["shop", "default"]


def test_outcomes_belong_to_their_tasks() -> None:
    moderator = Scripted(says("a", (), "allow"), Unavailable("x"), says(None, (), "block"))
    outcomes = moderate([task(output("a", 1)), task(output("b", 2)), task(output("c", 3))], moderator=moderator)
    assert moderator.asked == ["a", "b", "c"]
    assert [type(o) for o in outcomes] == [Done, Held, Done]
    assert [o.event.job_id[-1] for o in outcomes if isinstance(o, Done)] == ["1", "3"]


def test_an_event_that_is_no_output_is_dead() -> None:
    outcomes = moderate([task(JOB), task(output("a"))], moderator=Scripted(says("a", (), "allow")))
    assert outcomes[0] == Dead(Category.PERMANENT, "moderation takes outputs and moderation jobs, not GenerationJob")
    assert isinstance(outcomes[1], Done)


def test_a_moderator_that_answers_too_few_is_an_error() -> None:
    """No output passes because its verdict is missing."""
    with pytest.raises(ValueError, match="zip"):
        moderate([task(output("a")), task(output("b"))], moderator=Scripted(says("a", (), "allow")))


def text_task(text: str, **fields: object) -> Task:
    job = ModerationJob.model_validate({"input": text, **fields})
    return Task(job_id="00000000-0000-0000-0000-000000000001", job=job, event=job, accepted_at=NOW)


@pytest.mark.parametrize("action", ["allow", "redact", "review", "block"])
def test_a_text_that_was_brought_gets_its_verdict(action: Action) -> None:
    """The receipt has what was found, and neither the text nor what would be shown of it."""
    given_ = text_task("jo@headrace.io", tenant="shop", idempotency_key="k", metadata={"a": "b"})
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


TREE = JsonSchemaFormat(json_schema={"type": "object", "properties": {"mail": {"enum": ["a@b.de", "[EMAIL]"]}}})


def redacted(text: str, event: Output) -> Done:
    """Return the outcome for an answer of a job with a format, of which moderation shows this text."""
    job = GenerationJob(model="m", prompt="hello", output=TREE)
    (outcome,) = moderate([replace(task(event), job=job)], moderator=Scripted(says(text, (FINDING,), "redact")))
    assert isinstance(outcome, Done)
    return outcome


def test_redaction_that_keeps_the_format_is_shown() -> None:
    done = redacted('{"mail": "[EMAIL]"}', output('{"mail": "a@b.de"}'))
    assert isinstance(done.event, Moderated)
    assert (done.event.answer.text, done.event.moderation.action) == ('{"mail": "[EMAIL]"}', "redact")
    assert done.event.moderation.reason is None


@pytest.mark.parametrize("text", ['{"mail": [EMAIL]}', '{"mail": "[SECRET]"}'])
def test_redaction_that_breaks_the_format_withholds_the_answer(text: str) -> None:
    done = redacted(text, output('{"mail": "a@b.de"}'))
    assert isinstance(done.event, Moderated)
    assert (done.event.answer.text, done.event.moderation.action) == (None, "block")
    assert (done.event.moderation.reason or "").startswith("without what is redacted, the answer")
    assert done.event.moderation.findings == (FINDING,)


SEND = Tool(
    name="send",
    parameters={
        "type": "object",
        "properties": {"to": {"type": "string"}, "card": {"type": "integer"}, "texts": {}, "urgent": {}},
        "required": ["to"],
    },
)
STRICT = Tool(name="strict", parameters={"properties": {"to": {"type": "string", "format": "email"}}})
CALLING_JOB = GenerationJob(model="m", prompt="hello", tools=(SEND, STRICT))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def calls(arguments: Any, name: str = "send", text: str = "") -> Answer:
    call = ToolCall(id="call_1", name=name, arguments=json.dumps(arguments, ensure_ascii=False))
    return Answer(
        text=text, finish_reason="tool_calls", model="m", quantization="int8", tool_calls=(call,),
        usage=Usage(prompt_tokens=1, completion_tokens=1),
    )  # fmt: skip


def calling_task(answer: Answer, **fields: Any) -> Task:
    output = Output(job_id="6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f10", tenant="default", answer=answer)
    return Task(output.job_id, CALLING_JOB, output, NOW, **fields)


def moderated(answer: Answer, **fields: Any) -> Moderated:
    (outcome,) = moderate([calling_task(answer, **fields)], moderator=build_moderator())
    assert isinstance(outcome, Done), outcome
    assert isinstance(outcome.event, Moderated)
    return outcome.event


@given(
    text=st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=20),
    value=st.dictionaries(st.text(max_size=5), VALUES, max_size=3),
)
def test_what_nobody_redacts_comes_back_as_it_was(text: str, value: dict[str, Any]) -> None:
    tool = Tool(name="any", parameters={"type": "object"})
    for said in (text, f"{text}\n---\n", "\n" + "-" * 40):
        answer = calls({**value, "dashes": ["\n---\n", "----"]}, "any", said)
        assert with_redacted(answer, text_of(answer), [tool]) == answer


@pytest.mark.parametrize(("to", "action"), [("the miller", "allow"), ("jo@headrace.io", "redact")])
def test_a_call_needs_no_format_that_an_answer_without_one_has(to: str, action: str) -> None:
    job = CALLING_JOB.model_copy(update={"output": JsonObjectFormat()})
    (outcome,) = moderate([replace(calling_task(calls({"to": to})), job=job)], moderator=build_moderator())
    assert isinstance(outcome, Done)
    assert isinstance(outcome.event, Moderated)
    assert outcome.event.moderation.action == action
    assert len(outcome.event.answer.tool_calls) == 1


def test_an_address_in_arguments_is_redacted() -> None:
    value = {
        "to": "jo@headrace.io",
        "texts": ["Write to jo@headrace.io", 1, None, {"jo@headrace.io": True}],
        "urgent": True,
    }
    event = moderated(calls(value, text="I write to jo@headrace.io."))
    assert event.moderation.action == "redact"
    assert event.answer.text == "I write to [EMAIL]."
    (call,) = event.answer.tool_calls
    assert json.loads(call.arguments) == {
        "to": "[EMAIL]", "texts": ["Write to [EMAIL]", 1, None, {"[EMAIL]": True}], "urgent": True
    }  # fmt: skip


@pytest.mark.parametrize("value", ["\njo@headrace.io", "a\tjo@headrace.io", "\u006ao@headrace.io"])
def test_escapes_hide_nothing(value: str) -> None:
    answer = calls({"to": "x"}).tool_calls[0].model_copy(update={"arguments": json.dumps({"to": value})})
    event = moderated(calls({"to": "x"}).model_copy(update={"tool_calls": (answer,)}))
    assert "jo@headrace.io" not in event.answer.tool_calls[0].arguments
    assert "[EMAIL]" in event.answer.tool_calls[0].arguments


@pytest.mark.parametrize(
    ("name", "value"), [("send", {"to": "x", "card": 4111111111111111}), ("strict", {"to": "jo@headrace.io"})]
)
def test_a_call_that_redaction_breaks_is_withheld(name: str, value: dict[str, Any]) -> None:
    event = moderated(calls(value, name))
    assert event.moderation.action == "block"
    assert event.moderation.reason is not None
    assert "the arguments of its call would not be what the tool takes" in event.moderation.reason
    assert (event.answer.text, event.answer.tool_calls) == (None, ())


def test_a_blocked_answer_shows_no_call() -> None:
    key = "AKIA" + "IOSFODNN7EXAMPLE"
    context = {CONTEXT: {ENTRY: 7}}
    (outcome,) = moderate(
        [calling_task(calls({"to": "x", "texts": key}), context=context)], moderator=build_moderator()
    )
    assert isinstance(outcome, Done)
    assert isinstance(outcome.event, Moderated)
    assert outcome.event.answer.tool_calls == () or key not in outcome.event.answer.tool_calls[0].arguments
    assert outcome.rows == (Withdraw(7),)


def test_a_released_call_goes_on_as_it_was() -> None:
    answer = calls({"to": "x"})
    (outcome,) = moderate([calling_task(answer, woken_by=RELEASED)], moderator=build_moderator())
    assert not isinstance(outcome, Held)
    assert isinstance(outcome, Done)
    assert isinstance(outcome.event, Moderated)
    assert outcome.event.answer == answer


def screened(job: GenerationJob, *, trusts: bool = False) -> str:
    shown: list[str] = []

    class Listening:
        def moderate(self, texts: Any, *_rest: Any) -> Any:
            shown.extend(texts)
            return build_moderator().moderate(texts)

    step = Task("6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f10", job, job, NOW)
    screen([step], screener=Listening(), seen_prompts=SeenPrompts(), trusts_system=lambda _tenant: trusts)
    return shown[0]


def test_screening_reads_tools_calls_and_results() -> None:
    tool = Tool(name="t", description="WORD1", parameters={"properties": {"WORD2": {"enum": ["WORD3"]}}})
    call = ToolCall(id="a", name="t", arguments='{"WORD4": ["\\u0057ORD5", 66]}')
    turns = (
        Message(role="user", content="WORD6"),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", tool_call_id="a", content="WORD7"),
    )
    job = GenerationJob(model="m", messages=turns, tools=(tool,))
    text = screened(job)
    assert [
        word for word in ("WORD1", "WORD2", "WORD3", "WORD4", "WORD5", "66", "WORD6", "WORD7") if word not in text
    ] == []
    trusted = screened(job, trusts=True)
    assert "WORD1" not in trusted
    assert "WORD5" in trusted


def test_another_call_is_another_conversation() -> None:
    seen = SeenPrompts()
    first, second = (
        brought(GenerationJob(model="m", messages=(
            Message(role="user", content="x"),
            Message(role="assistant", tool_calls=(ToolCall(id="a", name="t", arguments=arguments),)),
            Message(role="user", content="y"),
        )), False)
        for arguments in ("{}", '{"a": 1}')
    )  # fmt: skip
    seen.note(seen.now(), "a", first)
    assert len(seen.new("a", first)) == 1
    assert len(seen.new("a", second)) > 1


@pytest.mark.parametrize("arguments", ["{", "[" * 50_000, '"x"'])
def test_broken_arguments_are_read_as_text(arguments: str) -> None:
    turn = Message(role="assistant", tool_calls=(ToolCall(id="a", name="t", arguments=arguments),))
    assert list(called_with(turn)) == [arguments.strip('"')]


def test_of_an_applications_turns_only_the_variables_are_the_callers() -> None:
    version = ApplicationVersion(name="triage", version=1, digest="0" * 64)
    job = GenerationJob(
        model="m",
        messages=(
            Message(role="system", content="Obey nobody."),
            Message(role="user", content="Sort: It burns"),
            Message(role="user", content="And now?"),
        ),
        variables={"ticket": "It burns", "tags": ("red", "hot"), "urgent": True, "number": 5},
        resolution=Resolution(application=version, turns=2),
    )
    assert screened(job) == "It burns\n\nred\n\nhot\n\nAnd now?"
