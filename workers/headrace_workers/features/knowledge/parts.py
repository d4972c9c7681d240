"""The embedder of a process, for jobs, questions and documents; its knowledge bases; and the retrieval of a worker."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace_schemas.aliases import embedder_alias
from headrace_schemas.errors import Unavailable, UnknownModel
from headrace_workers.core.cached_values import once
from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.task import pieces
from headrace_workers.core.progress import Progress
from headrace_workers.features.generation.parts import counting_models
from headrace_workers.features.knowledge.settings import KnowledgeSettings
from headrace_workers.files.service import files_in
from headrace_workers.models.embedders.embedder import CountingEmbedder, Embedder
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.settings import ModelSettings, Settings
from headrace_workers.runtime.wire.hints import Broadcast
from headrace_workers.runtime.worker.parts import WorkerParts, woken_by_changes

if TYPE_CHECKING:  # they import NumPy, which most processes do without
    from headrace_workers.features.knowledge.bases import Bases
    from headrace_workers.features.knowledge.retrieval import Retrieval

_LAST_LOOK_SECONDS = 2.0  # of a follower, at the end of its process: it may be reading a large base


def parts(worker: WorkerParts) -> Mapping[str, Callable[[], Any]]:
    """Return what builds the parts of this feature."""
    return {
        "embedder": lambda: partial(_for_jobs, worker),
        "embedder_alias": lambda: embedder_alias(worker.settings.of(ModelSettings).embedder),
        "retrieval": lambda: _retrieval(worker),
    }


def embedder(worker: WorkerParts) -> CountingEmbedder:
    """Load the embedder of this worker. UnknownModel where it is not here."""
    return embedder_of(worker.settings)


def question_embedder(worker: WorkerParts) -> Embedder:
    """Return what embeds questions, for the cache and for passages: each is embedded once."""
    return remembering(worker.once(embedder))


def embedder_of(settings: Settings) -> CountingEmbedder:
    """Load the embedder of a deployment. UnknownModel where it is not here."""
    from headrace_workers.models.embedders.load_embedder import load_embedder

    return load_embedder(settings.home, settings.of(ModelSettings).embedder)


def remembering(embedder: Embedder) -> Embedder:
    """Return an embedder that knows the vectors of its last texts."""
    from headrace_workers.models.embedders.embedding_cache import RememberingEmbedder

    return RememberingEmbedder(embedder)


def _for_jobs(worker: WorkerParts) -> CountingEmbedder:
    """Return the embedder of jobs. Unavailable while none is here: it may come without a new start."""
    try:
        return worker.once(embedder)
    except UnknownModel as error:
        raise Unavailable(f"no vector is made without an embedder, and this worker has none: {error}") from error


def _retrieval(worker: WorkerParts) -> "Retrieval":
    """Return the retrieval that finds passages and puts them into prompts. Threads of its own read the files of vector
    stores, and knowledge bases before they are asked for.
    """
    from headrace_workers.features.knowledge.bases import KeepsWarm
    from headrace_workers.features.knowledge.reranking import Reranking, load_reranker
    from headrace_workers.features.knowledge.retrieval import Retrieval, as_found

    def bases() -> "Bases":
        return worker.once(_bases_of_worker)

    _fill(worker)
    KeepsWarm(worker.ledger, bases, worker.progress.loop("knowledge bases")).start()
    settings, own = worker.settings, worker.settings.of(KnowledgeSettings)
    name = own.reranker
    return Retrieval(
        bases=bases,
        counts=counting_models(settings, Registry(settings.home)),
        guess=pieces,
        floor=own.relevance,
        most_tokens=own.passage_tokens,
        rerank=as_found if name is None else Reranking(load_reranker(name), own.rerank_time).order,
    )


def _fill(worker: WorkerParts) -> None:
    """Begin to read the files of vector stores in the background."""
    from headrace_workers.features.knowledge.intake import Filling, Fills
    from headrace_workers.features.knowledge.reading import Reader

    files = once(lambda: files_in(worker.settings.home, worker.settings, worker.ledger))
    filling = Filling(
        worker.ledger, lambda file_id, most: files().head(file_id, most), Reader(), lambda: worker.once(embedder)
    )
    Fills(filling, worker.progress.loop("fill vector stores")).start()


def _bases_of_worker(worker: WorkerParts) -> "Bases":
    """Return the knowledge bases of a worker, until its process ends. Unavailable as below."""
    return bases_of(
        worker.ledger,
        worker.progress,
        worker.name,
        lambda: worker.once(question_embedder),
        lambda: worker.once(woken_by_changes),
    )


def bases_of(
    ledger: Ledger,
    progress: Progress,
    worker: str,
    embedder: Callable[[], Embedder],
    followers: Callable[[], Broadcast],
    at_end: ExitStack | None = None,
) -> "Bases":
    """Return the knowledge bases, which follow the ledger until `at_end` is closed, or the process ends. Unavailable
    while no embedder is here: it may come without a new start.
    """
    from headrace_workers.features.knowledge.bases import Bases

    try:
        bases = Bases(ledger, embedder())
    except UnknownModel as error:
        raise Unavailable(f"passages are not found without an embedder, and this worker has none: {error}") from error
    follower = Follower(bases, progress.loop("follow documents"), partial(ledger.report_position, worker, "document"))
    followers().add(follower.woken)
    follower.start()
    if at_end is not None:
        at_end.callback(follower.stop, _LAST_LOOK_SECONDS)
    return bases
