"""Which models are here, and which embedder jobs may name."""

import json
from pathlib import Path

import pytest
from tests.workers.cli.conftest import Call

from headrace_workers.features.generation.commands.models import embedder_line, ensure_embedder
from headrace_workers.testing import make_echo_model, make_hash_embedder


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hash", "embedding jobs name hash"),
        ("sentence-transformers:owner/Some", "embedding jobs name some, for sentence-transformers:owner/Some"),
        (
            "all-minilm-l6-v2",
            "embedding jobs name all-minilm-l6-v2, which is not here: `headrace models pull all-minilm-l6-v2` gets it",
        ),
        (
            "own",
            "embedding jobs name own, which is not here: `headrace models convert SOURCE --alias own` gets it",
        ),
    ],
)
def test_the_embedder_is_named_as_jobs_name_it(name: str, said: str):
    """With a way to get it, where it is not here."""
    assert embedder_line(name, {"hash"}) == said


def test_the_list_says_which_embedder_it_is(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Beside the models, for people; JSON has the cards alone."""
    make_echo_model(tmp_path / ".headrace")
    make_hash_embedder(tmp_path / ".headrace")
    monkeypatch.setenv("HEADRACE_EMBEDDER", "hash")
    code, out, err = call("models", "list")
    assert (code, "embedder" in out, err.strip()) == (0, True, "embedding jobs name hash")
    assert call("models", "list", "--json")[2] == ""


def test_pull_without_a_name_shows_what_there_is(call: Call, tmp_path: Path):
    """The catalogue, with what is here already; nothing is fetched."""
    make_hash_embedder(tmp_path / ".headrace", "all-minilm-l6-v2")
    code, out, err = call("models", "pull")
    assert code == 0
    rows = {line.split()[0]: line.split()[-1] for line in out.splitlines()[2:] if line}
    assert rows == {"smollm2-135m-instruct": "no", "all-minilm-l6-v2": "yes"}
    assert "headrace models convert SOURCE" in err
    listed = [json.loads(line) for line in call("models", "pull", "--json")[1].splitlines()]
    assert [(each["alias"], each["here"]) for each in listed] == [
        *((name, here == "yes") for name, here in rows.items())
    ]


def test_what_is_here_or_cannot_be_pulled_is_left(tmp_path: Path):
    """No network is asked, and a job that needs it is told."""
    make_hash_embedder(tmp_path, "all-minilm-l6-v2")
    for name in ("all-minilm-l6-v2", "own", "sentence-transformers:owner/Some"):
        ensure_embedder(tmp_path, name)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["all-minilm-l6-v2"]


def test_models_of_others_are_listed_without_their_keys(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The table has their address; JSON has all of the entry, with the place of the key in place of the key."""
    home = tmp_path / ".headrace"
    home.mkdir()
    (home / "models.toml").write_text(
        '[models.far]\nengine = "openai"\nmodel = "m"\nendpoint = "http://vllm:8000/v1"\ncontext_length = 4096\n'
        'api_key = "env:FAR_KEY"\nlacks = ["seed"]\n'
    )
    monkeypatch.setenv("FAR_KEY", "very-secret")
    code, out, _ = call("models", "list")
    assert code == 0
    assert "http://vllm:8000/v1" in out
    code, out, _ = call("models", "list", "--json")
    card = json.loads(out)
    assert (card["alias"], card["engine"], card["context_length"]) == ("far", "openai", 4096)
    assert (card["remote"]["api_key"], card["remote"]["lacks"]) == ("env:FAR_KEY", ["seed"])
    assert "very-secret" not in out
