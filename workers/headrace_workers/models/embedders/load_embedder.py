"""The engines of embedders, and the way from a name to a loaded embedder, or to a deployment's."""

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headrace_schemas.aliases import DEFAULT_EMBEDDER, SENTENCE_TRANSFORMERS, embedder_alias
from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_workers.core.log import Action, log
from headrace_workers.models.embedders.embedder import CountingEmbedder, check_whole
from headrace_workers.models.engines.engine import Engine, LoadOptions, engines
from headrace_workers.models.registry import (
    CARD_FILE,
    ModelCard,
    is_installed,
    list_cards,
    load_card,
    model_dir,
)

if TYPE_CHECKING:
    from headrace_workers.models.embedders.encoder_tokens import Tokens


def _ctranslate2(_card: ModelCard, folder: Path, options: LoadOptions) -> CountingEmbedder:
    from headrace_workers.models.embedders.ctranslate2_embedder import CTranslate2Embedder

    return CTranslate2Embedder.load(folder, inter_threads=options.inter_threads or 1)


def _tokens(card: ModelCard, folder: Path) -> "Tokens":
    from headrace_workers.models.embedders.encoder_tokens import Tokens

    return Tokens.load(folder, card.context_length)


def _hash(card: ModelCard, _folder: Path, _options: LoadOptions) -> CountingEmbedder:
    from headrace_workers.models.embedders.hashed import HashEmbedder

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
        from headrace_workers.models.embedders.sentence_transformers_models import SentenceTransformersEmbedder

        return SentenceTransformersEmbedder.load(name.removeprefix(SENTENCE_TRANSFORMERS))
    card = embedder_card(home, name)
    options = LoadOptions(inter_threads=inter_threads)
    embedder: CountingEmbedder = engines("embedder")[card.engine].load(card, model_dir(home, name), options)
    return embedder


def embedder_card(home: Path, name: str) -> ModelCard:
    """Return the card of the embedder `<home>/models/<name>`; raise as `load_embedder` does."""
    if not is_installed(home, name):
        raise UnknownModel(f"no embedder is called {name!r}; {_ways(home)}")
    card = load_card(home, name)
    if card.kind != "embedder":
        raise ConfigurationError(f"{name} is a {card.kind}: it answers and makes no vectors; {_ways(home)}")
    return card


def _ways(home: Path) -> str:
    here = ", ".join(card.alias for card in list_cards(home) if card.kind == "embedder") or "none"
    return f"here are: {here}. `headrace models pull {DEFAULT_EMBEDDER}` gets one"


# The embedder of a deployment for processes that do not embed: its alias, and the tokens of a text for it.
#
# No weights are loaded: the bridge asks for every embedding job, so that groups are of like length and a text that is
# too long is refused at the door.

_Written = tuple[int, int, int]


class ServedEmbedder:
    """The embedder that HEADRACE_EMBEDDER calls `name`. Thread-safe."""

    def __init__(self, home: Path, name: str) -> None:
        self.alias = embedder_alias(name)
        self._home = home
        self._name = name
        self._elsewhere = name.startswith(SENTENCE_TRANSFORMERS)  # it has no card here
        self._lock = threading.Lock()
        self._known: tuple[_Written, Tokens | None] | None = None

    def check(self, alias: str) -> None:
        """Raise UnknownModel where another embedder is asked for, or it is not here."""
        self._refuse_others(alias)
        if not self._elsewhere and _written_record(self._card) is None:
            embedder_card(self._home, self._name)

    def input_tokens(self, alias: str, text: str) -> int | None:
        """Return the tokens of a text as this embedder reads it, with the tokens that it adds; None if only a guess is
        possible.

        Raise UnknownModel if `alias` is another embedder, or it is not here, and InputTooLong if it would not read all.
        """
        self._refuse_others(alias)
        tokens = None if self._elsewhere else self._tokens()  # which looks whether it is here
        if tokens is None:
            return None
        counted = tokens.count(text) + tokens.added
        check_whole(alias, counted, tokens.max_tokens)
        return counted

    def _refuse_others(self, alias: str) -> None:
        if alias != self.alias:
            raise UnknownModel(f"no embedder is called {alias!r}; there is: {self.alias}")

    @property
    def _card(self) -> Path:
        return model_dir(self._home, self._name) / CARD_FILE

    def _tokens(self) -> "Tokens | None":
        written = _written_record(self._card)
        with self._lock:
            if self._known is None or self._known[0] != written or written is None:
                loaded = self._load()  # raises where it is not here
                self._known = None if written is None else (written, loaded)
                return loaded
            return self._known[1]

    def _load(self) -> "Tokens | None":
        try:
            card = embedder_card(self._home, self._name)
            counter = engines("embedder")[card.engine].counter
            if counter is None:
                return None
            tokens: Tokens = counter(card, model_dir(self._home, self._name))
            return tokens
        except (ConfigurationError, ImportError) as error:  # recall workers meet it, too, and say so
            log("models", logging.WARNING, Action.MODEL_LEFT_OUT, f"its inputs are sized by a guess: {error}",
                model=self.alias)  # fmt: skip
            return None


def _written_record(path: Path) -> _Written | None:
    """Return the identity of a card's file, by which a change is noticed; None if there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
