"""Construction of a gateway: its services, and how they start and stop."""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from headrace_producers.settings import KafkaSettings
from headrace_schemas import Topic
from headrace_schemas.topics import ABOUT_JOBS, INBOUND
from headrace_workers.core.admission import AdmissionRules, admission_rules
from headrace_workers.core.feature import installed
from headrace_workers.core.identity import process_name
from headrace_workers.core.ledger.accepted import Probe
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.progress import Progress
from headrace_workers.core.redis import HINT_SECONDS, RedisNames, redis_client
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.http.timeouts import Timeouts
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.health.writes import Writes
from headrace_workers.runtime.settings import GatewaySettings, Settings
from headrace_workers.runtime.wire.hints import Broadcast, Hint, HintListener, HintReceiver, Notifier
from headrace_workers.wiring.parts import admission_parts, pipeline_of

if TYPE_CHECKING:  # they import NumPy, or FastAPI, which most processes do without
    from headrace_workers.http.admission import Admission
    from headrace_workers.http.limits import RateLimiter
    from headrace_workers.http.metrics import Metrics
    from headrace_workers.http.services import Services
    from headrace_workers.http.sink import Sink
    from headrace_workers.http.waiter import Waiter

_TIMEOUTS: Final = Timeouts()
_GATEWAY_THREADS = 16  # that wait for the ledger: it has twelve connections


def build_gateway(
    settings: Settings,
    progress: Progress,
    *,
    durable: bool,
    open_to: str | None = None,
    pipeline: Pipeline | None = None,
    timeouts: Timeouts = _TIMEOUTS,
) -> "Services":
    """Return the services of the gateway's routes. `durable`: Kafka's log outlives its broker. `open_to`: the tenant of
    requests without a key.
    """
    from headrace_workers.features.access.keyring import Keyring
    from headrace_workers.http.metrics import Metrics
    from headrace_workers.http.services import GatewayParts, Services
    from headrace_workers.http.waiter import Waiter

    ledger, names = Ledger.at(settings.ledger), RedisNames(settings.kafka.prefix)
    registry = Registry(settings.home)
    pipeline = pipeline or pipeline_of(settings, registry=registry)
    parts = admission_parts(settings, ledger, pipeline, registry)
    rules = admission_rules(parts)
    executor, metrics = ThreadPoolExecutor(_GATEWAY_THREADS, "gateway"), Metrics()
    sink, waiter = _sink(settings.kafka, executor, timeouts), Waiter(ledger.look_for, executor, progress.loop("waiter"))
    notifier = Notifier(redis_client(settings.redis, HINT_SECONDS), names.hints)
    ledger.tell_of_changes(partial(notifier.notify, Hint.CHANGES))
    gateway = GatewayParts(
        name=process_name("gateway"),
        settings=settings,
        ledger=ledger,
        progress=progress,
        embedder=parts.embedder,
        followers=Broadcast(),
        at_end=ExitStack(),
    )
    return Services(
        settings=settings,
        ledger=ledger,
        executor=executor,
        sink=sink,
        waiter=waiter,
        admission=_admission(
            settings, ledger, sink, waiter, rules, executor, metrics, durable=durable, timeouts=timeouts
        ),
        rules=rules,
        metrics=metrics,
        writes=Writes(Probe(ledger.engine), progress.loop("probe")),
        keyring=Keyring(ledger.of(ApiKeys), executor, patience=timeouts.ledger, open_to=open_to),
        rates=_rates(settings, names, timeouts),
        hear=lambda rang: _hear(settings, names, progress, rang, gateway.followers),
        ring=lambda: executor.submit(notifier.notify, *Hint),  # nobody waits for it
        at_end=gateway.at_end,
        parts={kind: part for feature in installed() for kind, part in feature.services(gateway).items()},
        timeouts=timeouts,
    )


def _rates(settings: Settings, names: RedisNames, timeouts: Timeouts) -> "RateLimiter":
    from headrace_workers.http.limits import RateLimiter, client

    return RateLimiter(client(settings.redis, timeouts.redis), names, settings.of(GatewaySettings).rate)


def _sink(kafka: KafkaSettings, executor: Executor, timeouts: Timeouts) -> "Sink":
    from headrace_producers.kafka import KafkaSink
    from headrace_workers.http.sink import Sink, Topics

    return Sink(
        lambda told: KafkaSink(kafka, max_block=timeouts.room, delivery_timeout=timeouts.confirmed, on_delivery=told),
        Topics(lambda: _missing(kafka, timeouts.topics), executor, timeouts.topics),
        executor,
        timeouts,
    )


def _admission(
    settings: Settings,
    ledger: Ledger,
    sink: "Sink",
    waiter: "Waiter",
    rules: AdmissionRules,
    executor: Executor,
    metrics: "Metrics",
    *,
    durable: bool,
    timeouts: Timeouts,
) -> "Admission":
    from headrace_workers.features.access.quota_reservations import QuotaReservations
    from headrace_workers.http.admission import Admission, LoadShedding

    return Admission(
        ledger=ledger,
        sink=sink,
        waiter=waiter,
        rules=rules,
        load_shedding=LoadShedding(
            ledger.pressure,
            executor,
            most=settings.max_active,
            longest=settings.of(GatewaySettings).max_queue_age,
            patience=timeouts.ledger,
        ),
        executor=executor,
        durable=durable,
        metrics=metrics,
        timeouts=timeouts,
        quotas=QuotaReservations(ledger, rules, executor, patience=timeouts.ledger),
    )


def _hear(
    settings: Settings, names: RedisNames, progress: Progress, rang: Callable[[], object], followers: HintReceiver
) -> Callable[[], object]:
    """Call this on every hint but those to followers of answers and documents; return a function that ends it."""
    heard: dict[Hint, HintReceiver] = {**dict.fromkeys(Hint, _Call(rang)), Hint.CHANGES: followers}
    listener = HintListener(redis_client(settings.redis), names.hints, heard, progress.loop("ears"))
    listener.start()
    return listener.stop


def _missing(kafka: KafkaSettings, seconds: float) -> dict[Topic, str]:
    """Return the topics of jobs that are not there, with their names in Kafka. Unavailable where no broker answers."""
    from headrace_producers.admin import missing_topics

    wanted = [topic for topic in INBOUND if topic not in ABOUT_JOBS]  # cancellations it writes into the ledger
    return {topic: kafka.topic(topic) for topic in missing_topics(kafka, wanted, timeout=seconds)}


@dataclass(frozen=True, slots=True)
class _Call:
    """Receiver that calls a function at any hint."""

    set: Callable[[], object]
