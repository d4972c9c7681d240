"""Parts that several kinds of processes are built of."""

from collections.abc import Callable, Collection

import redis

from headrace_workers.core.admission import AdmissionParts
from headrace_workers.core.feature import installed
from headrace_workers.core.ledger.claims import Claim
from headrace_workers.core.ledger.event_units import Following
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline, none_avoided
from headrace_workers.core.pipeline.stage import installed_stages
from headrace_workers.core.redis import RedisNames
from headrace_workers.features.generation.parts import counting_models
from headrace_workers.features.spend.prices import DeploymentPrices
from headrace_workers.features.spend.settings import SpendSettings
from headrace_workers.models.embedders.load_embedder import ServedEmbedder
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.settings import ModelSettings, Settings
from headrace_workers.runtime.wire.assignment import QUEUE_DEPTH, Assigner, FollowUp
from headrace_workers.runtime.wire.taskqueue import TaskQueue


def task_queue(settings: Settings, client: redis.Redis, ledger: Ledger) -> TaskQueue:
    """Return the way of this ledger's claims to the workers."""
    return TaskQueue(client, RedisNames(settings.kafka.prefix), ledger.identity)


def pipeline_of(
    settings: Settings,
    avoided: Callable[[str], Collection[str]] = none_avoided,
    *,
    registry: Registry | None = None,
) -> Pipeline:
    """Return the pipeline of this deployment, which leads around `avoided` models. `registry` has the models of the
    deployment's home. Raise ConfigurationError if the moderation policy is wrong.
    """
    models = settings.of(ModelSettings)
    prices = DeploymentPrices(registry or Registry(settings.home), settings.of(SpendSettings))
    return Pipeline(installed_stages(settings), judge_model=models.judge_model, avoided=avoided, prices=prices)


def admission_parts(
    settings: Settings, ledger: Ledger, pipeline: Pipeline, registry: Registry | None = None
) -> AdmissionParts:
    """Return the parts by which features check jobs. `registry` has the models of the deployment's home. Raise
    ConfigurationError if the moderation policy is wrong.
    """
    return AdmissionParts(
        ledger=ledger,
        pipeline=pipeline,
        models=counting_models(settings, registry or Registry(settings.home)),
        embedder=ServedEmbedder(settings.home, settings.of(ModelSettings).embedder),
        settings=settings,
        home=settings.home,
    )


def assigner_of(
    settings: Settings, ledger: Ledger, tasks: TaskQueue, sender: str, sent: Callable[[Claim], object] | None = None
) -> Assigner:
    """Return the sender of claims to workers. `sent` is called with each."""
    return Assigner(ledger=ledger, tasks=tasks, sender=sender, depth=QUEUE_DEPTH, lease_ms=settings.lease_ms, sent=sent)


def follow_up(settings: Settings, ledger: Ledger, assigner: Assigner, *, believed: float = 0.0) -> FollowUp:
    """Return the maker of units that follow from ends, such as webhooks. See `Feature.follows` for `believed`."""
    makers = [feature.follows(settings, ledger, believed) for feature in installed() if feature.follows is not None]
    return FollowUp(ledger=ledger, units=Following(makers).units, assigner=assigner)
