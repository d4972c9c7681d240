import json
from pathlib import Path
from typing import Any

import pytest
from tests.workers.models.engines.remote_models import catalogue
from tests.workers.runtime.bridge.records import Models, generation

from headrace_schemas import GenerationJob, Message, Sampling
from headrace_schemas.errors import InvalidRecord, PromptTooLong
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_schemas.tool import NO_TOOLS, Offer, Tool, ToolCall
from headrace_workers.features.generation.admission import PromptCheck
from headrace_workers.models.engines.counting import CountingModels
from headrace_workers.models.registry import Registry
from headrace_workers.testing import make_echo_model, make_tiny_model

pytestmark = pytest.mark.integration  # schemas are compiled in a process of their own

HOLDS = 100  # words of prompt


class Words(Models):
    """Models for which each word and each comma is a token, and which hold few."""

    def context_length(self, _alias: str) -> int | None:
        return HOLDS

    def prompt_tokens(
        self, _alias: str, messages: tuple[Message, ...], _tenant: str, offer: Offer = NO_TOOLS
    ) -> int | None:
        texts = [message.content for message in messages] + [tool.description for tool in offer.tools]
        tokens = sum(len(text.replace(",", " ").split()) for text in texts)
        if tokens >= HOLDS:
            raise PromptTooLong(f"the prompt has {tokens} tokens, and the model holds {HOLDS}")
        return tokens


CHECK = PromptCheck(Words())


def asking(values: int, prompt: str = "hello", *, in_prompt: bool = True) -> GenerationJob:
    output = JsonSchemaFormat(
        json_schema={"enum": [f"value-{number}" for number in range(values)]}, in_prompt=in_prompt
    )
    return generation(prompt=prompt, output=output, sampling=Sampling(max_tokens=7))


def test_the_schema_in_the_prompt_is_counted() -> None:
    few, many = CHECK.examine(asking(3)), CHECK.examine(asking(30))
    assert few is not None
    assert many == few + 27


def test_a_schema_that_exhausts_the_context_is_refused_with_that_reason() -> None:
    job = asking(100)
    assert CHECK.is_doubtful(job)
    with pytest.raises(
        PromptTooLong, match=r"the format that stands in the prompt.*output\.in_prompt to false"
    ) as exception_info:
        CHECK.examine(job)
    assert exception_info.value.param == "output"


def test_tools_that_exhaust_the_context_are_refused_with_that_reason() -> None:
    """The error names the tools, but not where the conversation alone is too long."""
    tools = tuple(Tool(name=f"t{number}", description="word " * 30) for number in range(4))
    with pytest.raises(
        PromptTooLong, match=r"the tools that the prompt describes make it too long.*fewer"
    ) as exception_info:
        CHECK.examine(generation(prompt="hello", tools=tools, tool_choice="required"))
    assert exception_info.value.param == "tools"
    with pytest.raises(PromptTooLong) as exception_info:
        CHECK.examine(generation(prompt="word " * 200, tools=tools, tool_choice="required"))
    assert exception_info.value.param is None


def test_a_schema_that_is_left_out_of_the_prompt_costs_nothing() -> None:
    assert CHECK.examine(asking(1_000, in_prompt=False)) == 1 + 7


def test_a_prompt_that_is_too_long_by_itself_is_refused_as_ever() -> None:
    with pytest.raises(PromptTooLong) as exception_info:
        CHECK.examine(asking(1, "word " * 200))
    assert exception_info.value.param is None


