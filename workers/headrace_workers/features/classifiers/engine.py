"""The engine `classifier`, which model cards name. Light: the bridge reads it, and loads no numpy."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from headrace_workers.core.machine import available_cores
from headrace_workers.models.engines.engine import Engine, LoadOptions
from headrace_workers.models.registry import ModelCard

if TYPE_CHECKING:
    from headrace_workers.features.classifiers.generator import ClassifierGenerator

ENGINE_NAME: Final = "classifier"


def _load(card: ModelCard, folder: Path, options: LoadOptions) -> "ClassifierGenerator":
    from headrace_workers.features.classifiers.card import load_classifier
    from headrace_workers.features.classifiers.generator import ClassifierGenerator
    from headrace_workers.models.embedders.load_embedder import load_embedder

    threads = options.inter_threads or available_cores()
    own, head, novelty = load_classifier(folder, card)
    embedder = load_embedder(folder.parent.parent, own.embedder, inter_threads=threads)
    return ClassifierGenerator(card.alias, own, head, novelty, embedder, threads)


ENGINE: "Final[Engine[ClassifierGenerator, None]]" = Engine(
    name=ENGINE_NAME, kind="generator", load=_load, batching=True
)
