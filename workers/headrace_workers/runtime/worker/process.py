"""A worker process: Celery takes claims from its queues, and the runner does them.

A model's worker uses a pool of threads, as many as the engine computes in parallel, and one for interactive work
beside them: they share one copy of the weights, and the engine releases the GIL. Calls of a model on another machine
have a thread each, without a pool (remote_models.py). Other roles are Python work: one process, or several forked ones.
"""

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

from celery import signals
from celery.exceptions import SecurityWarning
from kombu.entity import Queue

from headrace_schemas.errors import Unavailable
from headrace_workers.core.identity import process_name
from headrace_workers.core.ledger.incidents import noted_start
from headrace_workers.core.log import Action, log
from headrace_workers.core.machine import spare_what_is_loaded
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import MODEL_ROLE, model_queue
from headrace_workers.core.progress import Loop, Progress
from headrace_workers.core.redis import RedisNames, redis_client
from headrace_workers.runtime.health.watched import watched
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.celery_app import INTERACTIVE_ONLY, create_app, queue_of
from headrace_workers.runtime.wire.taskqueue import TASK
from headrace_workers.runtime.worker.claim_run import Runner
from headrace_workers.runtime.worker.consumer import ClaimConsumer, IoRuns, Presence, consumer_that_tells
from headrace_workers.runtime.worker.remote_models import RemoteEntry, RemoteModels

_LAST_SECONDS = 5.0  # for runs outside the pool at a stop, after the pool has had its own
_NO_QUEUE = "none"
_TELL_FOREIGN_EVERY = 30.0  # seconds: what is not said again for a minute counts as over
_FOREIGN = (
    "refused a claim of another ledger: two deployments share this Redis and HEADRACE_TOPIC_PREFIX; give each a prefix "
    "or a Redis database of its own"
)


@dataclass(frozen=True, slots=True)
class WorkerRuntime:
    """Runner of a worker's claims, `parallel` of them side by side, and the identity of the ledger they are from.

    `hold` makes what asks a model on another machine, and learns its steps. It raises HeadraceError.
    """

    runner: Runner
    parallel: int
    ledger: str
    hold: Callable[[str], None]


class _Parting:
    """Signal from a process to its forks that they are to end: they see the other end of a pipe closed.

    A signal would not do: Celery uses a child's signals itself.
    """

    def __init__(self) -> None:
        self._ear, self._mouth = os.pipe()

    def say(self) -> None:
        """Send the signal to all forks, later ones too."""
        mouth, self._mouth = self._mouth, -1
        if mouth >= 0:
            os.close(mouth)

    def hear(self, then: Callable[[], None]) -> None:
        """Call this in a child when the signal comes."""
        self.say()  # its own copy: only the parent's is to count

        def wait() -> None:
            os.read(self._ear, 1)
            then()

        threading.Thread(target=wait, name="parting", daemon=True).start()


