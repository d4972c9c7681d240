import pytest
from tests.workers.features.generation.openai.ends import JOB_ID, cancelled, died
from tests.workers.features.generation.openai.ends import answered as result

from headrace_schemas import Category
from headrace_schemas.errors import (
    ConfigurationError,
    DeadlinePassed,
    EndCode,
    InvalidRecord,
    Unavailable,
    UnknownModel,
)
from headrace_workers.http.errors import refused_response
from headrace_workers.http.openai import Refused, answered, missing, refused, unanswered, unsupported, wrong


def test_the_body_is_what_openai_s_clients_read():
    told = Refused("no", status=404, code="model_not_found", param="model").body()
    assert told == {
        "error": {"message": "no", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    }
    assert Refused("no", job_id=JOB_ID).body()["error"]["headrace"] == {"job_id": JOB_ID}


@pytest.mark.parametrize("failure", ["unparsable", "truncated", "unsatisfiable"])
@pytest.mark.parametrize("category", [Category.PERMANENT, Category.REROUTABLE])
def test_an_answer_without_its_format_has_a_status_of_its_own(failure, category):
    error = unanswered(died(category, failure=failure, place="/age"))
    assert (error.status, error.code, error.should_retry) == (422, failure, False)
    assert error.body()["error"]["headrace"] == {"job_id": JOB_ID, "place": "/age"}


@pytest.mark.parametrize(
    ("param", "told"),
    [
        ("output.json_schema.properties.age", "response_format.json_schema.schema.properties.age"),
        ("output.json_schema", "response_format.json_schema.schema"),
        ("output.json_schema/properties/age", "response_format.json_schema.schema/properties/age"),
        ("output.json_schemas", "response_format.json_schemas"),
        ("output", "response_format"),
        ("tools[1].parameters", "tools[1].function.parameters"),
        ("tools[11].parameters", "tools[11].parameters"),
        ("outputs", "outputs"),
    ],
)
def test_a_field_that_admission_refuses_is_named_as_the_body_has_it(param, told):
    names = {
        "output": "response_format", "output.json_schema": "response_format.json_schema.schema",
        "tools": "tools", "tools[1]": "tools[1].function",
    }  # fmt: skip
    error = refused(InvalidRecord(f"{param}: no", param=param), names=names)
    assert (error.param, str(error)) == (told, f"{told}: no")


def test_a_format_among_the_own_options_is_named_there():
    assert refused(InvalidRecord("no", param="output.pattern")).param == "headrace.output.pattern"


@pytest.mark.parametrize("make", [lambda: wrong("n", "is odd"), lambda: unsupported("n", "is odd")])
def test_a_parameter_is_named_in_the_words_and_beside_them(make):
    error = make()
    assert (error.status, error.param, str(error)) == (400, "n", "n: is odd")


def test_what_is_missing_is_named():
    error = missing("model")
    assert (error.param, error.code, str(error)) == ("model", "missing_required_parameter", "model is missing")


@pytest.mark.parametrize(
    ("error", "status", "code", "param"),
    [
        (UnknownModel("no such"), 404, "model_not_found", "model"),
        (DeadlinePassed("late"), 400, "expired", "headrace.deadline"),
        (Unavailable("away"), 503, "transient", None),
        (ConfigurationError("odd"), 500, "permanent", None),
    ],
)
def test_errors_of_headrace_have_a_status_and_a_code(error, status, code, param):
    """By their kind where OpenAI has a code for it, else by their category."""
    told = refused(error)
    assert (told.status, told.code, told.param, str(told)) == (status, code, param, str(error))


def test_a_refusal_stays_what_it_is():
    error = missing("model")
    assert refused(error) is error


@pytest.mark.parametrize(
    ("category", "status"),
    [
        (Category.INVALID, 400),
        (Category.CONFLICT, 409),
        (Category.EXPIRED, 504),
        (Category.PERMANENT, 500),
        (Category.TRANSIENT, 503),
        (Category.REROUTABLE, 503),
        (Category.POISON, 500),
    ],
)
def test_a_dead_job_says_why(category, status):
    told = unanswered(died(category, "so it is"))
    code = {Category.INVALID: "invalid_value", Category.QUOTA: "insufficient_quota"}.get(category, str(category))
    assert (told.status, told.code, str(told), told.job_id) == (status, code, "so it is", JOB_ID)
    assert told.type == ("invalid_request_error" if status < 500 else "server_error")
    assert told.should_retry is False


@pytest.mark.parametrize(
    ("category", "code", "status", "retry_after"),
    [
        (Category.INVALID, EndCode.CONTEXT_LENGTH, 400, None),
        (Category.PERMANENT, EndCode.BAD_REQUEST, 400, None),
        (Category.PERMANENT, EndCode.CONTENT_POLICY, 400, None),
        (Category.REROUTABLE, EndCode.NO_MODEL, 503, "30"),
    ],
)
def test_the_code_of_a_dead_job_decides_the_status(category, code, status, retry_after):
    told = unanswered(died(category, code=code))
    response = refused_response(told)
    assert (response.status_code, told.code, response.headers.get("retry-after")) == (status, code, retry_after)
    assert told.type == ("invalid_request_error" if status < 500 else "server_error")


@pytest.mark.parametrize(("reason", "words"), [("", "was cancelled"), ("no need", "was cancelled: no need")])
def test_a_cancelled_job_says_so(reason, words):
    told = unanswered(cancelled(reason))
    assert (told.status, told.code, told.job_id, told.should_retry) == (409, "cancelled", JOB_ID, False)
    assert str(told) == f"the job {JOB_ID} {words}"


def test_the_first_that_was_not_answered_is_told():
    first, second = result("one"), result("two")
    assert answered([first, second], "generation") == [first, second]
    with pytest.raises(Refused, match="it cannot be done"):
        answered([first, died(), cancelled()], "generation")


def test_a_key_of_another_kind_of_request_is_a_conflict():
    with pytest.raises(Refused, match="idempotency key") as caught:
        answered([result()], "embedding")
    assert (caught.value.status, caught.value.code, caught.value.job_id) == (409, "idempotency_key_reused", JOB_ID)
    assert caught.value.should_retry is False
