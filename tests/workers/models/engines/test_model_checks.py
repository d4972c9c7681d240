import gzip
from pathlib import Path

import pytest
from tests.services.provider import Behaviour, Provider, Reply, providing
from tests.workers.models.engines.remote_models import REMOTE_ENGINES, catalogue

from headrace_workers.features.generation.commands.model_checks import unreachable
from headrace_workers.models.registry import list_cards


def lists(*names: str) -> Behaviour:
    def behave(_provider: Provider, reply: Reply) -> None:
        if reply.heard.headers.get("authorization") == "Bearer right-key":
            reply.status(200, {"object": "list", "data": [{"id": name} for name in names]})
        else:
            reply.status(401, {"error": {"message": "no"}})

    return behave


@pytest.fixture(params=REMOTE_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine that asks a provider."""
    return str(request.param)


def said(home: Path, engine: str, url: str, **entries: object) -> list[str]:
    """Return what is wrong with a model of this engine at this address."""
    catalogue(home, engine, url, **entries)
    return unreachable(list_cards(home))


def test_an_endpoint_that_takes_its_key_is_well(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "right-key")
    with providing(lists("other", "teacher")) as provider:
        assert said(tmp_path, engine, provider.url, api_key="env:A_KEY") == []
    assert provider.heard[0].path == "/v1/models"


def test_a_refused_key_is_named_by_its_place(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "wrong-key")
    with providing(lists("teacher")) as provider:
        (line,) = said(tmp_path, engine, provider.url, api_key="env:A_KEY")
        assert "refuses the key in env:A_KEY (status 401)" in line
        assert "wrong-key" not in line
        (keyless,) = said(tmp_path, engine, provider.url)
        assert "refuses a call without a key" in keyless


def test_a_missing_key_and_a_missing_server_are_named(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("A_KEY", raising=False)
    with providing(lists()) as provider:
        (line,) = said(tmp_path, engine, provider.url, api_key="env:A_KEY")
        assert line.startswith("far: the environment variable A_KEY is not set")
    (gone,) = said(tmp_path, engine, provider.url)
    assert gone.startswith("far: ")
    assert "could not be reached" in gone


def test_a_model_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that lists its models is believed; Ollama's `:latest` is the same model."""
    monkeypatch.setenv("A_KEY", "right-key")
    with providing(lists("student", "tutor")) as provider:
        (line,) = said(tmp_path, "openai", provider.url, api_key="env:A_KEY")
        assert "has no model 'teacher'; it has student, tutor" in line
        provider.behave = lists("teacher:latest")
        assert said(tmp_path, "openai", provider.url, api_key="env:A_KEY") == []
        provider.behave = lambda _, reply: reply.status(404)  # no list at all
        assert said(tmp_path, "openai", provider.url, api_key="env:A_KEY") == []
        provider.behave = lambda _, reply: reply.status(500)
        assert "answers with status 500" in said(tmp_path, "openai", provider.url, api_key="env:A_KEY")[0]


def test_no_remote_model_asks_nothing(tmp_path: Path) -> None:
    assert unreachable(list_cards(tmp_path)) == []


def test_a_list_of_models_that_is_hostile_is_no_list(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that expands to more than an answer may have, nor one that is nested too deep, nor one whose names
    would write on a terminal.
    """

    def expands(_provider: Provider, reply: Reply) -> None:
        reply.begin(content_type="application/json", content_encoding="gzip")
        reply.raw(gzip.compress(b'{"data": [{"id": "other"}]' + b" " * 1_000_000 + b"}"))

    def nests(_provider: Provider, reply: Reply) -> None:
        reply.begin(content_type="application/json")
        reply.raw(b"[" * 100_000)

    monkeypatch.setenv("A_KEY", "right-key")
    for behave in (expands, nests, lists("\x1b[2Jother")):
        with providing(behave) as provider:
            assert said(tmp_path, engine, provider.url, api_key="env:A_KEY") == []


def test_a_name_in_the_list_of_models_shows_nobody_the_key(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "right-key")
    with providing(lists("the RIGHT-KEY model")) as provider:
        (line,) = said(tmp_path, engine, provider.url, api_key="env:A_KEY")
    assert line.endswith("it has the [secret] model")
