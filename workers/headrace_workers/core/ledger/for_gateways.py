"""What gateways ask of the ledger: let jobs in, wait for them, and what tenants may use and used."""

from collections.abc import Collection, Sequence

from headrace_workers.core.ledger import accepted, cancel, pressure
from headrace_workers.core.ledger import job_status as told
from headrace_workers.core.sql.database import brief, reading, writing
from headrace_workers.core.sql.engines import Engines
from headrace_workers.features.access.store import token_quotas, usage


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

    def reserve_tokens(self, wants: Sequence[token_quotas.Want]) -> dict[str, token_quotas.Quota]:
        """Before jobs are sent: reserve what they may use; those for which not enough is left, see there."""
        with writing(self._engine) as tx:
            return token_quotas.reserve(tx, wants, adopt=False)

    def release_tokens(self, unsent: Collection[tuple[str, str]]) -> None:
        """These jobs, each with the digest of its content, were not sent after all."""
        with writing(self._engine) as tx:
            token_quotas.release(tx, unsent)

    def quotas(
        self, tenants: Collection[str] | None = None, *, limit: int | None = None, after: str | None = None
    ) -> list[token_quotas.Quota]:
        """So many quotas at most, of all tenants that have one or of these, those that come after `after`."""
        with reading(self._engine) as tx:
            return token_quotas.quotas(tx, tenants, limit=limit, after=after)

    def put_quota(self, tenant: str, tokens: int, period: token_quotas.Period) -> None:
        """Set a tenant's quota."""
        with writing(self._engine) as tx:
            token_quotas.put(tx, tenant, tokens, period)

    def remove_quota(self, tenant: str) -> bool:
        """Let a tenant use as much as it likes; whether it had a quota."""
        with writing(self._engine) as tx:
            return token_quotas.remove(tx, tenant)

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

    def used(self, tenant: str, first: int, last: int) -> tuple[list[usage.Used], int]:
        """What a tenant used from one day to another (days since 1970), and until when (ms) it is counted."""
        with reading(self._engine) as tx:
            return usage.used(tx, tenant, first, last)

    def cancel_all(self, wishes: Sequence[cancel.Cancellation]) -> list[cancel.CancelOutcome]:
        """Cancel jobs, all in one transaction; what came of each, in their order."""
        with writing(self._engine) as tx:
            return cancel.cancel(tx, wishes)
