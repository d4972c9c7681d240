"""The engines that answer, and the way from an alias to a loaded model."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.engines.echo import ENGINE as ECHO
from headrace_workers.models.engines.engine import Engine, LoadOptions, engines
from headrace_workers.models.engines.remote.anthropic import ENGINE as ANTHROPIC
from headrace_workers.models.engines.remote.openai import ENGINE as OPENAI
from headrace_workers.models.generator import Generator
from headrace_workers.models.registry import ModelCard, list_cards, load_card, model_dir

if TYPE_CHECKING:
    from headrace_workers.models.engines.prompts import Prompts

_DEFAULTS: Final = LoadOptions()


def _ctranslate2(_card: ModelCard, folder: Path, options: LoadOptions) -> Generator:
    from headrace_workers.models.engines.ctranslate2_generator import CTranslate2Generator

    return CTranslate2Generator.load(
        folder,
        inter_threads=options.inter_threads,
        device=options.device,
        compute_type=options.compute_type,
    )


def _prompts(card: ModelCard, folder: Path) -> "Prompts":
    from headrace_workers.models.engines.prompts import Prompts

    return Prompts.load(folder, card)


CTRANSLATE2: Final = Engine(
    name="ctranslate2",
    kind="generator",
    load=_ctranslate2,
    counter=_prompts,
    logprobs=True,
    batching=True,
    grammar=True,
)
ENGINES: Final = (CTRANSLATE2, OPENAI, ANTHROPIC, ECHO)


def load_generator(
    home: Path, alias: str, options: LoadOptions = _DEFAULTS, *, needs_logprobs: bool = False
) -> Generator:
    """Load `<home>/models/<alias>` with the engine that its card names.

    Raise UnknownModel when it is not there, and ConfigurationError when it cannot be loaded, or when `needs_logprobs`
    is set and its engine gives no probabilities.
    """
    card = load_card(home, alias)
    if card.kind != "generator":
        generators = ", ".join(card.alias for card in list_cards(home) if card.kind == "generator") or "none"
        raise ConfigurationError(
            f"{alias} is an {card.kind}: it turns texts into vectors and answers no job. Name a model that answers; "
            f"here are: {generators}"
        )
    engine = engines("generator")[card.engine]
    if needs_logprobs and not engine.logprobs:
        raise ConfigurationError(
            f"{alias} runs on the engine {engine.name}, which gives no probabilities of tokens: it cannot guard, "
            "and `headrace bench judge` cannot measure it. Name another model"
        )
    generator: Generator = engine.load(card, model_dir(home, alias), options)
    return generator
