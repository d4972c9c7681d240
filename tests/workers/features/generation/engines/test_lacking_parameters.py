"""Sampling parameters that a model lacks are refused when a job comes in, by their names."""

from pathlib import Path

import pytest
from tests.workers.features.generation.engines.remote_models import catalogue
from tests.workers.runtime.bridge.records import generation

from headrace_schemas.errors import InvalidRecord
from headrace_workers.features.generation.admission import PromptCheck
from headrace_workers.features.generation.engines.counting import CountingModels
from headrace_workers.features.generation.models.registry import Registry
from headrace_workers.http.openai_errors import refused
from headrace_workers.testing import make_echo_model


def check_of(home: Path, engine: str = "openai", **entries: object) -> PromptCheck:
    """Return the check of a home with the remote model `far` and the local model `echo`."""
    catalogue(home, engine, "http://localhost:9", **entries)
    make_echo_model(home)
    return PromptCheck(CountingModels(home, Registry(home)))


@pytest.mark.parametrize(
    ("engine", "lacks", "sampling", "named"),
    [
        ("openai", [], {"top_k": 5}, "top_k"),
        ("openai", [], {"repetition_penalty": 1.2}, "repetition_penalty"),
        ("openai", ["seed"], {"seed": 0}, "seed"),
        ("openai", ["temperature"], {"temperature": 0.7}, "temperature"),
        ("openai", ["stop"], {"stop": ["x"]}, "stop"),
        ("anthropic", [], {"temperature": 1.0}, "temperature"),
        ("anthropic", [], {"top_p": 0.5}, "top_p"),
        ("anthropic", [], {"seed": 7}, "seed"),
    ],
)
def test_a_parameter_that_the_model_lacks_is_refused(
    tmp_path: Path, engine: str, lacks: list[str], sampling: dict[str, object], named: str
) -> None:
    """By what the engine never sends, and by what the entry says; the error names the field, also as HTTP has it."""
    check = check_of(tmp_path, engine, lacks=lacks)
    with pytest.raises(InvalidRecord, match=f"the model far has no parameter {named}") as caught:
        check.check(generation(model="far", sampling=sampling))
    assert caught.value.param == f"sampling.{named}"
    own = ("top_k", "repetition_penalty")
    told = refused(caught.value)
    assert (told.param, told.status) == (f"headrace.{named}" if named in own else named, 400)
    assert told.code == "unsupported_parameter"


@pytest.mark.parametrize(
    "sampling", [{}, {"max_tokens": 5}, {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "seed": None, "stop": []}]
)
def test_a_usual_value_asks_for_nothing(tmp_path: Path, sampling: dict[str, object]) -> None:
    """A job that writes down the defaults is accepted by every model."""
    check_of(tmp_path, "anthropic", lacks=["stop"]).check(generation(model="far", sampling=sampling))


def test_a_model_of_this_machine_has_them_all(tmp_path: Path) -> None:
    """A refusal is of the model that lacks the parameter, and of no other."""
    check_of(tmp_path).check(generation(model="echo", sampling={"temperature": 0.5, "top_k": 5, "seed": 3}))


def test_each_model_of_a_chain_must_have_it(tmp_path: Path) -> None:
    """A job may be answered by any model of its chain."""
    with pytest.raises(InvalidRecord, match="the model far has no parameter top_k"):
        check_of(tmp_path).check(generation(model=("echo", "far"), sampling={"top_k": 5}))
