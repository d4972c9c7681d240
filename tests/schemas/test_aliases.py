import pytest

from headrace_schemas.aliases import alias_of, embedder_alias


@pytest.mark.parametrize(
    ("source", "alias"),
    [
        ("./My Model", "my-model"),
        ("owner/All-MiniLM-L6-v2", "all-minilm-l6-v2"),
        ("/a/b/tiny.Q8_0.gguf", "tiny.q8_0"),
        ("/a/b/", "b"),
        ("Grüße", "gr--e"),
        ("..", "model"),
        ("x" * 99, "x" * 64),
    ],
)
def test_a_model_is_named_by_the_last_part(source: str, alias: str) -> None:
    assert alias_of(source) == alias


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("all-minilm-l6-v2", "all-minilm-l6-v2"),
        ("ends-with-", "ends-with-"),
        ("sentence-transformers:BAAI/bge-small-en-v1.5", "bge-small-en-v1.5"),
    ],
)
def test_how_jobs_name_the_embedder(name: str, alias: str) -> None:
    assert embedder_alias(name) == alias