QWEN = Path(__file__).parents[2] / "models" / "engines" / "templates" / "qwen2.5.jinja"
WEATHER = Tool(name="get_weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `tiny`, whose template knows no tools, `handy`, whose template does, `echo`, `far` and `bare`."""
    home = tmp_path_factory.mktemp("home")
    make_tiny_model(home)
    make_echo_model(home)
    folder = home / "models" / "handy"
    (home / "models" / "tiny").rename(folder)
    make_tiny_model(home)
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": QWEN.read_text()}))
    card = folder / "model.toml"
    card.write_text(card.read_text().replace('"tiny"', '"handy"'))
    catalogue(home, "openai", "http://localhost:9", alias="bare", lacks=["tools"])
    bare = (home / "models.toml").read_text()
    catalogue(home, "openai", "http://localhost:9")
    (home / "models.toml").write_text(bare + (home / "models.toml").read_text())
    return home


@pytest.fixture(scope="module")
def models(home: Path) -> CountingModels:
    return CountingModels(home, Registry(home))


def asks(model: str | tuple[str, ...], choice: Any = None, tools: tuple[Tool, ...] = (WEATHER,)) -> Any:
    return generation(model=model, prompt="Is it warm?", tools=tools, tool_choice=choice)


@pytest.mark.parametrize(
    ("alias", "knows"),
    [("handy", True), ("far", True), ("tiny", True), ("echo", False), ("bare", False), ("none", False)],
)
def test_the_registry_says_which_models_know_tools(models: CountingModels, alias: str, knows: bool) -> None:
    assert models.knows_tools(alias) is knows


@pytest.mark.parametrize(
    ("model", "choice", "unable"),
    [
        ("handy", "auto", None), ("far", None, None), ("tiny", None, None), ("echo", "auto", "echo"),
        ("bare", "auto", "bare"), (("handy", "bare"), "auto", "bare"), ("tiny", "required", None),
        ("bare", {"name": "get_weather"}, None), ("tiny", "none", None),
    ],
)  # fmt: skip
def test_only_a_model_that_knows_tools_may_choose(
    models: CountingModels, model: str | tuple[str, ...], choice: Any, unable: str | None
) -> None:
    check = PromptCheck(models)
    job = asks(model, choice)
    check.check(job)
    assert check.is_doubtful(job)
    if unable is None:
        check.examine(job)
        return
    with pytest.raises(InvalidRecord, match=f"the model {unable} cannot choose whether to call a tool") as caught:
        check.examine(job)
    assert (caught.value.param, caught.value.code) == ("tool_choice", "unsupported_parameter")


def test_tools_that_are_too_large_are_refused_at_once(models: CountingModels) -> None:
    many = tuple(Tool(name=f"t{n}", parameters={"description": "x" * 5_000}) for n in range(60))
    with pytest.raises(InvalidRecord, match="the limit is 262,144") as caught:
        PromptCheck(models).check(asks("far", "required", many))
    assert caught.value.param == "tools"


@pytest.mark.parametrize("choice", ["required", "none"])
def test_a_schema_that_is_none_is_refused(models: CountingModels, choice: str) -> None:
    wrong = Tool(name="wrong", parameters={"properties": {"a": {"type": "text"}}})
    with pytest.raises(InvalidRecord, match="it is no JSON Schema") as caught:
        PromptCheck(models).examine(asks("tiny", choice, (WEATHER, wrong)))
    assert caught.value.param == "tools[1].parameters/properties/a/type"


@pytest.mark.parametrize("model", ["tiny", "handy"])
def test_tools_count_as_tokens_of_the_prompt(models: CountingModels, model: str) -> None:
    check = PromptCheck(models)
    without, with_them = check.examine(asks(model, "none")), check.examine(asks(model, "required"))
    assert without is not None
    assert with_them is not None
    assert with_them > without + len(json.dumps(WEATHER.parameters))
    large = Tool(name="large", description="x" * MAX_SHORT_TEXT)
    with pytest.raises(PromptTooLong, match=f"the context of {model} holds 2048"):
        check.examine(asks(model, "required", (large,)))


def test_calls_of_before_are_counted(models: CountingModels) -> None:
    call = ToolCall(id="a", name="get_weather", arguments=json.dumps({"city": "x" * 3_000}))
    turns = (Message(role="user", content="Hi"), Message(role="assistant", tool_calls=(call,)))
    job = generation(model="tiny", prompt=None, messages=turns)
    check = PromptCheck(models)
    assert check.is_doubtful(job)
    with pytest.raises(PromptTooLong):
        check.examine(job)


@pytest.fixture
def check(tmp_path: Path) -> PromptCheck:
    """Return the check of a home with the model `echo`."""
    make_echo_model(tmp_path)
    return PromptCheck(CountingModels(tmp_path, Registry(tmp_path)))


def _asks(schema: dict[str, Any]) -> Any:
    return generation(model="echo", output={"type": "json_schema", "json_schema": schema})


def test_a_new_format_is_examined_and_then_known(check: PromptCheck) -> None:
    job = _asks({"title": "examined once", "type": "string"})
    check.check(job)
    assert check.is_doubtful(job)

    check.examine(job)

    assert not check.is_doubtful(job)


def test_a_refused_format_is_refused_at_once_the_second_time(check: PromptCheck) -> None:
    job = _asks({"properties": {"refused once": {"pattern": "(?!a)b"}}})
    check.check(job)

    for refuse in (check.examine, check.check):
        with pytest.raises(InvalidRecord, match="looks around") as refused:
            refuse(job)
        assert refused.value.param == "output.json_schema/properties/refused once/pattern"


def test_a_job_without_a_format_is_not_doubtful_for_it(check: PromptCheck) -> None:
    assert not check.is_doubtful(generation(model="echo"))
    assert not check.is_doubtful(generation(model="echo", output={"type": "choice", "choices": ["a"]}))
