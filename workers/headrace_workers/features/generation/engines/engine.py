"""An engine as one value: how it loads a model, how it counts tokens, and what it is able to do.

To add an engine, write its file and name its value in the tuple `ENGINES` of `load_generator.py` for models that
answer, or of `knowledge/embedders/load_embedder.py` for models that turn texts into vectors.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.feature import installed
from headrace_workers.features.generation.engines.hardware import Device
from headrace_workers.features.generation.engines.prefixes import MOST_TOKENS

if TYPE_CHECKING:
    from headrace_workers.features.generation.models.registry import ModelCard

Kind = Literal["generator", "embedder"]
M = TypeVar("M")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Settings of this process for a model that it loads. An engine ignores those that mean nothing to it.

    `inter_threads` is how many batches run at once (all cores when absent); `compute_type` overrides the choice of
    number format; `prefix_tokens` bounds the tokens of shared prompt prefixes that are kept. `redis` is where workers
    share the rates of a provider's key, under names that begin with `prefix`.
    """

    inter_threads: int | None = None
    device: Device = "auto"
    compute_type: str | None = None
    prefix_tokens: int = MOST_TOKENS
    redis: str | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine(Generic[M, T]):
    """An engine that model cards name. `M` is a loaded model, `T` counts its tokens without loading its weights.

    `load` raises ConfigurationError when the model, or this machine, cannot do what is asked; `counter` does so when
    the tokenizer cannot be used. Without a `counter`, the sizes of prompts are guessed.
    """

    name: str
    kind: Kind
    load: "Callable[[ModelCard, Path, LoadOptions], M]"
    counter: "Callable[[ModelCard, Path], T] | None" = None
    logprobs: bool = False
    """It gives the probabilities of an answer's first token (`Generator.choice_probabilities`)."""
    batching: bool = False
    """It computes several prompts of one call together."""
    grammar: bool = False
    """It can be held to a grammar or a JSON schema."""
    remote: bool = False
    """It sends prompts to another machine."""
    client: str | None = None
    """The package that it asks its provider with. headrace's extra of this name installs it."""
    lacks: frozenset[str] = frozenset()
    """Names of sampling parameters that it never sends: a job that sets one is refused."""


def need_client(engine: str, alias: str) -> None:
    """Raise ConfigurationError if this engine's client is not installed, which the model `alias` needs."""
    client = engines("generator")[engine].client
    if client is None:
        return
    with suppress(ImportError):
        if find_spec(client) is not None:
            return
    raise missing_client(client, alias)


def missing_client(client: str, alias: str) -> ConfigurationError:
    """Return the error of a model whose provider's client is not installed."""
    return ConfigurationError(f"{alias} needs the {client} client: pip install 'headrace[{client}]'")


@cache
def engines(kind: Kind) -> Mapping[str, Engine[Any, Any]]:
    """Return the engines of all features for models of this kind, by their names."""
    return {engine.name: engine for feature in installed() for engine in feature.engines() if engine.kind == kind}
