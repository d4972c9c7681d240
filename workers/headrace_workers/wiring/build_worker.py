"""Construction of a worker from its roles."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from headrace_workers.core.cached_values import once
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.identity import process_name
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import MODEL_ROLE
from headrace_workers.core.progress import Progress
from headrace_workers.core.redis import HINT_SECONDS, RedisNames, redis_client
from headrace_workers.features.generation.model_health import KnownBreakers
from headrace_workers.features.generation.parts import generator
from headrace_workers.features.generation.settings import GenerationSettings
from headrace_workers.files.settings import FileSettings
from headrace_workers.models.registry import TUNED, Registry, load_card
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.hints import Hint, Notifier
from headrace_workers.runtime.worker.claim_run import Runner
from headrace_workers.runtime.worker.parts import WorkerParts
from headrace_workers.runtime.worker.process import WorkerRuntime, run_worker
from headrace_workers.runtime.worker.remote_models import RemoteEntry
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
    remote: bool = False,
    concurrency: int | None = None,
    pipeline: Pipeline | None = None,
) -> int:
    """Run a worker of these roles until SIGTERM, and return its exit code. A tuned model that is not here is fetched
    from the store of files. With `remote` it asks all models on other machines that the catalogue has. `pipeline` is
    that of the settings unless stages of your own are to run, too.
    """
    pipeline = pipeline or pipeline_of(settings)
    if model is not None and model.startswith(TUNED):
        from headrace_workers.features.tuning.copies import sync_copy

        sync_copy(settings.home, settings.of(FileSettings).place(settings.home), model)
    listed = _listed(settings, model, remote=remote)
    return run_worker(
        settings,
        pipeline,
        roles,
        model,
        progress,
        partial(build_hands, settings, pipeline, roles, None if listed else model),
        concurrency=concurrency,
        at_once=settings.of(GenerationSettings).inter_threads,
        listed=listed,
    )


def _listed(settings: Settings, model: str | None, *, remote: bool) -> Callable[[], Mapping[str, RemoteEntry]] | None:
    """Return what lists the models on other machines that a worker asks; None for one that computes its model itself.

    A catalogue that is broken is logged once, and the one before it holds.
    """
    if not remote and (model is None or load_card(settings.home, model).remote is None):
        return None
    registry = Registry(settings.home)

    def listed() -> Mapping[str, RemoteEntry]:
        return {
            alias: RemoteEntry(entry.open_calls, entry)
            for alias, entry in registry.catalogue.models.items()
            if remote or alias == model
        }

    return listed


def build_hands(
    settings: Settings, pipeline: Pipeline, roles: frozenset[str], model: str | None, progress: Progress
) -> WorkerRuntime:
    """Return a worker's hands. Call it after any fork, since models and connections do not survive one. Without a
    `model`, those on other machines are held when they are asked for.
    """
    ledger, name = Ledger.at(settings.ledger), process_name("+".join(sorted(roles)))
    pipeline = pipeline.avoiding(KnownBreakers(ledger).avoided)
    runs = Runs(progress, pipeline, settings.longest_run)

    def cancelled() -> CancellationWatch:
        asking = CancellationWatch(ledger, runs, progress.loop("let go"))
        asking.start()
        return asking

    parts = WorkerParts(name=name, settings=settings, pipeline=pipeline, ledger=ledger, progress=progress, model=model)
    let_go = once(cancelled)
    light = roles if model is not None else roles - {MODEL_ROLE}
    of_runs: Mapping[str, Callable[[], Any]] = {"cancelled": let_go, "leaving": lambda: runs.leaving}
    steps = pipeline.steps_of(light, model, {**parts.of_features(), **of_runs})
    parallel = parts.once(generator).parallel if MODEL_ROLE in light else 1
    client = redis_client(settings.redis, HINT_SECONDS)
    notifier = Notifier(client, RedisNames(settings.kafka.prefix).hints)
    ledger.tell_of_changes(partial(notifier.notify, Hint.CHANGES))
    renewer = Renewer(ledger, settings.lease_ms, progress.loop("renew"), runs, notifier)
    renewer.start()
    assigner = assigner_of(settings, ledger, task_queue(settings, client, ledger), name)
    work = Work(pipeline, steps, settings, SystemClock())

    def hold(alias: str) -> None:
        own = replace(parts, model=alias).of_features()
        work.learn(pipeline.steps_of({MODEL_ROLE}, alias, {**own, "cancelled": let_go}))

    runner = Runner(
        ledger=ledger,
        work=work,
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
    return WorkerRuntime(runner, parallel, ledger.identity, hold)
