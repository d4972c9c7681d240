"""Construction of a worker from its roles."""

from functools import partial

from headrace_workers.core.clock import SystemClock
from headrace_workers.core.identity import process_name
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import MODEL_ROLE
from headrace_workers.core.progress import Progress
from headrace_workers.features.generation.model_health import KnownBreakers
from headrace_workers.features.generation.models.registry import load_card
from headrace_workers.features.generation.parts import generator
from headrace_workers.features.generation.settings import GenerationSettings
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.hints import Hint, Notifier
from headrace_workers.runtime.wire.redis import HINT_SECONDS, RedisNames, redis_client
from headrace_workers.runtime.worker.claim_run import Runner
from headrace_workers.runtime.worker.parts import WorkerParts
from headrace_workers.runtime.worker.process import WorkerRuntime, run_worker
from headrace_workers.runtime.worker.renew import Renewer
from headrace_workers.runtime.worker.runs import CancellationWatch, Runs
from headrace_workers.runtime.worker.work import Work
from headrace_workers.wiring.parts import assigner_of, follow_up, pipeline_of, task_queue

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
    """Run a worker of these roles until SIGTERM, and return its exit code. `pipeline` is that of the settings unless
    stages of your own are to run, too.
    """
    pipeline = pipeline or pipeline_of(settings)
    return run_worker(
        settings,
        pipeline,
        roles,
        model,
        progress,
        partial(build_hands, settings, pipeline, roles, model),
        concurrency=concurrency,
        at_once=settings.of(GenerationSettings).inter_threads,
        open_calls=_open_calls(settings, model),
    )


def _open_calls(settings: Settings, model: str | None) -> int:
    """Return how many calls the worker of a remote model holds open; 0 for a model that it computes itself."""
    remote = load_card(settings.home, model).remote if model is not None else None
    return remote.open_calls if remote else 0


def build_hands(
    settings: Settings, pipeline: Pipeline, roles: frozenset[str], model: str | None, progress: Progress
) -> WorkerRuntime:
    """Return a worker's hands. Call it after any fork, since models and connections do not survive one."""
    ledger, name = Ledger.at(settings.ledger), process_name("+".join(sorted(roles)))
    pipeline = pipeline.avoiding(KnownBreakers(ledger).avoided)
    runs = Runs(progress, pipeline, settings.longest_run)

    def cancelled() -> CancellationWatch:
        asking = CancellationWatch(ledger, runs, progress.loop("let go"))
        asking.start()
        return asking

    parts = WorkerParts(name=name, settings=settings, pipeline=pipeline, ledger=ledger, progress=progress, model=model)
    steps = pipeline.steps_of(roles, model, {**parts.of_features(), "cancelled": cancelled})
    parallel = parts.once(generator).parallel if MODEL_ROLE in roles else 1
    client = redis_client(settings.redis, HINT_SECONDS)
    notifier = Notifier(client, RedisNames(settings.kafka.prefix).hints)
    ledger.tell_of_changes(partial(notifier.notify, Hint.CHANGES))
    renewer = Renewer(ledger, settings.lease_ms, progress.loop("renew"), runs, notifier)
    renewer.start()
    assigner = assigner_of(settings, ledger, task_queue(settings, client, ledger), name)
    runner = Runner(
        ledger=ledger,
        work=Work(pipeline, steps, settings, SystemClock()),
        settings=settings,
        renewer=renewer,
        runs=runs,
        notifier=notifier,
        assigner=assigner,
        follow_up=follow_up(settings, ledger, assigner, believed=_BELIEVED),
        clock=SystemClock(),
        worker=name,
        progress=progress,
    )
    return WorkerRuntime(runner, parallel, ledger.identity)
