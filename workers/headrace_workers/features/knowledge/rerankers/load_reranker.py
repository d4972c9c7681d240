"""From a name to a loaded reranker."""

from typing import Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.ports import Reranker

_SENTENCE_TRANSFORMERS: Final = "sentence-transformers:"


def load_reranker(name: str) -> Reranker:
    """Load the model behind `sentence-transformers:`, a folder or a name on the hub.

    ConfigurationError when it cannot be loaded, or is none that gives a pair of texts one figure.
    """
    if not name.startswith(_SENTENCE_TRANSFORMERS):
        raise ConfigurationError(
            f"HEADRACE_RERANKER is {name!r}: write {_SENTENCE_TRANSFORMERS}NAME, with a cross-encoder's folder or its "
            "name on the hub"
        )
    from headrace_workers.features.knowledge.rerankers.cross_encoder import SentenceTransformersReranker

    return SentenceTransformersReranker.load(name.removeprefix(_SENTENCE_TRANSFORMERS))
