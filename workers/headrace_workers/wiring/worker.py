"""A worker, by its roles."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace_schemas.aliases import embedder_alias
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.identity import process_name
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.ports import Detector, Embedder, Generator, Moderator
from headrace_workers.core.progress import Progress
from headrace_workers.features.cache.auditing import Auditing
from headrace_workers.features.cache.settings import CacheSettings
from headrace_workers.features.generation.settings import GenerationSettings
from headrace_workers.features.moderation.policy import Policy
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.features.moderation.settings import ModerationSettings
from headrace_workers.features.moderation.store.policies import Policies
from headrace_workers.features.webhooks.sealing import Sealer
from headrace_workers.features.webhooks.sender import Sender
from headrace_workers.features.webhooks.settings import SealingSettings, WebhookSettings
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.runtime.settings import ModelSettings, Settings
from headrace_workers.runtime.wire.notifier import Hint, Notifier
from headrace_workers.runtime.wire.redis_client import HINT_SECONDS, redis_client
from headrace_workers.runtime.wire.redis_names import RedisNames
from headrace_workers.runtime.worker.cancellation_watch import CancellationWatch
from headrace_workers.runtime.worker.process import WorkerRuntime, run_worker
from headrace_workers.runtime.worker.renew import Renewer
from headrace_workers.runtime.worker.run import Runner
from headrace_workers.runtime.worker.runs import Runs
from headrace_workers.runtime.worker.work import Work
from headrace_workers.wiring import recall
from headrace_workers.wiring.once import once
from headrace_workers.wiring.parts import (
    canaries_of,
    follow_up,
    hand_out,
    pipeline_of,
    policy_here,
    task_queue,
    trusts_system_of,
)

if TYPE_CHECKING:  # they import NumPy, or FastAPI, which most processes do without
    from headrace_workers.features.knowledge.retrieval import Retrieval
    from headrace_workers.features.moderation.moderator import Aids
    from headrace_workers.features.moderation.seen import SeenPrompts

_BELIEVED = 1.0  # seconds for which a worker asks no more whether anybody listens: bridges ask each time


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
    return run_worker(
        settings,
        pipeline,
        roles,
        model,
        progress,
        build,
        concurrency=concurrency,
        at_once=settings.of(GenerationSettings).inter_threads,
    )


def build_hands(
    settings: Settings, pipeline: Pipeline, roles: frozenset[str], model: str | None, progress: Progress
) -> WorkerRuntime:
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

    runs = Runs(progress, pipeline, settings.longest_run)

    def let_go() -> CancellationWatch:
        asking = CancellationWatch(ledger, runs, progress.loop("let go"))
        asking.start()
        return asking

    needs = {**_needs(settings, pipeline, ledger, progress, worker), "generator": generator, "let_go": let_go}
    steps = pipeline.steps_of(roles, model, needs)
    client = redis_client(settings.redis, HINT_SECONDS)
    bell = Notifier(client, RedisNames(settings.kafka.prefix).bell)
    ledger.tell_of_changes(partial(bell.ring, Hint.CHANGES))
    renewer = Renewer(ledger, settings.lease_ms, progress.loop("renew"), runs, bell)
    renewer.start()
    hands_on = hand_out(settings, ledger, task_queue(settings, client, ledger), worker)
    runner = Runner(
        ledger=ledger,
        work=Work(pipeline, steps, settings, SystemClock()),
        settings=settings,
        renewer=renewer,
        runs=runs,
        bell=bell,
        hand_out=hands_on,
        follow_up=follow_up(settings, pipeline, ledger, hands_on, believed=_BELIEVED),
        clock=SystemClock(),
        worker=worker,
        progress=progress,
    )
    return WorkerRuntime(runner, parallel, ledger.identity)


def _needs(
    settings: Settings, pipeline: Pipeline, ledger: Ledger, progress: Progress, worker: str
) -> dict[str, Callable[[], Any]]:
    """What steps are handed beside a model, by the names that stages use; only what a role needs is built."""
    embedder = once(lambda: recall.embedder_of(settings))
    of_questions = once(lambda: recall.remembering(embedder))
    detectors = once(_detectors)  # they are large: what screens and what moderates share them
    aids = once(lambda: _aids(settings, embedder))
    screening = once(lambda: _screener(settings, aids(), detectors()))
    followers = once(lambda: recall.woken_by_changes(settings, progress))
    bases = once(lambda: recall.bases_of(ledger, progress, worker, of_questions, followers))

    def retrieval() -> "Retrieval":
        recall.fill(settings, ledger, progress, embedder)
        recall.keep_warm(ledger, progress, bases)
        return recall.retrieval_of(settings, bases)

    return {
        "moderator": lambda: _telling(settings, aids(), detectors(), ledger, progress),
        "screener": lambda: screening()[0],
        "seen_prompts": lambda: screening()[1],
        "trusts_system": lambda: trusts_system_of(settings),
        "canaries": once(lambda: canaries_of(settings)),
        "embedder": lambda: partial(recall.for_jobs, embedder),
        "embedder_alias": lambda: embedder_alias(settings.of(ModelSettings).embedder),
        "cache": lambda: recall.cache_of(settings, ledger, progress, worker, of_questions, followers),
        "retrieval": retrieval,
        "passage_screener": lambda: once(lambda: _passage_screener(settings, aids())),
        "cache_mode": lambda: settings.of(CacheSettings).cache,
        "cache_ttl": lambda: settings.of(CacheSettings).cache_ttl,
        "max_wait": lambda: settings.of(CacheSettings).max_wait,
        "auditing": lambda: Auditing(pipeline, settings.of(CacheSettings).audit_share),
        "webhooks": lambda: ledger.of(Webhooks),
        "courier": lambda: Sender(settings.of(WebhookSettings).reach),
        "sealer": lambda: Sealer(settings.of(SealingSettings).webhook_key),
    }


def _generator(settings: Settings, model: str | None) -> Generator:
    from headrace_workers.features.generation.engines.load import load_generator

    assert model is not None  # noqa: S101 - no worker holds one without a name
    own = settings.of(GenerationSettings)
    return load_generator(
        settings.home,
        model,
        device=own.device,
        compute_type=own.compute_type,
        inter_threads=own.inter_threads,
        prefix_tokens=own.prefix_tokens,
    )


def _detectors() -> list[Detector]:
    from headrace_workers.features.moderation.moderator import shipped_detectors

    return shipped_detectors()


def _aids(settings: Settings, embedder: Callable[[], Embedder]) -> "Aids":
    """What detectors that the policy names work with; a guard is loaded once for all who ask."""
    from headrace_workers.features.moderation.moderator import Aids

    return Aids(
        embedder, cache(lambda alias: _generator(settings, alias)), settings.of(ModerationSettings).moderation_key
    )


def _telling(
    settings: Settings, aids: "Aids", detectors: list[Detector], ledger: Ledger, progress: Progress
) -> Moderator:
    """What moderates outputs; the ledger is told by which policy, from a thread of its own."""
    from headrace_workers.features.moderation.watching import InForce, WatchedModerator
    from headrace_workers.runtime.worker.policy_news import PolicyNews

    moderator = _follows(settings, aids, detectors, partial(policy_here, settings), "outputs")
    bounded = _ready(settings, moderator)
    default = InForce(load_policy().versions)
    in_force = moderator.in_force if isinstance(moderator, WatchedModerator) else lambda: default
    PolicyNews(ledger.of(Policies), in_force, progress.loop("policies")).start()
    return bounded


def _screener(settings: Settings, aids: "Aids", detectors: list[Detector]) -> "tuple[Moderator, SeenPrompts]":
    """Return what looks at prompts, for what outputs are looked at for and for orders that are not the operator's, and
    what knows which prompts it let pass.
    """
    from headrace_workers.features.knowledge.suspicious import suspicions
    from headrace_workers.features.moderation.injection import InjectionDetector
    from headrace_workers.features.moderation.seen import SeenPrompts, always
    from headrace_workers.features.moderation.watching import WatchedModerator

    looking = [*detectors, InjectionDetector(suspicions)]
    follows = _follows(settings, aids, looking, partial(policy_here, settings), "prompts")
    standing = follows.standing if isinstance(follows, WatchedModerator) else always
    return _ready(settings, follows), SeenPrompts(standing)


def _passage_screener(settings: Settings, aids: "Aids") -> Moderator:
    """What looks at passages: for orders to the model alone."""
    from headrace_workers.features.knowledge.suspicious import suspicions
    from headrace_workers.features.moderation.injection import InjectionDetector

    def policy(path: Path) -> Policy:
        return policy_here(settings, path).of_passages

    return _ready(settings, _follows(settings, aids, [InjectionDetector(suspicions)], policy, "passages"))


def _follows(
    settings: Settings, aids: "Aids", detectors: list[Detector], load: Callable[[Path], Policy], what: str
) -> Moderator:
    """What moderates by the deployment's policy, or by the default one."""
    from headrace_workers.features.moderation.moderator import with_policy
    from headrace_workers.features.moderation.watching import WatchedModerator

    if (file := settings.of(ModerationSettings).policy) is None:
        return with_policy(detectors, load_policy())
    return WatchedModerator(file, detectors, aids, what=what, load_policy=load)


def _ready(settings: Settings, moderator: Moderator) -> Moderator:
    from headrace_workers.features.moderation.bounded import BoundedModerator
    from headrace_workers.features.moderation.moderator import warm_up

    warm_up(moderator)  # a detector that cannot load is an error now, and the first job does not wait for it
    return BoundedModerator(moderator, settings.of(ModerationSettings).detector_time)
