import ast
import json
import re
from typing import Any

import pytest

from headrace_producers import MemoryProducer
from headrace_schemas import GenerationJob
from headrace_schemas.errors import InvalidRecord
from headrace_workers.features.console.form import Form, Turn, code_of

FORMS = (
    Form(question="What flows?", model="echo"),
    Form(question='It\'s "so"\nJOB\n$HOME `x` \\', model="echo", temperature="0.5", max_tokens="30", knowledge="mills"),
    Form(question="And now?", model="echo", system="Be brief.", turns=(Turn("user", "a"), Turn("assistant", "b"))),
    Form(question="x", model="triage", variables='name = Ann\ncount = 3\ntags = ["a", "b"]'),
    Form(question="x", model="echo", format="json_schema", detail='{"type": "object"}', judge="Is it right?"),
    Form(question="x", model="echo", format="choice", detail="yes\n\nno"),
    Form(question="x", model="echo", format="regex", detail="[a-z]+"),
    Form(question="x", model="echo", format="json_object"),
)


def job_of(form: Form) -> GenerationJob:
    return GenerationJob.model_validate_json(json.dumps(form.document()), strict=True)


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_a_job_asks_for_the_same_job(form: Form):
    assert job_of(Form.of(job_of(form))) == job_of(form)


@pytest.mark.parametrize("form", FORMS)
def test_the_code_sends_the_same_job(form: Form):
    job = job_of(form)
    curl, python, kafka = (code.text for code in code_of(job, "http://127.0.0.1:8420"))
    (document,) = re.findall(r"<<'JOB'\n(.*)\nJOB\n$", curl, re.DOTALL)
    assert GenerationJob.model_validate_json(document, strict=True) == job
    (literal,) = [node.value for node in ast.parse(python).body if isinstance(node, ast.Assign)][:1]
    assert GenerationJob.model_validate_json(json.dumps(ast.literal_eval(literal)), strict=True) == job
    producer = MemoryProducer()
    (call,) = [node for node in ast.walk(ast.parse(kafka)) if _calls(node, "generate")]
    given: dict[str, Any] = {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in call.keywords}  # type: ignore[attr-defined]
    producer.generate(**given)
    assert [sent for _, sent in producer.jobs] == [job]


def _calls(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name


def test_a_conversation_goes_on_with_its_answer():
    form = Form.of(job_of(FORMS[2]), answer="c")
    assert [turn.content for turn in form.turns] == ["a", "b", "And now?", "c"]
    assert (form.question, form.system) == ("", "Be brief.")


def test_the_key_is_of_the_form_and_its_content():
    form = FORMS[0].with_nonce("1")
    assert form.key(form.document()) == form.key(form.document())
    others = [form.with_nonce("2"), Form(question="Other", model="echo", nonce="1")]
    assert form.key(form.document()) not in {other.key(other.document()) for other in others}


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (Form(max_tokens="many"), "Longest answer is 'many'"),
        (Form(variables="name"), "has no `=`"),
        (Form(format="json_schema", detail="{"), "the schema is not JSON"),
    ],
)
def test_a_field_that_is_no_value_of_its_kind_is_named(form: Form, words: str):
    with pytest.raises(InvalidRecord, match=words):
        form.document()
