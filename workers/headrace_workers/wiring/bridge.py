"""A bridge."""

import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from headrace_workers.core.clock import SystemClock
from headrace_workers.core.identity import process_name
from headrace_workers.core.ledger.deployment import Fact
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.probe import Probe
from headrace_workers.core.outage import KafkaUnavailable
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.progress import Progress
from headrace_workers.features.batches.duty import Bulk, Room
from headrace_workers.features.batches.feed import Feed
from headrace_workers.features.batches.line_admission import Admit
from headrace_workers.features.batches.outputs import Outputs
from headrace_workers.features.batches.rewriting import Rewriting
from headrace_workers.features.batches.settings import BatchSettings
from headrace_workers.features.batches.store.bulk import Batches
from headrace_workers.features.cache.settings import CacheSettings
from headrace_workers.features.evals.duty import EvalRuns
from headrace_workers.features.evals.settings import EvalSettings
from headrace_workers.features.generation.engines.counting import CountingModels
from headrace_workers.features.generation.models.registry import Registry
from headrace_workers.features.knowledge.embedders.served import ServedEmbedder
from headrace_workers.features.quality.duty import LiveRates
from headrace_workers.features.webhooks.settings import WebhookSettings
from headrace_workers.runtime.bridge.accept import Rules
from headrace_workers.runtime.bridge.admit import door_of
from headrace_workers.runtime.bridge.bridge import Bridge, Duty
from headrace_workers.runtime.bridge.cluster import Cluster
from headrace_workers.runtime.bridge.dispatch import Dispatch
from headrace_workers.runtime.bridge.incidents import Incidents
from headrace_workers.runtime.bridge.ingest import Ingest
from headrace_workers.runtime.bridge.partitions import Partitions
from headrace_workers.runtime.bridge.publish import Publisher
from headrace_workers.runtime.bridge.reap import Reap
from headrace_workers.runtime.bridge.relay import Relay
from headrace_workers.runtime.bridge.skip_stages import PassOver
from headrace_workers.runtime.health.writes import Writes
from headrace_workers.runtime.settings import ModelSettings, Settings
from headrace_workers.runtime.wire.listener import HintListener, Rung, Several
from headrace_workers.runtime.wire.notifier import Hint, Notifier
from headrace_workers.runtime.wire.redis_client import HINT_SECONDS, redis_client
from headrace_workers.runtime.wire.redis_names import RedisNames
from headrace_workers.runtime.wire.served import served
from headrace_workers.runtime.wire.taskqueue import TaskQueue
from headrace_workers.wiring.parts import canaries_of, files_in, follow_up, hand_out, pipeline_of, task_queue

_AT_START = 3.0  # seconds for Kafka to say which cluster it is, before the bridge begins


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
    hand_out: TaskQueue  # for what has other ways, too: it gives up soon
    troubles: Incidents
    cluster: Cluster


