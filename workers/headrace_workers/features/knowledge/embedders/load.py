"""From a name to a loaded embedder."""

from pathlib import Path

from headrace_schemas.aliases import DEFAULT_EMBEDDER, SENTENCE_TRANSFORMERS
from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_workers.core.ports import CountingEmbedder
from headrace_workers.features.generation.models.registry import CARD_FILE, ModelCard, list_cards, load_card, model_dir


def load_embedder(home: Path, name: str, *, inter_threads: int = 1) -> CountingEmbedder:
    """Load the embedder `<home>/models/<name>`, or the model behind `sentence-transformers:`.

    `inter_threads` calls are computed side by side. UnknownModel when there is none of that name, ConfigurationError
    when it cannot be loaded or is a model that answers.
    """
    if name.startswith(SENTENCE_TRANSFORMERS):
        from headrace_workers.features.knowledge.embedders.sentence_transformers import SentenceTransformersEmbedder

        return SentenceTransformersEmbedder.load(name.removeprefix(SENTENCE_TRANSFORMERS))
    if embedder_card(home, name).engine == "hash":
        from headrace_workers.features.knowledge.embedders.hashed import HashEmbedder

        return HashEmbedder(name)
    from headrace_workers.features.knowledge.embedders.ctranslate2 import CTranslate2Embedder

    return CTranslate2Embedder.load(model_dir(home, name), inter_threads=inter_threads)


def embedder_card(home: Path, name: str) -> ModelCard:
    """The card of the embedder `<home>/models/<name>`; raises as `load_embedder` does."""
    if not (model_dir(home, name) / CARD_FILE).is_file():
        raise UnknownModel(f"no embedder is called {name!r}; {_ways(home)}")
    card = load_card(home, name)
    if card.kind != "embedder":
        raise ConfigurationError(f"{name} is a {card.kind}: it answers and makes no vectors; {_ways(home)}")
    return card


def _ways(home: Path) -> str:
    here = ", ".join(card.alias for card in list_cards(home) if card.kind == "embedder") or "none"
    return f"here are: {here}. `headrace models pull {DEFAULT_EMBEDDER}` gets one"
