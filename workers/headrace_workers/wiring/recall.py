"""Parts that embed, look up cached answers and find passages."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from headrace_schemas.errors import Unavailable, UnknownModel
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.once import once
from headrace_workers.core.pipeline.grouping import pieces
from headrace_workers.core.ports import CountingEmbedder, Embedder
from headrace_workers.core.progress import Progress
from headrace_workers.features.files.files import files_in
from headrace_workers.features.generation.engines.counting import CountingModels
from headrace_workers.features.generation.models.registry import Registry
from headrace_workers.features.knowledge.parts import question_embedder
from headrace_workers.features.knowledge.settings import KnowledgeSettings
from headrace_workers.features.moderation.deployed_policy import canaries_of
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.listener import Several
from headrace_workers.runtime.worker.parts import WorkerParts, woken_by_changes

if TYPE_CHECKING:  # they import NumPy, or FastAPI, which most processes do without
    from headrace_workers.features.knowledge.bases import Bases
    from headrace_workers.features.knowledge.retrieval import FindsPassages, Retrieval


_LAST_LOOK_SECONDS = 2.0  # of a follower, at the end of its process: it may be reading a large base


def retrieval_of(settings: Settings, bases: "Callable[[], FindsPassages]") -> "Retrieval":
    """Return the retrieval that finds passages and puts them into prompts."""
    from headrace_workers.features.knowledge.rerankers.load import load_reranker
    from headrace_workers.features.knowledge.reranking import Reranking
    from headrace_workers.features.knowledge.retrieval import Retrieval, as_found

    own = settings.of(KnowledgeSettings)
    name = own.reranker
    return Retrieval(
        bases=bases,
        counts=CountingModels(settings.home, Registry(settings.home), canaries_of(settings).shown),
        guess=pieces,
        floor=own.relevance,
        most_tokens=own.passage_tokens,
        rerank=as_found if name is None else Reranking(load_reranker(name), own.rerank_time).order,
    )


def fill(settings: Settings, ledger: Ledger, progress: Progress, embedder: Callable[[], CountingEmbedder]) -> None:
    """Begin to read the files of vector stores in the background."""
    from headrace_workers.features.knowledge.filling import Filling, Fills
    from headrace_workers.features.knowledge.reading import Reader

    files = once(lambda: files_in(settings, ledger))
    filling = Filling(ledger, lambda file_id, most: files().head(file_id, most), Reader(), embedder)
    Fills(filling, progress.loop("fill vector stores")).start()


def keep_warm(ledger: Ledger, progress: Progress, bases: "Callable[[], Bases]") -> None:
    """Begin to read knowledge bases in the background, before they are asked for."""
    from headrace_workers.features.knowledge.warming import KeepsWarm

    KeepsWarm(ledger, bases, progress.loop("knowledge bases")).start()


def bases_of_worker(worker: WorkerParts) -> "Bases":
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
    followers: Callable[[], Several],
    at_end: ExitStack | None = None,
) -> "Bases":
    """Return the knowledge bases, which follow the ledger until `at_end` is closed, or the process ends. Unavailable
    while no embedder is here: it may come without a new start.
    """
    from headrace_workers.features.cache.semantic.follow import Follower
    from headrace_workers.features.knowledge.bases import Bases

    try:
        bases = Bases(ledger, embedder())
    except UnknownModel as error:
        raise Unavailable(f"passages are not found without an embedder, and this worker has none: {error}") from error
    follower = Follower(bases, progress.loop("follow documents"), partial(ledger.followed, worker, "document"))
    followers().add(follower.woken)
    follower.start()
    if at_end is not None:
        at_end.callback(follower.stop, _LAST_LOOK_SECONDS)
    return bases
