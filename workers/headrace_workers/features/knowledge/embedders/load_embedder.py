"""The engines of embedders, and the way from a name to a loaded embedder."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from headrace_schemas.aliases import DEFAULT_EMBEDDER, SENTENCE_TRANSFORMERS
from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_workers.core.ports import CountingEmbedder
from headrace_workers.features.generation.engines.engine import Engine, LoadOptions, engines
from headrace_workers.features.generation.models.registry import CARD_FILE, ModelCard, list_cards, load_card, model_dir

if TYPE_CHECKING:
    from headrace_workers.features.knowledge.embedders.encoder_tokens import Tokens


def _ctranslate2(_card: ModelCard, folder: Path, options: LoadOptions) -> CountingEmbedder:
    from headrace_workers.features.knowledge.embedders.ctranslate2_embedder import CTranslate2Embedder

    return CTranslate2Embedder.load(folder, inter_threads=options.inter_threads or 1)


def _tokens(card: ModelCard, folder: Path) -> "Tokens":
    from headrace_workers.features.knowledge.embedders.encoder_tokens import Tokens

    return Tokens.load(folder, card.context_length)


def _hash(card: ModelCard, _folder: Path, _options: LoadOptions) -> CountingEmbedder:
    from headrace_workers.features.knowledge.embedders.hashed import HashEmbedder

    return HashEmbedder(card.alias)


CTRANSLATE2: Final = Engine(name="ctranslate2", kind="embedder", load=_ctranslate2, counter=_tokens, batching=True)
HASH: Final[Engine[CountingEmbedder, None]] = Engine(name="hash", kind="embedder", load=_hash)
ENGINES: Final = (CTRANSLATE2, HASH)


def load_embedder(home: Path, name: str, *, inter_threads: int = 1) -> CountingEmbedder:
    """Load the embedder `<home>/models/<name>`, or the model behind `sentence-transformers:`.

    `inter_threads` calls are computed side by side. Raise UnknownModel when there is none of that name, and
    ConfigurationError when it cannot be loaded or is a model that answers.
    """
    if name.startswith(SENTENCE_TRANSFORMERS):
        from headrace_workers.features.knowledge.embedders.sentence_transformers_embedder import (
            SentenceTransformersEmbedder,
        )

        return SentenceTransformersEmbedder.load(name.removeprefix(SENTENCE_TRANSFORMERS))
    card = embedder_card(home, name)
    options = LoadOptions(inter_threads=inter_threads)
    embedder: CountingEmbedder = engines("embedder")[card.engine].load(card, model_dir(home, name), options)
    return embedder


def embedder_card(home: Path, name: str) -> ModelCard:
    """Return the card of the embedder `<home>/models/<name>`; raise as `load_embedder` does."""
    if not (model_dir(home, name) / CARD_FILE).is_file():
        raise UnknownModel(f"no embedder is called {name!r}; {_ways(home)}")
    card = load_card(home, name)
    if card.kind != "embedder":
        raise ConfigurationError(f"{name} is a {card.kind}: it answers and makes no vectors; {_ways(home)}")
    return card


def _ways(home: Path) -> str:
    here = ", ".join(card.alias for card in list_cards(home) if card.kind == "embedder") or "none"
    return f"here are: {here}. `headrace models pull {DEFAULT_EMBEDDER}` gets one"
