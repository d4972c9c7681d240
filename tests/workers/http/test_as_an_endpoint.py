from pathlib import Path

import pytest
from tests.workers.http.served import Gateway
from tests.workers.models.engines.remote_models import ask, remote

from headrace_schemas.errors import PromptTooLong
from headrace_workers.models.engines.remote.failures import RemoteFailed
from headrace_workers.models.generator import Completion, Generator


@pytest.fixture
def model(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator:
    """The gateway's model `echo`, as the engine `openai` asks for it."""
    monkeypatch.setenv("OTHER_KEY", gateway.key())
    return remote(tmp_path, "openai", gateway.url, model="echo", api_key="env:OTHER_KEY", first_token=60.0, total=120.0)


def test_it_answers_as_generators_do(model: Generator) -> None:
    outcomes = model.generate(
        [
            ask("one two three"),
            ask("one two three", max_tokens=2),
            ask("one two three", stop=["three"]),
            ask("Grüße 東京 🏔️", system="be brief"),
        ]
    )
    completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    assert len(completions) == len(outcomes), outcomes
    assert [completion.text.rstrip() for completion in completions] == [
        "one two three",
        "one two",
        "one two",
        "Grüße 東京 🏔️",
    ]
    assert [completion.finish_reason for completion in completions] == ["stop", "length", "stop", "stop"]
    assert [completion.completion_tokens for completion in completions][:2] == [3, 2]
    assert all(completion.prompt_tokens >= 3 for completion in completions)
    assert {completion.remote.model for completion in completions if completion.remote} == {"echo"}


def test_its_refusals_have_their_categories(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", gateway.key())
    known = {"api_key": "env:OTHER_KEY", "first_token": 60.0, "total": 120.0}
    (unknown,) = remote(tmp_path, "openai", gateway.url, model="nobody", **known).generate([ask("hi")])
    assert type(unknown) is RemoteFailed
    (wrong,) = remote(tmp_path, "openai", gateway.url, model="echo", **known).generate([ask("word " * 40_000)])
    assert type(wrong) is PromptTooLong, wrong
    monkeypatch.setenv("OTHER_KEY", "wrong")
    (refused,) = remote(tmp_path, "openai", gateway.url, model="echo", **known).generate([ask("hi")])
    assert type(refused) is RemoteFailed
