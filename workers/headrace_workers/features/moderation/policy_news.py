"""Tells the ledger by which moderation policy a worker goes, so that a switch is an event on the stream."""

from collections.abc import Callable

from headrace_workers.core.config_watch import EVERY
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.progress import Awaited, Loop
from headrace_workers.features.moderation.store.policies import Policies
from headrace_workers.features.moderation.watching import InForce


class PolicyNews(KeepsGoing):
    """Looks every two seconds, so that a file is followed, or refused, also while nothing is to be moderated."""

    def __init__(self, policies: Policies, in_force: Callable[[], InForce], loop: Loop, every: float = EVERY) -> None:
        super().__init__(loop)
        self._policies, self._in_force, self._every = policies, in_force, every
        self._recorded: InForce | None = None

    def _look(self) -> Awaited | None:
        with self._progress.excused():  # a policy may name a model that is to be loaded
            now = self._in_force()
        if now != self._recorded:
            switched = self._recorded is None or self._recorded.versions != now.versions
            self._policies.note(now.versions, now.refused, switched=switched)
            self._recorded = now  # policies that could not be written are reported at the next look
        self._stop.wait(self._every)
        return None
