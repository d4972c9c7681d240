"""The composition root: everything is built here, once a process, from the settings."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import redis

from headrace_schemas.aliases import embedder_alias
from headrace_schemas.errors import Unavailable, UnknownModel
from headrace_workers.batches.doorway import Admit
from headrace_workers.batches.feed import Feed
from headrace_workers.batches.outputs import Outputs
from headrace_workers.bridge.accept import Rules, accept
from headrace_workers.bridge.bridge import Bridge, Duty
from headrace_workers.bridge.bulk import Bulk, Room
from headrace_workers.bridge.dispatch import Dispatch
from headrace_workers.bridge.ingest import Ingest
from headrace_workers.bridge.partitions import Partitions
from headrace_workers.bridge.pass_over import PassOver
from headrace_workers.bridge.publish import Publisher
from headrace_workers.bridge.reap import Reap
from headrace_workers.bridge.relay import Relay
from headrace_workers.bridge.troubles import Troubles
from headrace_workers.clock import SystemClock
from headrace_workers.embedders.served import ServedEmbedder
from headrace_workers.engines.counting import CountingModels
from headrace_workers.files.files import Files
from headrace_workers.files.store import Store
from headrace_workers.files.uploads import Uploads
from headrace_workers.identity import process_name
from headrace_workers.ledger.claim import Claim
from headrace_workers.ledger.deliveries import STAGE as DELIVER
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.log import Action, log
from headrace_workers.models.registry import Registry
from headrace_workers.pipeline.auditing import Auditing
from headrace_workers.pipeline.following import Following
from headrace_workers.pipeline.grouping import pieces
from headrace_workers.pipeline.routing import Pipeline
from headrace_workers.pipeline.stages import stages_of
from headrace_workers.ports import CountingEmbedder, Embedder, Generator, Moderator
from headrace_workers.progress import Progress
from headrace_workers.settings import Settings
from headrace_workers.webhooks.courier import Courier
from headrace_workers.webhooks.payloads import Wording
from headrace_workers.webhooks.sealing import Sealer
from headrace_workers.webhooks.telling import Telling
from headrace_workers.wire.bell import Bell, Hint
from headrace_workers.wire.ears import Ears
from headrace_workers.wire.hand_out import HandOut
from headrace_workers.wire.redis_client import redis_client
from headrace_workers.wire.redis_names import RedisNames
from headrace_workers.wire.served import served
from headrace_workers.wire.taskqueue import TaskQueue
from headrace_workers.worker.process import Hands, run_worker
from headrace_workers.worker.renew import Renewer
from headrace_workers.worker.run import Runner
from headrace_workers.worker.runs import Runs
from headrace_workers.worker.work import Work

if TYPE_CHECKING:  # they import NumPy, or FastAPI, which most processes do without
    from headrace_workers.gateway.services import Services
    from headrace_workers.recall.cache import Cache
    from headrace_workers.recall.retrieval import FindsPassages, Retrieval

T = TypeVar("T")

_GATEWAY_THREADS = 16  # that wait for the ledger: it has twelve connections


def task_queue(settings: Settings, client: redis.Redis, ledger: Ledger) -> TaskQueue:
    """The way of this ledger's claims to the workers."""
    return TaskQueue(client, RedisNames(settings.kafka.prefix), ledger.identity)


def pipeline_of(settings: Settings) -> Pipeline:
    """The pipeline of this deployment."""
    return Pipeline(stages_of(settings.cache), judge_model=settings.judge_model)


