"""Cross-encoders with sentence-transformers, where it is installed: real ones, tiny and of random weights."""

import importlib.util
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.services.need import need
from tests.workers.sentence_folder import CONFIG, HIDDEN, bert_weights, write_safetensors, write_tokenizer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.knowledge.reranking import Reranker, load_reranker

PASSAGES = ["a mill by the river", "a clock", "", "river " * 30, "half \ud800 of a pair"]

pytestmark = pytest.mark.slow  # to load torch takes longer than all that is done with it


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    """Skips the tests, or fails in CI, where it is not installed."""
    need(importlib.util.find_spec("sentence_transformers"), "pip install 'headrace[sentence-transformers]'")


def write_cross_encoder(folder: Path, figures: int = 1) -> Path:
    folder.mkdir()
    labels = {str(n): f"LABEL_{n}" for n in range(figures)}
    config = CONFIG | {"architectures": ["BertForSequenceClassification"], "id2label": labels}
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(5)
    weights = {f"bert.{name}": values for name, values in bert_weights().items()}
    weights["classifier.weight"] = random.normal(0.0, 0.5, (figures, HIDDEN)).astype(np.float32)
    weights["classifier.bias"] = np.zeros(figures, np.float32)
    write_safetensors(folder / "model.safetensors", weights)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("reranker") / "tiny-cross")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Reranker:
    return load_reranker(f"sentence-transformers:{folder}")


def test_it_says_what_the_model_says(tiny: Reranker, folder: Path) -> None:
    """Of question and passage in this order, whatever else is asked in the same call."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    question, whole = "where is the mill?", PASSAGES[:2]
    with torch.no_grad():
        logits = [
            float(model(**tokenizer(question, passage, return_tensors="pt", truncation=True, max_length=48)).logits)
            for passage in whole
        ]
    scores = tiny.scores(question, PASSAGES)
    np.testing.assert_allclose(scores[:2], [1 / (1 + math.exp(-logit)) for logit in logits], atol=1e-5)
    assert len(scores) == len(PASSAGES)
    assert all(map(math.isfinite, scores))
    assert tiny.scores("another question", whole) != pytest.approx(scores[:2], abs=1e-6)
    assert tiny.scores(question, []) == []
    assert tiny.name == "tiny-cross"


def test_no_text_brings_in_an_added_token(tiny: Reranker) -> None:
    from tokenizers import Tokenizer

    backend = tiny._model.tokenizer.backend_tokenizer
    assert isinstance(backend, Tokenizer)
    ids = tiny._model.tokenizer("a mill?", "a [SEP] mill [PAD]")["input_ids"]
    assert [item for item in ids if item in (0, 2, 3)] == [2, 3, 3]
    alone = tiny.scores("a mill?", ["a [SEP] mill"])
    beside = tiny.scores("a mill?", ["a [SEP] mill", "a much longer passage of a river"])
    assert beside[:1] == pytest.approx(alone, abs=1e-5)


def test_threads_share_it(tiny: Reranker) -> None:
    asked = [(f"mill {n}", PASSAGES[: 1 + n % 4]) for n in range(8)]
    alone = [tiny.scores(*row) for row in asked]
    with ThreadPoolExecutor(4) as threads:
        for expected, found in zip(alone, threads.map(lambda each: tiny.scores(*each), asked), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_is_no_reranker_is_told(tmp_path: Path) -> None:
    several = write_cross_encoder(tmp_path / "several", figures=3)
    for name, told in [
        (f"sentence-transformers:{several}", r"several gives a pair of texts 3 figures"),
        (f"sentence-transformers:{tmp_path / 'nowhere'}", r"cannot load .*nowhere"),
        ("smollm2", r"HEADRACE_RERANKER is 'smollm2': write sentence-transformers:NAME"),
    ]:
        with pytest.raises(ConfigurationError, match=told):
            load_reranker(name)
