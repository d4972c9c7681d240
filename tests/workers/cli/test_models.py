import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.workers.cli.conftest import Call
from tests.workers.models.random_gguf import write_random_gguf

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.commands.models import embedder_line, ensure_embedder, local_model
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
    assert embedder_line(name, {"hash"}) == said


def test_the_list_says_which_embedder_it_is(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Beside the models, for people; JSON has the cards alone."""
    make_echo_model(tmp_path / ".headrace")
    make_hash_embedder(tmp_path / ".headrace")
    monkeypatch.setenv("HEADRACE_EMBEDDER", "hash")
    code, out, err = call("models", "list")
    assert (code, "embedder" in out, err.strip()) == (0, True, "embedding jobs name hash")
    assert call("models", "list", "--json")[2] == ""


def test_what_is_here_or_cannot_be_pulled_is_left(tmp_path: Path):
    make_hash_embedder(tmp_path, "all-minilm-l6-v2")
    for name in ("all-minilm-l6-v2", "own", "sentence-transformers:owner/Some"):
        ensure_embedder(tmp_path, name)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["all-minilm-l6-v2"]


def test_models_of_others_are_listed_without_their_keys(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
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


def test_without_a_name_the_choices_are_listed(call: Call, monkeypatch: pytest.MonkeyPatch):
    """With what each takes, whether it fits here, which hashes nobody compared, and what needs no hub."""
    monkeypatch.setattr("headrace_workers.features.generation.commands.models.available_memory", lambda: 4_000_000_000)
    code, out, err = call("models", "pull")
    told = " ".join(err.split())
    assert code == 0
    assert ("qwen2.5-0.5b-instruct" in out, "9.2 GB" in out) == (True, True)
    assert "This machine has 4.0 GB of memory" in told
    assert "qwen2.5-7b-instruct are as published; we compared them with no download" in told
    assert "smollm2-135m-instruct, from PyPI. It is for trying headrace" in told
    listed = [json.loads(line) for line in call("models", "pull", "--json")[1].splitlines()]
    assert {item["model"]: item["fits"] for item in listed}["qwen2.5-1.5b-instruct"] is True
    assert {item["model"]: item["fits"] for item in listed}["qwen2.5-7b-instruct"] is False


def test_a_gguf_file_is_converted_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = write_random_gguf(tmp_path / "Some-Model.Q4_K.gguf", "qwen2", "Q4_K")
    assert local_model(tmp_path, str(path)) == "some-model.q4_k"
    made = (tmp_path / "models" / "some-model.q4_k" / "model.bin").stat().st_mtime_ns
    assert local_model(tmp_path, str(path)) == "some-model.q4_k"
    assert (tmp_path / "models" / "some-model.q4_k" / "model.bin").stat().st_mtime_ns == made
    told = capfd.readouterr().err
    assert (told.count("converting to int8"), told.count("verifying")) == (1, 2)


def test_a_gguf_file_takes_no_other_model_s_name(tmp_path: Path):
    make_echo_model(tmp_path, "some")
    path = write_random_gguf(tmp_path / "some.gguf", "llama", "Q8_0")
    with pytest.raises(ConfigurationError, match="--alias NAME"):
        local_model(tmp_path, str(path))
    with pytest.raises(ConfigurationError, match="does not exist"):
        local_model(tmp_path, "./gone.gguf")
    assert local_model(tmp_path, "some") == "some"


_WITHOUT_CLIENT = """
import sys

class Hides:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "openai":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hides())
from headrace_workers.__main__ import main
main()
"""


@pytest.mark.parametrize("known", [False, True])
def test_a_model_of_a_provider_whose_client_is_missing_is_refused_before_anything_starts(tmp_path: Path, known: bool):
    model = "http://localhost:11434/v1#qwen3"
    if known:
        (tmp_path / "models.toml").write_text(
            '[models.qwen3]\nengine = "openai"\nmodel = "qwen3"\nendpoint = "http://localhost:11434/v1"\n'
            "context_length = 8192\n"
        )
        model = "qwen3"
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_CLIENT, "up", "--model", model],
        env={**os.environ, "HEADRACE_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "qwen3 needs the openai client: pip install 'headrace[openai]'" in " ".join(done.stderr.split())
    assert sorted(tmp_path.iterdir()) == before
