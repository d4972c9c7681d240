"""A gateway."""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from headrace_producers.settings import KafkaSettings
from headrace_schemas import Topic
from headrace_schemas.topics import ABOUT_JOBS, INBOUND
from headrace_workers.core.identity import process_name
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.probe import Probe
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.progress import Progress
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.features.batches.files.uploads import Uploads
from headrace_workers.features.batches.store.stored import StoredFiles
from headrace_workers.features.generation.engines.counting import CountingModels
from headrace_workers.features.generation.models.registry import Registry
from headrace_workers.features.knowledge.embedders.served import ServedEmbedder
from headrace_workers.features.webhooks.settings import WebhookSettings
from headrace_workers.runtime.health.writes import Writes
from headrace_workers.runtime.settings import GatewaySettings, ModelSettings, Settings
from headrace_workers.runtime.wire.listener import HintListener, Rung, Several
from headrace_workers.runtime.wire.notifier import Hint, Notifier
from headrace_workers.runtime.wire.redis_client import HINT_SECONDS, redis_client
from headrace_workers.runtime.wire.redis_names import RedisNames
from headrace_workers.wiring import recall
from headrace_workers.wiring.once import once
from headrace_workers.wiring.parts import canaries_of, files_in, pipeline_of

if TYPE_CHECKING:  # they import NumPy, or FastAPI, which most processes do without
    from headrace_workers.http.admission import Admission
    from headrace_workers.http.metrics import Metrics
    from headrace_workers.http.services import Services
    from headrace_workers.http.sink import Sink
    from headrace_workers.http.waiter import Waiter

_GATEWAY_THREADS = 16  # that wait for the ledger: it has twelve connections
_STORE_THREADS = 8
_SEARCH_THREADS = 8


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
    from headrace_workers.features.access.keyring import Keyring
    from headrace_workers.http.metrics import Metrics
    from headrace_workers.http.rates import Rates
    from headrace_workers.http.rates import client as rates_client
    from headrace_workers.http.services import Services
    from headrace_workers.http.store_work import StoreWork
    from headrace_workers.http.waiter import Waiter

    ledger, names, registry = Ledger.at(settings.ledger), RedisNames(settings.kafka.prefix), Registry(settings.home)
    pipeline = pipeline or pipeline_of(settings)
    executor, metrics = ThreadPoolExecutor(_GATEWAY_THREADS, "gateway"), Metrics()
    sink, waiter = _sink(settings.kafka, executor), Waiter(ledger.look_for, executor, progress.loop("waiter"))
    bell, followers, at_end = Notifier(redis_client(settings.redis, HINT_SECONDS), names.bell), Several(), ExitStack()
    ledger.tell_of_changes(partial(bell.ring, Hint.CHANGES))
    embedder = once(lambda: recall.remembering(lambda: recall.embedder_of(settings)))
    files = files_in(settings, ledger)
    return Services(
        settings=settings,
        ledger=ledger,
        bases=once(
            lambda: recall.bases_of(ledger, progress, process_name("gateway"), embedder, lambda: followers, at_end)
        ),
        files=files,
        uploads=Uploads(ledger.of(StoredFiles), files),
        registry=registry,
        pipeline=pipeline,
        executor=executor,
        search_threads=ThreadPoolExecutor(_SEARCH_THREADS, "search"),
        embedder=ServedEmbedder(settings.home, settings.of(ModelSettings).embedder),
        store=StoreWork(ThreadPoolExecutor(_STORE_THREADS, "store")),
        sink=sink,
        waiter=waiter,
        door=_door(settings, ledger, sink, waiter, registry, pipeline, executor, metrics, durable=durable),
        metrics=metrics,
        writes=Writes(Probe(ledger.engine), progress.loop("probe")),
        keyring=Keyring(ledger.of(ApiKeys), executor, open_to=open_to),
        rates=Rates(rates_client(settings.redis), names, settings.of(GatewaySettings).rate),
        hear=lambda rang: _hear(settings, names, progress, rang, followers),
        ring=lambda: executor.submit(bell.ring, *Hint),  # nobody waits for it
        at_end=at_end,
    )


def _sink(kafka: KafkaSettings, executor: Executor) -> "Sink":
    from headrace_producers.kafka import KafkaSink
    from headrace_workers.http.sink import CONFIRM_SECONDS, Sink
    from headrace_workers.http.topics import LOOK_SECONDS, Topics

    return Sink(
        lambda told: KafkaSink(kafka, max_block=1.0, delivery_timeout=CONFIRM_SECONDS, on_delivery=told),
        Topics(lambda: _missing(kafka, LOOK_SECONDS), executor),
        executor,
    )


def _door(
    settings: Settings,
    ledger: Ledger,
    sink: "Sink",
    waiter: "Waiter",
    registry: Registry,
    pipeline: Pipeline,
    executor: Executor,
    metrics: "Metrics",
    *,
    durable: bool,
) -> "Admission":
    from headrace_workers.features.access.quota import QuotaReservations
    from headrace_workers.http.admission import Admission
    from headrace_workers.http.load_shedding import LoadShedding
    from headrace_workers.http.prompt_lengths import Lengths

    counting = CountingModels(settings.home, registry, canaries_of(settings).shown)
    longest = settings.of(GatewaySettings).max_queue_age
    return Admission(
        ledger=ledger,
        sink=sink,
        waiter=waiter,
        models=registry,
        embedder=ServedEmbedder(settings.home, settings.of(ModelSettings).embedder),
        pipeline=pipeline,
        reach=settings.of(WebhookSettings).reach,
        crowding=LoadShedding(ledger.pressure, executor, most=settings.max_active, longest=longest),
        executor=executor,
        durable=durable,
        metrics=metrics,
        allowance=QuotaReservations(ledger, counting, pipeline, executor),
        lengths=Lengths(counting, executor),
    )


def _hear(
    settings: Settings, names: RedisNames, progress: Progress, rang: Callable[[], object], followers: Rung
) -> Callable[[], object]:
    """Call this whenever the bell rings, but for who follows answers and documents; returns what ends that."""
    heard: dict[Hint, Rung] = {**dict.fromkeys(Hint, _Rung(rang)), Hint.CHANGES: followers}
    ears = HintListener(redis_client(settings.redis), names.bell, heard, progress.loop("ears"))
    ears.start()
    return ears.stop


def _missing(kafka: KafkaSettings, seconds: float) -> dict[Topic, str]:
    """The topics of jobs that are not there, with their names in Kafka. Unavailable where no broker answers."""
    from headrace_producers.admin import missing_topics

    wanted = [topic for topic in INBOUND if topic not in ABOUT_JOBS]  # cancellations it writes into the ledger
    return {topic: kafka.topic(topic) for topic in missing_topics(kafka, wanted, timeout=seconds)}


@dataclass(frozen=True, slots=True)
class _Rung:
    """What any hint calls."""

    set: Callable[[], object]
