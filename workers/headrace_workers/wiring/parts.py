"""Parts that several kinds of processes are built of."""

from collections.abc import Callable, Collection

import redis

from headrace_workers.core.admission.parts import AdmissionParts
from headrace_workers.core.ledger.claim import Claim
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.following import Following
from headrace_workers.core.pipeline.routing import Pipeline, none_avoided
from headrace_workers.core.pipeline.stage import installed_stages
from headrace_workers.features.generation.engines.counting import CountingModels
from headrace_workers.features.generation.models.registry import Registry
from headrace_workers.features.knowledge.embedders.deployed_embedder import ServedEmbedder
from headrace_workers.features.moderation.canary import LONGEST_MARK
from headrace_workers.features.moderation.deployed_policy import canaries_of
from headrace_workers.features.webhooks.settings import WebhookSettings
from headrace_workers.runtime.settings import ModelSettings, Settings
from headrace_workers.runtime.wire.early_assignment import Assigner
from headrace_workers.runtime.wire.follow_up import FollowUp
from headrace_workers.runtime.wire.redis_names import RedisNames
from headrace_workers.runtime.wire.taskqueue import TaskQueue


def task_queue(settings: Settings, client: redis.Redis, ledger: Ledger) -> TaskQueue:
    """Return the way of this ledger's claims to the workers."""
    return TaskQueue(client, RedisNames(settings.kafka.prefix), ledger.identity)


def pipeline_of(settings: Settings, avoided: Callable[[], Collection[str]] = none_avoided) -> Pipeline:
    """Return the pipeline of this deployment, which leads around `avoided` models. ConfigurationError where its
    moderation policy is wrong.
    """
    judge = settings.of(ModelSettings).judge_model
    return Pipeline(installed_stages(settings), judge_model=judge, avoided=avoided)


def admission_parts(settings: Settings, ledger: Ledger, models: Registry, embedder: ServedEmbedder) -> AdmissionParts:
    """Return the parts by which features check jobs. Raise ConfigurationError if the moderation policy is wrong."""
    shown = canaries_of(settings).shown
    return AdmissionParts(
        ledger=ledger,
        models=CountingModels(settings.home, models, shown, longest_mark=LONGEST_MARK),
        embedder=embedder,
        reach=settings.of(WebhookSettings).reach,
    )


def assigner_of(
    settings: Settings, ledger: Ledger, tasks: TaskQueue, sender: str, sent: Callable[[Claim], object] | None = None
) -> Assigner:
    """Return the sender of claims to workers. `sent` is called with each."""
    depth, lease_ms = settings.queue_depth, settings.lease_ms
    return Assigner(ledger=ledger, tasks=tasks, sender=sender, depth=depth, lease_ms=lease_ms, sent=sent)


def follow_up(settings: Settings, ledger: Ledger, assigner: Assigner, *, believed: float = 0.0) -> FollowUp:
    """Return the maker of units that follow from ends, such as webhooks. See `Feature.follows` for `believed`."""
    return FollowUp(ledger=ledger, units=Following.installed(settings, ledger, believed).units, assigner=assigner)