def _hand_out(
    settings: Settings, ledger: Ledger, tasks: TaskQueue, sender: str, sent: Callable[[Claim], object] | None = None
) -> HandOut:
    depth, lease_ms = settings.queue_depth, settings.lease_ms
    return HandOut(ledger=ledger, tasks=tasks, sender=sender, depth=depth, lease_ms=lease_ms, sent=sent)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all parts of one bridge work with."""

    settings: Settings
    pipeline: Pipeline
    name: str
    ledger: Ledger
    clock: SystemClock
    models: Registry
    counts: CountingModels
    embedder: ServedEmbedder
    tasks: TaskQueue
    troubles: Troubles


def build_bridge(
    settings: Settings, duties: frozenset[Duty], progress: Progress, pipeline: Pipeline | None = None
) -> Bridge:
    """A bridge with these duties. Unavailable when the ledger does not answer."""
    name, ledger, clock = process_name("bridge"), Ledger.at(settings.ledger), SystemClock()
    client, channel = redis_client(settings.redis), RedisNames(settings.kafka.prefix).bell
    models = Registry(settings.home)
    shared = _Shared(
        settings=settings,
        pipeline=pipeline or pipeline_of(settings),
        name=name,
        ledger=ledger,
        clock=clock,
        models=models,
        counts=CountingModels(settings.home, models),
        embedder=ServedEmbedder(settings.home, settings.embedder),
        tasks=task_queue(settings, client, ledger),
        troubles=Troubles(ledger, name, clock),
    )
    work, events, ends = threading.Event(), threading.Event(), threading.Event()
    heard = {Hint.WORK: work, Hint.EVENTS: events, Hint.ENDS: ends}
    dispatch = _dispatch(shared)
    return Bridge(
        name=name,
        duties=duties,
        ledger=ledger,
        ears=Ears(redis_client(settings.redis), channel, heard, progress.loop("ears")),
        work=work,
        events=events,
        ends=ends,
        ingest=_ingest(shared, dispatch),
        dispatch=dispatch,
        relay=_relay(shared),
        reap=_reap(shared),
        bulk=_bulk(shared),
        bell=Bell(client, channel),
        progress=progress,
    )


def _ingest(shared: _Shared, dispatch: Dispatch) -> Ingest:
    settings = shared.settings
    return Ingest(
        partitions=Partitions(settings.kafka, shared.ledger, shared.name, shared.clock),
        prefix=settings.kafka.prefix,
        ledger=shared.ledger,
        models=shared.counts,
        embedder=shared.embedder,
        pipeline=shared.pipeline,
        max_active=settings.max_active,
        clock=shared.clock,
        troubles=shared.troubles,
        hand_out=_hand_out(settings, shared.ledger, shared.tasks, shared.name, dispatch.went_out),
    )


def _dispatch(shared: _Shared) -> Dispatch:
    settings = shared.settings
    return Dispatch(
        ledger=shared.ledger,
        tasks=shared.tasks,
        pipeline=shared.pipeline,
        aliases=shared.models.aliases,
        bridge=shared.name,
        lease_ms=settings.lease_ms,
        group_size=settings.group_size,
        depth=settings.queue_depth,
        linger_ms=int(settings.linger * 1000),
    )


def _relay(shared: _Shared) -> Relay:
    return Relay(
        publisher=Publisher(shared.settings.kafka),
        ledger=shared.ledger,
        bridge=shared.name,
        clock=shared.clock,
        troubles=shared.troubles,
        following=Following(shared.pipeline, shared.ledger, _telling(shared)),
    )


def _telling(shared: _Shared) -> Telling | None:
    """What makes webhooks of ends, where a stage of this deployment delivers them."""
    if shared.pipeline.stage(DELIVER) is None:
        return None
    wording = Wording(shared.settings.webhook_bytes, shared.settings.public_url)
    return Telling(shared.ledger, wording)


def _reap(shared: _Shared) -> Reap:
    settings = shared.settings
    return Reap(
        ledger=shared.ledger,
        clock=shared.clock,
        lease_ms=settings.lease_ms,
        max_crashes=settings.max_crashes,
        retention=settings.retention,
        of_units=shared.pipeline.retentions,
        most_answers=settings.cache_max_entries,
        pass_over=PassOver(
            ledger=shared.ledger,
            pipeline=shared.pipeline,
            served=partial(served, redis_client(settings.redis), RedisNames(settings.kafka.prefix)),
        ).once,
    )


def files_in(settings: Settings, ledger: Ledger) -> Files:
    """The files of this deployment. ConfigurationError when HEADRACE_FILES names no place that can be reached."""
    return Files(ledger.files, Store.at(settings.files or str(settings.home / "files")))


def _bulk(shared: _Shared) -> Bulk:
    settings, ledger = shared.settings, shared.ledger
    files = files_in(settings, ledger)

    def admit() -> Admit:
        rules = Rules(shared.counts, shared.embedder, shared.pipeline, ledger.now())
        return lambda record: accept(record, rules)

    return Bulk(
        ledger=ledger,
        files=files,
        feed=Feed(batches=ledger.batches, files=files, admit=admit),
        outputs=Outputs(batches=ledger.batches, files=files, keep=settings.files_retention),
        room=Room(settings.batch_lines, settings.batch_window),
        bridge=shared.name,
        clock=shared.clock,
        troubles=shared.troubles,
        keep=settings.files_retention,
    )


def serve(
    settings: Settings,
    roles: frozenset[str],
    model: str | None,
    progress: Progress,
    *,
    concurrency: int | None = None,
    pipeline: Pipeline | None = None,
) -> int:
    """Be a worker of these roles until SIGTERM; the exit code."""
    pipeline = pipeline or pipeline_of(settings)
    build = partial(build_hands, settings, pipeline, roles, model)
    return run_worker(settings, pipeline, roles, model, progress, build, concurrency=concurrency)


def _embedder(settings: Settings) -> CountingEmbedder:
    """What makes vectors. UnknownModel where it is not here."""
    from headrace_workers.embedders.load import load_embedder

    return load_embedder(settings.home, settings.embedder)


def _remembering(embedder: Callable[[], Embedder]) -> Embedder:
    """What makes the vectors of questions, for the cache and for passages: a question is embedded once."""
    from headrace_workers.embedders.remembering import RememberingEmbedder

    return RememberingEmbedder(embedder())


def _for_jobs(embedder: Callable[[], CountingEmbedder]) -> CountingEmbedder:
    """What makes the vectors that jobs ask for. Unavailable while none is here: it may come without a new start."""
    try:
        return embedder()
    except UnknownModel as error:
        raise Unavailable(f"no vector is made without an embedder, and this worker has none: {error}") from error


def _cache(
    settings: Settings, ledger: Ledger, progress: Progress, worker: str, embedder: Callable[[], Embedder]
) -> "Cache":
    """The answers that may be given again. Where no embedder is here, only those to the very same request."""
    from headrace_workers.recall.cache import Cache
    from headrace_workers.recall.follow import Follower
    from headrace_workers.recall.keeping import Keeping
    from headrace_workers.recall.known import Known
    from headrace_workers.recall.likeness import NearestQuestions
    from headrace_workers.recall.questions import Questions
    from headrace_workers.recall.saved import Saved
    from headrace_workers.recall.standings import Standings

    version = Registry(settings.home).version
    try:
        made = embedder()
    except UnknownModel as error:
        log("recall", logging.INFO, Action.NO_EMBEDDER, f"only the very same request is answered again: {error}")
        return Cache(ledger, version)
    known = Known(made.dimensions)
    saved = Saved(settings.home / "recall", ledger.identity, made.id)
    questions = Questions(ledger, known, saved)
    Follower(questions, progress.loop("follow"), partial(ledger.followed, worker, "entry")).start()
    Keeping(saved, questions).start()
    standings = Standings(ledger, settings.max_error, worker, progress.loop("standings"))
    standings.start()
    return Cache(ledger, version, NearestQuestions(made, known, settings.similarity, standings.limit))


def _retrieval(settings: Settings, bases: "Callable[[], FindsPassages]") -> "Retrieval":
    """What finds passages and makes prompts of them."""
    from headrace_workers.recall.reranking import Reranking
    from headrace_workers.recall.retrieval import Retrieval, as_found
    from headrace_workers.rerankers.load import load_reranker

    name = settings.reranker
    return Retrieval(
        bases=bases,
        counts=CountingModels(settings.home, Registry(settings.home)),
        guess=pieces,
        floor=settings.relevance,
        most_tokens=settings.passage_tokens,
        rerank=as_found if name is None else Reranking(load_reranker(name), settings.rerank_time).order,
    )


def _fill(settings: Settings, ledger: Ledger, progress: Progress, embedder: Callable[[], CountingEmbedder]) -> None:
    """Begin to read the files of vector stores, beside all else."""
    from headrace_workers.knowledge.reading import Reader
    from headrace_workers.recall.filling import Filling, Fills

    files = once(lambda: files_in(settings, ledger))
    filling = Filling(ledger, lambda file_id, most: files().head(file_id, most), Reader(), embedder)
    Fills(filling, progress.loop("fill vector stores")).start()


def _bases(ledger: Ledger, progress: Progress, worker: str, embedder: Callable[[], Embedder]) -> "FindsPassages":
    """The knowledge bases. Unavailable while no embedder is here: it may come without a new start."""
    from headrace_workers.recall.bases import Bases
    from headrace_workers.recall.follow import Follower

    try:
        bases = Bases(ledger, embedder())
    except UnknownModel as error:
        raise Unavailable(f"passages are not found without an embedder, and this worker has none: {error}") from error
    Follower(bases, progress.loop("follow documents"), partial(ledger.followed, worker, "document")).start()
    return bases


def _generator(settings: Settings, model: str | None) -> Generator:
    from headrace_workers.engines.load import load_generator

    assert model is not None  # noqa: S101 - no worker holds one without a name
    return load_generator(
        settings.home,
        model,
        device=settings.device,
        compute_type=settings.compute_type,
        inter_threads=settings.inter_threads,
    )


def _moderator(settings: Settings) -> Moderator:
    from headrace_workers.moderation.moderator import build_moderator

    moderator = build_moderator(settings.policy)
    moderator.warm_up()  # a detector that cannot load is an error now, and the first job does not wait for it
    return moderator


def once(build: Callable[[], T]) -> Callable[[], T]:
    """The same value each time, built by whoever asks first. What cannot be built is tried again. Thread-safe."""
    lock, built = threading.Lock(), list[T]()

    def get() -> T:
        with lock:
            if not built:
                built.append(build())
            return built[0]

    return get


def _needs(
    settings: Settings, pipeline: Pipeline, ledger: Ledger, progress: Progress, worker: str
) -> dict[str, Callable[[], Any]]:
    """What steps are handed beside a model, by the names that stages use; only what a role needs is built."""
    embedder = once(lambda: _embedder(settings))
    of_questions = once(lambda: _remembering(embedder))
    bases = once(lambda: _bases(ledger, progress, worker, of_questions))

    def retrieval() -> "Retrieval":
        _fill(settings, ledger, progress, embedder)
        return _retrieval(settings, bases)

    return {
        "moderator": lambda: _moderator(settings),
        "embedder": lambda: partial(_for_jobs, embedder),
        "embedder_alias": lambda: embedder_alias(settings.embedder),
        "cache": lambda: _cache(settings, ledger, progress, worker, of_questions),
        "retrieval": retrieval,
        "cache_mode": lambda: settings.cache,
        "cache_ttl": lambda: settings.cache_ttl,
        "max_wait": lambda: settings.max_wait,
        "auditing": lambda: Auditing(pipeline, settings.audit_share),
        "webhooks": lambda: ledger.webhooks,
        "courier": lambda: Courier(settings.webhook_reach),
        "sealer": lambda: Sealer(settings.webhook_key),
    }


def build_hands(
    settings: Settings, pipeline: Pipeline, roles: frozenset[str], model: str | None, progress: Progress
) -> Hands:
    """A worker's hands.

    Call it after any fork, since models and connections do not survive one.
    """
    ledger, worker = Ledger.at(settings.ledger), process_name("+".join(sorted(roles)))
    parallel = 1

    def generator() -> Generator:
        nonlocal parallel
        loaded = _generator(settings, model)
        parallel = loaded.parallel
        return loaded

    needs = {**_needs(settings, pipeline, ledger, progress, worker), "generator": generator}
    steps = pipeline.steps_of(roles, model, needs)
    runs = Runs(progress, pipeline, settings.longest_run)
    client = redis_client(settings.redis)
    bell = Bell(client, RedisNames(settings.kafka.prefix).bell)
    renewer = Renewer(ledger, settings.lease_ms, progress.loop("renew"), runs, bell)
    renewer.start()
    runner = Runner(
        ledger=ledger,
        work=Work(pipeline, steps, settings, SystemClock()),
        settings=settings,
        renewer=renewer,
        runs=runs,
        bell=bell,
        hand_out=_hand_out(settings, ledger, task_queue(settings, client, ledger), worker),
        clock=SystemClock(),
        worker=worker,
        progress=progress,
    )
    return Hands(runner, parallel, ledger.identity)


def build_gateway(
    settings: Settings,
    progress: Progress,
    *,
    durable: bool,
    open_to: str | None = None,
    pipeline: Pipeline | None = None,
) -> "Services":
    """What the gateway's routes work with. `durable`: Kafka's log outlives its broker. `open_to`: whose requests those
    without a key are.
    """
    from headrace_producers.kafka import KafkaSink
    from headrace_workers.gateway.allowance import Allowance
    from headrace_workers.gateway.crowding import Crowding
    from headrace_workers.gateway.door import Door
    from headrace_workers.gateway.keyring import Keyring
    from headrace_workers.gateway.metrics import Metrics
    from headrace_workers.gateway.rates import Rates
    from headrace_workers.gateway.rates import client as rates_client
    from headrace_workers.gateway.services import Services
    from headrace_workers.gateway.sink import CONFIRM_SECONDS, Sink
    from headrace_workers.gateway.waiter import Waiter

    ledger, names, registry = Ledger.at(settings.ledger), RedisNames(settings.kafka.prefix), Registry(settings.home)
    pipeline = pipeline or pipeline_of(settings)
    executor, metrics = ThreadPoolExecutor(_GATEWAY_THREADS, "gateway"), Metrics()
    sink = Sink(
        lambda told: KafkaSink(settings.kafka, max_block=1.0, delivery_timeout=CONFIRM_SECONDS, on_delivery=told),
        executor,
    )
    waiter = Waiter(ledger.look_for, executor, progress.loop("waiter"))
    bell = Bell(redis_client(settings.redis), names.bell)

    def hear(rang: Callable[[], object]) -> Callable[[], object]:
        heard = dict.fromkeys(Hint, _Rung(rang))
        ears = Ears(redis_client(settings.redis), names.bell, heard, progress.loop("ears"))
        ears.start()
        return ears.stop

    embedder = once(lambda: _remembering(lambda: _embedder(settings)))
    files = files_in(settings, ledger)
    return Services(
        settings=settings,
        ledger=ledger,
        bases=once(lambda: _bases(ledger, progress, process_name("gateway"), embedder)),
        files=files,
        uploads=Uploads(ledger.files, files),
        registry=registry,
        pipeline=pipeline,
        executor=executor,
        sink=sink,
        waiter=waiter,
        door=Door(
            ledger=ledger,
            sink=sink,
            waiter=waiter,
            models=registry,
            embedder=embedder_alias(settings.embedder),
            pipeline=pipeline,
            crowding=Crowding(ledger.pressure, executor, most=settings.max_active, longest=settings.max_queue_age),
            executor=executor,
            durable=durable,
            metrics=metrics,
            allowance=Allowance(ledger, CountingModels(settings.home, registry), executor),
        ),
        metrics=metrics,
        keyring=Keyring(ledger.keys, executor, open_to=open_to),
        rates=Rates(rates_client(settings.redis), names, settings.rate),
        hear=hear,
        ring=lambda: bell.ring(*Hint),
    )


@dataclass(frozen=True, slots=True)
class _Rung:
    """What any hint calls."""

    set: Callable[[], object]
