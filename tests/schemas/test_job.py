import json
import uuid

import pytest
from pydantic import ValidationError

from headrace_schemas import (
    Choice,
    DecisionJob,
    EmbeddingJob,
    EvaluationJob,
    ExactMatch,
    GenerationJob,
    Length,
    Message,
    ModerationJob,
    Pairwise,
    Rubric,
    TokenF1,
)
from headrace_schemas.application import ApplicationVersion, Resolution
from headrace_schemas.codec import decode_job, decode_value, encode_given, encode_value
from headrace_schemas.criteria import Uncertain
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.job import JOB_NAMESPACE, POLICY_MODEL, derive_job_id
from headrace_schemas.tool import ToolCall

TURNS = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="First?"),
    Message(role="assistant", content="One."),
    Message(role="user", content="Second?"),
)


def test_the_id_is_a_uuid5_that_any_language_can_compute() -> None:
    assert derive_job_id("shop", "order-7") == str(uuid.uuid5(JOB_NAMESPACE, "shop\norder-7"))
    assert derive_job_id("shop", "order-7") == "a6734337-8c9e-5943-85bd-f74c7d59c3a3"


def test_the_key_decides_over_the_event() -> None:
    keyed = GenerationJob(model="m", prompt="p", idempotency_key="k")
    plain = GenerationJob(model="m", prompt="p")
    assert keyed.job_id("e1") == keyed.job_id("e2")
    assert plain.job_id("e1") != plain.job_id("e2")


def test_tenants_do_not_share_ids() -> None:
    assert derive_job_id("a", "k") != derive_job_id("b", "k")


@pytest.mark.parametrize("fields", [{}, {"prompt": "p", "messages": TURNS}, {"prompt": ""}, {"messages": ()}])
def test_prompt_or_messages(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GenerationJob(model="m", **fields)


def test_a_result_follows_the_call_that_asked_for_it() -> None:
    """A turn of a tool names a call of a turn before it; else the error has its place."""
    result = Message(role="tool", tool_call_id="a", content="mild")
    call = Message(role="assistant", tool_calls=(ToolCall(id="a", name="weather", arguments="{}"),))
    assert GenerationJob(model="m", messages=(*TURNS, call, result)).messages[-1] == result
    for turns in ((result,), (result, call), (call, result.model_copy(update={"tool_call_id": "b"}))):
        with pytest.raises(ValidationError) as caught:
            GenerationJob(model="m", messages=turns)
        place = next(place for place, turn in enumerate(turns) if turn.role == "tool")
        assert caught.value.errors()[0]["loc"] == ("messages", place, "tool_call_id")


def test_conversation_and_question() -> None:
    assert GenerationJob(model="m", prompt="p").conversation == (Message(role="user", content="p"),)
    assert GenerationJob(model="m", prompt="p").question == "p"
    assert GenerationJob(model="m", messages=TURNS).conversation == TURNS
    assert GenerationJob(model="m", messages=TURNS).question == "Second?"
    assert GenerationJob(model="m", messages=TURNS[:1]).question == ""


def test_the_judge_models_of_a_job() -> None:
    one, other = Rubric(question="Kind?", model="b"), Pairwise(model="a")
    job = GenerationJob(model="m", prompt="p", criteria=(Rubric(question="Short?"), one, ExactMatch(), other, one))
    assert job.judge_models == ("b", "a")
    assert job.asks_judge
    assert GenerationJob(model="m", prompt="p", criteria=(ExactMatch(),)).judge_models == ()


def test_a_doubt_is_about_one_other_criterion_that_is_always_judged() -> None:
    doubt = Pairwise(uncertain=Uncertain(criterion="f1"))
    assert GenerationJob(model="m", prompt="p", criteria=(doubt, TokenF1())).criteria[0] == doubt
    for others in (
        (),
        (TokenF1(share=0.5),),
        (TokenF1(), TokenF1()),
        (TokenF1(name="other"),),
        (TokenF1(uncertain=Uncertain(criterion="exact_match")), ExactMatch()),
    ):
        with pytest.raises(ValidationError, match=r"uncertain\.criterion must be"):
            GenerationJob(model="m", prompt="p", criteria=(doubt, *others))
    with pytest.raises(ValidationError, match=r"uncertain\.criterion must be"):
        GenerationJob(model="m", prompt="p", criteria=(TokenF1(uncertain=Uncertain(criterion="f1")),))


def test_how_often_it_is_asked_is_no_part_of_a_version() -> None:
    sampled = TokenF1(name="b", share=0.5, uncertain=Uncertain(criterion="x"))
    assert TokenF1(name="a").version == sampled.version
    assert Pairwise().version != Pairwise(guidance="Brevity is no fault.").version


def test_an_evaluation_needs_a_criterion() -> None:
    with pytest.raises(ValidationError, match="criteria"):
        EvaluationJob(input="i", output="o", criteria=())
    assert not GenerationJob(model="m", prompt="p").asks_judge


def test_lengths_are_ordered() -> None:
    with pytest.raises(ValidationError, match="below"):
        Length(min_words=5, max_words=4)


@pytest.mark.parametrize("tenant", ["", "a\nb", "ü", "-a", "a" * 65])
def test_a_tenant_is_a_plain_name(tenant: str) -> None:
    with pytest.raises(ValidationError, match="tenant"):
        GenerationJob(model="m", prompt="p", tenant=tenant)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"input": ""}, "input"),
        ({"input": "a" * 200_001}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 16_385}, "dimensions"),
        ({"dimensions": 1.5}, "dimensions"),
        ({"criteria": [{"criterion": "json_valid"}]}, "criteria"),
        ({"model": None}, "model"),
    ],
)
def test_what_an_embedding_may_ask_for(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        EmbeddingJob.model_validate({"model": "m", "input": "i"} | fields)
    assert EmbeddingJob.model_validate({"model": "m", "input": "i", "dimensions": 16_384.0}).dimensions == 16_384


def test_a_moderation_names_no_model() -> None:
    assert ModerationJob(input="a", model=POLICY_MODEL).model_copy(update={"model": None}) == ModerationJob(input="a")
    with pytest.raises(ValidationError, match="input"):
        ModerationJob(input="")


def test_a_job_may_name_a_chain_of_models():
    job = decode_job("generation", b'{"model": ["small", "large"], "prompt": "p"}')
    assert (job.chain, job.first_model) == (("small", "large"), "small")
    assert decode_job("generation", encode_value(job)) == job
    assert decode_job("generation", b'{"model": "small", "prompt": "p"}').chain == ("small",)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"prompt": "p"}, "model: is missing"),
        ({"model": "m", "application": "a", "prompt": "p"}, "both model and application are given"),
        ({"model": "m"}, "neither prompt nor messages is given"),
        ({"model": ["m", "n"], "variables": {"text": "t"}, "prompt": "p"}, "variables are given with a list of models"),
        ({"application": "a@"}, "application: must be"),
        ({"application": "a", "variables": {"list": [1]}}, "variables.list.0: must be text, not a number"),
        ({"application": "a", "variables": {"list": ["t"] * 101}}, "variables.list: at most 100"),
    ],
)
def test_a_job_names_one_model_or_application(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidRecord) as refused:
        decode_value("headrace.job.generation.v1", json.dumps(fields).encode())
    assert str(refused.value).startswith(reason)


