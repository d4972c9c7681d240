"""A worker process: Celery takes claims from its queues, and the runner does them.

A model's worker uses a pool of threads, as many as the engine computes in parallel, and one for interactive work
beside them: they share one copy of the weights, and the engine releases the GIL. Other roles are Python work: one
process, or several forked ones.
"""

import logging
import os
import sys
import threading
import time
import warnings
from typing import Any

import redis
from celery import signals
from celery.exceptions import SecurityWarning

from headrace_schemas.errors import Unavailable
from headrace_workers.celery_app import TASK, create_app, queue_of
from headrace_workers.express import Express
from headrace_workers.grouping import model_queue
from headrace_workers.log import Action, log
from headrace_workers.main import build_runner, process_name, redis_client
from headrace_workers.presence import Presence
from headrace_workers.roles import Role, queues_of
from headrace_workers.run import Runner
from headrace_workers.settings import Settings

_LAST_SECONDS = 5.0  # for interactive work at a stop, after the pool of threads has had its own


class _Hands:
    """The runner of this process, built at its first use, which is after any fork."""

    def __init__(self, settings: Settings, roles: frozenset[Role], model: str | None) -> None:
        self._settings, self._roles, self._model = settings, roles, model
        self._lock = threading.Lock()
        self._runner: Runner | None = None
        self.parallel = 1
        self.express: Express | None = None

    def get(self) -> Runner:
        """Build or return it."""
        with self._lock:
            if self._runner is None:
                self._runner, self.parallel = build_runner(self._settings, self._roles, self._model)
                log("worker", logging.INFO, Action.STARTED, "ready for work",
                    roles=",".join(sorted(self._roles)), model=self._model)  # fmt: skip
            return self._runner

    def put_away(self) -> None:
        """Give unfinished work back, when what is about to end has had its time."""
        if self.express is not None:
            self.express.stop(_LAST_SECONDS)
        runner = self._runner
        if runner is None:
            return
        try:
            steps = runner.give_back()
        except Unavailable as error:
            log("worker", logging.WARNING, Action.UNAVAILABLE, f"could not give work back: {error}")
        else:
            if steps:
                log("worker", logging.INFO, Action.GIVEN_BACK, "unfinished work was given back", steps=steps)


def run_worker(settings: Settings, roles: frozenset[Role], model: str | None, *, concurrency: int | None = None) -> int:
    """Serve until SIGTERM; the exit code. A second signal, or the soft timeout, gives unfinished work back."""
    app: Any = create_app(settings.redis)
    queues = queues_of(roles, model)
    app.conf.task_queues = [queue_of(name) for name in queues]
    hands = _Hands(settings, roles, model)

    @app.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def run(claim_id: int) -> None:
        hands.get().run(claim_id)

    app.conf.worker_pool = _pool(roles, concurrency)
    if app.conf.worker_pool == "prefork":
        signals.worker_process_init.connect(lambda **_: hands.get(), weak=False)
        signals.worker_process_shutdown.connect(lambda **_: hands.put_away(), weak=False)
    else:
        hands.get()  # a model that cannot be loaded is an error now, not at the first job
        signals.worker_shutdown.connect(lambda **_: hands.put_away(), weak=False)
    name = process_name("-".join(sorted(roles))).replace(":", "-")
    warnings.filterwarnings("ignore", category=SecurityWarning)  # about root and pickle: messages are JSON only
    count = concurrency or settings.inter_threads or hands.parallel
    arguments = ["--quiet", "worker", "--concurrency", str(count), "--hostname", name, "--loglevel", "WARNING",
                 "--without-gossip", "--without-mingle", "--without-heartbeat"]  # fmt: skip
    _wait_for_redis(settings)
    told: list[str] = []  # the signals that asked for an end; without one, the end is Celery's own
    signals.worker_shutting_down.connect(lambda sig, **_: told.append(sig), weak=False)
    if Role.GENERATE in roles and model is not None:
        express = hands.express = Express(app, model_queue(model), hands.get().run)
        signals.worker_ready.connect(lambda **_: express.start(), weak=False)  # Celery minds signals from then on
        signals.worker_shutting_down.connect(lambda **_: express.stop(), weak=False)
    try:
        with Presence(redis_client(settings), queues):
            code = int(app.start(argv=arguments) or 0)
    except SystemExit as end:
        code = int(end.code or 0)
    hands.put_away()
    if not told:
        log("worker", logging.WARNING, Action.UNAVAILABLE, "the connection to Redis was lost: starting afresh")
        _start_afresh()
    return code


def _wait_for_redis(settings: Settings) -> None:
    """Return when Redis answers. Nothing is lost by waiting: what it held is sent again when its lease ends."""
    client, pause = redis_client(settings), 0.1
    while True:
        try:
            client.ping()
        except redis.RedisError as error:
            log("worker", logging.WARNING, Action.UNAVAILABLE, f"Redis does not answer: {error}; trying again")
            time.sleep(pause)
            pause = min(2.0, pause * 2)
        else:
            client.close()
            return


def _start_afresh() -> None:
    """Become the same command anew, in the same process: supervisors see no death.

    Celery's own reconnecting may leave a worker that is alive, connected, and silent (celery#8030 and many since).
    What it was running has been completed by now: that needs the ledger, not Redis.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def _pool(roles: frozenset[Role], concurrency: int | None) -> str:
    if Role.GENERATE in roles:
        return "headrace_workers.threads:WakingThreads"
    return "solo" if concurrency is None or concurrency == 1 else "prefork"
