"""Jobs that are cancelled while a model answers them here: they are computed no further, and others have their slot."""

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.progress import Awaited, Loop
from headrace_workers.runtime.worker.runs import Runs

_EVERY = 1.0  # seconds


class CancellationWatch(KeepsGoing):
    """Watch that asks the ledger once a second, while a model is at work here, which jobs its claims no longer hold."""

    def __init__(self, ledger: Ledger, runs: Runs, loop: Loop, every: float = _EVERY) -> None:
        super().__init__(loop)
        self._ledger, self._runs, self._every = ledger, runs, every
        self._jobs: frozenset[str] = frozenset()

    def __call__(self, job_id: str) -> bool:
        """Return True if the claims here no longer hold this job. It is called for each token."""
        return job_id in self._jobs

    def look(self) -> None:
        """Look once. Unavailable."""
        running = self._runs.of_models()
        held = self._ledger.leased_jobs(sorted(running)) if running else frozenset()
        jobs = frozenset[str]().union(*running.values())
        # One whose lease had been lost may run here again, under another claim.
        self._jobs = jobs - held

    def _look(self) -> Awaited | None:
        self.look()
        self._stop.wait(self._every)
        return None
