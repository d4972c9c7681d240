import pytest
from tests.workers.features.generation.openai.ends import ASKER, answered

from headrace_schemas.output_format import ChoiceFormat, JsonObjectFormat, JsonSchemaFormat
from headrace_workers.features.generation.openai.endpoint import ENDPOINTS
from headrace_workers.http.openai import Refused

CHAT = {"model": "mill", "messages": [{"role": "user", "content": "a"}]}
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}}
TICKET = JsonSchemaFormat(json_schema=SCHEMA, name="ticket")
WRAPPED = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": SCHEMA}}
FLAT = {"type": "json_schema", "name": "ticket", "schema": SCHEMA}


def by_chat(output, **more):
    (job,) = ENDPOINTS["/v1/chat/completions"]({**CHAT, "response_format": output, **more}, ASKER).jobs
    return job


def by_response(output, **more):
    body = {"model": "mill", "input": "a", "text": {"format": output}, **more}
    (job,) = ENDPOINTS["/v1/responses"](body, ASKER).jobs
    return job


@pytest.mark.parametrize("strict", [{}, {"strict": None}, {"strict": True}, {"strict": False}])
def test_a_schema_is_the_format_of_the_job(strict):
    wrapped = {"type": "json_schema", "json_schema": {**WRAPPED["json_schema"], **strict}}
    assert by_chat(wrapped).output == by_response({**FLAT, **strict}).output == TICKET


@pytest.mark.parametrize("ask", [by_chat, by_response])
def test_formats_without_a_schema(ask):
    assert ask({"type": "json_object"}).output == JsonObjectFormat()
    assert ask({"type": "text"}).output is ask(None).output is None


def test_a_description_stands_in_the_schema():
    """The model reads the schema, so that it reads the description, too; the schema's own stays behind it."""
    described = {**FLAT, "description": "Of a shop."}
    assert by_response(described).output.json_schema == {**SCHEMA, "description": "Of a shop."}
    own = by_response({**described, "schema": {**SCHEMA, "description": "A ticket."}})
    assert own.output.json_schema["description"] == "Of a shop.\nA ticket."
    assert "description" not in SCHEMA


@pytest.mark.parametrize("name", ["Ticket", "_ticket-2", "9", "x" * 64])
def test_a_format_may_have_any_name_that_openai_takes(name):
    assert by_response({**FLAT, "name": name}).output.name == name


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_a_format_that_openai_does_not_have_is_an_own_option(endpoint):
    output = {"type": "choice", "choices": ["yes", "no"]}
    given = {**CHAT, "prompt": "a", "input": "a", "headrace": {"output": output}}
    body = {name: value for name, value in given.items() if name not in _OF_OTHERS[endpoint]}
    (job,) = ENDPOINTS[endpoint](body, ASKER).jobs
    assert job.output == ChoiceFormat(choices=("yes", "no"))


_OF_OTHERS = {
    "/v1/chat/completions": ("prompt", "input"),
    "/v1/completions": ("messages", "input"),
    "/v1/responses": ("messages", "prompt"),
}


@pytest.mark.parametrize(
    ("output", "param"),
    [
        ("json", ""),
        ({}, ".type"),
        ({"type": "choice", "choices": ["a"]}, ".type"),
        ({"type": "json_object", "schema": {}}, ".schema"),
        ({"type": "text", "schema": {}}, ".schema"),
    ],
)
def test_an_unknown_format_is_refused_by_its_place(output, param):
    for ask, name in ((by_chat, "response_format"), (by_response, "text.format")):
        with pytest.raises(Refused) as caught:
            ask(output)
        assert (caught.value.status, caught.value.param) == (400, name + param)


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"name": None}, "name", "missing_required_parameter"),
        ({"name": "a b"}, "name", "invalid_value"),
        ({"name": "x" * 65}, "name", "invalid_value"),
        ({"schema": None}, "schema", "missing_required_parameter"),
        ({"schema": [1]}, "schema", "invalid_value"),
        ({"schema": "{}"}, "schema", "invalid_value"),
        ({"strict": "yes"}, "strict", "invalid_value"),
        ({"description": 1}, "description", "invalid_value"),
        ({"frob": 1}, "frob", "unknown_parameter"),
    ],
)
def test_a_part_of_a_format_is_refused_by_its_place(change, param, code):
    wrapped = {"type": "json_schema", "json_schema": {**WRAPPED["json_schema"], **change}}
    for ask, output, within in (
        (by_chat, wrapped, "response_format.json_schema"),
        (by_response, {**FLAT, **change}, "text.format"),
    ):
        with pytest.raises(Refused) as caught:
            ask(output)
        assert (caught.value.param, caught.value.code) == (f"{within}.{param}", code)


def test_a_chat_s_schema_must_be_there():
    with pytest.raises(Refused) as caught:
        by_chat({"type": "json_schema"})
    assert caught.value.param == "response_format.json_schema"


@pytest.mark.parametrize("ask", [by_chat, by_response])
def test_a_format_is_given_once(ask):
    with pytest.raises(Refused, match=r"headrace\.output names a format, too"):
        ask({"type": "json_object"}, headrace={"output": {"type": "json_object"}})


def test_an_own_format_is_refused_by_its_place():
    with pytest.raises(Refused) as caught:
        by_chat(None, headrace={"output": {"type": "regex", "pattern": ""}})
    assert caught.value.param == "headrace.output.pattern"


def test_the_response_repeats_its_format():
    body = {"model": "mill", "input": "a", "text": {"format": FLAT, "verbosity": "medium"}}
    told = ENDPOINTS["/v1/responses"](body, ASKER).answer([answered("{}")])
    assert told["text"] == {"format": FLAT, "verbosity": "medium"}
