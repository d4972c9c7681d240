import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.services.need import need
from tests.workers.models.embedders.make_reference import read_reference
from tests.workers.sentence_folder import HIDDEN, MAX_TOKENS

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.embedders.embedder import CountingEmbedder
from headrace_workers.models.embedders.load_embedder import load_embedder

pytestmark = pytest.mark.slow  # to load torch takes longer than all that is done with it


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    """Skips the tests, or fails in CI, where it is not installed."""
    need(importlib.util.find_spec("sentence_transformers"), "pip install 'headrace[sentence-transformers]'")


def embedder_of(folder: Path) -> CountingEmbedder:
    return load_embedder(Path("/nowhere"), f"sentence-transformers:{folder}")


@pytest.fixture(scope="module")
def tiny(sentence_folder: Path) -> CountingEmbedder:
    return embedder_of(sentence_folder)


def test_it_and_the_converted_model_agree(tiny: CountingEmbedder, embedder_home: Path) -> None:
    texts = ["", "a mill", "a river and a mill", "river " * 40, "a\ud800b", "x" * 100_000]
    converted = load_embedder(embedder_home, "tiny-bert-float")
    np.testing.assert_allclose(tiny.embed(texts), converted.embed(texts), atol=2e-5)
    assert (tiny.dimensions, tiny.max_tokens, tiny.added_tokens) == (HIDDEN, MAX_TOKENS, converted.added_tokens)
    assert [tiny.count_tokens(text) for text in texts] == [converted.count_tokens(text) for text in texts]
    assert tiny.embed([]).shape == (0, HIDDEN)


def test_the_id_follows_what_changes_vectors(tiny: CountingEmbedder, sentence_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sentence_folder, tmp_path / sentence_folder.name))
    assert embedder_of(copy).id == tiny.id
    assert tiny.id.startswith(f"{sentence_folder.name}/float32/")
    (copy / "1_Pooling" / "config.json").write_text(
        f'{{"word_embedding_dimension": {HIDDEN}, "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}}'
    )
    assert embedder_of(copy).id != tiny.id


def test_what_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "modules.json").write_text("[")
    with pytest.raises(ConfigurationError, match=r"cannot load .*broken"):
        embedder_of(tmp_path / "broken")


def test_minilm_is_the_stored_reference(minilm_wheel: Path) -> None:
    texts, reference = read_reference()
    np.testing.assert_allclose(embedder_of(minilm_wheel).embed(texts), reference, atol=1e-5)