class _Process:
    """State of this process; its runtime is built at its first use, which is after any fork."""

    def __init__(
        self,
        settings: Settings,
        roles: frozenset[str],
        model: str | None,
        progress: Progress,
        build: Callable[[Progress], WorkerRuntime],
        io_runs: IoRuns,
    ) -> None:
        self._settings, self._roles, self._model = settings, roles, model
        self._build = build
        self._progress = progress
        self._lock = threading.Lock()
        self._hands: WorkerRuntime | None = None
        self._foreign_told = float("-inf")
        self._child = ExitStack()
        self._parting = _Parting()
        self.express: ClaimConsumer | None = None
        self.models: RemoteModels | None = None
        self.io_runs = io_runs

    def hands(self) -> WorkerRuntime:
        """Build or return them."""
        with self._lock:
            if self._hands is None:
                self._hands = self._build(self._progress)
                spare_what_is_loaded()
                log("worker", logging.INFO, Action.STARTED, "ready for work",
                    roles=",".join(sorted(self._roles)), model=self._model)  # fmt: skip
            return self._hands

    def begin_child(self, **_: Any) -> None:
        """Give a forked process a runtime and a progress of its own."""
        self._child.enter_context(noted_start(self._settings.ledger, command_of(self._roles, self._model)))
        self._progress = self._child.enter_context(watched("worker", self._settings))
        self._parting.hear(self.leave)
        self.hands()

    def end_child(self, **_: Any) -> None:
        """End a forked process as intended."""
        self.close()
        self._child.close()

    def run(self, claim_id: int, ledger: str = "", queue: str = "") -> None:
        """Run a claim of this ledger, from this queue. Another's has a number that means something else here."""
        hands = self.hands()
        if ledger == hands.ledger:
            if not self.io_runs.takes(queue):
                hands.runner.run(claim_id)
            elif not self.io_runs.begin(queue, lambda: hands.runner.run(claim_id)):
                hands.runner.postpone(claim_id)
        elif time.monotonic() - self._foreign_told > _TELL_FOREIGN_EVERY:
            self._foreign_told = time.monotonic()
            log("worker", logging.WARNING, Action.FOREIGN, _FOREIGN, claim=claim_id)
            hands.runner.complain(_FOREIGN)

    @property
    def remote_queues(self) -> dict[str, int]:
        """Return the queues of the models on other machines that this process asks, with its calls side by side."""
        return {} if self.models is None else self.models.queues

    def leave(self, **_: Any) -> None:
        """Prepare for the end of this process and its forks."""
        self._parting.say()
        if self._hands is not None:
            self._hands.runner.leave()

    def close(self, **_: Any) -> None:
        """Give unfinished work back, when what is about to end has had its time."""
        if self.express is not None:
            self.express.stop(_LAST_SECONDS)
        if self.models is not None:
            self.models.stop(0.0)
        self.io_runs.wait(_LAST_SECONDS)
        if self._hands is None:
            return
        try:
            steps = self._hands.runner.give_back()
        except Unavailable as error:
            log("worker", logging.WARNING, Action.UNAVAILABLE, f"could not give work back: {error}")
        else:
            if steps:
                log("worker", logging.INFO, Action.GIVEN_BACK, "unfinished work was given back", steps=steps)


def command_of(roles: frozenset[str], model: str | None, *, remote: bool = False) -> str:
    """Return the command of a worker of these roles, without the program's name."""
    words = (f"--role {role}" for role in sorted(roles))
    return " ".join(
        ("worker", *words, *([f"--model {model}"] if model is not None else []), *(["--remote"] if remote else []))
    )


def run_worker(
    settings: Settings,
    pipeline: Pipeline,
    roles: frozenset[str],
    model: str | None,
    progress: Progress,
    build: Callable[[Progress], WorkerRuntime],
    *,
    concurrency: int | None = None,
    at_once: int | None = None,
    listed: Callable[[], Mapping[str, RemoteEntry]] | None = None,
) -> int:
    """Serve until SIGTERM; return the exit code. A second signal, or the soft timeout, gives unfinished work back.

    `build` makes the hands, after any fork. `at_once` is how many batches run side by side where `concurrency` is not
    given; absent, as many as the hands can. `listed` returns the models on other machines that this worker asks.

    Redis may come and go. Nothing is lost meanwhile: the claims that it held are sent again when their leases end.
    """
    names = RedisNames(settings.kafka.prefix)
    queues = pipeline.queues_of(roles, None if listed else model, remote=listed is not None)
    io_concurrency = {stage.queue(): stage.concurrency for stage in pipeline.stages if stage.concurrency > 1}
    io_runs = IoRuns({names.queue(queue): most for queue, most in io_concurrency.items()})
    process, loop = _Process(settings, roles, model, progress, build, io_runs), progress.loop("consumer")
    pool = _pool(roles, concurrency, remote=listed is not None)
    # Celery wants a queue, also of a worker whose models have listeners of their own: nothing is sent to this one.
    app = _app(settings, [queue_of(names, name) for name in queues or [_NO_QUEUE]], pool, process, loop)
    stopping = threading.Event()  # somebody asked for an end
    parallel = _ready(process, pool, loop)
    _heed_signals(process, loop, stopping)
    if listed is not None:
        process.models = _remote_models(process, listed, app, names, io_runs, progress)
        process.models.look(strict=model is not None)
    elif MODEL_ROLE in roles and model is not None:
        _add_express(
            process,
            ClaimConsumer(
                app,
                queue_of(names, model_queue(model)),
                process.run,
                progress.loop("express"),
                options=INTERACTIVE_ONLY,
            ),
        )
    count = concurrency or at_once or parallel
    slots = {queue: io_concurrency.get(queue, count) for queue in queues}
    with Presence(
        redis_client(settings.redis),
        names,
        lambda: slots | process.remote_queues,
        progress.loop("presence"),
        worker=process_name("worker"),
    ):
        code = _serve(app, roles, count)
    process.close()
    if not stopping.is_set():
        log("worker", logging.ERROR, Action.STOPPED, "Celery ended by itself: this process ends, to be started again")
    return code if stopping.is_set() else code or 1


