"""The embedder of a process: for jobs, for questions, for documents."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from headrace_schemas.aliases import embedder_alias
from headrace_schemas.errors import Unavailable, UnknownModel
from headrace_workers.core.ports import CountingEmbedder, Embedder
from headrace_workers.runtime.settings import ModelSettings, Settings
from headrace_workers.runtime.worker.parts import WorkerParts


def parts(worker: WorkerParts) -> Mapping[str, Callable[[], Any]]:
    """Return what builds the parts of this feature."""
    return {
        "embedder": lambda: partial(_for_jobs, worker),
        "embedder_alias": lambda: embedder_alias(worker.settings.of(ModelSettings).embedder),
    }


def embedder(worker: WorkerParts) -> CountingEmbedder:
    """Load the embedder of this worker. UnknownModel where it is not here."""
    return embedder_of(worker.settings)


def question_embedder(worker: WorkerParts) -> Embedder:
    """Return what embeds questions, for the cache and for passages: each is embedded once."""
    return remembering(worker.once(embedder))


def embedder_of(settings: Settings) -> CountingEmbedder:
    """Load the embedder of a deployment. UnknownModel where it is not here."""
    from headrace_workers.features.knowledge.embedders.load_embedder import load_embedder

    return load_embedder(settings.home, settings.of(ModelSettings).embedder)


def remembering(embedder: Embedder) -> Embedder:
    """Return an embedder that knows the vectors of its last texts."""
    from headrace_workers.features.knowledge.embedders.embedding_cache import RememberingEmbedder

    return RememberingEmbedder(embedder)


def _for_jobs(worker: WorkerParts) -> CountingEmbedder:
    """Return the embedder of jobs. Unavailable while none is here: it may come without a new start."""
    try:
        return worker.once(embedder)
    except UnknownModel as error:
        raise Unavailable(f"no vector is made without an embedder, and this worker has none: {error}") from error
