"""Queues that hold work and have no worker: which they are, and what to start. Redis says it, as a hint."""

import time
from collections.abc import Callable, Collection, Iterable
from itertools import islice

from headrace_workers.cli.durations import show_time
from headrace_workers.core.pipeline.stage import MODEL_ROLE, Weight, installed_stages, model_of

_LOOK_AT = 500  # jobs, the longest waiting first, so that stuck ones are among them in the end

Served = Callable[[Collection[str]], frozenset[str] | None]  # the served queues among these; None if unknown


def start_command(queue: str) -> str:
    """Return the command that starts a worker for a queue."""
    if model := model_of(queue):
        return f"headrace worker --role {MODEL_ROLE} --model {model}"
    roles = {stage.queue(): stage.role for stage in installed_stages() if stage.weight is not Weight.MODEL}
    return f"headrace worker --role {roles.get(queue, queue)}"


def unserved(queues: Iterable[str], served: frozenset[str] | None) -> list[str]:
    """Return the queues among these that are known to have no worker, in order, each once."""
    return [] if served is None else [queue for queue in dict.fromkeys(queues) if queue not in served]


class UnservedWarning:
    """A warning, once for each queue, that jobs wait in it and no worker listens; or, once for each outage, that Redis
    does not answer: then nobody knows, and no job is handed out.

    `queues_of` returns the queues in which steps of the jobs wait. `redis` is the address of the Redis that is asked,
    where there is one, and `wall` a clock in seconds since 1970.
    """

    def __init__(
        self,
        queues_of: Callable[[Collection[str]], set[str]],
        served: Served,
        say: Callable[[str], None],
        *,
        redis: str | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._queues_of = queues_of
        self._served = served
        self._say = say
        self._redis = redis
        self._wall = wall
        self._warned: set[str] = set()
        self._silent = False

    def look(self, job_ids: Iterable[str]) -> None:
        """Look at the first of these jobs. Unavailable comes through when the ledger does not answer."""
        standing = self._queues_of(list(islice(job_ids, _LOOK_AT)))
        if not standing:
            return
        since = self._wall()
        served = self._served(standing)
        self._tell_silence(served is None, since)
        for queue in unserved(sorted(standing - self._warned), served):
            self._warned.add(queue)
            self._say(f"warning: jobs wait in the queue {queue}, and no worker listens to it: start one with "
                      f"`{start_command(queue)}`")  # fmt: skip

    def _tell_silence(self, is_silent: bool, since: float) -> None:
        """Say that Redis does not answer, and that it does again."""
        if self._redis is None or is_silent == self._silent:
            return
        self._silent = is_silent
        if is_silent:
            self._say(f"waiting: Redis at {self._redis} has not answered since {show_time(int(since * 1000))}; jobs "
                      "that no worker has go on when it does: `headrace doctor` checks it")  # fmt: skip
        else:
            self._say(f"Redis at {self._redis} answers again")
