"""From an alias to a loaded model: the card says which engine."""

from pathlib import Path

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.ports import Generator
from headrace_workers.features.generation.engines.hardware import Device
from headrace_workers.features.generation.engines.prefixes import MOST_TOKENS
from headrace_workers.features.generation.models.registry import list_cards, load_card, model_dir


def load_generator(
    home: Path,
    alias: str,
    *,
    inter_threads: int | None = None,
    device: Device = "auto",
    compute_type: str | None = None,
    prefix_tokens: int = MOST_TOKENS,
) -> Generator:
    """Load `<home>/models/<alias>`. UnknownModel when it is not there, ConfigurationError when it cannot be loaded.

    `inter_threads` is how many batches run at once (all cores when absent); `compute_type` overrides the choice of
    number format; `prefix_tokens` bounds what is kept of that prompts begin with. The echo has none of these.
    """
    card = load_card(home, alias)
    if card.kind != "generator":
        generators = ", ".join(each.alias for each in list_cards(home) if each.kind == "generator") or "none"
        raise ConfigurationError(
            f"{alias} is an {card.kind}: it turns texts into vectors and answers no job. Name a model that answers; "
            f"here are: {generators}"
        )
    if card.engine == "echo":
        from headrace_workers.features.generation.engines.echo import EchoGenerator

        return EchoGenerator(alias, context_length=card.context_length)
    from headrace_workers.features.generation.engines.ctranslate2 import CTranslate2Generator

    return CTranslate2Generator.load(
        model_dir(home, alias),
        inter_threads=inter_threads,
        device=device,
        compute_type=compute_type,
        prefix_tokens=prefix_tokens,
    )
