"""What embeds, knows answers and finds passages."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from headrace_schemas.errors import Unavailable, UnknownModel
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.pipeline.grouping import pieces
from headrace_workers.core.ports import CountingEmbedder, Embedder
from headrace_workers.core.progress import Progress
from headrace_workers.features.cache.settings import CacheSettings
from headrace_workers.features.generation.engines.counting import CountingModels
from headrace_workers.features.generation.models.registry import Registry
from headrace_workers.features.knowledge.settings import KnowledgeSettings
from headrace_workers.runtime.settings import ModelSettings, Settings
from headrace_workers.runtime.wire.listener import HintListener, Several
from headrace_workers.runtime.wire.notifier import Hint
from headrace_workers.runtime.wire.redis_client import redis_client
from headrace_workers.runtime.wire.redis_names import RedisNames
from headrace_workers.wiring.once import once
from headrace_workers.wiring.parts import canaries_of, files_in

if TYPE_CHECKING:  # they import NumPy, or FastAPI, which most processes do without
    from headrace_workers.features.cache.semantic.cache import Cache
    from headrace_workers.features.knowledge.bases import Bases
    from headrace_workers.features.knowledge.retrieval import FindsPassages, Retrieval


_LAST_LOOK_SECONDS = 2.0  # of a follower, at the end of its process: it may be reading a large base


def embedder_of(settings: Settings) -> CountingEmbedder:
    """What makes vectors. UnknownModel where it is not here."""
    from headrace_workers.features.knowledge.embedders.load import load_embedder

    return load_embedder(settings.home, settings.of(ModelSettings).embedder)


def remembering(embedder: Callable[[], Embedder]) -> Embedder:
    """What makes the vectors of questions, for the cache and for passages: a question is embedded once."""
    from headrace_workers.features.knowledge.embedders.remembering import RememberingEmbedder

    return RememberingEmbedder(embedder())


def for_jobs(embedder: Callable[[], CountingEmbedder]) -> CountingEmbedder:
    """What makes the vectors that jobs ask for. Unavailable while none is here: it may come without a new start."""
    try:
        return embedder()
    except UnknownModel as error:
        raise Unavailable(f"no vector is made without an embedder, and this worker has none: {error}") from error


def woken_by_changes(settings: Settings, progress: Progress) -> Several:
    """What is set when the bell tells of changes of answers or documents; it begins to listen."""
    followers = Several()
    channel = RedisNames(settings.kafka.prefix).bell
    HintListener(redis_client(settings.redis), channel, {Hint.CHANGES: followers}, progress.loop("ears")).start()
    return followers


def cache_of(
    settings: Settings,
    ledger: Ledger,
    progress: Progress,
    worker: str,
    embedder: Callable[[], Embedder],
    followers: Callable[[], Several],
) -> "Cache":
    """The answers that may be given again. Where no embedder is here, only those to the very same request."""
    from headrace_workers.features.cache.semantic.cache import Cache
    from headrace_workers.features.cache.semantic.follow import Follower
    from headrace_workers.features.cache.semantic.keeping import Keeping
    from headrace_workers.features.cache.semantic.known import Known
    from headrace_workers.features.cache.semantic.likeness import NearestQuestions
    from headrace_workers.features.cache.semantic.questions import Questions
    from headrace_workers.features.cache.semantic.saved import Saved
    from headrace_workers.features.cache.semantic.standings import Standings

    version = Registry(settings.home).version
    try:
        made = embedder()
    except UnknownModel as error:
        log("recall", logging.INFO, Action.NO_EMBEDDER, f"only the very same request is answered again: {error}")
        return Cache(ledger, version)
    known = Known(made.dimensions)
    saved = Saved(settings.home / "recall", ledger.identity, made.id)
    questions = Questions(ledger, known, saved)
    follower = Follower(questions, progress.loop("follow"), partial(ledger.followed, worker, "entry"))
    followers().add(follower.woken)
    follower.start()
    Keeping(saved, questions).start()
    standings = Standings(ledger, settings.of(CacheSettings).max_error, worker, progress.loop("standings"))
    standings.start()
    return Cache(ledger, version, NearestQuestions(made, known, settings.of(CacheSettings).similarity, standings.limit))


def retrieval_of(settings: Settings, bases: "Callable[[], FindsPassages]") -> "Retrieval":
    """What finds passages and makes prompts of them."""
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
    """Begin to read the files of vector stores, beside all else."""
    from headrace_workers.features.knowledge.filling import Filling, Fills
    from headrace_workers.features.knowledge.reading import Reader

    files = once(lambda: files_in(settings, ledger))
    filling = Filling(ledger, lambda file_id, most: files().head(file_id, most), Reader(), embedder)
    Fills(filling, progress.loop("fill vector stores")).start()


def keep_warm(ledger: Ledger, progress: Progress, bases: "Callable[[], Bases]") -> None:
    """Begin to read knowledge bases before they are asked for, beside all else."""
    from headrace_workers.features.knowledge.warming import KeepsWarm

    KeepsWarm(ledger, bases, progress.loop("knowledge bases")).start()


def bases_of(
    ledger: Ledger,
    progress: Progress,
    worker: str,
    embedder: Callable[[], Embedder],
    followers: Callable[[], Several],
    at_end: ExitStack | None = None,
) -> "Bases":
    """The knowledge bases, which follow the ledger until `at_end` is closed, or the process ends. Unavailable while no
    embedder is here: it may come without a new start.
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
