import os
import shutil
from pathlib import Path

import pytest
from tests.workers.sentence_folder import MAX_TOKENS

from headrace_schemas.errors import InputTooLong, UnknownModel
from headrace_workers.models.embedders.load_embedder import ServedEmbedder, load_embedder
from headrace_workers.models.registry import CARD_FILE, model_dir
from headrace_workers.testing import make_echo_model, make_hash_embedder

PULL = "headrace models pull all-minilm-l6-v2"


@pytest.mark.parametrize("text", ["", "mill", "a mill, a river", "a\ud800b"])
def test_it_counts_what_the_embedder_reads(embedder_home: Path, text: str) -> None:
    loaded = load_embedder(embedder_home, "tiny-bert")
    counted = ServedEmbedder(embedder_home, "tiny-bert").input_tokens("tiny-bert", text)
    assert counted == loaded.count_tokens(text) + loaded.added_tokens >= 2


def test_a_text_that_would_be_cut_is_refused_with_its_length(embedder_home: Path) -> None:
    served = ServedEmbedder(embedder_home, "tiny-bert")
    assert served.input_tokens("tiny-bert", "a " * (MAX_TOKENS - 2)) == MAX_TOKENS
    with pytest.raises(InputTooLong, match=f"has {MAX_TOKENS + 1} tokens, and tiny-bert reads {MAX_TOKENS} at most"):
        served.input_tokens("tiny-bert", "a " * (MAX_TOKENS - 1))


def test_another_name_is_told_who_there_is(embedder_home: Path) -> None:
    served = ServedEmbedder(embedder_home, "tiny-bert")
    with pytest.raises(UnknownModel, match=r"no embedder is called 'tiny-bert-float'; there is: tiny-bert$"):
        served.input_tokens("tiny-bert-float", "mill")


def test_one_that_is_not_here_is_told_with_a_way(tmp_path: Path) -> None:
    served = ServedEmbedder(tmp_path, "hash")
    with pytest.raises(UnknownModel, match=f"no embedder is called 'hash'; here are: none.*{PULL}"):
        served.input_tokens("hash", "mill")
    make_hash_embedder(tmp_path)
    assert served.input_tokens("hash", "mill") is None  # no tokenizer is read for it


def test_a_model_that_takes_its_place_is_read(embedder_home: Path, tmp_path: Path) -> None:
    folder = model_dir(tmp_path, "tiny-bert")
    shutil.copytree(model_dir(embedder_home, "tiny-bert"), folder)
    served = ServedEmbedder(tmp_path, "tiny-bert")
    assert served.input_tokens("tiny-bert", "mill") == 6
    (folder / "tokenizer.json").rename(folder / "elsewhere.json")
    assert served.input_tokens("tiny-bert", "mill mill") == 10
    card = (folder / CARD_FILE).read_text()
    (folder / "new.toml").write_text(card.replace(f"context_length = {MAX_TOKENS}", "context_length = 8"))
    os.replace(folder / "new.toml", folder / CARD_FILE)
    (folder / "elsewhere.json").rename(folder / "tokenizer.json")
    with pytest.raises(InputTooLong, match="reads 8 at most"):
        served.input_tokens("tiny-bert", "mill mill")


def test_what_cannot_be_counted_here_is_guessed(embedder_home: Path, tmp_path: Path) -> None:
    shutil.copytree(model_dir(embedder_home, "tiny-bert"), model_dir(tmp_path, "tiny-bert"))
    (model_dir(tmp_path, "tiny-bert") / "tokenizer.json").write_text("{")
    make_echo_model(tmp_path)
    for name, alias in (("tiny-bert", "tiny-bert"), ("echo", "echo"), ("sentence-transformers:o/Name", "name")):
        assert ServedEmbedder(tmp_path, name).input_tokens(alias, "mill " * 99) is None
