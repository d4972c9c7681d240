"""What several kinds of processes are built of."""

from collections.abc import Callable
from pathlib import Path

import redis

from headrace_workers.files.files import Files
from headrace_workers.files.store import Store
from headrace_workers.ledger.claim import Claim
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.pipeline.routing import Pipeline
from headrace_workers.pipeline.stages import no_tenant, stages_of
from headrace_workers.settings import Settings, Switch
from headrace_workers.wire.hand_out import HandOut
from headrace_workers.wire.redis_names import RedisNames
from headrace_workers.wire.taskqueue import TaskQueue


def task_queue(settings: Settings, client: redis.Redis, ledger: Ledger) -> TaskQueue:
    """The way of this ledger's claims to the workers."""
    return TaskQueue(client, RedisNames(settings.kafka.prefix), ledger.identity)


def pipeline_of(settings: Settings) -> Pipeline:
    """The pipeline of this deployment. ConfigurationError where its moderation policy is wrong."""
    screen, must_screen = settings.screen is Switch.ON, _must_screen(settings.policy)
    return Pipeline(stages_of(settings.cache, screen=screen, must_screen=must_screen), judge_model=settings.judge_model)


def _must_screen(policy: Path | None) -> Callable[[str], bool]:
    """Whether the policy of a tenant asks for it, now."""
    if policy is None:
        return no_tenant
    from headrace_workers.moderation.watching import WatchedPolicy

    watched = WatchedPolicy(policy)
    return lambda tenant: watched.of(tenant).screen


def hand_out(
    settings: Settings, ledger: Ledger, tasks: TaskQueue, sender: str, sent: Callable[[Claim], object] | None = None
) -> HandOut:
    """What hands claims on to the workers. `sent` hears of each."""
    depth, lease_ms = settings.queue_depth, settings.lease_ms
    return HandOut(ledger=ledger, tasks=tasks, sender=sender, depth=depth, lease_ms=lease_ms, sent=sent)


def files_in(settings: Settings, ledger: Ledger) -> Files:
    """The files of this deployment. ConfigurationError when HEADRACE_FILES names no place that can be reached."""
    return Files(ledger.files, Store.at(settings.files or str(settings.home / "files")))
