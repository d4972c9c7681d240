"""Queues that hold work and have no worker: which they are, and what to start. Redis says it, as a hint."""

from collections.abc import Callable, Collection, Iterable
from itertools import islice

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
    """A warning, once for each queue, that jobs wait in it and no worker listens.

    `queues_of` returns the queues in which steps of the jobs wait.
    """

    def __init__(
        self, queues_of: Callable[[Collection[str]], set[str]], served: Served, say: Callable[[str], None]
    ) -> None:
        self._queues_of = queues_of
        self._served = served
        self._say = say
        self._warned: set[str] = set()

    def look(self, job_ids: Iterable[str]) -> None:
        """Look at the first of these jobs. Unavailable comes through when the ledger does not answer."""
        standing = self._queues_of(list(islice(job_ids, _LOOK_AT))) - self._warned
        for queue in unserved(sorted(standing), self._served(standing)):
            self._warned.add(queue)
            self._say(f"warning: jobs wait in the queue {queue}, and no worker listens to it: start one with "
                      f"`{start_command(queue)}`")  # fmt: skip
