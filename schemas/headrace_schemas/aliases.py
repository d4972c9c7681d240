"""The names by which jobs name models, made from where those come from. Pure."""

from pathlib import PurePath
from typing import Final

SENTENCE_TRANSFORMERS: Final = "sentence-transformers:"  # before a folder, or a name on the hub
DEFAULT_EMBEDDER: Final = "all-minilm-l6-v2"


def alias_of(source: str) -> str:
    """Return a name for a model, from the last part of where it comes from."""
    last = PurePath(source.rstrip("/")).name.lower().removesuffix(".gguf")
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in last).strip("._-")[:64] or "model"


def embedder_alias(name: str) -> str:
    """Return how jobs name the embedder that HEADRACE_EMBEDDER calls `name`: a model's alias is its own."""
    if not name.startswith(SENTENCE_TRANSFORMERS):
        return name
    return alias_of(name.removeprefix(SENTENCE_TRANSFORMERS))