def test_an_application_needs_no_messages() -> None:
    assert GenerationJob(application="triage@3").chain == ()
    assert GenerationJob(model="triage@production", variables={"text": "t"}).first_model == "triage@production"


def test_only_the_ledger_may_hold_a_resolution() -> None:
    version = ApplicationVersion(name="triage", version=3, digest="0" * 64)
    resolved = GenerationJob(model="m", prompt="p", resolution=Resolution(application=version, turns=0))
    value = encode_value(resolved)
    assert decode_job("generation", value) == resolved
    with pytest.raises(InvalidRecord, match="'resolution': is no field that is known here"):
        decode_value("headrace.job.generation.v1", value)


def test_a_producer_sends_only_the_fields_that_were_given() -> None:
    job = GenerationJob(application="triage", sampling={"top_k": 0})
    assert json.loads(encode_given(job)) == {"application": "triage", "sampling": {"top_k": 0}}
    assert decode_job("generation", encode_given(job)).sampling.model_fields_set == {"top_k"}


QUESTION = {"type": "predicate", "instructions": "Is it urgent?"}
SCALE = {"type": "score", "instructions": "How urgent?"}


def choice(*values: object) -> dict[str, object]:
    return {"type": "choice", "instructions": "Which?", "choices": [{"value": value} for value in values]}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"questions": []}, "questions: at least 1"),
        ({"questions": [QUESTION] * 401}, "questions: at most 400 questions, not 401"),
        ({"questions": [QUESTION | {"name": "a"}] * 2}, "questions: have a name twice"),
        ({"questions": [QUESTION, {"type": "guess"}]}, r"questions\.1\.type: must be one of"),
        ({"questions": [choice("a")]}, r"questions\.0\.choices: at least 2 of choices"),
        ({"questions": [choice(*map(str, range(256)))]}, r"questions\.0\.choices: at most 255 choices, not 256"),
        ({"questions": [choice("a", "b", "a")]}, r"questions\.0: choices\[2\] has the value of a choice before it"),
        ({"questions": [choice(True, False, True)]}, r"choices\[2\] has the value of a choice before it"),
        ({"questions": [choice("a", 1)]}, r"choices\.1\.value: must be text, true or false, not a number"),
        ({"questions": [choice("a", "b" * 2_001)]}, r"questions\.0\.choices\.1\.value: has more than 2000 characters"),
        ({"questions": [choice(*map(str, range(255)))] * 79}, "questions: have 20,145 choices and levels in all"),
        ({"questions": [{**SCALE, "levels": [{"label": "a"}, {"label": "a"}]}]}, r"levels\[1\] has the label"),
        (
            {"questions": [{**SCALE, "levels": [{"label": "a", "value": 1}, {"label": "b"}]}]},
            r"levels\[1\] has no value",
        ),
        ({"input": None}, "give either input or messages"),
        ({"messages": [{"role": "user", "content": "i"}]}, "give either input or messages"),
        ({"model": ["m", "m"]}, "model names a model twice"),
        ({"model": None}, "model: is missing"),
    ],
)  # fmt: skip
def test_a_decision_that_cannot_be_made_is_refused_with_the_place(fields: dict[str, object], reason: str) -> None:
    document = {"model": "m", "input": "i", "questions": [QUESTION]} | fields
    sent = {name: value for name, value in document.items() if value is not None}
    with pytest.raises(InvalidRecord, match=reason):
        decode_job("decision", json.dumps(sent).encode())


def test_true_and_the_text_true_are_different_choices() -> None:
    sent = {"model": "m", "input": "i", "questions": [choice(True, "true", "True", False)] * 400}
    job = decode_job("decision", json.dumps(sent).encode())
    assert isinstance(job, DecisionJob)
    assert len(job.questions) == 400
    asked = job.questions[0]
    assert isinstance(asked, Choice)
    assert [repr(option.value) for option in asked.choices] == ["True", "'true'", "'True'", "False"]
    assert decode_job("decision", encode_value(job)) == job
