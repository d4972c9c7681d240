import subprocess
import sys

import numpy as np

from headrace_workers.testing import HashEmbedder

TEXTS = ("the mill by the river", "The River, by the mill", "a clock in the hall", "", "word " * 20_000, "a\ud800b")


def test_the_same_words_are_the_same_vector() -> None:
    mill, again, clock = HashEmbedder().embed([*TEXTS[:3]])
    (half,) = HashEmbedder().embed(["the mill by the sea"])
    assert float(mill @ again) > 0.99
    assert float(mill @ clock) < float(mill @ half) < 0.99


def test_every_text_has_a_vector_of_length_one() -> None:
    embedder = HashEmbedder()
    vectors = embedder.embed(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), embedder.dimensions), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert embedder.embed([]).shape == (0, embedder.dimensions)


def test_what_is_behind_the_last_word_changes_nothing() -> None:
    embedder = HashEmbedder()
    filled = "mill " * embedder.max_tokens
    one, other = embedder.embed([filled, f"{filled} river"])
    np.testing.assert_array_equal(one, other)


def test_all_processes_agree() -> None:
    code = (
        "from headrace_workers.testing import HashEmbedder as H; h = H(); "
        "print(h.id, h.embed(['the mill by the river']).tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    embedder = HashEmbedder()
    assert done.stdout.split() == [embedder.id, embedder.embed(TEXTS[:1]).tobytes().hex()]


def test_all_words_of_a_text_are_counted() -> None:
    assert [HashEmbedder().count_tokens(text) for text in ("", "a mill, a river", "mill " * 500)] == [0, 4, 500]
