"""What gateways ask of the ledger: let jobs in, wait for them, and what tenants may use and used."""

from collections.abc import Collection, Sequence

from headrace_workers.core.ledger import accepted, cancel, counts, pressure
from headrace_workers.core.ledger import job_status as told
from headrace_workers.core.sql.database import brief, reading, writing
from headrace_workers.core.sql.engines import Engines


class ForGateways(Engines):
    """The part of a `Ledger` that gateways use. Each method is one transaction."""

    def reserve(self, wishes: Sequence[accepted.AdmissionRequest]) -> list[accepted.Reserved]:
        """Before jobs are let in: what is to be done with each; see `accepted.reserve`."""
        with writing(self._engine) as tx:
            return accepted.reserve(tx, wishes)

    def let_in(self, wishes: Sequence[accepted.AdmissionRequest], age: int = 0) -> None:
        """Kafka has these jobs: whoever asks for them finds them, before they are taken in; see `accepted.publish`."""
        with brief(self._engine) as tx:
            accepted.publish(tx, wishes, age)

    def not_let_in(self, job_ids: Collection[str]) -> None:
        """Kafka did not confirm these jobs: who asks for one finds it when it is taken in after all."""
        with brief(self._engine) as tx:
            accepted.withdraw(tx, job_ids)

    def look_for(self, known: Collection[str], unknown: Collection[str], whole: Collection[str] = ()) -> told.Looked:
        """Look once for the ends of all these jobs: see `told.look`."""
        with reading(self._engine) as tx:
            return told.look(tx, known, unknown, whole)

    def standings(self, job_ids: Sequence[str]) -> dict[str, told.Standing]:
        """How each of these jobs stands; those of which nothing is known are left out."""
        with reading(self._engine) as tx:
            return told.standings(tx, job_ids)

    def pressure(self, places: Collection[pressure.Place]) -> pressure.Pressure:
        """How full the ledger is, and how long work waits in these places."""
        with reading(self._engine) as tx:
            return pressure.pressure(tx, places)

    def figures(self) -> counts.Figures:
        """What is shown of verdicts, and of what is held."""
        with reading(self._engine) as tx:
            return counts.figures(tx)

    def cancel_all(self, wishes: Sequence[cancel.Cancellation]) -> list[cancel.CancelOutcome]:
        """Cancel jobs, all in one transaction; what came of each, in their order."""
        with writing(self._engine) as tx:
            return cancel.cancel(tx, wishes)
