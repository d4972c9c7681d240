"""Construction of a bridge: its duties, and the parts that they share."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from headrace_workers.core.admission import AdmissionRules, admission_rules
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.feature import installed
from headrace_workers.core.identity import process_name
from headrace_workers.core.ledger.accepted import Probe
from headrace_workers.core.ledger.ledger import Fact, Ledger
from headrace_workers.core.outage import KafkaUnavailable
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.progress import Progress
from headrace_workers.core.redis import HINT_SECONDS, RedisNames, live_queues, live_workers, redis_client
from headrace_workers.features.generation.model_health import KnownBreakers
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.bridge.bridge import Bridge, Duty, WakeUps
from headrace_workers.runtime.bridge.cluster import Cluster
from headrace_workers.runtime.bridge.dispatch import Dispatch
from headrace_workers.runtime.bridge.duty import BridgeParts, DutyLease, FeatureDuty, IncidentReporter
from headrace_workers.runtime.bridge.event_publisher import Publisher
from headrace_workers.runtime.bridge.ingest import Ingest
from headrace_workers.runtime.bridge.partitions import Partitions
from headrace_workers.runtime.bridge.reap import Reap, StageSkipper
from headrace_workers.runtime.bridge.relay import Relay
from headrace_workers.runtime.health.writes import Writes
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.assignment import QUEUE_DEPTH
from headrace_workers.runtime.wire.hints import Broadcast, Hint, HintListener, HintReceiver, Notifier
from headrace_workers.runtime.wire.taskqueue import TaskQueue
from headrace_workers.wiring.parts import admission_parts, assigner_of, follow_up, pipeline_of, task_queue

_AT_START = 3.0  # seconds for Kafka to say which cluster it is, before the bridge begins
_LINGER_MS = 300  # that a model's batch work waits for company when it makes no full group


@dataclass(frozen=True, slots=True)
class _Shared:
    """Parts that all duties of one bridge share."""

    settings: Settings
    pipeline: Pipeline
    name: str
    ledger: Ledger
    clock: SystemClock
    models: Registry
    breakers: KnownBreakers
    rules: AdmissionRules
    tasks: TaskQueue
    impatient_tasks: TaskQueue  # for what has other ways, too: it gives up soon
    incidents: IncidentReporter
    cluster: Cluster
    notifier: Notifier


def build_bridge(
    settings: Settings,
    duties: frozenset[str],
    progress: Progress,
    pipeline: Pipeline | None = None,
    *,
    durable: bool = True,
) -> Bridge:
    """Return a bridge with these duties; `durable`: Kafka's log outlives its broker. Unavailable when the ledger does
    not answer, ConfigurationError when it belongs to another deployment.
    """
    ledger = Ledger.at(settings.ledger)
    ledger.deployment.state(Fact.PREFIX, settings.kafka.prefix)
    cluster = Cluster(settings.kafka, ledger, durable=durable)
    if duties & {Duty.INGEST, Duty.RELAY}:
        with suppress(KafkaUnavailable):  # it is waited for: this is asked again before anything is read or published
            cluster.check(_AT_START)
    shared = _shared(settings, ledger, cluster, pipeline)
    ledger.tell_of_changes(partial(shared.notifier.notify, Hint.CHANGES))
    of_features, wake_ups, dispatch = _duties_of_features(shared), WakeUps(), _dispatch(shared)
    return Bridge(
        name=shared.name,
        duties=duties,
        ledger=ledger,
        listener=_listener(settings, progress, wake_ups, of_features.values()),
        wake_ups=wake_ups,
        ingest=_ingest(shared, dispatch),
        dispatch=dispatch,
        relay=_relay(shared),
        reap=_reap(shared),
        of_features=of_features,
        notifier=shared.notifier,
        writes=Writes(Probe(ledger.engine), progress.loop("probe")),
        progress=progress,
    )


def _shared(settings: Settings, ledger: Ledger, cluster: Cluster, pipeline: Pipeline | None) -> _Shared:
    name, clock, models = process_name("bridge"), SystemClock(), Registry(settings.home)
    hints = redis_client(settings.redis, HINT_SECONDS)
    breakers = KnownBreakers(ledger)
    pipeline = pipeline or pipeline_of(settings, breakers.avoided, registry=models)
    return _Shared(
        settings=settings,
        pipeline=pipeline,
        name=name,
        ledger=ledger,
        clock=clock,
        models=models,
        breakers=breakers,
        rules=admission_rules(admission_parts(settings, ledger, pipeline, models)),
        tasks=task_queue(settings, redis_client(settings.redis), ledger),
        impatient_tasks=task_queue(settings, hints, ledger),
        incidents=IncidentReporter(ledger, name, clock),
        cluster=cluster,
        notifier=Notifier(hints, RedisNames(settings.kafka.prefix).hints),
    )


def _duties_of_features(shared: _Shared) -> dict[str, FeatureDuty]:
    settings = shared.settings
    parts = BridgeParts(
        name=shared.name,
        settings=settings,
        ledger=shared.ledger,
        clock=shared.clock,
        incidents=shared.incidents,
        rules=shared.rules,
    )
    made = {name: make(parts) for feature in installed() for name, make in feature.duties.items()}
    return {Duty.METRICS: _metrics(shared)} | {name: duty for name, duty in made.items() if duty is not None}


def _metrics(shared: _Shared) -> FeatureDuty:
    from headrace_workers.runtime.bridge import metrics

    lease = DutyLease(
        Duty.METRICS, ledger=shared.ledger, bridge=shared.name, clock=shared.clock, seconds=metrics.LEASE_SECONDS
    )
    return metrics.MetricsDuty(
        ledger=shared.ledger,
        lease=lease,
        clock=shared.clock,
        workers=partial(live_workers, redis_client(shared.settings.redis), RedisNames(shared.settings.kafka.prefix)),
    )


def _listener(
    settings: Settings, progress: Progress, wake_ups: WakeUps, of_features: Iterable[FeatureDuty]
) -> HintListener:
    heard = _joined(wake_ups.receivers, *(duty.receivers for duty in of_features))
    channel = RedisNames(settings.kafka.prefix).hints
    return HintListener(redis_client(settings.redis), channel, heard, progress.loop("ears"))


def _joined(*heard: Mapping[Hint, HintReceiver]) -> dict[Hint, HintReceiver]:
    """Return for each hint what sets all that hears it."""
    hints = dict.fromkeys(hint for receivers in heard for hint in receivers)
    return {hint: Broadcast(*(receivers[hint] for receivers in heard if hint in receivers)) for hint in hints}


def _ingest(shared: _Shared, dispatch: Dispatch) -> Ingest:
    settings = shared.settings
    return Ingest(
        partitions=Partitions(settings.kafka, shared.ledger, shared.name, shared.clock),
        prefix=settings.kafka.prefix,
        ledger=shared.ledger,
        rules=shared.rules,
        max_active=settings.max_active,
        retention=settings.retention,
        clock=shared.clock,
        incidents=shared.incidents,
        assigner=assigner_of(settings, shared.ledger, shared.impatient_tasks, shared.name, dispatch.went_out),
        check_cluster=shared.cluster.check,
    )


def _dispatch(shared: _Shared) -> Dispatch:
    settings = shared.settings
    return Dispatch(
        ledger=shared.ledger,
        tasks=shared.tasks,
        pipeline=shared.pipeline,
        models=shared.models.served,
        bridge=shared.name,
        lease_ms=settings.lease_ms,
        group_size=settings.group_size,
        depth=QUEUE_DEPTH,
        linger_ms=_LINGER_MS,
        limits=shared.breakers.groups,
    )


def _relay(shared: _Shared) -> Relay:
    return Relay(
        publisher=Publisher(shared.settings.kafka),
        ledger=shared.ledger,
        bridge=shared.name,
        clock=shared.clock,
        incidents=shared.incidents,
        follow_up=follow_up(
            shared.settings,
            shared.ledger,
            assigner_of(shared.settings, shared.ledger, shared.impatient_tasks, shared.name),
        ),
        check_cluster=shared.cluster.check,
    )


def _reap(shared: _Shared) -> Reap:
    settings = shared.settings
    return Reap(
        ledger=shared.ledger,
        clock=shared.clock,
        lease_ms=settings.lease_ms,
        max_crashes=settings.max_crashes,
        retention=settings.retention,
        hold=settings.hold,
        pass_over=StageSkipper(
            ledger=shared.ledger,
            pipeline=shared.pipeline,
            served=partial(live_queues, redis_client(settings.redis), RedisNames(settings.kafka.prefix)),
        ).once,
        upkeep=[
            keep_up
            for feature in installed()
            if feature.upkeep is not None and (keep_up := feature.upkeep(settings, shared.ledger)) is not None
        ],
    )