def _remote_models(
    process: _Process,
    listed: Callable[[], Mapping[str, RemoteEntry]],
    app: Any,
    names: RedisNames,
    io_runs: IoRuns,
    progress: Progress,
) -> RemoteModels:
    """Return the models on other machines, which are served from when Celery is ready."""
    models = RemoteModels(
        listed=listed, hold=process.hands().hold, run=process.run, complain=process.hands().runner.complain, app=app,
        names=names, io_runs=io_runs, progress=progress,
    )  # fmt: skip
    signals.worker_ready.connect(lambda **_: models.start(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: models.stop(0.0), weak=False)
    return models


def _app(settings: Settings, queues: Sequence[Queue], pool: str, process: _Process, loop: Loop) -> Any:
    """Return a Celery application with these queues and one task: to run a claim."""
    app: Any = create_app(settings.redis)
    app.conf.task_queues = list(queues)
    app.conf.worker_consumer = consumer_that_tells(loop)
    app.conf.worker_pool = pool

    @app.task(name=TASK, ignore_result=True, bind=True)  # type: ignore[untyped-decorator]
    def run(task: Any, claim_id: int, ledger: str = "") -> None:
        # A solo worker runs in the consumer's thread, which does not turn meanwhile.
        with loop.excused() if pool == "solo" else nullcontext():
            process.run(claim_id, ledger, queue=(task.request.delivery_info or {}).get("routing_key") or "")

    return app


def _ready(process: _Process, pool: str, loop: Loop) -> int:
    """See to it that there are hands, here or in each process that is forked; how many runs go side by side."""
    if pool == "prefork":
        signals.worker_process_init.connect(process.begin_child, weak=False)
        signals.worker_process_shutdown.connect(process.end_child, weak=False)
        return 1
    signals.worker_shutdown.connect(process.close, weak=False)
    with loop.excused():  # a large model takes its time
        return process.hands().parallel  # one that cannot be loaded is an error now, not at the first job


def _heed_signals(process: _Process, loop: Loop, stopping: threading.Event) -> None:
    """Note that an end was asked for, and prepare for it."""
    signals.worker_shutting_down.connect(lambda **_: stopping.set(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: loop.end(), weak=False)  # what runs may take its time to end
    signals.worker_shutting_down.connect(process.leave, weak=False)


def _add_express(process: _Process, express: ClaimConsumer) -> None:
    """Add the interactive consumer, from when Celery handles signals until it is to end."""
    process.express = express
    signals.worker_ready.connect(lambda **_: express.start(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: express.stop(), weak=False)


def _serve(app: Any, roles: frozenset[str], count: int) -> int:
    """Run Celery's worker, and return its exit code."""
    warnings.filterwarnings("ignore", category=SecurityWarning)  # about root and pickle: messages are JSON only
    name = process_name("-".join(sorted(roles))).replace(":", "-")
    arguments = ["--quiet", "worker", "--concurrency", str(count), "--hostname", name, "--loglevel", "WARNING",
                 "--without-gossip", "--without-mingle", "--without-heartbeat"]  # fmt: skip
    try:
        return int(app.start(argv=arguments) or 0)
    except SystemExit as end:
        return int(end.code or 0)


def _pool(roles: frozenset[str], concurrency: int | None, *, remote: bool) -> str:
    # Calls of models on other machines have threads of their own.
    if MODEL_ROLE in roles and not (remote and concurrency in (None, 1)):
        return "headrace_workers.runtime.worker.consumer:WakingThreads"
    return "solo" if concurrency is None or concurrency == 1 else "prefork"
