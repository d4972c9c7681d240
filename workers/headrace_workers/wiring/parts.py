"""What several kinds of processes are built of."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import redis

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.ledger.claim import Claim
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.following import Following
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.features.batches.files.files import Files
from headrace_workers.features.batches.files.store import Store
from headrace_workers.features.batches.settings import BatchSettings
from headrace_workers.features.batches.store.files import FileBounds
from headrace_workers.features.batches.store.stored import StoredFiles
from headrace_workers.features.cache.settings import CacheSettings
from headrace_workers.features.moderation.canary import UNMARKED, Canaries
from headrace_workers.features.moderation.policy import Policy
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.features.moderation.settings import ModerationSettings, Switch
from headrace_workers.features.moderation.watching import WatchedPolicy
from headrace_workers.features.webhooks.payloads import Wording
from headrace_workers.features.webhooks.settings import SealingSettings, WebhookSettings
from headrace_workers.features.webhooks.store.deliveries import STAGE as DELIVER
from headrace_workers.features.webhooks.telling import Telling
from headrace_workers.runtime.settings import GatewaySettings, ModelSettings, Settings
from headrace_workers.runtime.wire.assign import Assigner
from headrace_workers.runtime.wire.follow_up import FollowUp
from headrace_workers.runtime.wire.redis_names import RedisNames
from headrace_workers.runtime.wire.taskqueue import TaskQueue
from headrace_workers.wiring.stages import stages_of


def task_queue(settings: Settings, client: redis.Redis, ledger: Ledger) -> TaskQueue:
    """The way of this ledger's claims to the workers."""
    return TaskQueue(client, RedisNames(settings.kafka.prefix), ledger.identity)


def pipeline_of(settings: Settings) -> Pipeline:
    """The pipeline of this deployment. ConfigurationError where its moderation policy is wrong."""
    policy = _policy_of(settings)
    stages = stages_of(
        settings.of(CacheSettings).cache,
        screen=settings.of(ModerationSettings).screen is Switch.ON,
        must_screen=lambda tenant: policy(tenant).screen,
    )
    return Pipeline(
        stages,
        judge_model=settings.of(ModelSettings).judge_model,
        moderated_again=lambda tenant: policy(tenant).makes_again,
    )


def trusts_system_of(settings: Settings) -> Callable[[str], bool]:
    """Tell of which tenants the system prompts are not screened. ConfigurationError where the policy is wrong."""
    policy = _policy_of(settings)
    return lambda tenant: policy(tenant).trust_system


def canaries_of(settings: Settings) -> Canaries:
    """What marks system prompts, where the moderation policy asks for it. ConfigurationError where that is wrong."""
    if (file := settings.of(ModerationSettings).policy) is None:
        return UNMARKED
    watched = WatchedPolicy(file, what="marks", load_policy=partial(policy_here, settings))
    return Canaries(settings.of(SealingSettings).webhook_key, lambda tenant: watched.of(tenant).canary)


def policy_here(settings: Settings, path: Path) -> Policy:
    """The policy in a file, as this deployment can follow it. ConfigurationError where it is wrong, or it cannot."""
    policy = load_policy(path)
    if not settings.of(SealingSettings).webhook_key and any(each.canary for each in (policy, *policy.tenants.values())):
        raise ConfigurationError(
            f"moderation policy {path}: canary: the marks are made with HEADRACE_WEBHOOK_KEY, which is not set: "
            "give it a key (`openssl rand -base64 32`), the same to all of headrace's processes"
        )
    return policy


def _policy_of(settings: Settings) -> Callable[[str], Policy]:
    """The policy of a tenant, now."""
    if (file := settings.of(ModerationSettings).policy) is None:
        return load_policy().of
    return WatchedPolicy(file, load_policy=partial(policy_here, settings)).of


def hand_out(
    settings: Settings, ledger: Ledger, tasks: TaskQueue, sender: str, sent: Callable[[Claim], object] | None = None
) -> Assigner:
    """What hands claims on to the workers. `sent` hears of each."""
    depth, lease_ms = settings.queue_depth, settings.lease_ms
    return Assigner(ledger=ledger, tasks=tasks, sender=sender, depth=depth, lease_ms=lease_ms, sent=sent)


def follow_up(
    settings: Settings, pipeline: Pipeline, ledger: Ledger, hands_on: Assigner, *, believed: float = 0.0
) -> FollowUp:
    """What does what follows from ends: webhooks, where a stage of this deployment delivers them. See `Telling` for
    `believed`.
    """
    telling = None
    if pipeline.stage(DELIVER) is not None:
        wording = Wording(settings.of(WebhookSettings).webhook_bytes, settings.of(GatewaySettings).public_url)
        telling = Telling(ledger, wording, believed)
    return FollowUp(ledger=ledger, units=Following(pipeline, ledger, telling).units, hand_out=hands_on)


def files_in(settings: Settings, ledger: Ledger) -> Files:
    """The files of this deployment. ConfigurationError when HEADRACE_FILES names no place that can be reached."""
    own = settings.of(BatchSettings)
    bounds = FileBounds(own.max_file_bytes, own.max_uploads)
    return Files(ledger.of(StoredFiles), Store.at(own.place(settings.home)), bounds)
