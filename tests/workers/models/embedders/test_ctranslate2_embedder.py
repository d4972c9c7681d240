import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.workers.models.embedders.make_reference import TEXTS, read_reference
from tests.workers.sentence_folder import HEADS, HIDDEN, LAYERS, MAX_TOKENS, TOKENS, bert_weights

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.embedders.ctranslate2_embedder import BATCH_ROWS, CTranslate2Embedder
from headrace_workers.models.registry import read_card

ASKED = ("", "a mill", "a river and a mill", "x" * 100_000, "9 mills. 8 rivers?", "word " * 20_000, "A Mill")


@pytest.fixture(scope="module")
def tiny(embedder_home: Path) -> CTranslate2Embedder:
    return CTranslate2Embedder.load(embedder_home / "models" / "tiny-bert")


def numpy_bert(text: str) -> np.ndarray:
    """The mean of BERT's last layer over the tokens of a text, of length 1, straight from the paper."""
    letters = [letter for word in text.lower().split() for letter in [word[0], *(f"##{c}" for c in word[1:])]]
    ids = [TOKENS.index(token) for token in ["[CLS]", *letters[: MAX_TOKENS - 2], "[SEP]"]]
    weights = {name: array.astype(np.float64) for name, array in bert_weights().items()}

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def heads(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(ids), HEADS, HIDDEN // HEADS).transpose(1, 0, 2)

    erf = np.vectorize(math.erf)
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = norm(x + weights["embeddings.position_embeddings.weight"][: len(ids)], "embeddings.LayerNorm")
    for index in range(LAYERS):
        at = f"encoder.layer.{index}"
        query, key, value = (heads(linear(x, f"{at}.attention.self.{part}")) for part in ("query", "key", "value"))
        scores = np.exp(query @ key.transpose(0, 2, 1) / math.sqrt(HIDDEN // HEADS))
        mixed = (scores / scores.sum(-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(len(ids), HIDDEN)
        x = norm(x + linear(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        inner = linear(x, f"{at}.intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = norm(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_the_vectors_are_those_of_the_paper(embedder_home: Path) -> None:
    texts = ["", "a mill", "a river and a mill", "river " * 40]
    vectors = CTranslate2Embedder.load(embedder_home / "models" / "tiny-bert-float").embed(texts)
    for vector, text in zip(vectors, texts, strict=True):
        np.testing.assert_allclose(vector, numpy_bert(text), atol=2e-5)


def test_each_text_has_a_vector_of_length_one(tiny: CTranslate2Embedder) -> None:
    vectors = tiny.embed([*ASKED, "a\ud800b"])
    assert (vectors.shape, vectors.dtype) == ((len(ASKED) + 1, HIDDEN), np.float32)
    assert (tiny.dimensions, tiny.max_tokens) == (HIDDEN, MAX_TOKENS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_no_texts_have_no_vectors(tiny: CTranslate2Embedder) -> None:
    assert tiny.embed([]).shape == (0, HIDDEN)


def test_a_text_has_the_same_vector_in_any_company(tiny: CTranslate2Embedder) -> None:
    company = [f"{'mill ' * (n % 7)}{n}" for n in range(5 * BATCH_ROWS)]
    alone = np.concatenate([tiny.embed([text]) for text in ASKED])
    together = tiny.embed([*company, *ASKED, *reversed(company)])
    np.testing.assert_array_equal(together[len(company) : len(company) + len(ASKED)], alone)


def test_what_is_behind_the_last_token_changes_nothing(tiny: CTranslate2Embedder) -> None:
    letters = "mill" * 5 + " " + "river" * 5
    one, other, shorter = tiny.embed([f"{letters} tail", f"{letters} another", "mill" * 5])
    np.testing.assert_array_equal(one, other)
    assert float(one @ shorter) < 0.999


def test_threads_share_it(embedder_home: Path) -> None:
    shared = CTranslate2Embedder.load(embedder_home / "models" / "tiny-bert", inter_threads=2)
    asked = [[f"mill {n}", "river " * (n % 5)] for n in range(64)]
    alone = [shared.embed(texts) for texts in asked]
    with ThreadPoolExecutor(8) as threads:
        for expected, found in zip(alone, threads.map(shared.embed, asked), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_id_names_model_format_and_weights(embedder_home: Path) -> None:
    ids = set()
    for alias, kind in (("tiny-bert", "int8_pairs"), ("tiny-bert-float", "float32")):
        folder = embedder_home / "models" / alias
        text = CTranslate2Embedder.load(folder).id
        assert text == f"{alias}/{kind}/{read_card(folder).sha256[:12]}"
        ids.add(text.split("/")[2])
    assert len(ids) == 2


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json", "vocabulary.json"])
def test_a_broken_folder_is_told(embedder_home: Path, tmp_path: Path, name: str) -> None:
    source, folder = embedder_home / "models" / "tiny-bert", tmp_path / "tiny-bert"
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(b"{" if path.name == name else path.read_bytes())
    with pytest.raises(ConfigurationError, match=r"tiny-bert.* cannot be loaded: .*pull or convert"):
        CTranslate2Embedder.load(folder)


@pytest.mark.parametrize(("quantization", "mean", "least"), [("float32", 0.9999, 0.9999), ("int8", 0.995, 0.98)])
def test_minilm_gives_the_vectors_of_its_reference(
    minilm_home: Path, minilm_float_home: Path, quantization: str, mean: float, least: float
) -> None:
    home = minilm_home if quantization == "int8" else minilm_float_home
    embedder = CTranslate2Embedder.load(home / "models" / "all-minilm-l6-v2")
    texts, reference = read_reference()
    assert tuple(texts) == TEXTS
    cosines = (embedder.embed(texts) * reference).sum(axis=1)
    assert (embedder.dimensions, embedder.max_tokens) == (384, 256)
    assert cosines.mean() >= mean
    assert cosines.min() >= least


VECTORS = """
import sys
from pathlib import Path
import headrace_workers.wiring
import numpy as np
from headrace_workers.models.embedders.ctranslate2_embedder import CTranslate2Embedder
from tests.workers.models.embedders.make_reference import TEXTS
np.save(sys.argv[2], CTranslate2Embedder.load(Path(sys.argv[1])).embed(TEXTS))
"""


@pytest.mark.parametrize("isa", ["AVX2", pytest.param("AVX512_CORE", marks=pytest.mark.slow)])
def test_int8_is_the_same_without_vnni(minilm_home: Path, tmp_path: Path, isa: str) -> None:
    folder = minilm_home / "models" / "all-minilm-l6-v2"
    command = [sys.executable, "-c", VECTORS, str(folder), str(tmp_path / "vectors.npy")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[4], env=os.environ | {"ONEDNN_MAX_CPU_ISA": isa})
    here = CTranslate2Embedder.load(folder).embed(TEXTS)
    cosines = (np.load(tmp_path / "vectors.npy") * here).sum(axis=1)
    # Not to the bit: the sums around the products, in float32, have another order.
    assert cosines.min() >= 0.999
