"""From a name to a loaded embedder."""

from pathlib import Path
from typing import Final

from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_workers.models.registry import CARD_FILE, list_cards, load_card, model_dir
from headrace_workers.ports import Embedder

DEFAULT_EMBEDDER: Final = "all-minilm-l6-v2"
SENTENCE_TRANSFORMERS: Final = "sentence-transformers:"  # before a folder, or a name on the hub


def load_embedder(home: Path, name: str, *, inter_threads: int = 1) -> Embedder:
    """Load the embedder `<home>/models/<name>`, or the model behind `sentence-transformers:`.

    `inter_threads` calls are computed side by side. UnknownModel when there is none of that name, ConfigurationError
    when it cannot be loaded or is a model that answers.
    """
    if name.startswith(SENTENCE_TRANSFORMERS):
        from headrace_workers.embedders.sentence_transformers import SentenceTransformersEmbedder

        return SentenceTransformersEmbedder.load(name.removeprefix(SENTENCE_TRANSFORMERS))
    folder = model_dir(home, name)
    if not (folder / CARD_FILE).is_file():
        raise UnknownModel(f"no embedder is called {name!r}; {_ways(home)}")
    card = load_card(home, name)
    if card.kind != "embedder":
        raise ConfigurationError(f"{name} is a {card.kind}: it answers and makes no vectors; {_ways(home)}")
    if card.engine == "hash":
        from headrace_workers.embedders.hashed import HashEmbedder

        return HashEmbedder(name)
    from headrace_workers.embedders.ctranslate2 import CTranslate2Embedder

    return CTranslate2Embedder.load(folder, inter_threads=inter_threads)


def _ways(home: Path) -> str:
    here = ", ".join(card.alias for card in list_cards(home) if card.kind == "embedder") or "none"
    return f"here are: {here}. `headrace models pull {DEFAULT_EMBEDDER}` gets one"
