"""Answers of providers to jobs that ask for a format: each has it, or the attempt fails with a typed failure."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.services.provider import Provider, Reply, providing
from tests.workers.features.generation.engines.remote_models import REMOTE_ENGINES, remote
from tests.workers.runtime.bridge.records import generation

from headrace_schemas import Category, Output
from headrace_schemas.output_format import JsonObjectFormat, JsonSchemaFormat, OutputFormat
from headrace_workers.core.ledger.outcome import Done, Outcome, Retry
from headrace_workers.core.pipeline.chain import tried_in
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.generation.stage import generate

TREE = JsonSchemaFormat(json_schema={"type": "object", "required": ["tall"]})


@pytest.fixture(params=REMOTE_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine that asks a provider."""
    return str(request.param)


def outcome_of(home: Path, engine: str, *texts: str, finish: str = "stop", output: OutputFormat = TREE) -> Outcome:
    """Return the outcome of a job that asks for a format, whose provider answers with these texts one after another."""

    def writes(_provider: Provider, reply: Reply) -> None:
        reply.start()
        for text in texts:
            reply.text(text)
        reply.end(finish)

    job = generation(model=("far", "near"), output=output)
    task = Task("6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11", job, job, datetime(2026, 1, 1, tzinfo=UTC))
    with providing(writes) as provider:
        (outcome,) = generate([task], generator=remote(home, engine, provider.url))
    return outcome


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("It is 3 metres tall.", "0"),
        ('```json\n{"tall": 3}\n```', "0"),
        ('{"tall": 3', "10"),
        ('{"tall": 3} and more', "12"),
        ('{"tall": 3, "tall": 4}', None),
        ('{"tall": NaN}', None),
        ('{"wide": 3}', ""),
        ("[" * 100_000, None),
    ],
)
def test_an_answer_without_its_format_is_a_typed_failure(
    tmp_path: Path, engine: str, text: str, place: str | None
) -> None:
    """Whatever a provider promises, its answer is checked by the whole schema; the next model is asked."""
    retry = outcome_of(tmp_path, engine, text)
    assert isinstance(retry, Retry)
    assert (retry.failure, retry.category) == ("unparsable", Category.REROUTABLE)
    assert place in (None, retry.place)
    (tried,) = tried_in(retry.context)
    assert (tried.failure, tried.provider) == ("unparsable", "own")
    assert retry.usage is not None


def test_an_answer_with_its_format_goes_on(tmp_path: Path, engine: str) -> None:
    """Unchanged."""
    done = outcome_of(tmp_path, engine, ' {"tall"', ": 3} ")
    assert isinstance(done, Done)
    assert isinstance(done.event, Output)
    assert done.event.answer.text == ' {"tall": 3} '


def test_an_object_is_what_json_object_asks_for(tmp_path: Path, engine: str) -> None:
    """And no other JSON value."""
    assert isinstance(outcome_of(tmp_path, engine, "{}", output=JsonObjectFormat()), Done)
    retry = outcome_of(tmp_path, engine, "[]", output=JsonObjectFormat())
    assert isinstance(retry, Retry)
    assert retry.failure == "unparsable"


def test_an_answer_that_the_limit_cut_is_truncated(tmp_path: Path, engine: str) -> None:
    """It is asked for again with more room, of the same model."""
    retry = outcome_of(tmp_path, engine, '{"tall": ', finish="length")
    assert isinstance(retry, Retry)
    assert (retry.failure, retry.category) == ("truncated", Category.TRANSIENT)
    assert retry.context["room"] == 512


def test_an_answer_of_ten_megabytes_is_truncated_and_not_asked_for_again(tmp_path: Path, engine: str) -> None:
    """It is read as far as an answer may go; more room would not help, so the next model is asked."""
    retry = outcome_of(tmp_path, engine, '{"tall": "', *["x" * 100_000] * 100, '"}')
    assert isinstance(retry, Retry)
    assert (retry.failure, retry.category) == ("truncated", Category.REROUTABLE)
    assert "repair" not in retry.context
