"""The registry of engines: an engine is one file and one line."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.workers.features.generation.engines.shouting import ENGINE
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import generation
from tests.workers.runtime.worker.running import run_all

from headrace_schemas import Message
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.feature import Feature, installed
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.generation.engines.counting import CountingModels
from headrace_workers.features.generation.engines.engine import engines
from headrace_workers.features.generation.engines.load_generator import load_generator
from headrace_workers.features.generation.models.registry import Registry, read_card, write_card
from headrace_workers.features.generation.stage import generate
from headrace_workers.testing import make_echo_model
from headrace_workers.wiring.features import FEATURES


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose model `echo` runs on an engine that a feature of the test adds."""
    monkeypatch.setattr("headrace_workers.wiring.features.FEATURES", (*FEATURES, _SHOUTING))
    _read_anew()
    folder = make_echo_model(tmp_path)
    write_card(folder, replace(read_card(folder), engine="shouting"))
    yield tmp_path
    monkeypatch.undo()
    _read_anew()


_SHOUTING = Feature(name="shouting", engines=lambda: (ENGINE,))


def _read_anew() -> None:
    installed.cache_clear()
    engines.cache_clear()


def test_a_job_runs_on_an_engine_that_is_one_file_and_one_line(home: Path, ledger: Ledger) -> None:
    """Nothing else has to know the engine: its card names it, and its worker loads it."""
    take_in(ledger, [generation(prompt="hello")])
    run_all(ledger, partial(generate, generator=load_generator(home, "echo")))
    (row,) = ledger.outbox(9)
    answer = json.loads(row.record.value)["answer"]
    assert (answer["text"], answer["usage"]["prompt_tokens"]) == ("HELLO", 5)


def test_the_engine_counts_its_tokens(home: Path) -> None:
    """The bridge asks the counter of the engine, and of no other."""
    hello = (Message(role="user", content="hello"),)
    models = CountingModels(home, Registry(home))
    assert (models.prompt_tokens("echo", hello, "default"), models.text_tokens("echo", "hi")) == (5, 2)


def test_an_engine_without_probabilities_cannot_judge_or_guard(home: Path) -> None:
    """A worker that needs them is told when it loads the model, not by each of its jobs."""
    with pytest.raises(ConfigurationError, match="echo runs on the engine shouting, which gives no probabilities"):
        load_generator(home, "echo", needs_logprobs=True)


def test_a_card_that_names_another_engine_is_refused(home: Path) -> None:
    """The error lists the engines that are there."""
    folder = home / "models" / "echo"
    write_card(folder, replace(read_card(folder), engine="whispering"))
    with pytest.raises(ConfigurationError, match=r"engine 'whispering' of this generator is not one of .*, shouting$"):
        read_card(folder)
