import numpy as np

from headrace_workers.models.embedders.embedding_cache import RememberingEmbedder, embed_for
from headrace_workers.testing import HashEmbedder


class Counting(HashEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def embed(self, texts):
        self.read += texts
        return super().embed(texts)


def test_each_text_is_embedded_once_and_each_has_its_row():
    inner = Counting()
    embedder = RememberingEmbedder(inner)
    calls = [["a b", "c"], ["c", "d", "c", "a b"], [], ["d", "d"]]
    for texts in calls:
        assert np.array_equal(embedder.embed(texts), HashEmbedder().embed(texts))
    assert sorted(inner.read) == ["a b", "c", "d"]
    assert (embedder.id, embedder.dimensions, embedder.max_tokens) == (inner.id, inner.dimensions, inner.max_tokens)


def test_what_was_asked_longest_ago_is_forgotten():
    """So that it holds no more than it may."""
    inner = Counting()
    embedder = RememberingEmbedder(inner, most=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        embedder.embed([text])
    assert inner.read == ["a", "b", "c", "b"]


def test_what_another_tenant_asked_is_not_remembered_for_one():
    """It would be faster, and tell that somebody asked it."""
    inner = Counting()
    embedder = RememberingEmbedder(inner)
    for tenant, text in (("a", "b c"), ("a", "b c"), ("b", "b c"), ("a b", "c"), ("a", "b c")):
        assert np.array_equal(embed_for(embedder, [tenant], [text]), HashEmbedder().embed([text]))
    assert inner.read == ["b c", "b c", "c"]
    assert np.array_equal(embed_for(inner, ["a"], ["b c"]), HashEmbedder().embed(["b c"]))