def build_bridge(
    settings: Settings,
    duties: frozenset[Duty],
    progress: Progress,
    pipeline: Pipeline | None = None,
    *,
    durable: bool = True,
) -> Bridge:
    """A bridge with these duties; `durable`: Kafka's log outlives its broker. Unavailable when the ledger does not
    answer, ConfigurationError when it belongs to another deployment.
    """
    name, ledger, clock = process_name("bridge"), Ledger.at(settings.ledger), SystemClock()
    ledger.deployment.state(Fact.PREFIX, settings.kafka.prefix)
    cluster = Cluster(settings.kafka, ledger, durable=durable)
    if duties & {Duty.INGEST, Duty.RELAY}:
        with suppress(KafkaUnavailable):  # it is waited for: this is asked again before anything is read or published
            cluster.check(_AT_START)
    channel, models = RedisNames(settings.kafka.prefix).bell, Registry(settings.home)
    hints = redis_client(settings.redis, HINT_SECONDS)
    bell = Notifier(hints, channel)
    ledger.tell_of_changes(partial(bell.ring, Hint.CHANGES))
    shared = _Shared(
        settings=settings,
        pipeline=pipeline or pipeline_of(settings),
        name=name,
        ledger=ledger,
        clock=clock,
        models=models,
        counts=CountingModels(settings.home, models, canaries_of(settings).shown),
        embedder=ServedEmbedder(settings.home, settings.of(ModelSettings).embedder),
        tasks=task_queue(settings, redis_client(settings.redis), ledger),
        hand_out=task_queue(settings, hints, ledger),
        troubles=Incidents(ledger, name, clock),
        cluster=cluster,
    )
    work, events, ends, batches, moved = (threading.Event() for _ in range(5))
    heard: dict[Hint, Rung] = {
        Hint.WORK: work,
        Hint.EVENTS: Several(events, moved),
        Hint.ENDS: ends,
        Hint.BATCHES: Several(batches, moved),
    }
    dispatch = _dispatch(shared)
    return Bridge(
        name=name,
        duties=duties,
        ledger=ledger,
        ears=HintListener(redis_client(settings.redis), channel, heard, progress.loop("ears")),
        work=work,
        events=events,
        ends=ends,
        batches=batches,
        moved=moved,
        ingest=_ingest(shared, dispatch),
        dispatch=dispatch,
        relay=_relay(shared),
        reap=_reap(shared),
        bulk=_bulk(shared),
        evals=_evals(shared),
        rates=LiveRates(ledger=ledger, bridge=name, clock=clock),
        bell=bell,
        writes=Writes(Probe(ledger.engine), progress.loop("probe")),
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
        reach=settings.of(WebhookSettings).reach,
        max_active=settings.max_active,
        retention=settings.retention,
        clock=shared.clock,
        troubles=shared.troubles,
        hand_out=hand_out(settings, shared.ledger, shared.hand_out, shared.name, dispatch.went_out),
        check_cluster=shared.cluster.check,
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
        follow_up=follow_up(
            shared.settings,
            shared.pipeline,
            shared.ledger,
            hand_out(shared.settings, shared.ledger, shared.hand_out, shared.name),
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
        of_units=shared.pipeline.retentions,
        most_answers=settings.of(CacheSettings).cache_max_entries,
        hold=settings.hold,
        pass_over=PassOver(
            ledger=shared.ledger,
            pipeline=shared.pipeline,
            served=partial(served, redis_client(settings.redis), RedisNames(settings.kafka.prefix)),
        ).once,
    )


def _bulk(shared: _Shared) -> Bulk:
    settings, ledger, own = shared.settings, shared.ledger, shared.settings.of(BatchSettings)
    files = files_in(settings, ledger)
    lines = max(1, settings.max_active // 2)  # of all batches: ingest, which pauses at `max_active`, is not theirs

    def admit() -> Admit:
        rules = Rules(shared.counts, shared.embedder, shared.pipeline, ledger.now(), settings.of(WebhookSettings).reach)
        return door_of(rules, ledger)

    return Bulk(
        ledger=ledger,
        files=files,
        feed=Feed(batches=ledger.of(Batches), files=files, admit=admit),
        outputs=Outputs(batches=ledger.of(Batches), files=files, keep=own.files_retention),
        rewriting=Rewriting(batches=ledger.of(Batches), files=files),
        room=Room(lines, own.batch_window),
        bridge=shared.name,
        clock=shared.clock,
        troubles=shared.troubles,
        keep=own.files_retention,
        max_crashes=settings.max_crashes,
    )


def _evals(shared: _Shared) -> EvalRuns:
    settings, ledger = shared.settings, shared.ledger
    return EvalRuns(
        ledger=ledger,
        files=files_in(settings, ledger),
        bridge=shared.name,
        clock=shared.clock,
        troubles=shared.troubles,
        keep=settings.of(BatchSettings).files_retention,
        most_bytes=settings.of(EvalSettings).max_eval_bytes,
        max_crashes=settings.max_crashes,
    )
