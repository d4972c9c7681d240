"""Records of one poll of Kafka, taken in together with the positions up to which it read."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection

from headrace_workers.core.ledger import cancellation, leases, positions, refusals, repetitions
from headrace_workers.core.ledger.assign import Room
from headrace_workers.core.ledger.cancellation import Cancellation, CancelOutcome
from headrace_workers.core.ledger.dead_letters import Burial
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.ledger.new_jobs import NewJob, Taken, begin, ingest, write
from headrace_workers.core.ledger.records import ReceivedReview
from headrace_workers.core.sql.database import clock


def consume(
    connection: Connection,
    jobs: Sequence[NewJob],
    refused: Sequence[Burial] = (),
    cancellations: Sequence[Cancellation] = (),
    following: Mapping[positions.Place, positions.Advance] | None = None,
    room: Room | None = None,
    reviews: Sequence[ReceivedReview] = (),
) -> Taken:
    """Take in what one poll brought.

    `following` are the positions that come next. Raises PositionsMoved, so that nothing is written, where the ledger's
    positions are not those before them. With `room`, first steps are handed out at once where there is room: the caller
    sends them.

    A record that comes again with the same content is passed over, even where it is refused now, such as after its
    deadline. A record under the id of another job, or about another tenant's job, gets a dead letter. What gateways
    reserved for records that do not become jobs is given back.
    """
    tenants = {each.tenant for each in refused if each.tenant is not None}
    taken, outcomes = _take_in(connection, jobs, cancellations, room, tenants)
    letters = repetitions.news(connection, refused) + repetitions.conflicts(connection, taken.known)
    letters += [refusals.over_quota(job.record, job.id, job.tenant, why) for job, why in taken.over]
    not_taken = [*taken.known, *(job for job, _ in taken.over)]
    for feature in hooks():
        feature.on_refused(connection, refused, not_taken)
    letters += cancellation.foreign(cancellations, outcomes)
    if reviews:
        for feature in hooks():
            letters += feature.on_reviews(connection, reviews)
    if letters:
        refusals.refuse(connection, letters, clock(connection))
    positions.advance(connection, following or {})
    return taken


def _take_in(
    connection: Connection,
    jobs: Sequence[NewJob],
    cancellations: Sequence[Cancellation],
    room: Room | None,
    tenants: Collection[str],
) -> tuple[Taken, Sequence[CancelOutcome]]:
    """Take jobs in and cancel others, in the lock order that `complete.py` states: claims, jobs, steps, quotas, turns.
    A job that comes with its cancellation is written, and never begins.
    """
    if not cancellations:
        return ingest(connection, jobs, room, tenants), ()
    leases.hold(connection, [each.job_id for each in cancellations])
    written = write(connection, jobs, cancellation.unknown_rows(cancellations))
    outcomes = cancellation.cancel(connection, cancellations, written.ahead)
    cancelled = {
        each.job_id
        for each, outcome in zip(cancellations, outcomes, strict=True)
        if outcome in ("cancelled", "cancelled_ahead")
    }
    everybody = {job.tenant for job in jobs} | {each.tenant for each in cancellations} | set(tenants)
    for feature in hooks():
        feature.hold_tenants(connection, everybody)
    return begin(connection, jobs, written, room, cancelled, tenants), outcomes
