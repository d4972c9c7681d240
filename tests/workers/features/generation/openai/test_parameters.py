import pytest
from tests.workers.features.generation.openai.ends import ASKER

from headrace_workers.features.generation.openai.endpoint import ENDPOINTS
from headrace_workers.http.openai import Parameters, Refused

PARAMETERS = Parameters(
    works=frozenset({"model"}),
    refused={"n": (1,), "logprobs": (False,), "tools": ([],), "choice": ("none", "auto")},
    unmeant={"audio": ()},
)


def test_what_works_is_handed_on_and_null_is_not():
    assert PARAMETERS.given({"model": "m"}) == {"model": "m"}
    assert PARAMETERS.given({"model": None}) == {}


@pytest.mark.parametrize(
    "body", [{"n": 1}, {"n": 1.0}, {"n": None}, {"logprobs": False}, {"tools": []}, {"choice": "auto"}, {"audio": None}]
)
def test_a_value_that_means_the_default_is_taken(body):
    assert PARAMETERS.given(body) == {}


@pytest.mark.parametrize(
    "body",
    [{"n": 2}, {"n": True}, {"n": "1"}, {"logprobs": 0}, {"tools": [{}]}, {"choice": "required"}, {"audio": {}}],
)
def test_any_other_value_is_refused_by_name(body):
    (name,) = body
    with pytest.raises(Refused) as caught:
        PARAMETERS.given(body)
    assert (caught.value.param, caught.value.code, caught.value.status) == (name, "unsupported_parameter", 400)


def test_what_another_rests_on_is_named_before_it():
    with pytest.raises(Refused, match="tools: is not supported") as caught:
        PARAMETERS.given({"choice": "required", "tools": [{}]})
    assert caught.value.param == "tools"


def test_the_words_say_what_may_be_said():
    """As JSON, since that is what is sent."""
    with pytest.raises(Refused, match='choice: is not supported: leave it out, or send "none" or "auto"'):
        PARAMETERS.given({"choice": "x"})
    with pytest.raises(Refused, match="audio: is not supported: leave it out"):
        PARAMETERS.given({"audio": "x"})


@pytest.mark.parametrize("value", [None, 1])
def test_what_is_not_known_is_refused_even_as_null(value):
    with pytest.raises(Refused, match="modle is not known") as caught:
        PARAMETERS.given({"modle": value})
    assert (caught.value.param, caught.value.code) == ("modle", "unknown_parameter")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_wish_among_the_parameters_is_told_where_it_stands(endpoint):
    with pytest.raises(Refused, match=r'priority is not known here: send it as \{"headrace": \{"priority": …\}\}'):
        ENDPOINTS[endpoint]({"priority": 1}, ASKER)
    generates = endpoint not in ("/v1/embeddings", "/v1/moderations", "/v1/decisions")
    words = r'send it as \{"headrace": \{"top_k": …\}\}' if generates else "leave it out"
    with pytest.raises(Refused, match=f"top_k is not known here: {words}") as caught:
        ENDPOINTS[endpoint]({"top_k": 40}, ASKER)
    assert (caught.value.param, caught.value.code) == ("top_k", "unknown_parameter")


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
        ("/v1/completions", {"prompt": "a"}),
        ("/v1/responses", {"input": "a"}),
        ("/v1/embeddings", {"input": "a"}),
    ],
)
def test_a_model_that_is_not_named_is_missing(endpoint, body):
    for asked in (body, {**body, "model": None}):
        with pytest.raises(Refused, match=r"^model is missing$") as caught:
            ENDPOINTS[endpoint](asked, ASKER)
        assert (caught.value.param, caught.value.code) == ("model", "missing_required_parameter")


def test_a_part_of_a_body_is_named_with_its_place():
    for body, param in (({"n": 2}, "tools[0].n"), ({"x": 2}, "tools[0].x"), ("text", "tools[0]")):
        with pytest.raises(Refused) as caught:
            PARAMETERS.given(body, "tools[0]")
        assert caught.value.param == param


def test_a_body_must_be_an_object():
    with pytest.raises(Refused, match="the body must be a JSON object"):
        PARAMETERS.given([])
