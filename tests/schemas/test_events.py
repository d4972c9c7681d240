import pytest
from pydantic import ValidationError

from headrace_schemas import Answer, DeadLetter, Embedding, Moderated, ModerationVerdict, Output, Score, Usage
from headrace_schemas.limits import MAX_TEXT

JOB = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"


def answer(text):
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    return Answer(text=text, finish_reason="stop", model="m", quantization="int8", usage=usage)


def moderated(action, text):
    return Moderated(job_id=JOB, tenant="a", answer=answer(text), moderation=ModerationVerdict(action=action))


def test_an_output_has_a_text():
    assert Output(job_id=JOB, tenant="a", answer=answer("")).text == ""
    with pytest.raises(ValidationError, match=r"answer\.text is missing"):
        Output(job_id=JOB, tenant="a", answer=answer(None))


@pytest.mark.parametrize("text", ["x" * (MAX_TEXT + 1), "a\0b", 7])
def test_another_text_is_checked_as_the_first_was(text):
    """Moderation cannot put into an answer what a model could not."""
    with pytest.raises(ValidationError):
        answer("x").with_text(text)


@pytest.mark.parametrize(("action", "text"), [("block", "x"), ("block", ""), ("allow", None), ("redact", None)])
def test_a_blocked_text_cannot_be_said_and_another_must_be(action, text):
    """Such an event cannot be built, not even by mistake."""
    with pytest.raises(ValidationError, match="absent exactly when the output was blocked"):
        moderated(action, text)


@pytest.mark.parametrize(("action", "text"), [("block", None), ("allow", ""), ("redact", "[EMAIL]")])
def test_what_moderation_may_say(action, text):
    """No text when it was blocked, else one, be it empty."""
    assert moderated(action, text).answer == answer("x").with_text(text) == answer(text)


@pytest.mark.parametrize(
    ("value", "code", "reason"),
    [
        (None, None, None),
        (0.5, "no_model", "no judge"),
        (0.5, None, "no judge"),
        (0.5, "no_model", None),
        (None, "no_model", None),
        (None, None, "no judge"),
    ],
)
def test_a_score_has_a_value_or_a_reason(value, code, reason):
    with pytest.raises(ValidationError, match="either a value, or a code and a reason"):
        Score(criterion="f1", value=value, not_judged=code, reason=reason)


@pytest.mark.parametrize(
    ("fields", "concerned"),
    [
        ({"job_id": JOB}, JOB),
        ({"refers_to": JOB}, JOB),
        ({"refers_to": JOB, "topic": "jobs.cancellation"}, None),
        ({"refers_to": JOB, "topic": "reviews"}, None),
        ({}, None),
    ],
)
def test_a_letter_concerns_the_job_that_ended_or_would_have_been(fields, concerned):
    known = {"category": "invalid", "reason": "r", "stage": "ingest", "topic": "jobs.generation", "size": 0}
    letter = DeadLetter.model_validate(known | {"original": "", "encoding": "utf-8"} | fields)
    assert letter.concerns == concerned


def test_a_vector_is_read_as_numbers() -> None:
    usage = Usage(prompt_tokens=3, completion_tokens=0)
    made = Embedding(model="m", embedder="m/int8/ab", dimensions=2, vector="AACAPwAAAL8=", usage=usage)
    assert made.floats == (1.0, -0.5)
    with pytest.raises(ValidationError, match="vector"):
        Embedding(model="m", embedder="m/int8/ab", dimensions=2, vector="not base64", usage=usage)
