"""What workers ask of the ledger: begin claims, keep them, write what came of them."""

from collections.abc import Sequence

from headrace_workers.core.ledger import assign as hand_out
from headrace_workers.core.ledger import changes, complete, leases, start
from headrace_workers.core.sql.database import brief, reading, writing
from headrace_workers.core.sql.engines import Engines
from headrace_workers.features.cache.store import followers


class ForWorkers(Engines):
    """The part of a `Ledger` that workers use. Each method is one transaction."""

    def start(self, claim_id: int, *, worker: str, lease_ms: int) -> start.Started | None:
        """Begin a claim; None when there is nothing to do any more."""
        with brief(self._volatile) as tx:
            return start.start(tx, claim_id, worker=worker, lease_ms=lease_ms)

    def renew(self, claim_ids: Sequence[int], lease_ms: int) -> frozenset[int]:
        """Put off the end of leases; those that still are leases."""
        with writing(self._volatile) as tx:
            return leases.renew(tx, claim_ids, lease_ms)

    def leased_jobs(self, claim_ids: Sequence[int]) -> frozenset[str]:
        """The jobs whose steps these claims hold: who was cancelled, or has another lease, is not among them."""
        with reading(self._volatile) as tx:
            return leases.leased_jobs(tx, claim_ids)

    def complete(
        self,
        claim_id: int,
        settled: Sequence[complete.Settled],
        *,
        ran_ms: int,
        quantum_ms: int,
        room: hand_out.Room | None = None,
    ) -> complete.Completed | None:
        """Write what came of a claim; None when the lease had been lost, and nothing was changed.

        With `room`, steps that follow are handed out at once where there is room: the caller sends them.
        """
        with writing(self._engine) as tx:
            return complete.complete(tx, claim_id, settled, ran_ms=ran_ms, quantum_ms=quantum_ms, room=room)

    def acquit(self, stage: str, job_ids: Sequence[str]) -> None:
        """A worker could not complete these steps, but lives: their crashes are forgotten."""
        with writing(self._volatile) as tx:
            leases.acquit(tx, stage, job_ids)

    def horizon(self) -> changes.Position:
        """Whatever is read from now on holds all changes up to this position."""
        with reading(self._engine) as tx:
            return changes.horizon(tx)

    def followed(self, holder: str, kind: changes.Kind, position: changes.Position) -> None:
        """Say how far this process has followed changes of a kind."""
        with brief(self._volatile) as tx:
            followers.tell(tx, holder, kind, position)
