"""Every parameter does something, or is refused: of all methods, as data."""

import pytest
from tests.workers.features.generation.openai.ends import answered

from headrace_schemas.job import Lane
from headrace_workers.features.generation.openai import chat, completions, decisions, embeddings, moderations, responses
from headrace_workers.features.generation.openai.endpoint import ENDPOINTS
from headrace_workers.features.generation.openai.request import RequestContext
from headrace_workers.http.openai import Refused

ASKER = RequestContext("shop", "k", Lane.INTERACTIVE)
PREDICATE = {"type": "predicate", "instructions": "It is late."}
METHODS = {
    "/v1/chat/completions": (chat, {"model": "mill", "messages": [{"role": "user", "content": "a"}]}),
    "/v1/completions": (completions, {"model": "mill", "prompt": "a"}),
    "/v1/responses": (responses, {"model": "mill", "input": "a"}),
    "/v1/embeddings": (embeddings, {"model": "minilm", "input": "a"}),
    "/v1/moderations": (moderations, {"input": "a"}),
    "/v1/decisions": (decisions, {"model": "mill", "input": "a", "questions": [PREDICATE]}),
}
# A value of each parameter that is not what it is anyway.
OTHER = {
    "messages": [{"role": "user", "content": "b"}],
    "prompt": "b",
    "input": "b",
    "model": "other",
    "instructions": "i",
    "temperature": 0.5,
    "top_p": 0.5,
    "seed": 1,
    "stop": "s",
    "max_tokens": 5,
    "max_completion_tokens": 5,
    "max_output_tokens": 5,
    "service_tier": "flex",
    "metadata": {"a": "b"},
    "safety_identifier": "u",
    "user": "u",
    "dimensions": 8,
    "encoding_format": "base64",
    "stream": True,
    "background": True,
    "store": False,
    "response_format": {"type": "json_object"},
    "text": {"format": {"type": "json_object"}},
    "headrace": {"priority": 1},
    "questions": [{**PREDICATE, "name": "late"}],
}
# These make sense beside another one only, or are the gateway's to read.
TOOLS = {
    "/v1/chat/completions": [{"type": "function", "function": {"name": "f"}}],
    "/v1/responses": [{"type": "function", "name": "f"}],
}
BESIDE = {
    "stream_options": ({"stream": True}, {"include_usage": True}),
}
TOLD_ONLY = {"encoding_format", "background", "store"}  # the job is the same, the answer is not


def all_of(kind):
    return [(url, name) for url, (method, _) in METHODS.items() for name in sorted(getattr(method.PARAMETERS, kind))]


def test_every_url_has_its_method():
    assert {url: method.read for url, (method, _) in METHODS.items()} == ENDPOINTS


@pytest.mark.parametrize(("url", "name"), all_of("works"))
def test_what_works_does_something(url, name):
    _, body = METHODS[url]
    if name == "previous_response_id":  # the gateway looks it up
        with pytest.raises(Refused, match="earlier responses are not at hand here"):
            ENDPOINTS[url]({**body, name: "x"}, ASKER)
        return
    if name == "prompt" and url == "/v1/responses":  # instead of a model
        (job,) = ENDPOINTS[url]({"prompt": {"id": "triage", "version": "3", "variables": {"a": 1}}}, ASKER).jobs
        assert (job.application, job.variables, job.model) == ("triage@3", {"a": 1}, None)
        return
    other = {**OTHER, "tools": TOOLS.get(url)}
    with_tools = {"tools": TOOLS.get(url)}
    beside = {**BESIDE, "tool_choice": (with_tools, "required"), "parallel_tool_calls": (with_tools, False)}
    beside, value = beside.get(name, ({}, other.get(name)))
    plain, changed = ENDPOINTS[url]({**body, **beside}, ASKER), ENDPOINTS[url]({**body, **beside, name: value}, ASKER)
    if name in TOLD_ONLY and url == "/v1/responses":
        assert plain.answer([answered()])[name] != changed.answer([answered()])[name]
    elif name == "stream_options":
        told = [list(request.chunks(request.answer([answered()]))) for request in (plain, changed)]
        assert url == "/v1/responses" or told[0] != told[1]
    elif name not in TOLD_ONLY:
        assert (plain.jobs, plain.stream) != (changed.jobs, changed.stream)


@pytest.mark.parametrize(("url", "name"), all_of("refused") + all_of("unmeant"))
def test_what_does_not_work_is_refused_by_name(url, name):
    """But for null, and for values that mean the default."""
    method, body = METHODS[url]
    plain = {**method.PARAMETERS.refused, **method.PARAMETERS.unmeant}[name]
    for value in (None, *plain):
        assert ENDPOINTS[url]({**body, name: value}, ASKER).jobs == ENDPOINTS[url](body, ASKER).jobs
    with pytest.raises(Refused) as caught:
        ENDPOINTS[url]({**body, name: "another"}, ASKER)
    assert (caught.value.param, caught.value.status) == (name, 400)


@pytest.mark.parametrize("url", METHODS)
@pytest.mark.parametrize("body", [{}, [], "text", None, {"headrace": 1}])
def test_whatever_comes_is_refused_and_nothing_else(url, body):
    with pytest.raises(Refused):
        ENDPOINTS[url](body, ASKER)
